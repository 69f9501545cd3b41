# SPDX-License-Identifier: Apache-2.0
"""What piper_ros requires of an arm's joint group."""

from __future__ import annotations

from wam.devices.piper.arm import JOINTS
from wam.devices.rules import PRISMATIC, REVOLUTE, STREAM, DeviceRule

ARM = DeviceRule(
    (STREAM,), (REVOLUTE, PRISMATIC), JOINTS, why="the driver drives a joint that a command lacks to 0 rad"
)
