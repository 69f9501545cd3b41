# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of robot files, for editors: completion, units and a mark at what is wrong while one types.

    python -m wam.robots.file_schema > docs/reference/robot-file.schema.json

It is looser than the loader, which decides: it knows no files, no device rules, and no relation between two values.
What it refuses, the loader refuses too, and the keys of both are the same; a test compares them.
"""

from __future__ import annotations

import enum
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from wam.robots.camera_spec import CameraTransport, Reliability
from wam.robots.cameras import ENCODINGS, MAX_SIDE_PX, OPTIONAL, OWN, PRESET
from wam.robots.description import CommandKind, Distribution, GripperOnEnable, JointKind
from wam.robots.estop import HEARTBEAT_MAX_S, HEARTBEAT_MIN_S
from wam.robots.joint_file import MOTION, OBSERVED
from wam.robots.loads import EFFORT_DIMENSIONS, MAX_MASS, SERVO
from wam.robots.names import NAME_FORM, TOPIC_FORM
from wam.robots.safety_budget import StartRule
from wam.robots.twin_spec import CommandInterface
from wam.robots.units import UNITS, Dimension
from wam.robots.yaml_reader import UNFILLED
from wam.robots.zone_file import FAR, MAX_SPEED, PointPart, ZoneKind

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "pattern": r"\S"}
NAME: Schema = {"type": "string", "pattern": f"^{NAME_FORM}$"}
TOPIC: Schema = {"type": "string", "pattern": f"^{TOPIC_FORM}$"}
FLAG: Schema = {"type": "boolean"}
FREE: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
RATE = (Dimension.FREQUENCY, 0.1, 10_000.0)


def robot_file_schema() -> Schema:
    """Return the schema, JSON Schema draft 7."""
    closed, replayed = ("title", "groups", "cameras", "safety"), ("title", "groups")
    keys = {
        "title": TEXT | _says("for people"),
        "replay_only": FLAG | _says("nothing may move by this file; limits may be observed or left open"),
        "recorded_as": NAME | _says("name of the robot in data sets"),
        "model": _mapping({"urdf": TEXT, "args": FREE, "srdf": TEXT}, ("urdf",)),
        "groups": {},
        "cameras": _list({"$ref": "#/definitions/camera"}),
        "safety": _safety(),
        "zones": _list(_zone()),
    }
    schema = {
        "$comment": "SPDX-License-Identifier: Apache-2.0. Written by python -m wam.robots.file_schema.",
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Robot file of wam_deploy",
        **_mapping(keys, replayed),
        "if": {"properties": {"replay_only": {"const": True}}, "required": ["replay_only"]},
        "then": {"properties": {"groups": _list(_group(replay_only=True))}},
        "else": {
            "properties": {"groups": _list(_group(replay_only=False))},
            "required": list(closed),
        },
        "definitions": {
            "camera": _camera(),
            "joint": _joint(replay_only=False),
            "joint_of_a_replay": _joint(replay_only=True),
        },
    }
    quantities: dict[str, Schema] = {}
    made: Schema = _shared(schema, quantities)
    made["definitions"] |= quantities
    return made


def _says(text: str) -> Schema:
    return {"description": text}


def _mapping(keys: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": dict(keys),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, *, least: int = 1, most: int | None = None) -> Schema:
    return {
        "type": "array",
        "items": items,
        "minItems": least,
        **({} if most is None else {"maxItems": most}),
    }


def _one_of(kind: type[enum.Enum]) -> Schema:
    return {"enum": [member.value for member in kind]}


def _quantity(
    dimensions: Dimension | Iterable[Dimension], lower: float = -math.inf, upper: float = math.inf
) -> Schema:
    """A number in SI units, or `{value: ..., unit: ...}` with a unit of one of `dimensions`."""
    several = (dimensions,) if isinstance(dimensions, Dimension) else tuple(dimensions)
    number: Schema = {"type": "number"}
    if math.isfinite(lower):
        number["minimum"] = lower
    if math.isfinite(upper):
        number["maximum"] = upper
    units = [unit for one in several for unit in UNITS[one]]
    written = _mapping({"value": {"type": "number"}, "unit": {"enum": units}}, ("value", "unit"))
    bounds = "".join(f", {word} {number[key]:g}" for word, key in _BOUNDS if key in number)
    return {"title": " or ".join(one.value for one in several) + bounds, "anyOf": [number, written]}


_BOUNDS = (("from", "minimum"), ("to", "maximum"))


def _shared(schema: Any, definitions: dict[str, Schema]) -> Any:
    """Return a schema whose quantities are references to `definitions`, which this adds to."""
    if isinstance(schema, list):
        return [_shared(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "title" not in schema or "anyOf" not in schema:
        return {key: _shared(one, definitions) for key, one in schema.items()}
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", schema["title"].replace("/", " per "))
    definitions[name] = {key: schema[key] for key in ("title", "anyOf")}
    return {"$ref": f"#/definitions/{name}"}


def _duration(lower: float = 1e-6, upper: float = 3600.0) -> Schema:
    return _quantity(Dimension.TIME, lower, upper)


def _case(key: str, value: str, then: Schema) -> Schema:
    return {"if": {"properties": {key: {"const": value}}, "required": [key]}, "then": then}


def _group(*, replay_only: bool) -> Schema:
    state = _mapping(
        {"topic": TOPIC, "rate": _quantity(*RATE), "max_age": _duration()}, ("topic", "rate", "max_age")
    )
    stream = {
        "topic": TOPIC,
        "rate": _quantity(*RATE),
        "topic_by_distribution": _mapping({one.value: TOPIC for one in Distribution}),
        "lead": _duration(0.0, 1.0),
    }
    command = {
        **_mapping({"kind": _one_of(CommandKind), **stream}, ("kind",)),
        **_case("kind", CommandKind.NONE.value, {"maxProperties": 1}),
        "else": {"required": ["kind", "topic", "rate"]},
    }
    twin = {"delay": _duration(0.0, 1.0), "interface": _one_of(CommandInterface), "generation": TEXT}
    corner = _list(_quantity(Dimension.LENGTH, -2.0, 2.0), least=3, most=3)
    payload = {"mass": _quantity(Dimension.MASS, 0.0, MAX_MASS), "center_of_mass": corner}
    joint = "joint_of_a_replay" if replay_only else "joint"
    keys = {
        "name": NAME,
        "prefix": NAME | _says("before the name of each joint and link of the group"),
        "state": state | _says("sensor_msgs/JointState of the driver"),
        "command": command | _says("what the driver takes"),
        "joints": _list({"$ref": f"#/definitions/{joint}"}),
        "driver": TEXT | _says("known driver, or none"),
        "launch": FREE | _says("arguments of the vendor's launch file"),
        "payload": _mapping(payload, tuple(payload)),
        "gripper_on_enable": _one_of(GripperOnEnable),
        "base_link": NAME,
        "tip_link": NAME,
        "twin": _mapping(twin) | _says("how the simulated driver differs from an ideal one"),
    }
    return _mapping(
        keys, ("name", "state", "joints") if replay_only else ("name", "state", "command", "joints")
    )


def _joint(*, replay_only: bool) -> Schema:
    limits = ("lower", "upper", "velocity")
    required = ("driver_name", "kind", *limits, "acceleration", "jerk")
    by_kind = (
        *limits,
        "acceleration",
        "jerk",
        "home",
        "servo",
        "velocity_envelope",
        "effort",
        "external_torque",
    )
    ratio = _quantity(Dimension.RATIO)
    factor = _quantity(Dimension.RATIO, 1e-6, 1e6)
    model = _mapping(
        {"joint": NAME, "ratio": ratio, "offset": _quantity(Dimension.ANGLE)},
        ("joint",),
    )
    keys = {
        "driver_name": TEXT | _says("name in the driver's messages"),
        "name": NAME | _says("name in the suite; default: driver_name"),
        "kind": _one_of(JointKind) | _says("rad, m, or a fraction of the travel"),
        "gripper": FLAG,
        "raw": _mapping({"at_lower": ratio, "at_upper": ratio}, ("at_lower", "at_upper")),
        "conversion": _mapping({"state": factor, "command": factor}, ("state", "command")),
        "model": _list(model) | _says("joints of the URDF that follow it"),
        **{key: {} for key in by_kind},
    }
    cases = [
        _case("kind", kind.value, {"properties": _of_kind(kind, replay_only=replay_only)})
        for kind in JointKind
    ]
    return {**_mapping(keys, required), "allOf": cases}


def _of_kind(kind: JointKind, *, replay_only: bool) -> dict[str, Schema]:
    position, velocity, acceleration, jerk = MOTION[kind]
    stiffness, damping, force = SERVO[kind]
    tiny = 1e-9

    def limit(dimension: Dimension, lower: float = -math.inf) -> Schema:
        stated = _quantity(dimension, lower)
        if not replay_only:
            return stated
        return {"anyOf": [stated, _mapping({OBSERVED: _quantity(dimension, lower)}, (OBSERVED,))]}

    def todo(dimension: Dimension) -> Schema:
        stated = _quantity(dimension, tiny)
        return {"anyOf": [stated, {"const": UNFILLED}]} if replay_only else stated

    servo = {
        "stiffness": _quantity(stiffness, tiny),
        "damping": _quantity(damping, 0.0),
        "force": _quantity(force, tiny),
        "speed": _quantity(velocity, tiny),
    }
    envelope = {
        "slope": _quantity(acceleration, tiny),
        "corner": _quantity(velocity, 0.0),
        "upper_end": _quantity(position),
        "lower_end": _quantity(position),
    }
    effort = _quantity((force, *(one for one in EFFORT_DIMENSIONS if one is not force)), tiny)
    efforts = {**_mapping({"hold": effort, "stop": effort}), "minProperties": 1}
    return {
        "lower": limit(position),
        "upper": limit(position),
        "velocity": limit(velocity, tiny),
        "acceleration": todo(acceleration),
        "jerk": todo(jerk),
        "home": _quantity(position),
        "servo": _mapping(servo, tuple(servo)),
        "velocity_envelope": _mapping(envelope, tuple(envelope)),
        "effort": efforts,
        "external_torque": efforts,
    }


def _camera() -> Schema:
    side = {"type": "integer", "minimum": 1, "maximum": MAX_SIDE_PX}
    keys = {
        "name": NAME,
        "preset": TEXT | _says("a file of config/cameras"),
        "topic": TOPIC,
        "transport": _one_of(CameraTransport),
        "encoding": TEXT,
        "frame_id": NAME,
        "height": side | _says("rows [px]"),
        "width": side | _says("columns [px]"),
        "rate": _quantity(Dimension.FREQUENCY, 0.01, 1000.0),
        "max_age": _duration() | _says("a sample older than it is not used [s]"),
        "vertical_fov": _quantity(Dimension.ANGLE, 0.01, 3.0),
        "reliability": _one_of(Reliability),
        "latency": _duration(0.0, 5.0),
    }
    encodings = [
        _case("transport", transport.value, {"properties": {"encoding": {"enum": list(names)}}})
        for transport, names in ENCODINGS.items()
    ]
    assert {"name", "preset", *PRESET, *OWN, *OPTIONAL} == set(keys)
    return {
        **_mapping(keys, ("name", *OWN)),
        "allOf": [{"anyOf": [{"required": ["preset"]}, {"required": list(PRESET)}]}, *encodings],
    }


def _safety() -> Schema:
    estop = {"name": NAME, "topic": TOPIC, "heartbeat": _duration(HEARTBEAT_MIN_S, HEARTBEAT_MAX_S)}
    required = {
        "chunk_timeout": _duration() | _says("a chunk older than it is not followed [s]"),
        "max_jump": _quantity(Dimension.ANGLE, 1e-6),
        "tracking_error": _quantity(Dimension.ANGLE, 1e-6),
        "lead": _duration(0.0, 1.0) | _says("commands are this far ahead [s]"),
        "blend": _duration(0.0, 5.0) | _says("time in which a chunk takes over [s]"),
    }
    optional = {
        "delivery_jitter": _duration(0.0, 0.2),
        "estop_sources": _list(_mapping(estop, tuple(estop))),
        "start": _one_of(StartRule),
    }
    return _mapping({**required, **optional}, tuple(required))


def _zone() -> Schema:
    corner = _list(_quantity(Dimension.LENGTH, -FAR, FAR), least=3, most=3)
    required = {"name": NAME, "kind": _one_of(ZoneKind), "target": NAME, "lower": corner, "upper": corner}
    optional = {
        "speed": _quantity(Dimension.VELOCITY, 1e-3, MAX_SPEED),
        "points": _list(_one_of(PointPart)),
    }
    return {
        **_mapping({**required, **optional}, tuple(required)),
        **_case("kind", ZoneKind.SLOW.value, {"required": ["speed"]}),
        "else": {"properties": {"speed": False}},
    }


def schema_text() -> str:
    """Return the schema as the published file has it."""
    return json.dumps(robot_file_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
