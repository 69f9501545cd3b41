# SPDX-License-Identifier: Apache-2.0
"""Adapter of the Franka Hand: which actions it uses, and how their goals are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wam.core.errors import ConfigError
from wam.devices.adapter import GoalAdapter, GoalSettings
from wam.devices.franka.hand import FrankaGripper, GripperApi, HandGoal, opening_of
from wam.devices.gripper import Discretiser

ACTIONS = {
    GripperApi.FRANKA: {"move": "franka_move", "grasp": "franka_grasp"},
    GripperApi.COMMAND: {"gripper_action": "gripper_command"},
}
"""Actions of each interface, and their types' names in `wam.devices.optional`."""


def make_gripper(settings: GoalSettings) -> FrankaGripper:
    """Return the gripper.

    Raises:
        ConfigError: the two thresholds leave no band between them.
    """
    if settings.close_below >= settings.open_above:
        raise ConfigError(
            "parameters gripper_close_below and gripper_open_above leave no band between them",
            value=f"{settings.close_below:g} m and {settings.open_above:g} m",
            allowed="gripper_close_below < gripper_open_above",
            where=f"the parameters of {settings.where}",
        )
    thresholds = Discretiser(
        close_below=settings.close_below, open_above=settings.open_above, dwell_ns=settings.dwell_ns
    )
    return FrankaGripper(thresholds, api=GripperApi(settings.api), force=settings.force)


def actions(settings: GoalSettings) -> Mapping[str, str]:
    """Return the actions of the interface in use: name -> type."""
    return ACTIONS[GripperApi(settings.api)]


def fill_goal(goal: HandGoal, message: Any) -> Any:
    """Write a goal into its message and return it."""
    if goal.name == "gripper_action":
        message.command.position, message.command.max_effort = goal.position, goal.force
        return message
    message.width, message.speed = goal.width, goal.speed
    if goal.name == "grasp":
        message.force = goal.force
        message.epsilon.inner = message.epsilon.outer = goal.epsilon
    return message


ADAPTER = GoalAdapter(
    make=make_gripper, actions=actions, fill=fill_goal, opening=opening_of, target_factor=2.0
)
