# SPDX-License-Identifier: Apache-2.0
"""What a recording holds of gripper actions: feedback, and goals where service introspection was on.

    ACTION/_action/feedback                   where the gripper was measured while a goal was pursued; no goal
    ACTION/_action/send_goal/_service_event   the goals themselves, as events of the service that takes them

rosbag2 stores no definition of such messages, since there is no .msg file of them; their layouts are stated here.
Widths of a Franka Hand are whole openings, and its joint is half of that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_ACTIONS = {
    # action -> goal, feedback
    "control_msgs/action/GripperCommand": (
        "control_msgs/GripperCommand command",
        "float64 position\nfloat64 effort\nbool stalled\nbool reached_goal",
    ),
    "control_msgs/action/ParallelGripperCommand": (
        "sensor_msgs/JointState command",
        "sensor_msgs/JointState state",
    ),
    "franka_msgs/action/Move": ("float64 width\nfloat64 speed", "float64 current_width"),
    "franka_msgs/action/Grasp": (
        "float64 width\nfranka_msgs/GraspEpsilon epsilon\nfloat64 speed\nfloat64 force",
        "float64 current_width",
    ),
}
_FEEDBACK, _GOAL = "_FeedbackMessage", "_SendGoal_Event"
_MESSAGES = {
    "control_msgs/msg/GripperCommand": "float64 position\nfloat64 max_effort",
    "franka_msgs/msg/GraspEpsilon": "float64 inner\nfloat64 outer",
}

GRIPPER_FEEDBACK = f"control_msgs/action/GripperCommand{_FEEDBACK}"
FEEDBACK_TYPES = tuple(action + _FEEDBACK for action in _ACTIONS)
"""Feedback of gripper actions: positions as measured, and not as commanded."""

GOAL_TYPES = tuple(action + _GOAL for action in _ACTIONS)
"""Events of the services that take the goals of gripper actions."""

REQUESTS = (0, 1)
"""Kinds of service events that hold a request: sent by the client, received by the server."""

Told = tuple[tuple[str, ...], Any]
"""Names of joints, or none, and positions."""


def is_feedback(msgtype: str) -> bool:
    """Return whether messages of a type tell what was measured, although they stand for a command."""
    return msgtype in FEEDBACK_TYPES


@functools.cache
def action_types() -> Typestore:
    """Return a type store with the messages of gripper actions."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in _MESSAGES.items():
        store.register(get_types_from_msg(text, name))
    for action, (goal, feedback) in _ACTIONS.items():
        texts = {
            "_Goal": goal,
            "_Feedback": feedback,
            "_FeedbackMessage": f"unique_identifier_msgs/UUID goal_id\n{action}_Feedback feedback",
            "_SendGoal_Request": f"unique_identifier_msgs/UUID goal_id\n{action}_Goal goal",
            "_SendGoal_Response": "bool accepted\nbuiltin_interfaces/Time stamp",
            "_SendGoal_Event": "service_msgs/ServiceEventInfo info\n"
            f"{action}_SendGoal_Request[<=1] request\n{action}_SendGoal_Response[<=1] response",
        }
        for suffix, text in texts.items():
            store.register(get_types_from_msg(text, action + suffix))
    return store


def _goal(read: Callable[[Any], Told]) -> Callable[[Any], Told | None]:
    """Return a reader of service events; those that hold no goal (a response, or metadata alone) give None."""

    def told(content: Any) -> Told | None:
        if content.info.event_type not in REQUESTS or not len(content.request):
            return None
        return read(content.request[0].goal)

    return told


def _joints(state: Any) -> Told:
    return tuple(state.name), state.position


READ: dict[str, Callable[[Any], Told | None]] = {
    GRIPPER_FEEDBACK: lambda content: ((), [content.feedback.position]),
    f"control_msgs/action/ParallelGripperCommand{_FEEDBACK}": lambda content: _joints(content.feedback.state),
    f"franka_msgs/action/Move{_FEEDBACK}": lambda content: ((), [content.feedback.current_width / 2]),
    f"franka_msgs/action/Grasp{_FEEDBACK}": lambda content: ((), [content.feedback.current_width / 2]),
    f"control_msgs/action/GripperCommand{_GOAL}": _goal(lambda goal: ((), [goal.command.position])),
    f"control_msgs/action/ParallelGripperCommand{_GOAL}": _goal(lambda goal: _joints(goal.command)),
    f"franka_msgs/action/Move{_GOAL}": _goal(lambda goal: ((), [goal.width / 2])),
    f"franka_msgs/action/Grasp{_GOAL}": _goal(lambda goal: ((), [goal.width / 2])),
}
"""Type of a message -> what it says of joints, None where it says nothing."""
