# SPDX-License-Identifier: Apache-2.0
"""What a simulated franka_ros2 offers: the robot state, the error recovery, and the actions of the hand."""

from __future__ import annotations

from typing import Any

from wam.devices.franka.arm import RECOVERY_ACTION, STATE_TOPIC
from wam.devices.franka.twin import ACTIVATE, RECOVERY, GoalKind, GripperGoal
from wam.devices.simulated import (
    GoalActions,
    MergedStates,
    Moment,
    SimAction,
    Simulated,
    SimulatedDevice,
    StatusTopic,
    trigger,
)
from wam.devices.twin import DriverAnswer, MeasuredJoints
from wam.robots.description import JointGroup

MERGED = MergedStates("joint_states", ("franka", "franka_gripper"), rate=30.0)
"""`joint_states` of franka_ros2: the joints of arm and hand together."""

GOAL_TYPES = {
    GoalKind.MOVE.value: "franka_move",
    GoalKind.GRASP.value: "franka_grasp",
    GoalKind.HOMING.value: "franka_homing",
    GoalKind.GRIPPER_ACTION.value: "gripper_command",
}
"""Action of the hand -> our name of its type."""


def arm(group: JointGroup) -> Simulated:
    """Return what the driver of the arm offers.

    A recovery also activates the trajectory controller, since no controller manager is simulated.
    """
    return Simulated(
        statuses=(StatusTopic("franka_state", STATE_TOPIC, _fill_state, rate=group.state_rate),),
        text_topic=f"{STATE_TOPIC}_text",
        services=(
            SimAction(
                "franka_recovery", RECOVERY_ACTION, _recover, instead=trigger(RECOVERY_ACTION, _recover)
            ),
        ),
        merged=MERGED,
    )


def hand(group: JointGroup) -> Simulated:
    """Return what the node of the hand offers."""
    folder = group.state_topic.rpartition("/")[0]
    return Simulated(
        goals=GoalActions(folder, GOAL_TYPES, lambda name, m: read_goal(GoalKind(name), m), fill_result)
    )


def read_goal(kind: GoalKind, message: Any) -> GripperGoal:
    """Return the goal of an action's message.

    GripperCommand counts in half the opening, the others in the whole; its force is that of a grasp.
    """
    if kind is GoalKind.GRIPPER_ACTION:
        command = message.command
        return GripperGoal(kind, 2.0 * float(command.position), force=float(command.max_effort))
    if kind is GoalKind.HOMING:
        return GripperGoal(kind)
    width, speed = float(message.width), float(message.speed)
    if kind is GoalKind.MOVE:
        return GripperGoal(kind, width, speed)
    inner, outer = float(message.epsilon.inner), float(message.epsilon.outer)
    return GripperGoal(kind, width, speed, float(message.force), inner, outer)


def fill_result(result: Any, answer: DriverAnswer, measured: MeasuredJoints) -> None:
    """Write how a goal ended into the result of any of the actions."""
    # GripperCommand counts in half the opening in its goal and in the whole in its result.
    values = {
        "success": answer.ok,
        "error": "" if answer.ok else answer.text,
        "position": 2.0 * float(measured.positions[0]),
        "reached_goal": answer.ok,
        "stalled": not answer.ok,
    }
    for field, value in values.items():
        if hasattr(result, field):
            setattr(result, field, value)


def _fill_state(message: Any, moment: Moment) -> None:
    modes = moment.modes
    message.robot_mode = int(modes["robot_mode"])
    message.control_command_success_rate = float(modes["control_command_success_rate"])
    for field in ("current_errors", "last_motion_errors"):
        for name in filter(None, str(modes[field]).split(", ")):
            setattr(getattr(message, field), name, True)


def _recover(device: SimulatedDevice) -> DriverAnswer:
    recovered = device.request(RECOVERY)
    return device.request(ACTIVATE) if recovered.ok else recovered
