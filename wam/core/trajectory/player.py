# SPDX-License-Identifier: Apache-2.0
"""Plays a plan at a rate r in [0, 1]: everything that slows or stops the arm is a change of r.

The plan is a list of control points, one per tick, that ends at rest. Control points that the emitted stream has not
used yet can be replaced by another plan that joins there (`splice`). A change of the rate is looked at over its whole
length before it begins: it is taken only where every command that it leads to keeps the limits. Where no such change
exists the arm goes on at the present rate, which always keeps them (see `wam.core.trajectory.curve`), to the end of
the plan, which is at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.safety.limits import JointLimits
from wam.core.trajectory.curve import AFTER, curve_slopes, sample_curve
from wam.core.trajectory.ramp import Ramp, make_short_ramp

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

MAX_SLOPE = 20.0
"""Largest slope of the rate, however slow the arm is [1/s]."""

MAX_BEND = 800.0
"""Largest bend of the rate [1/s^2]."""

EFFORTS = (
    (1.0, 1.0), (1.0, 0.6), (0.85, 0.6), (0.85, 0.35), (0.7, 0.6), (0.7, 0.35), (0.55, 0.35), (0.55, 0.2),
    (0.4, 0.35), (0.4, 0.15), (0.28, 0.2), (0.18, 0.15), (0.1, 0.1), (0.05, 0.05),
)  # fmt: skip
"""Shares of the slope and of the bend that the present speed allows, tried in turn. What the plan itself asks for is
not known in advance, and takes its part of both."""

RETRY_TICKS = 3
"""Ticks after which a faster change of the rate is looked for while one is under way."""

PAST = 3
"""Emitted states that differences look back on."""

KEPT = 8
"""Control points behind the present one that are kept."""

STILL = 1e-6
"""A joint that is slower than this asks for nothing [rad/s or m/s]."""

MAX_RAMP_TICKS = 2000
"""Longest ramp."""

RATE_STEP = 0.02
"""How much faster a rate has to be than the present one, as a share of it, to be worth a ramp."""

TOLERANCE = 1e-7
"""Share of a limit by which rounding may exceed it."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Where another plan may join the one that is played.

    Attributes:
        index: control point at which it joins; the points up to it stay.
        points: float64 [4, N], the control points up to that one.
        epoch: changes whenever plans made before cannot join any more.
        place: place on the curve when this was made.
    """

    index: int
    points: Rows
    epoch: int
    place: float


@dataclass(frozen=True, slots=True)
class Ahead:
    """What will be emitted if nothing changes, one row per tick.

    Attributes:
        positions: float64 [T, N]; row 0 is the newest command, the last row is at rest.
        velocities: float64 [T, N]; the last row is zero.
        accelerations: float64 [T, N]; the last row is zero.
    """

    positions: Rows
    velocities: Rows
    accelerations: Rows


class Player:
    """Plays control points; one thread, or a lock around it.

    Args:
        limits: limits of the joints, kept by what is emitted.
        period: time between two ticks [s].
        position: float64 [N], where the arm stands.
    """

    def __init__(self, limits: JointLimits, *, period: float, position: Vector) -> None:
        self._limits = limits
        self._dt = period
        self._steps = np.stack(
            [
                limits.velocity * period,
                limits.acceleration * period**2,
                limits.jerk * period**3,
            ]
        ) * (1.0 + TOLERANCE)
        self.epoch = 0
        self._dropped = 0
        self.stand(position)

    def stand(self, position: Vector) -> None:
        """Drop the plan: the arm is at rest at `position`, float64 [N]. Plans made before cannot join any more."""
        self.epoch += 1
        self._points = np.repeat(np.array(position, dtype=np.float64)[None], PAST + 1 + AFTER, axis=0)
        self._place = float(PAST)
        self._emitted = np.repeat(self._points[:1], PAST, axis=0)
        self._same: bool | None = True
        self.rate = 1.0
        self._slope = 0.0
        self._ramp: Ramp | None = None
        self._played = 0
        self._from = 0.0
        self._target = 1.0

    @property
    def position(self) -> Vector:
        """Newest command, float64 [N]."""
        result: Vector = self._emitted[-1]
        return result

    @property
    def velocity(self) -> Vector:
        """Its finite difference, float64 [N]."""
        result: Vector = (self._emitted[-1] - self._emitted[-2]) / self._dt
        return result

    @property
    def place(self) -> float:
        """Place on the curve: the number of the control point at it, counted since the start."""
        return self._dropped + self._place

    @property
    def ended(self) -> bool:
        """Whether the plan has been played to its end."""
        return self._place >= self._end

    @property
    def _end(self) -> float:
        return float(len(self._points) - 1 - AFTER)

    @property
    def target(self) -> float:
        """Rate that was last sought."""
        return self._target

    @property
    def standing(self) -> bool:
        """Whether the newest commands are all the same, and the next ones will be."""
        if not (self.ended or (self.rate == 0.0 and self._ramp is None)):
            return False
        if self._same is None:
            self._same = bool((self._emitted == self._emitted[-1]).all())
        return self._same

    def joint(self, ticks: int) -> Joint:
        """Return where a plan may join that is ready within `ticks` ticks."""
        index = self._next() + ticks
        points = self._points[np.minimum(np.arange(index - PAST, index + 1), len(self._points) - 1)]
        return Joint(self._dropped + index, points, self.epoch, self._dropped + self._place)

    def splice(self, joint: Joint, points: Rows) -> bool:
        """Replace the plan from `joint` on; return False where it is too late or was made for another plan.

        A plan that was made while the one before it still waited to join continues a motion that is not played.

        Args:
            joint: from `joint()`.
            points: float64 [K, N], control points after the one at which they join; the last ones are at rest.
        """
        index = joint.index - self._dropped
        if joint.epoch != self.epoch or index < self._next():
            return False
        self._reach(index)
        before = self._points
        if not np.array_equal(before[index - PAST : index + 1], joint.points):
            return False
        rest = np.repeat(points[-1:], AFTER, axis=0)
        self._points = np.concatenate((before[: index + 1], points, rest))
        if self._ramp is not None and not self._keeps(self._remaining(), self._target):
            # The rate changes too fast for the new plan; the old one was looked at with it.
            self._points = before
            return False
        self._trim()
        return True

    def seek(self, target: float, *, gentle: float = MAX_SLOPE) -> bool:
        """Change the rate to `target` as fast as the limits allow; return whether it will get there.

        Args:
            target: rate in [0, 1].
            gentle: largest slope [1/s].
        """
        under_way = self._ramp is not None and target == self._target
        if under_way and self._played % RETRY_TICKS:
            return True
        left = len(self._ramp) - self._played if under_way and self._ramp is not None else MAX_RAMP_TICKS
        # Upwards only: a rate that is asked for may be what a limit of speed leaves.
        close = 0.0 <= target - self.rate < RATE_STEP * target and target != 1.0
        if self._ramp is None and (self.rate == target or close):
            return True
        speed = np.abs(curve_slopes(self._points, np.array([self._place]))[0][0]) / self._dt
        speed = np.maximum(speed, STILL)
        most = min(MAX_SLOPE, gentle, float((self._limits.acceleration / speed).min()))
        bend = min(MAX_BEND, float((self._limits.jerk / speed).min()))
        change = abs(target - self.rate)
        tried: list[Ramp] = []
        for slope_share, bend_share in EFFORTS:
            if change / (slope_share * most * self._dt) >= left:
                continue
            ramp = make_short_ramp(
                rate=self.rate,
                slope=self._slope,
                target=target,
                max_slope=slope_share * most,
                bend=bend_share * bend,
                period=self._dt,
                within=left,
            )
            if ramp is None or ramp.rates.min() < -1e-9 or ramp.rates.max() > 1.0 + 1e-9:
                continue
            tried.append(ramp)
            # The first one usually does; where it does not, the others are looked at together.
            if len(tried) == 1 and self._keeps(self._place + ramp.places, target):
                self._begin_ramp(ramp, target)
                return True
        if len(tried) > 1:
            kept = self._which_keep([self._place + ramp.places for ramp in tried[1:]], target)
            if kept.any():
                self._begin_ramp(tried[1 + int(kept.argmax())], target)
                return True
        return under_way

    def _begin_ramp(self, ramp: Ramp, target: float) -> None:
        self._ramp, self._played, self._from, self._target = ramp, 0, self._place, target

    def tick(self) -> Vector:
        """Move one tick along the plan and return the new command, float64 [N]."""
        ramp = self._ramp
        if ramp is None and self.ended and self.standing:
            # The end of the plan has been emitted, and its points rest there.
            resting: Vector = self._emitted[-1].copy()
            return resting
        if ramp is None:
            self._place = min(self._place + self.rate, self._end)
        else:
            self._place = min(self._from + float(ramp.places[self._played]), self._end)
            self.rate = min(1.0, max(0.0, float(ramp.rates[self._played])))
            self._slope = float(ramp.slopes[self._played])
            self._played += 1
            if self._played == len(ramp):
                self.rate, self._slope, self._ramp = self._target, 0.0, None
        self._same = None
        self._emitted[:-1] = self._emitted[1:]
        self._emitted[-1] = sample_curve(self._points, np.array([self._place]))[0]
        position: Vector = self._emitted[-1].copy()
        return position

    def begin(self, rate: float) -> None:
        """Play from `rate` on; only while the arm stands."""
        self.rate, self._slope, self._ramp, self._target = rate, 0.0, None, rate

    def rest(self) -> None:
        """Drop what is left of a plan on which the arm stands; plans made for it do not join any more."""
        if self.standing and not (self.ended and self.rate == 1.0):
            self.stand(self._emitted[-1])

    def ahead(self) -> Ahead:
        """Return what will be emitted if nothing changes, up to rest."""
        at = np.concatenate(([self._place], self._remaining()))
        rates = np.full(len(at), self.rate)
        if self._ramp is not None:
            left = self._ramp.rates[self._played :]
            rates[1 : 1 + len(left)] = left[: len(at) - 1]
            rates[1 + len(left) :] = self._target
        slopes = np.gradient(rates, self._dt) if len(rates) > 1 else np.zeros(1)
        first, second = curve_slopes(self._points, at)
        first, second = first / self._dt, second / self._dt**2
        velocities = first * rates[:, None]
        accelerations = second * (rates**2)[:, None] + first * slopes[:, None]
        velocities[-1] = 0.0
        accelerations[-1] = 0.0
        return Ahead(sample_curve(self._points, at), velocities, accelerations)

    def _remaining(self) -> Vector:
        """Return the places of the coming ticks, up to the end of the plan or, at rate zero, of the ramp."""
        places = np.empty(0)
        place, rate = self._place, self.rate
        if self._ramp is not None:
            places = self._from + self._ramp.places[self._played :]
            place, rate = float(places[-1]), self._target
        if rate > 0.0 and place < self._end:
            count = int(np.ceil((self._end - place) / rate))
            places = np.concatenate((places, place + rate * np.arange(1, count + 1)))
        if not len(places):
            places = np.array([place])
        return np.minimum(places, self._end)

    def _keeps(self, places: Vector, rate: float) -> bool:
        """Return whether commands at `places`, and three more at `rate`, keep the limits."""
        rows = np.concatenate((self._emitted, sample_curve(self._points, self._run_on(places, rate))))
        for order, step in enumerate(self._steps, start=1):
            rows = rows[1:] - rows[:-1]
            # Differences among states that were emitted already are what they are.
            if not (np.abs(rows[PAST - order :]) <= step).all():
                return False
        return True

    def _which_keep(self, several: list[Vector], rate: float) -> npt.NDArray[np.bool_]:
        """Return what `_keeps` does for each of `several` places, bool [R]."""
        several = [self._run_on(places, rate) for places in several]
        ends = np.cumsum([PAST + len(places) for places in several])
        begins = np.concatenate(([0], ends[:-1]))
        # One list of states: those that were emitted, then what follows, for each of them.
        ahead = np.ones(ends[-1], dtype=np.bool_)
        for past in range(PAST):
            ahead[begins + past] = False
        rows = np.empty((ends[-1], self._emitted.shape[1]))
        rows[~ahead] = np.tile(self._emitted, (len(several), 1))
        rows[ahead] = sample_curve(self._points, np.concatenate(several))
        # A difference that ends ahead looks back on no other list.
        within = np.ones(ends[-1], dtype=np.bool_)
        for order, step in enumerate(self._steps, start=1):
            rows = rows[1:] - rows[:-1]
            within[order:] &= (np.abs(rows) <= step).all(axis=1)
        result: npt.NDArray[np.bool_] = np.logical_and.reduceat(within | ~ahead, begins)
        return result

    def _run_on(self, places: Vector, rate: float) -> Vector:
        """Return `places` with three more at `rate`, up to the end of the plan.

        The rate is that which a ramp leads to: the last step of a ramp, which ends within it, is not as long.
        """
        places = np.concatenate((places, places[-1] + rate * np.arange(1, PAST + 1)))
        return np.minimum(places, self._end)

    def _next(self) -> int:
        """Return the first control point that the stream has not used yet."""
        return int(np.ceil(self._place - 1e-9)) + 1

    def _reach(self, index: int) -> None:
        """Extend the end of the plan, at rest, so that `index` is a control point of it."""
        missing = index + 1 + AFTER - len(self._points)
        if missing > 0:
            self._points = np.concatenate((self._points, np.repeat(self._points[-1:], missing, axis=0)))

    def _trim(self) -> None:
        """Forget control points that lie too far back to matter."""
        spare = int(self._place) - KEPT
        if spare > 0:
            self._points = self._points[spare:]
            self._dropped += spare
            self._place -= spare
            self._from -= spare
