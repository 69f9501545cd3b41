# SPDX-License-Identifier: Apache-2.0
"""The measured state of all joint groups, merged. No rclpy."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.ladder import finding
from wam.core.verdict import Finding
from wam.robots.description import RobotDescription

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeasuredRobot:
    """Joint state of all groups at one look.

    Attributes:
        positions: float64 [N] [rad or m]; NaN for groups that have never reported.
        complete: every group has reported since the start.
        stale: why the state must not be acted on, or None.
        age_ns: age of the oldest group's state [ns].
        seed: float64 [N], where a command stream has to start: the reference of a group's controller where it is
            known, since a trajectory is joined to that and not to the measured state; else the measured position.
    """

    positions: Vector
    complete: bool
    stale: Finding | None
    age_ns: int
    seed: Vector


class MeasuredState:
    """Newest joint state per group. `offer` may be called from any thread.

    Args:
        robot: its groups; those that are never commanded are not waited for.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._lock = threading.Lock()
        self._groups = robot.groups
        self._slices: dict[str, slice] = {}
        start = 0
        for group in robot.groups:
            self._slices[group.name] = slice(start, start + len(group.joints))
            start += len(group.joints)
        self._positions = np.full(start, np.nan)
        self._stamps: dict[str, int] = {}
        self._references: dict[str, tuple[int, Vector]] = {}

    def offer(self, group: str, *, stamp_ns: int, positions: Vector) -> None:
        """Store the newest positions of `group`, float64 [n], acquired at `stamp_ns` [ns].

        A state that is not finite is not stored, so that it ages like one that never came.
        """
        if not np.isfinite(positions).all():
            return
        with self._lock:
            self._positions[self._slices[group]] = positions
            self._stamps[group] = stamp_ns

    def offer_reference(self, group: str, *, stamp_ns: int, positions: Vector) -> None:
        """Store what the controller of `group` is led by, float64 [n], at `stamp_ns` [ns]."""
        if np.isfinite(positions).all():
            with self._lock:
                self._references[group] = (stamp_ns, positions)

    def forget(self) -> None:
        """Forget everything (the clock has jumped)."""
        with self._lock:
            self._stamps.clear()
            self._references.clear()

    def look(self, now_ns: int) -> MeasuredRobot:
        """Return the state at `now_ns` [ns]."""
        with self._lock:
            positions = self._positions.copy()
            stamps = dict(self._stamps)
            references = dict(self._references)
        stale: Finding | None = None
        oldest = eldest = 0
        for group in self._groups:
            stamp = stamps.get(group.name)
            if stamp is None:
                stale = finding("no_joint_state_yet", joint=group.name)
                break
            age = now_ns - stamp
            eldest = max(eldest, age)
            if age > max(oldest, group.state_max_age_ns):
                oldest, limit = age, group.state_max_age_ns * 1e-9
                stale = finding("joint_state_timeout", value=age * 1e-9, limit=limit, joint=group.name)
        seed = positions
        for group in self._groups:
            stamp, reference = references.get(group.name, (0, positions))
            if group.name in references and now_ns - stamp <= group.state_max_age_ns:
                seed = seed.copy()
                seed[self._slices[group.name]] = reference
        return MeasuredRobot(positions, len(stamps) == len(self._groups), stale, eldest, seed)
