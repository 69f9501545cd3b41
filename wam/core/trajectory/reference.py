# SPDX-License-Identifier: Apache-2.0
"""A motion resampled onto the command grid, with the finite differences that a follower needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.trajectory.motion import Motion
from wam.core.trajectory.spline import sample

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

DIFFERENCE_ROWS = 2
"""Samples before the first that finite differences look back on."""


def resample(motion: Motion, *, from_ns: int, period_ns: int) -> Motion:
    """Return `motion` sampled every `period_ns` [ns] by a C2 spline, from `from_ns` [ns] to its end.

    The result has `DIFFERENCE_ROWS` settled rows before `from_ns`, and always at least two rows after it.
    """
    start_ns = from_ns - DIFFERENCE_ROWS * period_ns
    ahead = max(2, -((from_ns - motion.end_ns) // period_ns) + 1)
    offset = (start_ns - motion.start_ns) / motion.period_ns
    at = offset + np.arange(DIFFERENCE_ROWS + ahead, dtype=np.float64) * (period_ns / motion.period_ns)
    return Motion(start_ns, period_ns, sample(motion.rows, at), settled=DIFFERENCE_ROWS)


@dataclass(frozen=True, slots=True)
class Reference:
    """What the follower is led by, tick after tick.

    Attributes:
        start_ns: time of sample 0 [ns].
        tick_ns: time between two ticks [ns].
        period_ns: time over which one sample is consumed [ns]; longer than a tick slows the motion uniformly.
        positions: float64 [M, N].
        velocities: float64 [M, N], finite differences per sample.
        accelerations: float64 [M, N].
    """

    start_ns: int
    tick_ns: int
    period_ns: int
    positions: Rows
    velocities: Rows
    accelerations: Rows

    @property
    def last(self) -> int:
        """Index of the last sample."""
        return len(self.positions) - 1

    def at(self, index: float, *, rate: float) -> tuple[Vector, Vector, Vector]:
        """Return position, velocity and acceleration at sample `index`, played at `rate` (1: nominal).

        Beyond the last sample it is held at rest.
        """
        left = int(index)
        if left >= self.last:
            zero = np.zeros(self.positions.shape[1])
            return self.positions[-1], zero, zero
        u = index - left
        if u < 1e-6:
            position, velocity = self.positions[left], self.velocities[left]
            acceleration = self.accelerations[left]
        else:
            w = 1.0 - u
            position = w * self.positions[left] + u * self.positions[left + 1]
            velocity = w * self.velocities[left] + u * self.velocities[left + 1]
            acceleration = w * self.accelerations[left] + u * self.accelerations[left + 1]
        if rate == 1.0:
            return position, velocity, acceleration
        return position, rate * velocity, rate * rate * acceleration


def make_reference(motion: Motion, *, tick_ns: int) -> Reference:
    """Return the reference of a motion made by `resample` with ticks of `tick_ns`.

    A motion that filters have slowed has a longer period than a tick; its differences are taken per tick, and the
    reference is played at the rate `tick_ns / period_ns`.
    """
    rows = motion.rows
    dt = tick_ns * 1e-9
    velocities = (rows[1:] - rows[:-1]) / dt
    accelerations = (velocities[1:] - velocities[:-1]) / dt
    return Reference(
        start_ns=motion.start_ns + DIFFERENCE_ROWS * motion.period_ns,
        tick_ns=tick_ns,
        period_ns=motion.period_ns,
        positions=rows[2:],
        velocities=velocities[1:],
        accelerations=accelerations,
    )
