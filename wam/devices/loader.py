# SPDX-License-Identifier: Apache-2.0
"""Robot files with the rules of their devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wam.core.errors import ConfigError
from wam.devices.registry import find_kind, kind_names, kind_of
from wam.devices.rules import require_effort, require_rule, spelled
from wam.robots.description import JointGroup, RobotDescription, summed_up
from wam.robots.loader import read_robot
from wam.robots.yaml_reader import Value


def load_robot(name_or_path: str | Path, *, moves: bool = True) -> RobotDescription:
    """Return the robot called `name_or_path`, checked completely.

    Args:
        name_or_path: a name in config/robots ("piper"), or the path of a YAML file (it ends in .yaml or holds a
            slash).
        moves: whether a robot may be moved by it, real or simulated; False also takes a file for replay only.

    A command topic that differs between ROS 2 distributions is that of the environment's `ROS_DISTRO`.

    Raises:
        ConfigError: there is no such robot, its file is illegal, a group does not fit its kind of device, or the file
            is for replay only and `moves`.
    """
    robot = read_robot(name_or_path, require_device)
    if moves:
        _require_movable(robot)
    return replace(robot, groups=tuple(_with_spellings(group) for group in robot.groups))


def _require_movable(robot: RobotDescription) -> None:
    if not robot.replay_only:
        return
    raise ConfigError(
        f"robot file {robot.source.name} is for replay only: no robot may be moved by it",
        value="it does not state " + summed_up(robot.unstated) if robot.unstated else "replay_only: true",
        allowed="a file with every limit, a command and safety budgets, and without `replay_only`",
        where=f"{robot.source} (docs/how-to/add-a-robot.md)",
    )


def _with_spellings(group: JointGroup) -> JointGroup:
    spellings = spelled(kind_of(group).rule, group)
    return replace(group, spellings=spellings) if spellings else group


def require_device(group: JointGroup, value: Value) -> None:
    """Check a joint group against the rule of its kind of device.

    Args:
        group: as read from the file.
        value: the group in the file.

    Raises:
        ConfigError: there is no such kind, or the group does not fit it.
    """
    kind = find_kind(group.driver)
    if kind is None:
        raise value.table()["driver"].error("is illegal", value=group.driver, known=kind_names())
    require_rule(kind.rule, group, value)
    require_effort(kind.effort.dimensions, bool(kind.effort.external_topic), group, value)
