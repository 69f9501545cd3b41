# SPDX-License-Identifier: Apache-2.0
"""A follower of position references that never leaves the joint limits, whatever the reference.

The state of a joint is the sequence of its commanded positions: velocity, acceleration and jerk are the finite
differences of that sequence, so what is bounded here is what a driver without interpolation actually receives.
Each tick picks the next acceleration a' (v' = v + a' dt, p' = p + v' dt) in two steps.

1. Desired acceleration: position error -> velocity -> acceleration, each loop linear near zero and a square root far
   from it, with velocity and acceleration of the reference fed forward; a reference inside the limits is followed
   exactly.
2. Bounds: it is clipped to the accelerations from which the joint can still stop. With d the distance to a
   position limit, speed towards it stays under the envelope

       E(d) = min(V, sqrt(c^2 + s d) - c)

   which can be followed down to d = 0 with a deceleration of at most s/2 and a finite jerk. The gap E - v may close
   at a relative acceleration w only if w can be taken back in time, w^2 / (2 J_r) + w dt <= gap. Both are closed
   forms; a Monte Carlo test checks that the bounds never contradict the limits of jerk and acceleration.

Joints do not depend on each other, and a tick is a few dozen numbers: plain floats, joint by joint, are several times
faster than arrays over the joints of an arm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import copysign, sqrt

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

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

REST_SHARE = 0.02
"""A joint rests when its velocity is below this share of J dt^2 x 50 and its acceleration below this share of A."""

SAFE_SPEED = 0.6
"""Share of the velocity limit below which a joint that is far from its ends has no bound but reach."""

CALM_SPEED = 0.9
"""The same for a joint that does not want to be faster."""

ZERO = 1e-9
"""An acceleration beyond which its sign is not that of its rounding [rad/s^2 or m/s^2]."""

HALVINGS = 30
"""Steps of the search for that distance."""

SURE = 1.0 - 1e-6
"""Share of a threshold up to which rounding cannot matter."""

State = tuple[float, float, float]
"""Position, velocity and acceleration of one joint."""

_Aim = Sequence[float]
"""What one joint is to follow in one tick; see `aims_of`."""


@dataclass(frozen=True, slots=True)
class _Law:
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


def aims_of(samples: Rows, *, period: float) -> Rows:
    """Return what `Follower.follow` takes for samples of a reference.

    Args:
        samples: float64 [..., 3, N]: position, velocity, acceleration, each the difference over the tick before.
        period: time between two ticks [s].

    Returns:
        float64 [..., 3, N]: position and velocity to have had one tick earlier, and the acceleration.
    """
    aims = samples.copy()
    aims[..., :2, :] -= aims[..., 1:, :] * period
    return aims


class Follower:
    """Jerk-limited follower of N joints; one thread.

    Args:
        limits: limits of the joints; the velocity envelope of `limits`, where it has one, is kept as well.
        period: time between two ticks [s].
        position: float64 [N] to start from, at rest; None starts in the middle of the range.

    Raises:
        ValueError: `period` is not positive.
    """

    def __init__(self, limits: JointLimits, *, period: float, position: Vector | None = None) -> None:
        if not period > 0:
            raise ValueError(f"period is {period} s, must be positive")
        self._limits, self._dt = limits, period
        self._velocity = limits.velocity
        self._laws = _laws(limits, limits.velocity, period)
        self._rest_velocity = (REST_SHARE * 50.0 * (limits.jerk * period) * period).tolist()
        self._rest_acceleration = (REST_SHARE * limits.acceleration).tolist()
        self.states: list[State] = []
        self.reset((limits.lower + limits.upper) / 2 if position is None else position)

    @property
    def state(self) -> Rows:
        """Position, velocity and acceleration, float64 [3, N]."""
        return np.array(self.states).T

    @property
    def position(self) -> Vector:
        """Newest command, float64 [N]."""
        return np.array([state[0] for state in self.states])

    @property
    def velocity(self) -> Vector:
        """Its finite difference, float64 [N]."""
        return np.array([state[1] for state in self.states])

    @property
    def acceleration(self) -> Vector:
        """The finite difference of its velocity, float64 [N]."""
        return np.array([state[2] for state in self.states])

    def reset(
        self, position: Vector, velocity: Vector | None = None, acceleration: Vector | None = None
    ) -> None:
        """Restart at `position`, float64 [N]; it may lie outside the limits: then only motion inwards.

        Args:
            position: float64 [N].
            velocity: float64 [N]; None: at rest.
            acceleration: float64 [N]; None: zero.
        """
        still = np.zeros(len(position))
        velocity = still if velocity is None else velocity
        acceleration = still if acceleration is None else acceleration
        self.restore(np.stack((position, velocity, acceleration)))

    def restore(self, state: Rows) -> None:
        """Go on from `state`, float64 [3, N]: position, velocity and acceleration."""
        self.states = list(zip(*state.tolist(), strict=True))

    def limit_velocity(self, velocity: Vector) -> None:
        """Keep `velocity`, float64 [N], from now on; a joint that is faster is slowed within its other limits."""
        if not np.array_equal(velocity, self._velocity):
            self._velocity = velocity
            self._laws = _laws(self._limits, velocity, self._dt)

    def step(self, position: Vector, velocity: Vector, acceleration: Vector) -> Vector:
        """Move one tick towards a reference.

        Args:
            position: float64 [N], reference of the coming tick [rad or m].
            velocity: float64 [N], its finite difference over the tick before.
            acceleration: float64 [N], the finite difference of its velocity.

        Returns:
            The new commanded position, float64 [N].
        """
        sample = np.stack((position, velocity, acceleration))
        self.advance(aims_of(sample, period=self._dt))
        return self.position

    def advance(self, aims: Rows) -> list[State]:
        """Move one tick along `aims`, float64 [3, N] of `aims_of`; return the states after it."""
        self.states = [
            _follow(law, state, (aim,))[0]
            for law, state, aim in zip(self._laws, self.states, aims.T.tolist(), strict=True)
        ]
        return self.states

    def follow(self, aims: Rows) -> Rows:
        """Move T ticks.

        Args:
            aims: float64 [T, 3, N], T > 0, of `aims_of`.

        Returns:
            Position, velocity and acceleration after each tick, float64 [T, 3, N].
        """
        ways = [
            _follow(law, state, aim)
            for law, state, aim in zip(self._laws, self.states, aims.transpose(2, 0, 1).tolist(), strict=True)
        ]
        self.states = [way[-1] for way in ways]
        return np.array(ways).transpose(1, 2, 0)

    def brake(self) -> Vector:
        """Move one tick towards rest and return the new commanded position, float64 [N]."""
        self.states = [_brake(law, state) for law, state in zip(self._laws, self.states, strict=True)]
        return self.position

    def at_rest(self) -> bool:
        """Return whether every joint has stopped, to within what one tick of jerk could do."""
        rows = zip(self.states, self._rest_velocity, self._rest_acceleration, strict=True)
        return all(abs(v) <= slow and abs(a) <= soft for (_, v, a), slow, soft in rows)


def _follow(law: _Law, state: State, aims: Iterable[_Aim]) -> list[State]:
    """Return the states of one joint along what it is to follow.

    Comparisons stand for `min` and `max`, whose calls would take longer than the arithmetic.
    """
    dt, a_max, j_dt, track, position_turn, velocity_turn, fastest, high, low = law.hot
    p, v, a = state
    states = []
    for aim_p, aim_v, aim_a in aims:
        # Position error to velocity, velocity error to acceleration: linear near zero, a square root beyond.
        error = aim_p - p
        size = -error if error < 0.0 else error
        wish = POSITION_GAIN * size
        if wish > position_turn:
            root = sqrt(a_max * size)
            if root < wish:
                wish = root
        error = (-wish if error < 0.0 else wish) + (aim_v - v)
        size = -error if error < 0.0 else error
        wish = VELOCITY_GAIN * size
        if wish > velocity_turn:
            root = sqrt(track * size)
            if root < wish:
                wish = root
        wish = aim_a - wish if error < 0.0 else aim_a + wish
        if not (-fastest <= v <= fastest and low <= p <= high):
            wish = _bounded(law, p, v, a, wish)
        # Reach last: bounds inside it are guaranteed from a state inside the limits, not from one outside.
        least, most = a - j_dt, a + j_dt
        if wish < least or wish < -a_max:
            wish = least if least > -a_max else -a_max
        if wish > most or wish > a_max:
            wish = most if most < a_max else a_max
        a = wish
        v = v + a * dt
        p = p + v * dt
        states.append((p, v, a))
    return states


def _brake(law: _Law, state: State) -> State:
    """Return the state of one joint one tick nearer to rest."""
    dt, a_max, j_dt = law.hot[:3]
    p, v, a = state
    size = abs(v)
    wish = -copysign(min(VELOCITY_GAIN * size, sqrt(law.brake * size)), v)
    wish = _bounded(law, p, v, a, wish)
    wish = min(max(wish, a - j_dt, -a_max), a + j_dt, a_max)
    v = v + wish * dt
    return p + v * dt, v, wish


def _bounded(law: _Law, p: float, v: float, a: float, wish: float) -> float:
    """Return `wish` clipped to the accelerations from which the joint can still stop ahead of both ends."""
    fastest, high, low, calm, calm_high, calm_low, upper, lower = law.ends
    # Ahead of an end that a joint leaves, or is slow and far enough from, slowing down is always within the bounds.
    if (v < -fastest or p < low) and (wish < ZERO or (v < 0.0 and (v < -calm or p < calm_low))):
        least = -_highest(law.bound, p - lower, -v, -a)
        if wish < least:
            wish = least
    if (v > fastest or p > high) and (wish > -ZERO or (v > 0.0 and (v > calm or p > calm_high))):
        most = _highest(law.bound, upper - p, v, a)
        if wish > most:
            wish = most
    return wish


def _highest(bound: tuple[float, ...], room: float, velocity: float, acceleration: float) -> float:
    """Return the largest acceleration towards an end from which the joint can still stop ahead of it.

    Args:
        bound: see `_Law`.
        room: distance to the end [rad or m].
        velocity: towards it.
        acceleration: towards it.
    """
    dt, a_max, j_dt, slope, half_slope, corner, corner2, release, two_by_release, fastest = bound
    acceleration += j_dt
    if acceleration > a_max:
        acceleration = a_max
    distance = room - (velocity + acceleration * dt) * dt
    root = sqrt(slope * distance + corner2) if distance > 0.0 else sqrt(corner2)
    gap = root - corner
    if gap > fastest:
        gap = fastest
    gap -= velocity
    steepness = half_slope / root  # of the envelope
    lag = dt / (steepness * dt + 1.0)
    approach = 0.0
    if velocity > 0.0:
        approach = velocity * steepness
        gap += lag * approach
    if gap < 0.0:
        return (gap / lag - approach) * lag / dt
    # The acceleration that can still be taken back.
    return ((sqrt(gap * two_by_release + lag * lag) - lag) * release - approach) * lag / dt


def _laws(limits: JointLimits, velocity: Vector, period: float) -> list[_Law]:
    """Return the numbers of each joint, which keeps `velocity`, float64 [N]."""
    release = RELEASE_SHARE * limits.jerk
    slope, corner, upper, lower = _envelope(limits, release)
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
        _Law(tuple(one), tuple(two), tuple(three), brake)
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


def _envelope(limits: JointLimits, release: Vector) -> tuple[Vector, Vector, Vector, Vector]:
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
