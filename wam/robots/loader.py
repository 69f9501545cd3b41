# SPDX-License-Identifier: Apache-2.0
"""Robot files: YAML to `RobotDescription`, checked completely while it is read.

`wam.devices.loader.load_robot` reads a robot file and adds the rules of its devices. A description that it returns is
valid; nothing later checks it again. Every error is a `ConfigError` that names file, line, dotted path, value, what is
allowed and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from wam.core.errors import ConfigError
from wam.robots.cameras import read_camera
from wam.robots.description import (
    NO_DRIVER,
    CommandKind,
    Distribution,
    GripperOnEnable,
    JointGroup,
    RobotDescription,
)
from wam.robots.estop import read_estop_sources
from wam.robots.joint_file import Openings, read_joint
from wam.robots.loads import read_payload
from wam.robots.names import name_of, require_distinct, require_periods, topic_of
from wam.robots.paths import share_root, share_roots
from wam.robots.safety_budget import DELIVERY_JITTER_NS, NO_BUDGET, SafetyBudget, StartRule
from wam.robots.twin_spec import CommandInterface, TwinSpec
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value, read_yaml
from wam.robots.zone_file import read_zones

T = TypeVar("T")

DISTRIBUTION_VARIABLE = "ROS_DISTRO"
"""Environment variable that a sourced distribution sets; it chooses between command topics that differ."""

SUFFIX = ".yaml"

Check = Callable[[JointGroup, Value], None]
"""Checks a joint group against the rules of its device; raises ConfigError at the group's place in the file."""


def read_robot(name_or_path: str | Path, check: Check) -> RobotDescription:
    """Return the robot called `name_or_path`.

    Args:
        name_or_path: a name in config/robots ("piper"), or the path of a YAML file (it ends in .yaml or holds a
            slash).
        check: called for each joint group.

    A command topic that differs between ROS 2 distributions is that of the environment's `ROS_DISTRO`.

    Raises:
        ConfigError: there is no such robot, or its file is illegal.
    """
    return _robot(read_yaml(find_robot(name_or_path)), check)


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
        known=list_robots(),
    )


def _robot(root: Value, check: Check) -> RobotDescription:
    replay_only = root.table().get("replay_only")
    openings = Openings(replay_only is not None and replay_only.flag())
    given = ("title", "groups", "cameras", "safety")
    needed = given[:2] if openings.allowed else given
    fields = root.fields(needed, (*given[len(needed) :], "model", "zones", "recorded_as", "replay_only"))
    model = fields["model"].fields(("urdf",), ("args", "srdf")) if "model" in fields else {}
    groups = fields["groups"]
    specs = tuple(_group(value, has_model="urdf" in model, openings=openings) for value in groups.items())
    for group, value in zip(specs, groups.items(), strict=True):
        check(group, value)
    require_distinct(
        "group name", ((group.name, value) for group, value in zip(specs, groups.items(), strict=True))
    )
    _distinct_joints(specs, groups)
    _distinct_topics(specs, groups)
    places = fields["cameras"].items() if "cameras" in fields else []
    cameras = tuple(read_camera(value) for value in places)
    views = list(zip(cameras, places, strict=True))
    require_distinct("camera name", ((camera.name, value) for camera, value in views))
    require_distinct("camera's topic", ((camera.topic, value) for camera, value in views))
    arguments = model["args"].table() if "args" in model else {}
    return RobotDescription(
        name=root.file.stem,
        title=fields["title"].text(),
        urdf=_file(model["urdf"]) if "urdf" in model else None,
        xacro_args=tuple((key, value.scalar()) for key, value in arguments.items()),
        srdf=_file(model["srdf"]) if "srdf" in model else None,
        groups=specs,
        cameras=cameras,
        safety=_safety(fields["safety"]) if "safety" in fields else NO_BUDGET,
        zones=read_zones(
            fields["zones"], {one.name: one.tip_link for one in specs}, has_model="urdf" in model
        )
        if "zones" in fields
        else (),
        source=root.file,
        recorded_as=name_of(fields["recorded_as"]) if "recorded_as" in fields else "",
        replay_only=openings.allowed,
        unstated=(*openings.found, *(("safety",) if "safety" not in fields else ())),
    )


def _group(value: Value, *, has_model: bool, openings: Openings) -> JointGroup:
    fields = value.fields(
        ("name", "state", "joints") if openings.allowed else ("name", "state", "command", "joints"),
        (
            *(("command",) if openings.allowed else ()),
            *("prefix", "driver", "launch", "payload", "gripper_on_enable"),
            *(("base_link", "tip_link", "twin") if has_model else ()),
        ),
    )
    state = fields["state"].fields(("topic", "rate", "max_age"))
    kind, command = _command(fields["command"]) if "command" in fields else (CommandKind.NONE, {})
    commanded = kind is not CommandKind.NONE
    topics = _topics(command["topic_by_distribution"]) if "topic_by_distribution" in command else {}
    here = {one.value: topic for one, topic in topics.items()}.get(os.environ.get(DISTRIBUTION_VARIABLE, ""))
    prefix = name_of(fields["prefix"]) if "prefix" in fields else ""
    joints = fields["joints"].items()
    specs = tuple(
        read_joint(joint, prefix=prefix, has_model=has_model, openings=openings) for joint in joints
    )
    require_distinct(
        "driver's joint name", ((spec.driver_name, v["driver_name"]) for spec, v in _keyed(specs, joints))
    )
    rate, max_age_ns = (
        state["rate"].quantity(Dimension.FREQUENCY, lower=0.1, upper=10_000.0),
        state["max_age"].duration_ns(),
    )
    require_periods(max_age_ns, rate, state["max_age"])
    return JointGroup(
        name=name_of(fields["name"]),
        joints=specs,
        state_topic=topic_of(state["topic"]),
        state_rate=rate,
        state_max_age_ns=max_age_ns,
        command_kind=kind,
        command_topic=(here or topic_of(command["topic"])) if commanded else "",
        command_rate=command["rate"].quantity(Dimension.FREQUENCY, lower=0.1, upper=10_000.0)
        if commanded
        else 0.0,
        driver=fields["driver"].text() if "driver" in fields else NO_DRIVER,
        base_link=name_of(fields["base_link"]) if "base_link" in fields else "",
        tip_link=name_of(fields["tip_link"]) if "tip_link" in fields else "",
        command_topics=tuple(topics.items()),
        command_lead_ns=command["lead"].duration_ns(lower=0.0, upper=1.0) if "lead" in command else 0,
        twin=_twin(fields["twin"]) if "twin" in fields else TwinSpec(),
        launch=tuple((key, one.scalar()) for key, one in fields["launch"].table().items())
        if "launch" in fields
        else (),
        payload=read_payload(fields["payload"]) if "payload" in fields else None,
        gripper_on_enable=fields["gripper_on_enable"].choice(GripperOnEnable)
        if "gripper_on_enable" in fields
        else GripperOnEnable.MAY_CLOSE,
    )


def _command(value: Value) -> tuple[CommandKind, dict[str, Value]]:
    kind = value.fields(("kind",), ("topic", "rate", "topic_by_distribution", "lead"))["kind"].choice(
        CommandKind
    )
    commanded = kind is not CommandKind.NONE
    return kind, value.fields(
        ("kind", "topic", "rate") if commanded else ("kind",),
        ("topic_by_distribution", "lead") if commanded else (),
    )


def _twin(value: Value) -> TwinSpec:
    fields = value.fields((), ("delay", "interface", "generation"))
    return TwinSpec(
        delay_ns=fields["delay"].duration_ns(lower=0.0, upper=1.0) if "delay" in fields else 0,
        interface=fields["interface"].choice(CommandInterface)
        if "interface" in fields
        else CommandInterface.EFFORT,
        generation=fields["generation"].text() if "generation" in fields else "",
    )


def _topics(value: Value) -> dict[Distribution, str]:
    names = tuple(one.value for one in Distribution)
    return {Distribution(name): topic_of(topic) for name, topic in value.fields((), names).items()}


def _safety(value: Value) -> SafetyBudget:
    fields = value.fields(
        ("chunk_timeout", "max_jump", "tracking_error", "lead", "blend"),
        ("delivery_jitter", "estop_sources", "start"),
    )
    timeout_ns, lead_ns = (
        fields["chunk_timeout"].duration_ns(),
        fields["lead"].duration_ns(lower=0.0, upper=1.0),
    )
    if timeout_ns <= lead_ns:
        raise fields["chunk_timeout"].error(
            "is not above lead: every chunk would be late",
            value=f"{timeout_ns * 1e-9:g} s",
            allowed=f"more than lead, {lead_ns * 1e-9:g} s",
        )
    return SafetyBudget(
        chunk_timeout_ns=timeout_ns,
        max_jump=fields["max_jump"].quantity(Dimension.ANGLE, lower=1e-6),
        tracking_error=fields["tracking_error"].quantity(Dimension.ANGLE, lower=1e-6),
        lead_ns=lead_ns,
        blend_ns=fields["blend"].duration_ns(lower=0.0, upper=5.0),
        delivery_jitter_ns=fields["delivery_jitter"].duration_ns(lower=0.0, upper=0.2)
        if "delivery_jitter" in fields
        else DELIVERY_JITTER_NS,
        estop_sources=read_estop_sources(fields["estop_sources"]) if "estop_sources" in fields else (),
        start=fields["start"].choice(StartRule) if "start" in fields else StartRule.OPERATOR,
    )


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


def _distinct_topics(groups: tuple[JointGroup, ...], value: Value) -> None:
    """A command topic has one group, and a state topic may be shared only by groups whose joints it can tell apart."""
    tables = [at.table() for at in value.items()]
    commanded = [
        (group.command_topic, table["command"])
        for group, table in zip(groups, tables, strict=True)
        if group.command_topic
    ]
    require_distinct("command topic", commanded)
    require_distinct(
        "joint of the state topic",
        (
            (f"{joint.driver_name} of {group.state_topic}", table["state"])
            for group, table in zip(groups, tables, strict=True)
            for joint in group.joints
        ),
    )
    followed: set[str] = set()
    for group, table in zip(groups, tables, strict=True):
        for joint, place in zip(group.joints, table["joints"].items(), strict=True):
            for one in joint.model_joints:
                if one.name in followed:
                    raise place.error(
                        "drives a joint of the model that another one drives",
                        value=one.name,
                        allowed="one driver's joint for each joint of the URDF",
                    )
                followed.add(one.name)


def _distinct_joints(groups: tuple[JointGroup, ...], value: Value) -> None:
    require_distinct(
        "joint name",
        (
            (joint.name, place)
            for group, at in zip(groups, value.items(), strict=True)
            for joint, place in zip(group.joints, at.table()["joints"].items(), strict=True)
        ),
    )
