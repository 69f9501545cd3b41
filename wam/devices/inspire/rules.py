# SPDX-License-Identifier: Apache-2.0
"""What the suite's adapter of the RH56 hand requires of a hand's joint group."""

from __future__ import annotations

from wam.devices.rules import RATIO, REVOLUTE, STREAM, TRAJECTORY, DeviceRule

HAND = DeviceRule((STREAM, TRAJECTORY), (REVOLUTE, RATIO), count=6, why="a drive without a joint never moves")
