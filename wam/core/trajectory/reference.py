# SPDX-License-Identifier: Apache-2.0
"""A motion resampled onto the command grid, with the finite differences that a follower needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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

BAND_ROWS = 256
"""Samples averaged by one matrix product; longer motions take several."""

EXACT = 1e-6
"""Distance from a sample [samples] below which it counts as that sample."""

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
    smooth = rows[PAST_ROWS - DIFFERENCE_ROWS :]
    excess = _excess(smooth, acceleration, period_ns)
    for half in SMOOTHING_TICKS:
        if excess <= 1.0:
            break
        # An average over w samples takes at most a factor w off a peak: narrower windows need not be tried.
        if 2 * half + 1 >= min(excess, 2 * SMOOTHING_TICKS[-1] + 1):
            smooth = _average(rows, half)
            excess = _excess(smooth, acceleration, period_ns)
    return Motion(from_ns - DIFFERENCE_ROWS * period_ns, period_ns, smooth, settled=DIFFERENCE_ROWS)


def warm_up() -> None:
    """Make the averaging matrices now and not within a command cycle."""
    for half in SMOOTHING_TICKS:
        _band(half)


def _excess(rows: Rows, acceleration: Vector, period_ns: int) -> float:
    """Return the largest share of its acceleration limit that a joint is asked for."""
    bends = np.abs(rows[2:] - 2.0 * rows[1:-1] + rows[:-2])
    return float((bends.max(axis=0) / acceleration).max()) * (1e9 / period_ns) ** 2


def _average(rows: Rows, half: int) -> Rows:
    """Return `rows` averaged twice over 2 * half + 1, without the past; the last row is held beyond the end."""
    first = PAST_ROWS - DIFFERENCE_ROWS
    padded = np.concatenate((rows[first - 2 * half :], np.repeat(rows[-1:], 2 * half, axis=0)))
    band = _band(half)
    count = len(rows) - first
    blocks = [
        band[: min(BAND_ROWS, count - at), : min(BAND_ROWS, count - at) + 4 * half]
        @ padded[at : at + BAND_ROWS + 4 * half]
        for at in range(0, count, BAND_ROWS)
    ]
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


@lru_cache(maxsize=len(SMOOTHING_TICKS))
def _band(half: int) -> Rows:
    """Return the float64 [BAND_ROWS, BAND_ROWS + 4 half] whose every row is the twofold average, shifted by one."""
    box = np.full(2 * half + 1, 1.0 / (2 * half + 1))
    kernel = np.convolve(box, box)
    band = np.zeros((BAND_ROWS, BAND_ROWS + len(kernel) - 1))
    line = np.arange(BAND_ROWS)
    for shift, weight in enumerate(kernel):
        band[line, line + shift] = weight
    band.flags.writeable = False
    return band


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference that the follower tracks, tick by tick.

    Attributes:
        start_ns: time of sample 0 [ns].
        tick_ns: time between two ticks [ns].
        period_ns: time over which one sample is consumed [ns]; longer than a tick slows the motion uniformly.
        samples: float64 [M, 3, N]: positions, velocities as finite differences per sample, accelerations.
    """

    start_ns: int
    tick_ns: int
    period_ns: int
    samples: Rows

    @property
    def last(self) -> int:
        """Index of the last sample."""
        return len(self.samples) - 1

    @property
    def positions(self) -> Rows:
        """Positions, float64 [M, N]."""
        result: Rows = self.samples[:, 0]
        return result

    @property
    def end(self) -> Rows:
        """The last position, at rest, float64 [3, N]."""
        result: Rows = np.zeros_like(self.samples[-1])
        result[0] = self.samples[-1, 0]
        return result

    def at(self, index: float, *, rate: float) -> Rows:
        """Return position, velocity and acceleration at sample `index`, played at `rate` (1: nominal), float64 [3, N].

        Beyond the last sample it is held at rest.
        """
        left = int(index)
        if left >= self.last:
            return self.end
        u = index - left
        result: Rows = self.samples[left]
        if u >= EXACT:
            result = (1.0 - u) * result + u * self.samples[left + 1]
        played: Rows = result * _powers(rate)
        return played

    def along(self, indices: Vector, *, rate: float) -> Rows:
        """Return what `at` does for each of `indices`, float64 [T, 3, N]."""
        left = indices.astype(np.intp)
        u = (indices - left)[:, None, None]
        result: Rows = self.samples[np.minimum(left, self.last)]
        if (u >= EXACT).any():
            between = (1.0 - u) * result + u * self.samples[np.minimum(left + 1, self.last)]
            result = np.where(u >= EXACT, between, result)
        result *= _powers(rate)
        result[left >= self.last] = self.end
        return result


def _powers(rate: float) -> Rows:
    """Return the factors of position, velocity and acceleration at `rate`, float64 [3, 1]."""
    return np.array([[1.0], [rate], [rate * rate]])


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
        samples=np.stack((rows[2:], velocities[1:], accelerations), axis=1),
    )
