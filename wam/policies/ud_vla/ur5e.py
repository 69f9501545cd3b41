# SPDX-License-Identifier: Apache-2.0
"""The paper's real robot: a UR5e with an Inspire RH56 hand, a static and a wrist camera, chunks of 8 rows at 15 Hz."""

from __future__ import annotations

from dataclasses import replace

from wam.core.clock import NS_PER_S
from wam.devices.loader import load_robot
from wam.models.robot_layout import RobotLayout

ROBOT = "ur5e_inspire"
CONTROL_HZ = 15
INSTRUCTION = "put the block into the bowl"


def layout() -> RobotLayout:
    """Return the robot as a policy sees it: six arm joints and six of the hand."""
    return replace(
        RobotLayout.of(load_robot(ROBOT)), control_period_ns=NS_PER_S // CONTROL_HZ, instruction=INSTRUCTION
    )
