# SPDX-License-Identifier: Apache-2.0
"""Joint states of a whole recording: which names come together, how often, and how far the joints go.

A draft must hold for every message, so all joint states are read, however long the recording is; nothing is kept of
them but bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.observation import Vector
from wam.data.bag.reading import Recording
from wam.data.bag.topics import JOINT_STATE

NEIGHBOURS_S = 0.5
"""Messages further apart tell neither a speed nor how old a state may be [s]."""

SAMPLED_GAPS = 20_000
"""Intervals of a publisher that tell its rate."""


@dataclass(slots=True)
class NameSet:
    """Messages of one topic that name the same joints.

    Attributes:
        names: as recorded.
        count: messages.
        low: float64 [N], smallest position.
        high: float64 [N], largest position.
        speed: float64 [N], fastest change per second; 0 for none.
        longest_s: longest interval below `NEIGHBOURS_S` [s].
        gaps_s: first intervals [s].
        broken: messages whose positions are not as many as the names, or not finite.
    """

    names: tuple[str, ...]
    low: Vector
    high: Vector
    speed: Vector
    count: int = 0
    longest_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)
    broken: int = 0
    _last: tuple[int, Vector] | None = None

    def take(self, time_ns: int, positions: npt.ArrayLike) -> None:
        """Take the positions of one message."""
        values = np.asarray(positions, dtype=np.float64)
        if values.shape != self.low.shape or not np.isfinite(values).all():
            self.broken += 1
            return
        self.count += 1
        np.minimum(self.low, values, out=self.low)
        np.maximum(self.high, values, out=self.high)
        if self._last is not None:
            seconds = (time_ns - self._last[0]) / NS_PER_S
            if 0.0 < seconds <= NEIGHBOURS_S:
                self.longest_s = max(self.longest_s, seconds)
                np.maximum(self.speed, np.abs(values - self._last[1]) / seconds, out=self.speed)
            if seconds > 0.0 and len(self.gaps_s) < SAMPLED_GAPS:
                self.gaps_s.append(seconds)
        self._last = time_ns, values

    @property
    def rate(self) -> float:
        """Messages per second, from the median interval [Hz]; NaN for fewer than two messages."""
        return 1.0 / float(np.median(self.gaps_s)) if self.gaps_s else float("nan")


def read_name_sets(recording: Recording, topics: Iterable[str]) -> dict[str, tuple[NameSet, ...]]:
    """Return topic -> the sets of names in its joint states, in the order in which they first came.

    Args:
        recording: open recording.
        topics: names of topics with sensor_msgs/JointState.

    Raises:
        RecordingError: a file is damaged.
    """
    return {topic: _sets_of(recording, topic) for topic in topics}


def _sets_of(recording: Recording, topic: str) -> tuple[NameSet, ...]:
    sets: dict[tuple[str, ...], NameSet] = {}
    # Topic by topic: those of different clocks are not read together.
    for message in recording.messages([topic]):
        names = tuple(message.message.name)
        # A message that names a joint twice, or none, is refused by everything that reads it.
        if message.msgtype != JOINT_STATE or not names or len(set(names)) != len(names):
            continue
        if names not in sets:
            n = len(names)
            sets[names] = NameSet(names, np.full(n, np.inf), np.full(n, -np.inf), np.zeros(n))
        sets[names].take(message.time_ns, message.message.position)
    return tuple(one for one in sets.values() if one.count)


def together(sets: Iterable[NameSet]) -> list[list[NameSet]]:
    """Return the sets that share a joint, together: one list for each publisher, or for each that takes turns."""
    parts: list[list[NameSet]] = []
    for one in sets:
        touching = [part for part in parts if any(set(one.names) & set(other.names) for other in part)]
        merged = [other for part in touching for other in part]
        parts = [part for part in parts if part not in touching] + [[*merged, one]]
    return parts
