# SPDX-License-Identifier: Apache-2.0
"""A robot and its devices as plain values, for people and for JSON."""

from __future__ import annotations

from typing import Any

from wam.devices.registry import kind_of
from wam.robots.describe import describe
from wam.robots.description import RobotDescription


def describe_robot(robot: RobotDescription) -> dict[str, Any]:
    """Return a robot as plain values; see `wam.robots.describe.describe`.

    Each of `groups` has one more key, `device`: the title of its kind of device.

    Raises:
        ConfigError: its model is faulty.
    """
    shown = describe(robot)
    for group, values in zip(robot.groups, shown["groups"], strict=True):
        values["device"] = kind_of(group).title
    return shown
