# SPDX-License-Identifier: Apache-2.0
"""What franka_ros2 requires of the joint groups of arm and hand."""

from __future__ import annotations

from wam.devices.rules import PRISMATIC, REVOLUTE, STREAM, TRAJECTORY, DeviceRule

ARM = DeviceRule(
    (TRAJECTORY,),
    (REVOLUTE,),
    tuple(f"joint{i}" for i in range(1, 8)),
    why="the driver claims all seven joints together",
)
HAND = DeviceRule((STREAM, TRAJECTORY), (PRISMATIC,), count=1, why="one value stands for both fingers")
