# SPDX-License-Identifier: Apache-2.0
"""A stop on the path: time itself is brought to rest, so that the arm stays on rows that were checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wam.core.trajectory.reference import Reference

Vector = npt.NDArray[np.float64]


class PathStop:
    """Plays a reference ever more slowly until it stands still.

    Braking every joint on its own would leave the path: two arms that were checked against each other at the same
    time would not come to rest at the same time.

    Args:
        reference: what was being followed.
        index: its present sample.
        rate: samples per tick at which it was played.
        ticks: ticks until it stands still.
    """

    def __init__(self, reference: Reference, *, index: float, rate: float, ticks: float) -> None:
        self._reference = reference
        self._index = max(index, 0.0)
        self._rate = rate
        self._ticks = max(1.0, ticks)
        self._passed = 0

    def step(self) -> tuple[Vector, Vector, Vector] | None:
        """Return position, velocity and acceleration of the coming tick, or None once it stands still.

        The rate falls as 1 - x^2 (3 - 2x), so that the deceleration begins and ends at zero: a step of it would need
        more jerk than there is, and the joints would lag each by another distance.
        """
        self._passed += 1
        x = self._passed / self._ticks
        if x >= 1.0 or self._index >= self._reference.last:
            return None
        rate = self._rate * (1.0 - x * x * (3.0 - 2.0 * x))
        self._index = min(self._index + rate, float(self._reference.last))
        position, velocity, acceleration = self._reference.at(self._index, rate=1.0)
        falling = self._rate * 6.0 * x * (1.0 - x) / self._ticks / (self._reference.tick_ns * 1e-9)
        return position, rate * velocity, rate * rate * acceleration - falling * velocity
