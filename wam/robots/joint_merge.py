# SPDX-License-Identifier: Apache-2.0
"""Joint states of one group from messages that may hold only some of its joints, or those of others.

On many robots arm and gripper are two nodes on one topic, and wheels are a third. Messages are sorted by the names in
them: of every joint the newest position counts, as long as it is not older than a joint state may be. The same goes for
live nodes, replay and the safety chain.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wam.core.clock import NS_PER_MS
from wam.core.errors import JointError
from wam.core.observation import Vector
from wam.robots.description import JointGroup
from wam.robots.joint_reader import JointReader

RESET_TOLERANCE_NS = 500 * NS_PER_MS
"""A larger step back of the stamps is a clock that was set back, a smaller one late delivery [ns]."""


class JointMerge:
    """Merges the messages of one topic to joint states of one group. Used by one thread at a time.

    Args:
        group: whose joints.
    """

    def __init__(self, group: JointGroup) -> None:
        self._group = group
        self._reader = JointReader(group)
        n = len(group.joints)
        self._positions, self._velocities, self._efforts = (np.full(n, np.nan) for _ in range(3))
        self._stamps: list[int | None] = [None] * n
        self._waiting_since_ns: int | None = None
        self._others: tuple[str, ...] = ()
        self.merged = False
        """Whether the last state came from several messages."""

    def take(self, message: Any, *, stamp_ns: int) -> tuple[Vector, Vector] | None:
        """Return positions and velocities of all joints as of a message, float64 [N] each, in SI units.

        Args:
            message: sensor_msgs/JointState.
            stamp_ns: its stamp [ns].

        Returns:
            None where the message has none of the group's joints, or where others have not been reported yet.

        Raises:
            JointError: names, widths or values do not fit, or joints are missing for longer than a state may be old.
        """
        index, positions, velocities = self._reader.read_part(message)
        n = len(self._positions)
        self.merged = len(index) < n
        if len(index) == n:
            if all(known is None or known <= stamp_ns for known in self._stamps) or self._is_reset(stamp_ns):
                self._store(index, positions, velocities, stamp_ns)
            self._waiting_since_ns = None
            return positions, velocities
        if len(index) and self._is_reset(stamp_ns):
            self._stamps = [None] * n
            self._waiting_since_ns = None
        newer = [at for at, i in enumerate(index.tolist()) if (self._stamps[i] or stamp_ns) <= stamp_ns]
        self._store(index[newer], positions[newer], velocities[newer], stamp_ns)
        missing = self._missing(stamp_ns)
        if missing:
            self._wait(missing, message, stamp_ns)
            return None
        self._waiting_since_ns = None
        return (self._positions.copy(), self._velocities.copy()) if len(index) else None

    def take_efforts(self, message: Any) -> Vector:
        """Return what the drivers have reported as effort, float64 [N]; NaN where a joint's is not known.

        To be called after `take` has returned a state for the same message.

        Raises:
            JointError: names do not fit.
        """
        index, efforts = self._reader.read_part_efforts(message)
        self._efforts[index] = efforts
        return self._efforts.copy()

    @property
    def oldest_ns(self) -> int:
        """Stamp of the joint that was reported longest ago, of a state that `take` has returned [ns]."""
        return min(known for known in self._stamps if known is not None)

    @property
    def waits_for(self) -> str:
        """What has not been reported yet, for people; "" once a state is complete."""
        missing = self._missing(max((known for known in self._stamps if known is not None), default=0))
        if not missing or (self._waiting_since_ns is None and not self._others):
            return ""
        return f"nothing has been reported yet of {', '.join(missing)}, only of {', '.join(self._others[:8])}"

    def _is_reset(self, stamp_ns: int) -> bool:
        newest = max((known for known in self._stamps if known is not None), default=stamp_ns)
        return stamp_ns < newest - RESET_TOLERANCE_NS

    def _store(self, index: Any, positions: Vector, velocities: Vector, stamp_ns: int) -> None:
        self._positions[index], self._velocities[index] = positions, velocities
        for i in index.tolist():
            self._stamps[i] = stamp_ns

    def _missing(self, stamp_ns: int) -> list[str]:
        """Return the driver names of the joints without a position that is young enough at a stamp."""
        oldest_ns = stamp_ns - self._group.state_max_age_ns
        return [
            joint.driver_name
            for joint, known in zip(self._group.joints, self._stamps, strict=True)
            if known is None or known < oldest_ns
        ]

    def _wait(self, missing: list[str], message: Any, stamp_ns: int) -> None:
        """Accept that joints are missing for a while: they may come with the next message."""
        group = self._group
        self._others = tuple(message.name)
        if self._waiting_since_ns is None or stamp_ns < self._waiting_since_ns:
            self._waiting_since_ns = stamp_ns
        if stamp_ns - self._waiting_since_ns <= group.state_max_age_ns:
            return
        raise JointError(
            f"joint state of group {group.name!r} (topic {group.state_topic}) lacks {', '.join(missing)}",
            value=list(message.name),
            allowed=f"all of {list(group.driver_names)} within {group.state_max_age_ns / 1e6:.0f} ms, "
            "in one message or in several",
            where="the driver, or the group's joints and max_age in the robot file (config/robots)",
        )
