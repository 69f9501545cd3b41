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
from math import copysign, sqrt

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits
from wam.core.trajectory.joint_law import POSITION_GAIN, VELOCITY_GAIN, JointLaw, laws_of

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

REST_SHARE = 0.02
"""A joint rests when its velocity is below this share of J dt^2 x 50 and its acceleration below this share of A."""

ZERO = 1e-9
"""An acceleration beyond which its sign is not that of its rounding [rad/s^2 or m/s^2]."""

State = tuple[float, float, float]
"""Position, velocity and acceleration of one joint."""

_Aim = Sequence[float]
"""What one joint is to follow in one tick; see `aims_of`."""


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
        self._laws = laws_of(limits, limits.velocity, period)
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
            self._laws = laws_of(self._limits, velocity, self._dt)

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


def _follow(law: JointLaw, state: State, aims: Iterable[_Aim]) -> list[State]:
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


def _brake(law: JointLaw, state: State) -> State:
    """Return the state of one joint one tick nearer to rest."""
    dt, a_max, j_dt = law.hot[:3]
    p, v, a = state
    size = abs(v)
    wish = -copysign(min(VELOCITY_GAIN * size, sqrt(law.brake * size)), v)
    wish = _bounded(law, p, v, a, wish)
    wish = min(max(wish, a - j_dt, -a_max), a + j_dt, a_max)
    v = v + wish * dt
    return p + v * dt, v, wish


def _bounded(law: JointLaw, p: float, v: float, a: float, wish: float) -> float:
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
        bound: see `JointLaw`.
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
