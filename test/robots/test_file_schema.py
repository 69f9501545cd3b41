# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema of robot files: it is the published one, it takes what the loader takes, and it has the same keys."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml
from robot_file_texts import DRAFT, FAULTS, GOOD, without_the_flag

from wam.core.errors import ConfigError
from wam.robots.file_schema import robot_file_schema, schema_text
from wam.robots.loader import find_robot, list_robots, read_robot

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "docs" / "reference" / "robot-file.schema.json"

BEYOND_A_SCHEMA = (
    "is not below upper", "home: 2.0", "(first used in line", "is written twice", "does not exist", "hold < stop",
    "has another unit than hold", "cannot be watched", "rate: .nan", "effort: {stop: .inf}",
)  # fmt: skip
"""Faults of `FAULTS`, by what is wrong or by their text, that need two values, another file, a device's rule or the
file's own text; and numbers that JSON does not have."""

EVERYTHING = """\
title: Everything that a robot file may say
recorded_as: everything
replay_only: false
model: {urdf: URDF, args: {hand: true}, srdf: URDF}
groups:
  - name: arm
    prefix: my_
    driver: none
    launch: {robot_ip: 10.0.0.1}
    gripper_on_enable: keep
    base_link: base
    tip_link: tip
    twin: {delay: 0.02, interface: position, generation: v2}
    payload: {mass: {value: 300, unit: g}, center_of_mass: [0, 0, {value: 4, unit: cm}]}
    state: {topic: arm/joint_states, rate: 200, max_age: {value: 50, unit: ms}}
    command: {kind: joint_trajectory, topic: arm/command, rate: 100, lead: 0.1, topic_by_distribution: {humble: arm/b}}
    joints:
      - driver_name: joint1
        name: shoulder
        kind: revolute
        lower: {value: -90, unit: deg}
        upper: 1.5
        velocity: 3
        acceleration: 2
        jerk: 50
        home: 0.25
        gripper: false
        raw: {at_lower: 0, at_upper: 1000}
        conversion: {state: 0.001, command: 1000}
        model: [{joint: follower, ratio: 2, offset: 0.1}]
        servo: {stiffness: 100, damping: 10, force: 50, speed: 3}
        velocity_envelope: {slope: 9, corner: 0.1, upper_end: 2, lower_end: -2}
        effort: {hold: 10, stop: {value: 20, unit: N m}}
        external_torque: {stop: 9}
cameras:
  - name: head
    preset: orbbec_gemini_336l
    topic: head/image_raw
    transport: raw
    encoding: rgb8
    frame_id: head_optical
    height: 240
    width: 320
    rate: 15
    max_age: 0.2
    vertical_fov: {value: 50, unit: deg}
    reliability: best_effort
    latency: {value: 40, unit: ms}
safety:
  chunk_timeout: 0.25
  max_jump: 0.2
  tracking_error: 0.3
  lead: 0.04
  blend: 0.1
  delivery_jitter: 0.01
  estop_sources: [{name: cell, topic: cell/estop, heartbeat: 0.25}]
  start: by_itself
zones:
  - {name: table, kind: slow, target: arm, lower: [0, 0, 0], upper: [1, 1, 1], speed: 0.1, points: [tip]}
"""


class Core(yaml.SafeLoader):
    """Reads plain values as YAML 1.2 and editors do: 1e1 is a number, 1:30 is none."""


Core.yaml_implicit_resolvers = {}
for _tag, _form in (
    ("bool", r"true|false"),
    ("int", r"[-+]?\d+"),
    ("float", r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?|[-+]?\.inf|\.nan"),
):
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), None)
Core.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(node.value.replace(".inf", "inf").replace(".nan", "nan")),
)


def read(text: str) -> Any:
    return yaml.load(text, Loader=Core)


@pytest.fixture(scope="module")
def accepts() -> Callable[[str], bool]:
    check = fastjsonschema.compile(robot_file_schema())

    def judge(text: str) -> bool:
        try:
            check(read(text))
        except fastjsonschema.JsonSchemaException:
            return False
        return True

    return judge


def everything() -> str:
    return EVERYTHING.replace("URDF", str(find_robot("piper")))  # any file that exists


def test_the_published_file_is_current() -> None:
    remedy = f"python -m wam.robots.file_schema > {PUBLISHED.relative_to(ROOT)}"
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), remedy


@pytest.mark.parametrize("name", list_robots())
def test_every_robot_of_the_suite_is_accepted(accepts: Callable[[str], bool], name: str) -> None:
    assert accepts(find_robot(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", [GOOD, DRAFT, everything()], ids=["good", "draft", "everything"])
def test_what_the_loader_takes_is_accepted(accepts: Callable[[str], bool], tmp_path: Path, text: str) -> None:
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    read_robot(tmp_path / "one.yaml", lambda group, value: None)
    assert accepts(text)


@pytest.mark.parametrize(
    ("old", "new", "why"), [(f[0], f[1], f[4]) for f in FAULTS], ids=[f"{f[3]}: {f[4]}" for f in FAULTS]
)
def test_every_fault_that_a_schema_can_tell_is_refused(
    accepts: Callable[[str], bool], old: str, new: str, why: str
) -> None:
    told = not any(part in why for part in BEYOND_A_SCHEMA) and new not in BEYOND_A_SCHEMA
    assert accepts(GOOD.replace(old, new)) is not told


def test_what_only_a_replay_may_leave_open_is_refused_elsewhere(accepts: Callable[[str], bool]) -> None:
    assert not accepts(DRAFT.replace("replay_only: true\n", ""))
    text = without_the_flag()
    assert not accepts(text)
    for key in ("lower", "upper", "velocity"):
        text = re.sub(rf"{key}: {{observed: (\S+)}}", rf"{key}: \1", text)
    assert not accepts(text)
    assert accepts(text.replace("TODO", "10"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: slow", "kind: stop"),
        ("speed: 0.1, points", "points"),
        ("upper: [1, 1, 1]", "upper: [1, 1]"),
        ("points: [tip]", "points: [palm]"),
        ("heartbeat: 0.25", "heartbeat: 0.01"),
        ("start: by_itself", "start: soon"),
        ("preset: orbbec_gemini_336l\n    topic: head/image_raw\n    transport: raw", "transport: raw"),
        ("encoding: rgb8", "encoding: jpeg"),
        ("stiffness: 100, ", ""),
        ("humble:", "dashing:"),
        ("force: 50", "force: {value: 50, unit: N}"),
    ],
)
def test_a_fault_in_the_rarer_parts_is_refused_by_both(
    accepts: Callable[[str], bool], tmp_path: Path, old: str, new: str
) -> None:
    text = everything()
    assert text.count(old) == 1
    (tmp_path / "one.yaml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError):
        read_robot(tmp_path / "one.yaml", lambda group, value: None)
    assert not accepts(text.replace(old, new))


def mappings(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all mappings inside a value."""
    if isinstance(value, dict):
        yield path
    for key, one in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from mappings(one, (*path, key))


def keys_of(schema: Any, path: tuple[str | int, ...], root: Any) -> set[str]:
    """Return the keys that a schema allows at `path`, of whichever branch holds there; none for free keys."""
    if "$ref" in schema:
        return keys_of(root["definitions"][schema["$ref"].rpartition("definitions/")[2]], path, root)
    branches = [*schema.get("allOf", ()), *schema.get("anyOf", ())]
    branches += [schema[key] for key in ("then", "else") if key in schema]
    found = {key for one in branches if isinstance(one, dict) for key in keys_of(one, path, root)}
    if not path:
        return found | set(schema.get("properties", ()))
    inside = schema.get("items") if isinstance(path[0], int) else schema.get("properties", {}).get(path[0])
    return found | (keys_of(inside, path[1:], root) if isinstance(inside, dict) else set())


def test_loader_and_schema_know_the_same_keys_everywhere(tmp_path: Path) -> None:
    schema, content = robot_file_schema(), read(everything())
    file, compared = tmp_path / "one.yaml", 0
    for path in mappings(content):
        if path[-1:] in (("args",), ("launch",)):
            continue  # their keys are free
        spoilt = copy.deepcopy(content)
        at = spoilt
        for key in path:
            at = at[key]
        at["no_such_key"] = 1
        file.write_text(yaml.safe_dump(spoilt, sort_keys=False), encoding="utf-8")
        with pytest.raises(ConfigError, match="no_such_key is an unknown key") as caught:
            read_robot(file, lambda group, value: None)
        allowed = re.search(r"allowed: ([^;]*)", str(caught.value))
        assert allowed is not None
        known = set(allowed[1].split(", "))
        assert keys_of(schema, path, schema) - {"observed"} == known, path
        compared += 1
    assert compared > 25
