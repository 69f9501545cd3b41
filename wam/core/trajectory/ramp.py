# SPDX-License-Identifier: Apache-2.0
"""A change of the rate at which a curve is played: an S-curve with a bounded slope and a bounded bend.

    rate  r(t)     1 = as planned, 0 = standing
    slope r'(t)    at most `slope`
    bend  r''(t)   +-`bend` or 0

The place on the curve is the integral of the rate, so it has a continuous second derivative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Phase:
    """Part of a ramp with a constant bend."""

    start: float
    rate: float
    slope: float
    bend: float


@dataclass(frozen=True, slots=True)
class Ramp:
    """A ramp of the rate, sampled at ticks.

    Attributes:
        places: float64 [T], distance on the curve from where the ramp begins, after 1 .. T ticks [ticks].
        rates: float64 [T], rate at those ticks.
        slopes: float64 [T], slope at those ticks [1/s].
    """

    places: Vector
    rates: Vector
    slopes: Vector

    def __len__(self) -> int:
        return len(self.places)


def make_ramp(
    *, rate: float, slope: float, target: float, max_slope: float, bend: float, period: float
) -> Ramp:
    """Return the fastest ramp from `rate` with `slope` [1/s] to `target` with slope zero; see `make_short_ramp`."""
    ramp = make_short_ramp(
        rate=rate, slope=slope, target=target, max_slope=max_slope, bend=bend, period=period, within=None
    )
    assert ramp is not None, "any length is short enough"
    return ramp


def make_short_ramp(
    *,
    rate: float,
    slope: float,
    target: float,
    max_slope: float,
    bend: float,
    period: float,
    within: int | None,
) -> Ramp | None:
    """Return the fastest ramp from `rate` with `slope` [1/s] to `target` with slope zero.

    Args:
        rate: present rate.
        slope: present slope of the rate [1/s].
        target: rate to reach.
        max_slope: largest slope [1/s].
        bend: largest bend [1/s^2].
        period: time between two ticks [s].
        within: ticks than which it has to be shorter, else None is returned; None: any length.
    """
    phases, total = _phases(rate, slope, target, max_slope, bend)
    ticks = max(1, math.ceil(total / period - 1e-9))
    if within is not None and ticks >= within:
        return None
    begun = []
    distance = 0.0
    for index, phase in enumerate(phases):
        begun.append((phase.start, phase.rate, phase.slope, phase.bend, 0.5 * phase.bend, distance))
        if index + 1 < len(phases):
            t_end = phases[index + 1].start - phase.start
            distance += ((phase.bend * t_end / 6.0 + 0.5 * phase.slope) * t_end + phase.rate) * t_end
    table = np.array(begun).T
    times = np.arange(1, ticks + 1) * period
    starts, value, tangent, bent, half, passed = table[:, np.searchsorted(table[0], times) - 1]
    t = times - starts
    rates = value + (tangent + half * t) * t
    slopes = tangent + bent * t
    places = passed + ((bent * t / 6.0 + 0.5 * tangent) * t + value) * t
    rates[-1], slopes[-1] = target, 0.0
    return Ramp(places / period, rates, slopes)


def _phases(
    rate: float, slope: float, target: float, max_slope: float, bend: float
) -> tuple[list[_Phase], float]:
    """Return the phases of the ramp, the last one with the target rate and no slope, and when that begins [s]."""
    # Where the rate would end if the slope were taken back to zero at once.
    coasting = rate + slope * abs(slope) / (2.0 * bend)
    sign = 1.0 if target >= coasting else -1.0
    top = max(max_slope, abs(slope))
    # Slope up to `peak` in the direction of the target, hold it, and back to zero.
    start = sign * slope
    gain = sign * (target - rate)
    peak = math.sqrt(max(0.0, bend * gain + 0.5 * start * start))
    hold = 0.0
    if peak > top:
        peak = top
        hold = (gain - (2.0 * peak * peak - start * start) / (2.0 * bend)) / peak
    rise, fall = max(0.0, (peak - start) / bend), peak / bend
    phases = []
    now, value, tangent = 0.0, rate, slope
    for length, bent in ((rise, sign * bend), (max(0.0, hold), 0.0), (fall, -sign * bend)):
        if length <= 0.0:
            continue
        phases.append(_Phase(now, value, tangent, bent))
        value += (tangent + 0.5 * bent * length) * length
        tangent += bent * length
        now += length
    phases.append(_Phase(now, target, 0.0, 0.0))
    return phases, now
