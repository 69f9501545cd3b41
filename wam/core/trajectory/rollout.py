# SPDX-License-Identifier: Apache-2.0
"""A plan: the states that the follower passes through along a reference, up to rest.

Rows are slowed over their final part, so that the arm comes to rest on their path, at the last one. What is checked,
sent and played are these very states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.errors import WamError
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.follower import Follower, aims_of
from wam.core.trajectory.ramp import make_ramp
from wam.core.trajectory.reference import Reference
from wam.core.trajectory.spline import sample
from wam.core.turns import pause

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ACCELERATION_SHARE = 0.95
"""Share of the acceleration limit that a plan uses: the rest is there to change the rate at which it is played."""

JERK_SHARE = 0.85
"""Share of the jerk limit that a plan uses."""

REST_POINTS = 3
"""Control points at the end that are the same: the curve is at rest at the first of them but one."""

BLOCK_TICKS = 12
"""Ticks that joints are led on before it is looked at where that ends."""

MAX_BRAKE_TICKS = 600
"""Ticks after which an approach, or a brake, that has not come to its end is a fault."""

STOP_SHARE = 0.8
"""Share of the acceleration of a plan with which rows that run out are slowed to their end."""

LEAST_RATE = 0.02
"""Share of their pace at which rows are followed at least, so that they come to an end."""

NEAR = 2e-3
"""Distance to the last row from which the arm just brakes [rad or m]."""

EFFORTS = (1.0, 0.85, 0.7, 0.55)
"""Shares of the deceleration that the speed at the end allows, tried in turn for a stop on the rows."""

LOW_EFFORTS = (0.4, 0.25, 0.15)
"""Shares tried where the arm may not run on beyond the last row."""

MAX_SLOPE = 50.0
"""Largest slope of the rate in a stop on the rows [1/s]."""

STILL = 1e-6
"""A joint that is slower than this asks for nothing [rad/s or m/s]."""

WINDOW = 8
"""Control points before a stop on the rows that its interpolation looks back on."""

ROUNDING = 1e-12
"""Differences of positions near 3 rad carry this much [rad]."""


class PlanUnsafe(WamError):
    """A roll-out leaves the limits: it starts outside them, by more than the follower can make up for in one tick."""


@dataclass(frozen=True, slots=True)
class RolledOut:
    """Control points of a plan.

    Attributes:
        points: float64 [K, N], after the one at which the plan begins; the last three are the same.
        slowing: number of points after which the rows are slowed to their end.
        rows_end: number of points after which the last row would have been due.
    """

    points: Rows
    slowing: int
    rows_end: int


class RollOut:
    """Rolls references out to rest; one thread.

    Args:
        limits: limits of the joints.
        period: time between two ticks [s].
    """

    def __init__(self, limits: JointLimits, *, period: float) -> None:
        self._dt = period
        self._limits = planning_limits(limits)
        self._follower = Follower(self._limits, period=period)
        self._stop_need = 1.0 / (2.0 * STOP_SHARE * self._limits.acceleration)
        self._steps = _steps(self._limits, period)
        self._full = _steps(limits, period) + ROUNDING

    def run(
        self, reference: Reference, start: Rows, *, velocity: Vector | None = None
    ) -> Iterator[RolledOut]:
        """Give the plans that begin at the control points `start` and follow `reference`, the best one first.

        Rows that begin where the arm is and keep the limits are passed through exactly, slowed over their last part.
        Others are followed, to rest at the last one. A plan that may not reach that far stops sooner, on its own path.

        Args:
            reference: sample 0 is due at the last of the control points.
            start: float64 [4, N], the last control points of what is played before.
            velocity: float64 [N], largest velocities where they are smaller than the limits; None: the limits.

        Raises:
            PlanUnsafe: the states leave the limits.
        """
        velocity = self._limits.velocity if velocity is None else np.minimum(velocity, self._limits.velocity)
        self._follower.limit_velocity(velocity)
        self._steps[0] = velocity * self._dt
        rows_end = math.ceil(reference.last * reference.period_ns / reference.tick_ns - 1e-9)
        rows = reference.positions[1:]
        if reference.period_ns == reference.tick_ns and self.keeps(np.concatenate((start, rows))):
            stopped = self._stop_on_rows(np.concatenate((start, rows)), EFFORTS)
            if stopped is not None:
                yield self._rolled(start, *stopped, rows_end)
        points, slowing = self._follow(reference, start)
        yield self._rolled(start, points, slowing, rows_end)
        moving = np.concatenate((start, points[:rows_end]))
        sooner = self._stop_on_rows(moving, EFFORTS + LOW_EFFORTS)
        if sooner is not None:
            yield self._rolled(start, *sooner, rows_end)

    def _rolled(self, start: Rows, points: Rows, slowing: int, rows_end: int) -> RolledOut:
        self._check(np.concatenate((start, points)))
        return RolledOut(points, slowing, rows_end)

    def _follow(self, reference: Reference, start: Rows) -> tuple[Rows, int]:
        """Return the control points along the rows to rest at the last one, and where the rows are slowed for that."""
        follower, goal = self._follower, reference.end
        follower.reset(
            start[-1],
            (start[-1] - start[-2]) / self._dt,
            (start[-1] - 2.0 * start[-2] + start[-3]) / self._dt**2,
        )
        pace = reference.tick_ns / reference.period_ns
        # At their pace, as long as every joint can stop in what is left of the rows; from there on slowed.
        due = _even(pace, reference.last)
        left_s = (reference.last - np.concatenate(([0.0], due)))[:-1] / pace * self._dt
        points = self._advance(
            aims_of(reference.along(due, rate=pace), period=self._dt),
            until=lambda first, states: left_s[first : first + len(states)] < self._need_s(states[:, 1]),
        )
        slowing = len(points)
        if slowing < len(due):
            index = float(due[slowing - 1]) if slowing else 0.0
            points = np.concatenate((points, self._slowed(reference, pace, index)))
        # Almost there: what is left of the approach takes long and is worth nothing.
        approach = np.broadcast_to(aims_of(goal, period=self._dt), (MAX_BRAKE_TICKS, *goal.shape))
        near = self._advance(
            approach, until=lambda _, states: np.abs(goal[0] - states[:, 0]).max(axis=1) < NEAR
        )
        brake: list[Vector] = []
        while len(brake) < MAX_BRAKE_TICKS and not follower.at_rest():
            brake.append(follower.brake())
        rest = [follower.position] * REST_POINTS
        return np.concatenate((points, near, brake + rest)), slowing

    def _advance(self, aims: Rows, *, until: Callable[[int, Rows], Flags]) -> Rows:
        """Follow `aims`, float64 [T, 3, N], or a part of them; return the positions, float64 [K, N], K <= T.

        Args:
            aims: see `aims_of`.
            until: takes the number of a tick and the states, float64 [B, 3, N], before it and those that come next;
                tells before which ticks of these the motion ends, bool [B].
        """
        follower = self._follower
        before = follower.state[None]
        parts = [before[:0, 0]]
        for first in range(0, len(aims), BLOCK_TICKS):
            pause()
            states = np.concatenate((before, follower.follow(aims[first : first + BLOCK_TICKS])))
            over = until(first, states[:-1])
            if over.any():
                end = int(over.argmax())
                follower.restore(states[end])
                parts.append(states[1 : end + 1, 0])
                break
            parts.append(states[1:, 0])
            before = states[-1:]
        return np.concatenate(parts)

    def _slowed(self, reference: Reference, pace: float, index: float) -> Rows:
        """Return the positions, float64 [K, N], from sample `index` to the last one, slowed by what is left."""
        follower, last, need = self._follower, float(reference.last), self._stop_need.tolist()
        states = follower.states
        positions = []
        while index < last:
            left_s = (last - index) / pace * self._dt
            need_s = max(abs(state[1]) * share for state, share in zip(states, need, strict=True))
            rate = pace
            if left_s < need_s:
                rate *= max(LEAST_RATE, math.sqrt(left_s / need_s))
            index = min(index + rate, last)
            states = follower.advance(aims_of(reference.at(index, rate=rate), period=self._dt))
            positions.append([state[0] for state in states])
        return np.array(positions)

    def _need_s(self, velocities: Rows) -> Vector:
        """Return the times that joints at `velocities`, float64 [T, N], need to stop, float64 [T] [s]."""
        result: Vector = (np.abs(velocities) * self._stop_need).max(axis=1)
        return result

    def _stop_on_rows(self, moving: Rows, efforts: tuple[float, ...]) -> tuple[Rows, int] | None:
        """Return control points that come to rest at the last row, and where they slow down; None: rows end too soon.

        Args:
            moving: float64 [4 + K, N], the start and the states along the rows.
            efforts: shares of the deceleration that are tried.
        """
        count = len(moving) - 4
        speed = np.maximum(np.abs(moving[-1] - moving[-2]) / self._dt, STILL)
        slope = min(MAX_SLOPE, float((self._limits.acceleration / speed).min()))
        bend = min(float((self._limits.jerk / speed).min()), slope / self._dt)
        for effort in efforts:
            ramp = make_ramp(
                rate=1.0,
                slope=0.0,
                target=0.0,
                max_slope=effort * slope,
                bend=effort * bend,
                period=self._dt,
            )
            # The ramp ends at the last row; it begins at a control point, so its end lies up to one point before.
            begin = count - int(np.ceil(ramp.places[-1]))
            if begin < 0:
                return None
            first = max(0, begin + 4 - 1 - WINDOW)
            places = ramp.places + (begin + 4 - 1 - first)
            tail = sample(moving[first:], places)
            tail = np.concatenate((tail, np.repeat(tail[-1:], REST_POINTS, axis=0)))
            if self.keeps(np.concatenate((moving[: begin + 4], tail)), since=begin + 4):
                return np.concatenate((moving[4 : begin + 4], tail)), begin
        return None

    def keeps(self, points: Rows, *, since: int = 4) -> bool:
        """Return whether the differences of `points` from number `since` on keep the limits of a plan."""
        rows = points[since - 3 :]
        if (rows[3:] < self._limits.lower).any() or (rows[3:] > self._limits.upper).any():
            return False
        for order, step in enumerate(self._steps, start=1):
            rows = rows[1:] - rows[:-1]
            if not (np.abs(rows[3 - order :]) <= step).all():
                return False
        return self._within_envelope(points[since - 1 :])

    def _within_envelope(self, points: Rows) -> bool:
        envelope = self._limits.velocity_envelope
        if envelope is None:
            return True
        velocity = (points[1:] - points[:-1]) / self._dt
        upper, lower = envelope.bounds(points[1:])
        return bool(((velocity <= upper) & (velocity >= lower)).all())

    def _check(self, points: Rows) -> None:
        rows = points
        names = ("velocity", "acceleration", "jerk")
        for order, (name, step) in enumerate(zip(names, self._full, strict=True), start=1):
            rows = rows[1:] - rows[:-1]
            share = np.abs(rows[4 - order :]) / step
            if not (share <= 1.0).all():
                joint = self._limits.joint_names[int(np.nanargmax(share.max(axis=0)))]
                raise PlanUnsafe(
                    f"the plan reaches {float(np.nanmax(share)):.3f} of the {name} limit of {joint}"
                )


def planning_limits(limits: JointLimits) -> JointLimits:
    """Return the limits within which plans are made."""
    return replace(
        limits, acceleration=ACCELERATION_SHARE * limits.acceleration, jerk=JERK_SHARE * limits.jerk
    )


def _even(pace: float, last: int) -> Vector:
    """Return the samples that are due after 1, 2, ... ticks at `pace`, up to the last one, float64 [T]."""
    due: list[float] = []
    index = 0.0
    while index < last:
        index = min(index + pace, float(last))
        due.append(index)
    return np.array(due)


def _steps(limits: JointLimits, period: float) -> Rows:
    """Return the largest first, second and third difference of positions, float64 [3, N]."""
    return np.stack([limits.velocity * period, limits.acceleration * period**2, limits.jerk * period**3])
