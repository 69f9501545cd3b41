# SPDX-License-Identifier: Apache-2.0
"""The numbers that each joint is followed with: gains, the envelope of its velocity, and where no bound can matter.

They depend on the limits of a joint and the tick only, so that nothing of them is computed while a chunk is rolled out.
The law itself is in `wam.core.trajectory.follower`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits

Vector = npt.NDArray[np.float64]

DECELERATION_SHARE = 0.6
"""Share of the acceleration limit used to slow down ahead of a position limit."""

RELEASE_SHARE = 0.4
"""Share of the jerk limit reserved for taking back an acceleration ahead of a velocity or position limit."""

JERK_RESERVE = 0.1
"""Share of the jerk limit that the envelope never asks for: slack for the finite tick."""

POSITION_GAIN = 8.0
"""Position error to velocity [1/s]."""

VELOCITY_GAIN = 32.0
"""Velocity error to acceleration [1/s]; four times `POSITION_GAIN` is critically damped."""

SAFE_SPEED = 0.6
"""Share of the velocity limit below which a joint that is far from its ends has no bound but reach."""

CALM_SPEED = 0.9
"""The same for a joint that does not want to be faster."""

HALVINGS = 30
"""Steps of the search for the distance from an end beyond which no bound can matter."""

SURE = 1.0 - 1e-6
"""Share of a threshold up to which rounding cannot matter."""


@dataclass(frozen=True, slots=True)
class JointLaw:
    """Numbers of one joint.

    Attributes:
        hot: those of every tick: tick [s], acceleration, jerk by tick, jerk, position and velocity error times gain
            from which the square roots may be smaller, and the first three of `ends`.
        ends: speed below which, and the two positions between which, no bound is within the acceleration limit; the
            same for a joint that slows down; the ends.
        bound: tick, acceleration, jerk by tick, slope of the envelope, half of it, its corner, the square of that,
            jerk for taking back an acceleration, two by it, velocity.
        brake: square of the acceleration by the speed that it takes off.
    """

    hot: tuple[float, ...]
    ends: tuple[float, ...]
    bound: tuple[float, ...]
    brake: float


def laws_of(limits: JointLimits, velocity: Vector, period: float) -> list[JointLaw]:
    """Return the numbers of each joint, which keeps `velocity`, float64 [N]."""
    release = RELEASE_SHARE * limits.jerk
    slope, corner, upper, lower = envelope_of(limits, release)
    fastest, calm = SAFE_SPEED * velocity, CALM_SPEED * velocity
    away, calm_away = (
        _free_room(
            wish,
            speed,
            limits,
            velocity=velocity,
            slope=slope,
            corner=corner,
            release=release,
            period=period,
        )
        for wish, speed in ((limits.acceleration, fastest), (np.zeros_like(velocity), calm))
    )
    hot = (
        period,
        limits.acceleration,
        limits.jerk * period,
        limits.jerk,
        # Where the square root is the smaller one, to within its rounding.
        SURE * limits.acceleration / POSITION_GAIN,
        SURE * limits.jerk / VELOCITY_GAIN,
        fastest,
        upper - away,
        lower + away,
    )
    ends = (fastest, upper - away, lower + away, calm, upper - calm_away, lower + calm_away, upper, lower)
    bound = (
        period,
        limits.acceleration,
        limits.jerk * period,
        slope,
        0.5 * slope,
        corner,
        corner * corner,
        release,
        2.0 / release,
        velocity,
    )
    rows = (np.stack(np.broadcast_arrays(*one), axis=1).tolist() for one in (hot, ends, bound))
    return [
        JointLaw(tuple(one), tuple(two), tuple(three), brake)
        for one, two, three, brake in zip(*rows, (1.6 * limits.jerk).tolist(), strict=True)
    ]


def _free_room(
    wish: Vector,
    fastest: Vector,
    limits: JointLimits,
    *,
    velocity: Vector,
    slope: Vector,
    corner: Vector,
    release: Vector,
    period: float,
) -> Vector:
    """Return the distance from its ends at which a joint up to `fastest` may accelerate by `wish`, float64 [N].

    Infinite where there is none. Every term of the bound is taken at its least: the gap and the steepness of the
    envelope at this distance, for the largest speed.
    """
    least = np.zeros_like(slope)
    most = ((4.0 * velocity + corner) ** 2 - corner**2) / slope
    result = np.full_like(slope, np.inf)
    for _ in range(HALVINGS):
        distance = 0.5 * (least + most)
        root = np.sqrt(slope * distance + corner**2)
        gap = np.maximum(np.minimum(root - corner, velocity) - fastest, 0.0)
        steepness = 0.5 * slope / root
        back = release * (np.sqrt(2.0 * gap / release + period**2) - period)
        bound = (back - fastest * steepness) / (steepness * period + 1.0)
        free = bound > wish * (2.0 - SURE)
        result = np.where(free, distance, result)
        most, least = np.where(free, distance, most), np.where(free, least, distance)
    return result + (fastest + limits.acceleration * period) * period


def envelope_of(limits: JointLimits, release: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Return slope s and corner c of E(d), and the ends (upper, lower) that d is measured from.

    Along E the jerk is at most s^2 / (27 c); bending into it near the end costs s sqrt(2 J_r) / (4 sqrt(c)) more. The
    corner is the smallest c for which both fit into what is left of the jerk limit beside J_r.
    """
    slope = 2.0 * DECELERATION_SHARE * limits.acceleration
    upper, lower = limits.upper, limits.lower
    ratio = np.zeros_like(slope)
    given = limits.velocity_envelope
    if given is not None:
        slope = np.minimum(slope, given.slope)
        ratio = slope / given.slope * given.corner
        upper = np.minimum(upper, given.upper_end - given.corner**2 / given.slope)
        lower = np.maximum(lower, given.lower_end + given.corner**2 / given.slope)
    left = (1.0 - JERK_RESERVE) * limits.jerk - release
    square, linear = slope**2 / 27.0, slope * np.sqrt(2.0 * release) / 4.0
    x = (np.sqrt(linear**2 + 4.0 * square * left) - linear) / (2.0 * square)
    return slope, np.maximum(1.0 / x**2, ratio), upper, lower
