# SPDX-License-Identifier: Apache-2.0
"""What ur_robot_driver requires of an arm's joint group."""

from __future__ import annotations

from wam.devices.rules import REVOLUTE, TRAJECTORY, DeviceRule
from wam.devices.ur.arm import JOINTS

ARM = DeviceRule(
    (TRAJECTORY,), (REVOLUTE,), JOINTS, why="the trajectory controller refuses a trajectory without it"
)
