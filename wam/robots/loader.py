# SPDX-License-Identifier: Apache-2.0
"""Robot files: YAML to `RobotDescription`, checked completely at load.

A returned description is valid; nothing later checks it again. Every refusal is a `ConfigError` that names file,
line, dotted path, value, what is allowed and the remedy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from wam.core.errors import ConfigError
from wam.robots.description import (
    CameraSpec,
    CameraTransport,
    CommandInterface,
    CommandKind,
    Distribution,
    DriverKind,
    JointEnvelope,
    JointGroup,
    JointKind,
    JointSpec,
    ModelJoint,
    RawScale,
    RobotDescription,
    SafetyBudget,
    ServoSpec,
    TwinSpec,
)
from wam.robots.images import COMPRESSED_FORMATS, RAW_ENCODINGS
from wam.robots.paths import share_root, share_roots
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value, read_yaml

T = TypeVar("T")

DISTRIBUTION_VARIABLE = "ROS_DISTRO"
"""Environment variable that a sourced distribution sets; it chooses between command topics that differ."""

SUFFIX = ".yaml"
MAX_SIDE_PX = 8192

_TOPIC = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

_MOTION = {
    JointKind.REVOLUTE: (
        Dimension.ANGLE,
        Dimension.ANGULAR_VELOCITY,
        Dimension.ANGULAR_ACCELERATION,
        Dimension.ANGULAR_JERK,
    ),
    JointKind.PRISMATIC: (Dimension.LENGTH, Dimension.VELOCITY, Dimension.ACCELERATION, Dimension.JERK),
    JointKind.RATIO: (
        Dimension.RATIO,
        Dimension.RATIO_VELOCITY,
        Dimension.RATIO_ACCELERATION,
        Dimension.RATIO_JERK,
    ),
}
_SERVO = {
    JointKind.REVOLUTE: (Dimension.ROTATIONAL_STIFFNESS, Dimension.ROTATIONAL_DAMPING, Dimension.TORQUE),
    JointKind.PRISMATIC: (Dimension.STIFFNESS, Dimension.DAMPING, Dimension.FORCE),
    JointKind.RATIO: (Dimension.ROTATIONAL_STIFFNESS, Dimension.ROTATIONAL_DAMPING, Dimension.TORQUE),
}


def load_robot(name_or_path: str | Path) -> RobotDescription:
    """Return the robot called `name_or_path`.

    Args:
        name_or_path: a name in config/robots ("piper"), or the path of a YAML file (it ends in .yaml or holds a
            slash).

    A command topic that differs between ROS 2 distributions is that of the environment's `ROS_DISTRO`.

    Raises:
        ConfigError: there is no such robot, or its file is illegal.
    """
    return _robot(read_yaml(find_robot(name_or_path)))


def list_robots() -> tuple[str, ...]:
    """Return the names of all robots in config/robots, sorted."""
    return tuple(
        sorted({file.stem for root in share_roots() for file in (root / "config/robots").glob("*" + SUFFIX)})
    )


def find_robot(name_or_path: str | Path) -> Path:
    """Return the file of the robot called `name_or_path`.

    Raises:
        ConfigError: there is none; the text lists the robots that exist.
    """
    given = str(name_or_path)
    if given.endswith((SUFFIX, ".yml")) or "/" in given:
        path = Path(given).expanduser()
        if path.is_file():
            return path.resolve()
        raise ConfigError(
            "robot file does not exist",
            value=given,
            allowed="an existing YAML file",
            where="the argument or parameter `robot`",
        )
    for root in share_roots():
        path = root / "config" / "robots" / (given + SUFFIX)
        if path.is_file():
            return path
    raise ConfigError(
        "there is no such robot",
        value=given,
        allowed=f"{', '.join(list_robots()) or 'none installed'}, or the path of a YAML file",
        where="the argument or parameter `robot`",
    )


def _robot(root: Value) -> RobotDescription:
    fields = root.fields(("title", "groups", "cameras", "safety"), ("model",))
    model = fields["model"].fields(("urdf",), ("args", "srdf")) if "model" in fields else {}
    groups = fields["groups"]
    specs = tuple(_group(value, has_model="urdf" in model) for value in groups.items())
    _distinct("group", ((group.name, value) for group, value in zip(specs, groups.items(), strict=True)))
    _distinct_joints(specs, groups)
    cameras = tuple(_camera(value) for value in fields["cameras"].items())
    _distinct("camera", ((c.name, v) for c, v in zip(cameras, fields["cameras"].items(), strict=True)))
    arguments = model["args"].table() if "args" in model else {}
    return RobotDescription(
        name=root.file.stem,
        title=fields["title"].text(),
        urdf=_file(model["urdf"]) if "urdf" in model else None,
        xacro_args=tuple((key, value.scalar()) for key, value in arguments.items()),
        srdf=_file(model["srdf"]) if "srdf" in model else None,
        groups=specs,
        cameras=cameras,
        safety=_safety(fields["safety"]),
        source=root.file,
    )


def _group(value: Value, *, has_model: bool) -> JointGroup:
    fields = value.fields(
        ("name", "state", "command", "joints"),
        ("prefix", "driver", *(("base_link", "tip_link", "twin") if has_model else ())),
    )
    state = fields["state"].fields(("topic", "rate", "max_age"))
    kind = (
        fields["command"]
        .fields(("kind",), ("topic", "rate", "topic_by_distribution"))["kind"]
        .choice(CommandKind)
    )
    commanded = kind is not CommandKind.NONE
    command = fields["command"].fields(
        ("kind", "topic", "rate") if commanded else ("kind",), ("topic_by_distribution",) if commanded else ()
    )
    topics = _topics(command["topic_by_distribution"]) if "topic_by_distribution" in command else {}
    here = {one.value: topic for one, topic in topics.items()}.get(os.environ.get(DISTRIBUTION_VARIABLE, ""))
    prefix = _name(fields["prefix"]) if "prefix" in fields else ""
    joints = fields["joints"].items()
    specs = tuple(_joint(joint, prefix=prefix, has_model=has_model) for joint in joints)
    _distinct("driver's joint", ((spec.driver_name, v["driver_name"]) for spec, v in _keyed(specs, joints)))
    return JointGroup(
        name=_name(fields["name"]),
        joints=specs,
        state_topic=_topic(state["topic"]),
        state_rate=state["rate"].quantity(Dimension.FREQUENCY, lower=0.1, upper=10_000.0),
        state_max_age_ns=state["max_age"].duration_ns(),
        command_kind=kind,
        command_topic=(here or _topic(command["topic"])) if commanded else "",
        command_rate=command["rate"].quantity(Dimension.FREQUENCY, lower=0.1, upper=10_000.0)
        if commanded
        else 0.0,
        driver=fields["driver"].choice(DriverKind) if "driver" in fields else DriverKind.NONE,
        base_link=_name(fields["base_link"]) if "base_link" in fields else "",
        tip_link=_name(fields["tip_link"]) if "tip_link" in fields else "",
        command_topics=tuple(topics.items()),
        twin=_twin(fields["twin"]) if "twin" in fields else TwinSpec(),
    )


def _twin(value: Value) -> TwinSpec:
    fields = value.fields((), ("delay", "interface"))
    return TwinSpec(
        delay_ns=fields["delay"].duration_ns(lower=0.0, upper=1.0) if "delay" in fields else 0,
        interface=fields["interface"].choice(CommandInterface)
        if "interface" in fields
        else CommandInterface.EFFORT,
    )


def _topics(value: Value) -> dict[Distribution, str]:
    names = tuple(one.value for one in Distribution)
    return {Distribution(name): _topic(topic) for name, topic in value.fields((), names).items()}


def _joint(value: Value, *, prefix: str, has_model: bool) -> JointSpec:
    required = ("driver_name", "kind", "lower", "upper", "velocity", "acceleration", "jerk")
    fields = value.fields(
        required, ("name", "home", "velocity_envelope", "raw", *(("model", "servo") if has_model else ()))
    )
    kind = fields["kind"].choice(JointKind)
    position, velocity, acceleration, jerk = _MOTION[kind]
    lower, upper = fields["lower"].quantity(position), fields["upper"].quantity(position)
    if lower >= upper:
        raise fields["lower"].error(
            "is not below upper",
            value=f"lower {lower:g}, upper {upper:g} {position.value}",
            allowed="lower < upper",
        )
    tiny = 1e-9
    name = prefix + (_name(fields["name"]) if "name" in fields else _name(fields["driver_name"]))
    if "home" in fields:
        home = fields["home"].quantity(position, lower=lower, upper=upper)
    else:
        home = min(max(0.0, lower), upper)
    model_joints: tuple[ModelJoint, ...] = ()
    if "model" in fields:
        model_joints = tuple(_model_joint(entry, prefix) for entry in fields["model"].items())
    elif has_model:
        model_joints = (ModelJoint(name),)
    return JointSpec(
        name=name,
        driver_name=fields["driver_name"].text(),
        kind=kind,
        lower=lower,
        upper=upper,
        velocity=fields["velocity"].quantity(velocity, lower=tiny),
        acceleration=fields["acceleration"].quantity(acceleration, lower=tiny),
        jerk=fields["jerk"].quantity(jerk, lower=tiny),
        home=home,
        model_joints=model_joints,
        servo=_servo(fields["servo"], kind) if "servo" in fields else None,
        envelope=_envelope(fields["velocity_envelope"], kind, lower, upper)
        if "velocity_envelope" in fields
        else None,
        raw=_raw(fields["raw"]) if "raw" in fields else None,
    )


def _envelope(value: Value, kind: JointKind, lower: float, upper: float) -> JointEnvelope:
    position, velocity, acceleration, _ = _MOTION[kind]
    fields = value.fields(("slope", "corner", "upper_end", "lower_end"))
    return JointEnvelope(
        slope=fields["slope"].quantity(acceleration, lower=1e-9),
        corner=fields["corner"].quantity(velocity, lower=0.0),
        upper_end=fields["upper_end"].quantity(position, lower=upper),
        lower_end=fields["lower_end"].quantity(position, upper=lower),
    )


def _raw(value: Value) -> RawScale:
    fields = value.fields(("at_lower", "at_upper"))
    scale = RawScale(*(fields[key].quantity(Dimension.RATIO) for key in ("at_lower", "at_upper")))
    if scale.at_lower == scale.at_upper:
        raise value.error("maps the whole range to one value", allowed="two different numbers")
    return scale


def _model_joint(value: Value, prefix: str) -> ModelJoint:
    fields = value.fields(("joint",), ("ratio", "offset"))
    ratio = fields["ratio"].quantity(Dimension.RATIO) if "ratio" in fields else 1.0
    if ratio == 0.0:
        raise fields["ratio"].error("is zero", allowed="any other number")
    offset = fields["offset"].quantity(Dimension.ANGLE) if "offset" in fields else 0.0
    return ModelJoint(prefix + _name(fields["joint"]), ratio, offset)


def _servo(value: Value, kind: JointKind) -> ServoSpec:
    stiffness, damping, force = _SERVO[kind]
    fields = value.fields(("stiffness", "damping", "force", "speed"))
    return ServoSpec(
        stiffness=fields["stiffness"].quantity(stiffness, lower=1e-9),
        damping=fields["damping"].quantity(damping, lower=0.0),
        force=fields["force"].quantity(force, lower=1e-9),
        speed=fields["speed"].quantity(_MOTION[kind][1], lower=1e-9),
    )


def _camera(value: Value) -> CameraSpec:
    required = ("name", "topic", "transport", "encoding", "height", "width", "rate", "max_age", "frame_id")
    fields = value.fields(required, ("vertical_fov", "latency"))
    transport = fields["transport"].choice(CameraTransport)
    encodings = tuple(RAW_ENCODINGS) if transport is CameraTransport.RAW else COMPRESSED_FORMATS
    encoding = fields["encoding"].text()
    if encoding not in encodings:
        raise fields["encoding"].error("is illegal", value=encoding, allowed=", ".join(encodings))
    fov = (
        fields["vertical_fov"].quantity(Dimension.ANGLE, lower=0.01, upper=3.0)
        if "vertical_fov" in fields
        else None
    )
    return CameraSpec(
        name=_name(fields["name"]),
        topic=_topic(fields["topic"]),
        transport=transport,
        encoding=encoding,
        height=fields["height"].integer(lower=1, upper=MAX_SIDE_PX),
        width=fields["width"].integer(lower=1, upper=MAX_SIDE_PX),
        rate=fields["rate"].quantity(Dimension.FREQUENCY, lower=0.01, upper=1000.0),
        max_age_ns=fields["max_age"].duration_ns(),
        frame_id=_name(fields["frame_id"]),
        vertical_fov=fov,
        latency_ns=fields["latency"].duration_ns(lower=0.0, upper=5.0) if "latency" in fields else 0,
    )


def _safety(value: Value) -> SafetyBudget:
    fields = value.fields(("chunk_timeout", "max_jump", "tracking_error", "lead", "blend"))
    return SafetyBudget(
        chunk_timeout_ns=fields["chunk_timeout"].duration_ns(),
        max_jump=fields["max_jump"].quantity(Dimension.ANGLE, lower=1e-6),
        tracking_error=fields["tracking_error"].quantity(Dimension.ANGLE, lower=1e-6),
        lead_ns=fields["lead"].duration_ns(lower=0.0, upper=1.0),
        blend_ns=fields["blend"].duration_ns(lower=0.0, upper=5.0),
    )


def _topic(value: Value) -> str:
    text = value.text()
    if not _TOPIC.fullmatch(text):
        raise value.error(
            "is no relative topic name", value=text, allowed="e.g. left/joint_states, without leading /"
        )
    return text


def _name(value: Value) -> str:
    text = value.text()
    if not _NAME.fullmatch(text):
        raise value.error(
            "is no name", value=text, allowed="letters, digits, _, . and -, not starting with a digit"
        )
    return text


def _file(value: Value) -> Path:
    text = value.text()
    places = [value.file.parent / text]
    if not Path(text).is_absolute():
        places.append(share_root() / text)
    for place in places:
        if place.is_file():
            return place.resolve()
    raise value.error(
        "does not exist", value=text, allowed=f"an existing file; looked at {', '.join(map(str, places))}"
    )


def _keyed(specs: tuple[T, ...], values: list[Value]) -> Iterable[tuple[T, dict[str, Value]]]:
    return ((spec, value.table()) for spec, value in zip(specs, values, strict=True))


def _distinct(what: str, named: Iterable[tuple[str, Value]]) -> None:
    seen: dict[str, Value] = {}
    for name, value in named:
        if name in seen:
            raise value.error(
                f"repeats the {what} name",
                value=name,
                allowed=f"distinct names (first used in line {seen[name].line})",
            )
        seen[name] = value


def _distinct_joints(groups: tuple[JointGroup, ...], value: Value) -> None:
    _distinct(
        "joint",
        (
            (joint.name, place)
            for group, at in zip(groups, value.items(), strict=True)
            for joint, place in zip(group.joints, at.table()["joints"].items(), strict=True)
        ),
    )
