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

SMOOTHING_TICKS = (2, 4, 7, 12)
"""Half-widths of the averages that are tried, narrowest first [samples]; each is applied twice."""

PAST_ROWS = DIFFERENCE_ROWS + 2 * SMOOTHING_TICKS[-1]


def resample(motion: Motion, *, from_ns: int, period_ns: int, acceleration: Vector) -> Motion:
    """Return `motion` sampled every `period_ns` [ns] by a C2 spline, from `from_ns` [ns] up to its end.

    Rows that ask for more acceleration than a joint has (the noise of a network, a corner at a limit, two chunks that
    disagree) are averaged over a window as wide as it has to be: the whole motion by the same window, so that its path
    is rounded and not bent. Rows that ask for less are passed through exactly.

    Args:
        motion: rows with some history.
        from_ns: time of the first sample [ns].
        period_ns: time between two samples [ns].
        acceleration: float64 [N], acceleration limits; infinite for joints that need not be smooth.

    Returns:
        The samples, with `DIFFERENCE_ROWS` settled rows before `from_ns` and at least two after it.
    """
    # No sample beyond the end: holding the last row of a moving arm would look like a corner.
    ahead = max(2, (motion.end_ns - from_ns) // period_ns + 1)
    start_ns = from_ns - PAST_ROWS * period_ns
    offset = (start_ns - motion.start_ns) / motion.period_ns
    at = offset + np.arange(PAST_ROWS + ahead, dtype=np.float64) * (period_ns / motion.period_ns)
    rows = sample(motion.rows, at)
    smooth, first = rows, PAST_ROWS - DIFFERENCE_ROWS
    allowed = acceleration * (period_ns * 1e-9) ** 2
    for half in (0, *SMOOTHING_TICKS):
        if half:
            smooth = _average(_average(rows, half), half)
        bends = smooth[first + 2 :] - 2.0 * smooth[first + 1 : -1] + smooth[first:-2]
        if (np.abs(bends) <= allowed).all():
            break
    return Motion(from_ns - DIFFERENCE_ROWS * period_ns, period_ns, smooth[first:], settled=DIFFERENCE_ROWS)


def _average(rows: Rows, half: int) -> Rows:
    """Return the running mean over 2 * half + 1 rows, float64 [M, N]; the end rows are held beyond the ends."""
    width = 2 * half + 1
    padded = np.concatenate((np.repeat(rows[:1], half + 1, axis=0), rows, np.repeat(rows[-1:], half, axis=0)))
    # Sums of differences to the first row: positions near 3 rad lose no digits over a hundred rows.
    sums = np.cumsum(padded - rows[0], axis=0)
    mean: Rows = (sums[width:] - sums[:-width]) / width + rows[0]
    return mean


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
