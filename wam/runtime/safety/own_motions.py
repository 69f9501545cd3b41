# SPDX-License-Identifier: Apache-2.0
"""Motions that no chunk asks for: the command is brought to the arm, or the arm goes back where it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.chunk.timeline import hold_timeline
from wam.core.safety.chain import SafetyChain
from wam.core.safety.filters import ChainStage
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.curve import emitted
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.rollout import RollOut
from wam.core.trajectory.trail import LEAST_ROWS, Way, way_back, way_of
from wam.core.verdict import Finding, Verdict
from wam.robots.tool_speed import SpeedLimits
from wam.runtime.safety.plans import MotionPlan, Situation, Taken, refusal_of

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

ALIGN_SPEED = 0.1
"""Share of speed, acceleration and jerk with which the command is brought to where the arm is measured."""

MAX_ALIGN_S = 120.0
"""Longest time of such a motion [s]."""

BACK_RATE = 0.25
"""Share of the speed of the last commands at which the arm goes back along them."""

BACK_SHARES = (1.0, 0.5, 0.25, 0.125)
"""Parts of the way back that are tried in turn."""

BACK_ROWS_S = 2.0
"""Time of motion over which one way back leads [s]."""

SHORTCUTS = (0.0, 5e-3, 2e-2)
"""Distances from its beginning within which a way back may be cut short, tried in turn: an arm that has come a little
back from its deepest place would go deeper first [rad]."""

BACK_TRIES = 8
"""Rates that are tried for each."""

MAX_BACK_S = 15.0
"""Longest time of a way back [s]; one that has to be slower is shorter."""

LEAST_BACK = 1e-3
"""A way back over which no joint moves by more leads nowhere [rad or m]."""

SLOW_ENOUGH = 0.999
"""Share by which a way back may exceed a limit of speed: the next try is slower by what is missing, and by this."""


@dataclass(frozen=True, slots=True)
class WayBack:
    """A way back along the last commands, or why there is none.

    Attributes:
        plan: what may be played; None where there is none.
        cause: why there is none, or why it does not go further.
        back: int64 [M], how many commands back each state of the plan is.
        tool_way: float64 [M], way of the tip that moves furthest up to each state of the plan [m]; None without model.
    """

    plan: MotionPlan | None = None
    cause: Finding | None = None
    back: npt.NDArray[np.int64] | None = None
    tool_way: Vector | None = None


class OwnMotions:
    """Makes and checks them; one thread, that of the chain.

    Args:
        limits: limits of all joints of the robot, in its order.
        chain: filters of plans.
        tick_ns: time between two commands [ns].
        kept: which joints stay where they are on a way back, bool [N]: a hand goes on holding what it holds.
        speeds: limits of speed at tools, or None.
    """

    def __init__(
        self,
        *,
        limits: JointLimits,
        chain: SafetyChain,
        tick_ns: int,
        kept: Flags,
        speeds: SpeedLimits | None,
    ) -> None:
        self._limits = limits
        self._chain = chain
        self._tick_ns = tick_ns
        self._kept = kept
        self._speeds = speeds
        self._rollout = RollOut(limits, period=tick_ns * 1e-9)

    def align(self, now: Situation, to: Vector) -> Taken:
        """Return a slow motion to rest from the joint of `now` to the position `to`, float64 [N].

        It takes a tenth of the speed that the joints have, or less: tools keep their limits and stay below the reduced
        speed. It is checked as every other plan.
        """
        limits = self._limits
        start = now.joint.points[-1]
        way = np.clip(to, limits.lower, limits.upper) - start
        size = np.abs(way)
        # A quintic over T has the peaks 15/8 d/T, 5.78 d/T^2 and 60 d/T^3.
        time_s = max(
            float((1.875 * size / (ALIGN_SPEED * limits.velocity)).max()),
            float(np.sqrt(5.78 * size / (ALIGN_SPEED * limits.acceleration)).max()),
            float(np.cbrt(60.0 * size / (ALIGN_SPEED * limits.jerk)).max()),
        )
        while True:
            ticks = max(1, math.ceil(time_s * 1e9 / self._tick_ns))
            x = np.minimum(np.arange(1, ticks + 4) / ticks, 1.0)[:, None]
            points = start + x * x * x * (10.0 - 15.0 * x + 6.0 * x * x) * way
            rate = self._rate(now, points)
            if rate >= 1.0 or time_s >= MAX_ALIGN_S:
                return self._judged(now, points)
            time_s = min(time_s / (SLOW_ENOUGH * rate), MAX_ALIGN_S)

    def back(self, now: Situation, trail: Rows) -> WayBack:
        """Return the longest way back along `trail` that every check lets pass, slowly.

        Bodies that are within their margin have to come apart all along it. Tools stay below the reduced speed; that
        an obstacle is near does not slow the arm further. Hands and grippers stay as they are.

        Args:
            now: where the arm stands.
            trail: float64 [K, N], commands, newest first; the first one is where the arm stands.
        """
        here = now.joint.points[-1]
        whole = way_of(trail if len(trail) else here[None], self._kept)
        whole = whole.first(round(BACK_ROWS_S * 1e9 / self._tick_ns) + 1)
        why: Finding | None = None
        for share in BACK_SHARES:
            part = whole.first(math.ceil(share * len(whole)))
            if len(part) < LEAST_ROWS or np.abs(part.rows - here).max() < LEAST_BACK:
                break
            for within in SHORTCUTS:
                found = self._back(now, part.shortcut(within))
                if found.plan is not None:
                    return replace(found, cause=why if share < 1.0 else None)
                why = why or found.cause
        return WayBack(cause=why or _nowhere(float(np.abs(whole.rows - here).max())))

    def _back(self, now: Situation, way: Way) -> WayBack:
        rate, period = BACK_RATE, self._tick_ns * 1e-9
        for _ in range(BACK_TRIES):
            slow = way_back(
                way.first(max(LEAST_ROWS, int(rate * MAX_BACK_S / period))), rate=rate, period=period
            )
            points = slow.rows
            if not self._rollout.keeps(np.concatenate((now.joint.points, points))):
                rate *= 0.6
                continue
            cap = self._rate(now, points)
            if cap < 1.0:
                rate *= SLOW_ENOUGH * cap
                continue
            taken = self._judged(now, points, separating=True)
            if taken.plan is None:
                return WayBack(cause=taken.cause)
            back = np.concatenate(([0.0], slow.numbers))[: len(taken.plan.states)]
            return WayBack(
                taken.plan, None, np.ceil(back).astype(np.int64), _tool_way(self._speeds, taken.plan.states)
            )
        text = (
            f"no way back keeps the limits of the joints and of tool speed down to {rate:.3f} of the speed at which "
            "the arm came: move it by hand"
        )
        return WayBack(cause=Finding(Verdict.HOLD, "plan_limit", text, "", rate, BACK_RATE))

    def _rate(self, now: Situation, points: Rows) -> float:
        """Return the rate at which control points keep the limits of speed at tools, the reduced speed among them."""
        if self._speeds is None:
            return 1.0
        states = emitted(np.concatenate((now.joint.points[-2:], points)))
        return self._speeds.cap(states, period_ns=self._tick_ns, reduced=True).rate

    def _judged(self, now: Situation, points: Rows, *, separating: bool = False) -> Taken:
        """Return a plan of control points, float64 [K, N], after the joint of `now`, or why it is refused."""
        joint = now.joint
        states = emitted(np.concatenate((joint.points[-2:], points)))
        motion = Motion(now.takeover_ns, self._tick_ns, states, settled=1, separating=separating)
        judged = self._chain.run(motion, stage=ChainStage.PLAN, measured=now.measured)
        if judged.refused:
            return refusal_of(judged)
        end = joint.index + len(points)
        timeline = hold_timeline(points[-1], now_ns=now.takeover_ns, period_ns=self._tick_ns)
        return Taken(MotionPlan(joint, points, states, timeline, end, end, 1.0, lag_ns=now.lag_ns))


def _tool_way(speeds: SpeedLimits | None, states: Rows) -> Vector | None:
    if speeds is None or not speeds.points.points:
        return None
    places = speeds.points.places(states, speeds.points.points)
    steps = np.linalg.norm(np.diff(places, axis=1), axis=2)
    furthest = np.cumsum(steps, axis=1)[int(steps.sum(axis=1).argmax())]
    return np.concatenate(([0.0], furthest))


def _nowhere(way: float) -> Finding:
    text = (
        f"the last commands lead {way:.4f} rad back, needed {LEAST_BACK:g}: the arm has not moved since commands began "
        "where it stands; move it by hand, or clear the fault and let a chunk move it away from what it touches"
    )
    return Finding(Verdict.HOLD, "no_way_back", text, "", way, LEAST_BACK)
