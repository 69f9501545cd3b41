# SPDX-License-Identifier: Apache-2.0
"""The paper's real robot: a Franka Research 3 with two cameras and four tasks (paper A.4)."""

from __future__ import annotations

from wam.core.clock import NS_PER_S
from wam.models.robot_layout import RobotLayout

ARM_JOINTS = tuple(f"fr3_joint{i}" for i in range(1, 8))
GRIPPER = "fr3_finger_joint1"
CAMERAS = ("side", "wrist")
TASKS = (
    "Pick up the {object} on the brown box and place it in the golden bowl.",
    "Pick up the {object} on the brown box and place it on the white plate.",
    "Pick up the {object} in the white basket and place it in the black bowl.",
    "Pick up the {object} on the white plate and place it in the white basket.",
)
OBJECTS = ("teddy bear", "blue cube", "blue cup", "sponge")

READY_POSE = (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785)
"""Joint angles of the arm's usual start [rad]."""

ARM_SPREAD = 0.15
GRIPPER_HALF_WIDTH = 0.04
"""Travel of one finger [m]."""


def instructions() -> tuple[str, ...]:
    """Return all sixteen instructions, task by task."""
    return tuple(task.replace("{object}", thing) for task in TASKS for thing in OBJECTS)


def layout() -> RobotLayout:
    """Return the arm as a policy sees it: seven joints and a gripper, two cameras, 15 rows a second."""
    joints = (*ARM_JOINTS, GRIPPER)
    return RobotLayout(
        cameras=CAMERAS,
        state_joints=joints,
        action_joints=joints,
        centre=(*READY_POSE, GRIPPER_HALF_WIDTH / 2),
        spread=(*(ARM_SPREAD,) * len(READY_POSE), GRIPPER_HALF_WIDTH / 6),
        control_period_ns=NS_PER_S // 15,
        instruction=instructions()[1],
    )
