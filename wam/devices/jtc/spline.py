# SPDX-License-Identifier: Apache-2.0
"""Segments between two points: linear, cubic or quintic by what both of their ends carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S

Vector = npt.NDArray[np.float64]
State = tuple[Vector, Vector, Vector]
"""Position, velocity and acceleration, float64 [N] each."""


@dataclass(frozen=True, slots=True)
class Knot:
    """An end of a segment.

    Attributes:
        time_ns: in the controller's scaled time [ns].
        position: float64 [N].
        velocity: float64 [N], or None where the message left it out.
        acceleration: float64 [N], or None.
    """

    time_ns: int
    position: Vector
    velocity: Vector | None
    acceleration: Vector | None


def sample(knots: Sequence[Knot], now_ns: float, *, interpolate: bool = True) -> State:
    """Return the state of a trajectory at `now_ns` [ns]; before its first knot that one, after its last one that."""
    if now_ns <= knots[0].time_ns or len(knots) == 1:
        return _at(knots[0])
    if now_ns >= knots[-1].time_ns:
        return _at(knots[-1])
    following = next(i for i, knot in enumerate(knots) if knot.time_ns > now_ns)
    begin, end = knots[following - 1], knots[following]
    if not interpolate:
        # Before the first point of a message its start state goes on; from then on the next point is commanded at once.
        return _at(begin if following == 1 else end)
    return segment(begin, end, (now_ns - begin.time_ns) / NS_PER_S)


def segment(begin: Knot, end: Knot, t: float) -> State:
    """Return the state `t` [s] after `begin`, on the polynomial that meets what both ends carry."""
    d = (end.time_ns - begin.time_ns) / NS_PER_S
    p0, p1 = begin.position, end.position
    if begin.velocity is None or end.velocity is None:
        slope = (p1 - p0) / d
        return p0 + slope * t, slope, np.zeros_like(p0)
    v0, v1, rise = begin.velocity, end.velocity, p1 - p0
    if begin.acceleration is None or end.acceleration is None:
        c2 = (3 * rise - (2 * v0 + v1) * d) / d**2
        c3 = (-2 * rise + (v0 + v1) * d) / d**3
        return (
            p0 + v0 * t + c2 * t**2 + c3 * t**3,
            v0 + 2 * c2 * t + 3 * c3 * t**2,
            2 * c2 + 6 * c3 * t,
        )
    a0, a1 = begin.acceleration, end.acceleration
    c3 = (20 * rise - (8 * v1 + 12 * v0) * d - (3 * a0 - a1) * d**2) / (2 * d**3)
    c4 = (-30 * rise + (14 * v1 + 16 * v0) * d + (3 * a0 - 2 * a1) * d**2) / (2 * d**4)
    c5 = (12 * rise - 6 * (v1 + v0) * d + (a1 - a0) * d**2) / (2 * d**5)
    return (
        p0 + v0 * t + a0 * t**2 / 2 + c3 * t**3 + c4 * t**4 + c5 * t**5,
        v0 + a0 * t + 3 * c3 * t**2 + 4 * c4 * t**3 + 5 * c5 * t**4,
        a0 + 6 * c3 * t + 12 * c4 * t**2 + 20 * c5 * t**3,
    )


def _at(knot: Knot) -> State:
    zero = np.zeros_like(knot.position)
    velocity = zero if knot.velocity is None else knot.velocity.copy()
    return knot.position.copy(), velocity, zero if knot.acceleration is None else knot.acceleration.copy()
