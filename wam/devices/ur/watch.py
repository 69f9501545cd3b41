# SPDX-License-Identifier: Apache-2.0
"""A UR arm as the driver node and `wam doctor` watch it."""

from __future__ import annotations

from wam.devices.state import DriverState
from wam.devices.ur.arm import (
    PROGRAM_TOPIC,
    ROBOT_MODE_TOPIC,
    SAFETY_MODE_TOPIC,
    SCALING_TOPIC,
    SpeedScaling,
    UrMode,
    UrSample,
    assess,
)
from wam.devices.watch import Seen, StatusFeed, Watch, packages_of
from wam.robots.description import JointGroup


class UrWatch(Watch):
    """One arm behind ur_robot_driver.

    Args:
        group: the arm's joint group.
    """

    def __init__(self, group: JointGroup) -> None:
        super().__init__(group)
        self._scaling = SpeedScaling()

    @property
    def feeds(self) -> tuple[StatusFeed, ...]:
        """Speed scaling, the running program and the two modes."""
        return (
            StatusFeed("float64", SCALING_TOPIC, lambda m: {"scaling": self._scaling.read(m.data)}),
            StatusFeed("bool", PROGRAM_TOPIC, lambda m: {"program_running": m.data}, latched=True),
            StatusFeed("ur_robot_mode", ROBOT_MODE_TOPIC, lambda m: {"robot_mode": m.mode}, latched=True),
            StatusFeed("ur_safety_mode", SAFETY_MODE_TOPIC, lambda m: {"safety_mode": m.mode}, latched=True),
        )

    @property
    def deaf_feeds(self) -> tuple[StatusFeed, ...]:
        """Program and modes: a scaling is a speed, and comes 100 times a second."""
        return tuple(feed for feed in self.feeds if feed.latched)

    def deaf(self, seen: Seen) -> str:
        """Return why the arm does not follow: the program does not run, or the arm has no power."""
        mode = seen.values.get("robot_mode")
        if mode is not None and mode != UrMode.RUNNING:
            return f"robot mode {mode} is not running ({UrMode.RUNNING.value}) on {ROBOT_MODE_TOPIC}"
        if seen.values.get("program_running") is False:
            return f"External Control does not run ({PROGRAM_TOPIC} is false)"
        return ""

    def state(self, seen: Seen) -> DriverState:
        """Return the state of the arm."""
        if not seen.published:
            return assess(UrSample(False))
        values = seen.values
        return assess(
            UrSample(
                True,
                values.get("robot_mode"),
                values.get("safety_mode"),
                values.get("program_running"),
                values.get("scaling"),
                packages_of(seen.lacking),
            )
        )
