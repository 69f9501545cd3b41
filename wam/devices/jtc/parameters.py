# SPDX-License-Identifier: Apache-2.0
"""The twin's parameters from the file that the real controller gets: config/controllers/KIND.DISTRIBUTION.yaml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from wam.core.clock import NS_PER_S, seconds_to_ns
from wam.core.errors import ConfigError
from wam.devices.jtc.values import ControllerOptions
from wam.robots.description import Distribution, JointGroup
from wam.robots.loader import DISTRIBUTION_VARIABLE
from wam.robots.paths import config_dir

WITHOUT_ROS = Distribution.KILTED
"""Distribution whose rules count where none is sourced: that of the ROS 2 wheels."""


def distribution_or_default(name: str = "") -> Distribution:
    """Return the distribution called `name`, else the one of the environment, else that of the wheels.

    Raises:
        ConfigError: there is none called `name`.
    """
    given = name or os.environ.get(DISTRIBUTION_VARIABLE, "")
    for one in Distribution:
        if one.value == given:
            return one
    if name:
        raise ConfigError(
            "ROS 2 distribution",
            value=name,
            known=[one.value for one in Distribution],
            where="the parameter `distribution`",
        )
    return WITHOUT_ROS


def _file(kind: str, distribution: Distribution) -> Path | None:
    """Return the file for `distribution`, or that of the last one before it for which the vendor has a release."""
    order = list(Distribution)
    for one in reversed(order[: order.index(distribution) + 1]):
        path = config_dir() / "controllers" / f"{kind}.{one.value}.yaml"
        if path.is_file():
            return path
    return None


def controller_options(kind: str, group: JointGroup, distribution: Distribution) -> ControllerOptions:
    """Return the parameters of the controller of `group`.

    Args:
        kind: `controllers` of the group's kind of device: first part of the file's name; "" for none.
        group: its command topic names the controller.
        distribution: whose defaults and whose file count.

    Returns:
        The defaults of the distribution, and over them what the controller file says. Without such a file, or with
        another controller, the defaults and a start at the last command.
    """
    defaults = ControllerOptions.of(distribution)
    topic = dict(group.command_topics).get(distribution, group.command_topic)
    given: Mapping[str, Any] = {}
    path = _file(kind, distribution)
    if path is not None:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))["/**"]
        given = content.get(topic.rpartition("/")[0], {}).get("ros__parameters", {})
    # ur_controllers brings this rule to Humble.
    ahead = distribution is not Distribution.HUMBLE or str(given.get("type", "")).startswith(
        "ur_controllers/"
    )
    defaults = replace(defaults, period_ns=round(NS_PER_S / group.state_rate) if ahead else 0)
    if not given:
        return replace(defaults, interpolate_from_desired_state=True)
    constraints = given.get("constraints", {})

    def tolerance(kind: str) -> tuple[float, ...]:
        # Zero means no limit, which is the controller's default.
        values = (float(constraints.get(name, {}).get(kind, 0.0)) for name in group.driver_names)
        return tuple(value or float("inf") for value in values)

    desired = bool(given.get("interpolate_from_desired_state", given.get("open_loop_control", False)))
    nonzero = given.get(
        "allow_nonzero_velocity_at_trajectory_end", defaults.allow_nonzero_velocity_at_trajectory_end
    )
    return replace(
        defaults,
        interpolate_from_desired_state=desired,
        allow_nonzero_velocity_at_trajectory_end=bool(nonzero),
        allow_partial_joints_goal=bool(given.get("allow_partial_joints_goal", False)),
        interpolate=given.get("interpolation_method", "splines") != "none",
        effort_interface="effort" in given.get("command_interfaces", ()),
        trajectory_tolerance=tolerance("trajectory"),
        goal_tolerance=tolerance("goal"),
        goal_time_ns=seconds_to_ns(float(constraints.get("goal_time", 0.0))),
        cmd_timeout_ns=seconds_to_ns(float(given.get("cmd_timeout", 0.0))),
    )
