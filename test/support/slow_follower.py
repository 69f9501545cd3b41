# SPDX-License-Identifier: Apache-2.0
"""The follower and its roll-out tick by tick, over arrays of joints: slow, and written as the law is.

What `wam.core.trajectory` computes joint by joint in plain floats has to be the same to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits
from wam.core.trajectory import joint_law, rollout
from wam.core.trajectory.follower import REST_SHARE
from wam.core.trajectory.reference import Reference

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]


class SlowFollower:
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
        self._dt = dt = period
        self._a_max, self._j_dt = limits.acceleration, limits.jerk * dt
        self._v_max = limits.velocity
        release = joint_law.RELEASE_SHARE * limits.jerk
        slope, corner, upper, lower = joint_law.envelope_of(limits, release)
        self._slope, self._corner, self._corner2 = slope, corner, corner * corner
        self._half_slope = 0.5 * slope
        self._release, self._two_by_release = release, 2.0 / release
        self._buffers = np.empty((7, 2, len(slope)))
        self._ends = np.stack([upper, -lower])
        self._sign = np.array([[1.0], [-1.0]])
        self._rest_velocity = REST_SHARE * 50.0 * self._j_dt * period
        self._brake_law = 1.6 * limits.jerk
        self._track_law = limits.jerk
        self.position = np.zeros(0)
        self.velocity = np.zeros(0)
        self.acceleration = np.zeros(0)
        self.reset((limits.lower + limits.upper) / 2 if position is None else position)

    def reset(self, position: Vector) -> None:
        """Restart at rest at `position`, float64 [N]; it may lie outside the limits: then only motion inwards."""
        self.position = np.array(position, dtype=np.float64)
        self.velocity = np.zeros_like(self.position)
        self.acceleration = np.zeros_like(self.position)

    def limit_velocity(self, velocity: Vector) -> None:
        """Keep `velocity`, float64 [N], from now on; a joint that is faster is slowed within its other limits."""
        self._v_max = velocity

    def step(self, position: Vector, velocity: Vector, acceleration: Vector) -> Vector:
        """Move one tick towards a reference.

        Args:
            position: float64 [N], reference of the coming tick [rad or m].
            velocity: float64 [N], its finite difference over the tick before.
            acceleration: float64 [N], the finite difference of its velocity.

        Returns:
            The new commanded position, float64 [N].
        """
        error = position - velocity * self._dt - self.position
        size = np.abs(error)
        wish = np.copysign(np.minimum(joint_law.POSITION_GAIN * size, np.sqrt(self._a_max * size)), error)
        wish += velocity - acceleration * self._dt - self.velocity
        return self._apply(acceleration + self._accelerate(wish, self._track_law))

    def brake(self) -> Vector:
        """Move one tick towards rest and return the new commanded position, float64 [N]."""
        return self._apply(self._accelerate(-self.velocity, self._brake_law))

    def at_rest(self) -> bool:
        """Return whether every joint has stopped, to within what one tick of jerk could do."""
        if not (np.abs(self.velocity) <= self._rest_velocity).all():
            return False
        return bool((np.abs(self.acceleration) <= REST_SHARE * self._a_max).all())

    def _accelerate(self, velocity_error: Vector, law: Vector) -> Vector:
        size = np.abs(velocity_error)
        return np.copysign(np.minimum(joint_law.VELOCITY_GAIN * size, np.sqrt(law * size)), velocity_error)

    def _apply(self, wish: Vector) -> Vector:
        dt = self._dt
        upper, lower = self._bounds()
        reach_lower = np.maximum(self.acceleration - self._j_dt, -self._a_max)
        reach_upper = np.minimum(self.acceleration + self._j_dt, self._a_max)
        acceleration = np.minimum(np.maximum(wish, lower), upper)
        # Reach last: bounds inside it are guaranteed from a state inside the limits, not from one outside.
        acceleration = np.minimum(np.maximum(acceleration, reach_lower), reach_upper)
        self.acceleration = acceleration
        self.velocity = self.velocity + acceleration * dt
        self.position = self.position + self.velocity * dt
        return self.position

    def _bounds(self) -> tuple[Vector, Vector]:
        """Return the largest and the smallest admissible next acceleration, float64 [N] each."""
        dt = self._dt
        # Row 0 looks at the upper ends, row 1 at the lower ends through a mirror. Buffers are reused: at 14 joints an
        # allocation costs as much as the arithmetic.
        velocity, most, distance, root, lag, gap, approach = self._buffers
        np.multiply(self._sign, self.velocity, out=velocity)
        np.multiply(self._sign, self.acceleration, out=most)
        most += self._j_dt
        np.minimum(most, self._a_max, out=most)
        np.multiply(self._sign, self.position, out=distance)
        np.subtract(self._ends, distance, out=distance)
        distance -= (velocity + most * dt) * dt
        np.maximum(distance, 0.0, out=distance)
        np.multiply(self._slope, distance, out=root)
        root += self._corner2
        np.sqrt(root, out=root)
        np.subtract(root, self._corner, out=gap)
        np.minimum(gap, self._v_max, out=gap)
        gap -= velocity
        np.divide(self._half_slope, root, out=root)  # from here on: steepness of the envelope
        np.maximum(velocity, 0.0, out=approach)
        approach *= root
        np.multiply(root, dt, out=lag)
        lag += 1.0
        np.divide(dt, lag, out=lag)
        gap += lag * approach
        np.maximum(gap, 0.0, out=root)  # from here on: the acceleration that can still be taken back
        root *= self._two_by_release
        root += lag * lag
        np.sqrt(root, out=root)
        root -= lag
        root *= self._release
        root += np.minimum(gap / lag, 0.0)
        root -= approach
        root *= lag
        root /= dt
        return root[0], -root[1]


class SlowRollOut(rollout.RollOut):
    """A roll-out that is led by a `SlowFollower`."""

    def __init__(self, limits: JointLimits, *, period: float) -> None:
        super().__init__(limits, period=period)
        self._slow = SlowFollower(self._limits, period=period)

    def run(
        self, reference: Reference, start: Rows, *, velocity: Vector | None = None
    ) -> Iterator[rollout.RolledOut]:
        """Give the plans as `RollOut.run` does."""
        most = self._limits.velocity
        self._slow.limit_velocity(most if velocity is None else np.minimum(velocity, most))
        return super().run(reference, start, velocity=velocity)

    def _follow(self, reference: Reference, start: Rows) -> tuple[Rows, int]:
        """Return the control points along the rows to rest at the last one, and where the rows are slowed for that."""
        follower = self._slow
        follower.position = start[-1]
        follower.velocity = (start[-1] - start[-2]) / self._dt
        follower.acceleration = (start[-1] - 2.0 * start[-2] + start[-3]) / self._dt**2
        states: list[Vector] = []
        pace = reference.tick_ns / reference.period_ns
        index, last, slowing = 0.0, float(reference.last), -1
        while index < last:
            left_s = (last - index) / pace * self._dt
            need_s = float((np.abs(follower.velocity) * self._stop_need).max())
            rate = pace
            if left_s < need_s:
                rate *= max(rollout.LEAST_RATE, math.sqrt(left_s / need_s))
                slowing = len(states) if slowing < 0 else slowing
            index = min(index + rate, last)
            states.append(follower.step(*_at(reference, index, rate)))
        slowing = len(states) if slowing < 0 else slowing
        zero = np.zeros_like(follower.position)
        goal = reference.positions[-1]
        for _ in range(rollout.MAX_BRAKE_TICKS):
            # Almost there: what is left of the approach takes long and is worth nothing.
            if float(np.abs(goal - follower.position).max()) < rollout.NEAR:
                break
            states.append(follower.step(goal, zero, zero))
        for _ in range(rollout.MAX_BRAKE_TICKS):
            if follower.at_rest():
                break
            states.append(follower.brake())
        states += [follower.position] * rollout.REST_POINTS
        return np.array(states), slowing


def _at(reference: Reference, index: float, rate: float) -> tuple[Vector, Vector, Vector]:
    """Return position, velocity and acceleration at a sample, played at `rate`."""
    positions, velocities, accelerations = reference.samples.transpose(1, 0, 2)
    left = int(index)
    if left >= len(positions) - 1:
        zero = np.zeros(positions.shape[1])
        return positions[-1], zero, zero
    u = index - left
    if u < 1e-6:
        position, velocity, acceleration = positions[left], velocities[left], accelerations[left]
    else:
        w = 1.0 - u
        position = w * positions[left] + u * positions[left + 1]
        velocity = w * velocities[left] + u * velocities[left + 1]
        acceleration = w * accelerations[left] + u * accelerations[left + 1]
    return position, rate * velocity, rate * rate * acceleration
