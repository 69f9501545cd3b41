# SPDX-License-Identifier: Apache-2.0
"""What becomes of a chunk: admit -> chain -> splice -> resample -> chain -> roll out to rest -> chain. No rclpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.admission import Admission, Admitted, ChunkRefused, Refusal
from wam.core.chunk.splice import SpliceTimes, StaleChunk, Strategy, splice
from wam.core.chunk.timeline import DelayWindow, Timeline, hold_timeline
from wam.core.safety.chain import SafetyChain
from wam.core.safety.filters import ChainStage
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.curve import emitted
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.reference import Reference, make_reference, resample, warm_up
from wam.core.trajectory.rollout import PlanUnsafe, RollOut
from wam.core.verdict import Finding, Verdict
from wam.robots.tool_speed import SpeedLimits
from wam.runtime.safety.own_motions import OwnMotions
from wam.runtime.safety.plans import MotionPlan, Situation, Taken, refusal_of

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

LEAST_SPEED = 0.01
"""Share of its velocity limit that a joint keeps where tools have to be slow."""

SLOW_ENOUGH = 0.98
"""Rate from which a plan is slow enough; the rest is the rate at which it is played."""

SLOWING_TRIES = 3
"""Roll-outs with smaller velocities before the rate has to do the rest."""

MAX_PLAN_NS = 6_000_000_000
"""Longest time that the rows of a plan may last [ns]: what has to be rolled out and checked is bounded by it."""


@dataclass(frozen=True, slots=True)
class CycleSettings:
    """Settings of a safety cycle.

    Attributes:
        tick_ns: time between two steps [ns].
        lead_ns: time by which commands run ahead [ns].
        blend_ns: time over which a chunk takes over [ns].
        chunk_timeout_ns: no valid chunk for this time means HOLD [ns].
        late_context_age_ns: a chunk from an older planner context means LATE [ns]; a context above the
            executor's own `max_context_age_ns` is refused there.
        strategy: how chunks take over.
        track: check the tracking error (off in a dry run, where the robot is not commanded).
        controllers_play: a group has a trajectory controller, which goes on along the plan by itself.
        start_by_itself: the arm starts without an operator's go (simulation).
        align_below: largest distance over which the command is brought to the measured position [rad].
        simulated_time: the clock of the stamps is that of a simulation, and so is that of its controllers.
    """

    tick_ns: int
    lead_ns: int
    blend_ns: int
    chunk_timeout_ns: int
    late_context_age_ns: int = 1_000_000_000
    strategy: Strategy = Strategy.BLEND
    track: bool = True
    controllers_play: bool = False
    start_by_itself: bool = True
    align_below: float = 0.3
    simulated_time: bool = False


@dataclass(frozen=True, slots=True)
class ChunkOutcome:
    """What the chain found in a chunk.

    Attributes:
        sequence: of the chunk.
        findings: all of them, in order; none where every verdict is OK.
    """

    sequence: int
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict; OK where there is no finding."""
        return max((finding.verdict for finding in self.findings), default=Verdict.OK)


class ChunkIntake:
    """Turns chunks into plans; one thread.

    Args:
        limits: limits of all joints of the robot, in its order.
        chain: filters of chunk and trajectory.
        settings: times and strategy.
        smoothing: float64 [N], acceleration beyond which rows are averaged; infinite for joints that may snap.
        leads_ns: int64 [N], delay of a joint's device, by which its commands are sent early [ns].
        contract_hash: the only contract let in; "" takes that of the first chunk.
        speeds: limits of speed at tools, or None.
    """

    def __init__(
        self,
        *,
        limits: JointLimits,
        chain: SafetyChain,
        settings: CycleSettings,
        smoothing: Vector,
        leads_ns: npt.NDArray[np.int64],
        contract_hash: str,
        speeds: SpeedLimits | None = None,
    ) -> None:
        self._limits = limits
        self._chain = chain
        self._settings = settings
        self._smoothing = smoothing
        self._leads_ns = leads_ns
        self.admission = Admission(limits.joint_names, contract_hash=contract_hash)
        self.delays = DelayWindow()
        self._seed: Vector | None = None
        self._speeds = speeds
        self.reduced = False
        self._rollout = RollOut(limits, period=settings.tick_ns * 1e-9)
        self.own = OwnMotions(
            limits=limits,
            chain=chain,
            tick_ns=settings.tick_ns,
            kept=~np.isfinite(smoothing),
            speeds=speeds,
        )
        warm_up()

    @property
    def tick_ns(self) -> int:
        """Time between two commands [ns]."""
        return self._settings.tick_ns

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the filters in force, in the order in which they run."""
        return tuple(name for name in self._chain.names if name not in self._chain.off)

    @property
    def filters_off(self) -> tuple[str, ...]:
        """Names of the filters that are switched off."""
        return self._chain.off

    def admit(self, chunk: ActionChunk, *, now_ns: int) -> Admitted | Finding:
        """Return the admitted chunk, or why it was not admitted."""
        try:
            return self.admission.admit(chunk, now_ns=now_ns)
        except ChunkRefused as error:
            return Finding(Verdict.HOLD, error.refusal.value, str(error))

    def take(self, admitted: Admitted, *, arrival_ns: int, now: Situation) -> Taken:
        """Check and splice a chunk that was admitted, and roll it out to rest.

        Args:
            admitted: the chunk.
            arrival_ns: when it arrived [ns].
            now: where it finds the arm.
        """
        if now.seed is not self._seed:
            self._seed = now.seed
            self._chain.rebase(now.seed)
        self._chain.note(now.position)
        self.delays.add(stamp_ns=admitted.chunk.stamp_ns, arrival_ns=arrival_ns)
        leads_ns = np.round(self._leads_ns * now.scaling).astype(np.int64)
        admitted = _delayed(admitted.advanced(leads_ns), now.shift_ns)
        settings, chunk, takeover_ns = self._settings, admitted.chunk, now.takeover_ns
        position = now.joint.points[-1]
        # The chain judges the rows to come.
        rows = admitted.over(position)
        passed = 0
        if settings.strategy is not Strategy.SEQUENTIAL:
            passed = min(len(rows) - 1, max(0, -((chunk.stamp_ns - takeover_ns) // chunk.row_period_ns)))
        chunk_motion = Motion(chunk.stamp_ns, chunk.row_period_ns, rows.copy(), settled=passed)
        first = self._chain.run(chunk_motion, stage=ChainStage.CHUNK, measured=now.measured)
        if first.refused:
            return refusal_of(first)
        # Splice it onto what is being executed.
        base = now.timeline or hold_timeline(position, now_ns=takeover_ns, period_ns=chunk.row_period_ns)
        try:
            spliced = self._splice(base, admitted, first.motion, takeover_ns)
        except StaleChunk as error:
            return Taken(refused=Finding(Verdict.HOLD, Refusal.STALE.value, str(error)))
        if spliced.end_ns - takeover_ns > MAX_PLAN_NS:
            return Taken(mild=first.findings, refused=_too_long(spliced.end_ns - takeover_ns))
        # C2 fit and resampling; then the chain again, since a spline may leave limits between its rows.
        motion = resample(
            spliced.motion,
            from_ns=takeover_ns,
            period_ns=settings.tick_ns,
            acceleration=self._smoothing,
        )
        slower = first.motion.period_ns / chunk.row_period_ns
        motion = replace(motion, period_ns=int(settings.tick_ns * slower))
        second = self._chain.run(motion, stage=ChainStage.TRAJECTORY, measured=now.measured)
        findings = first.findings + second.findings
        if second.refused:
            return refusal_of(second, before=first.findings)
        length_ns = second.motion.end_ns - takeover_ns
        if length_ns > MAX_PLAN_NS:
            return Taken(mild=findings, refused=_too_long(length_ns))
        # What the arm will do, to rest: these states are judged, and these are played.
        reference = make_reference(second.motion, tick_ns=settings.tick_ns)
        taken = self._roll_out(reference, now, spliced, findings)
        plan = taken.plan
        if plan is None or self._speeds is None:
            return taken
        near = self._speeds.near(plan.states)
        close = () if near.finding is None else (near.finding,)
        cap = self._speeds.cap(plan.states, period_ns=settings.tick_ns, reduced=self.reduced)
        if cap.finding is None:
            # A share of its speed, whatever that is: it is the rate, and no reason to plan another motion.
            return Taken(replace(plan, cap=near.rate), taken.mild + close)
        # Tools that would be too fast: every joint slower, by what it takes. Where the arm is too fast already, and for
        # what is left, the rate is lowered.
        findings, rate = (*findings, *close, cap.finding), cap.rate
        steps = np.abs(np.diff(plan.states, axis=0)).max(axis=0)
        velocity = np.maximum(steps / (settings.tick_ns * 1e-9), LEAST_SPEED * self._limits.velocity)
        for _ in range(SLOWING_TRIES):
            velocity = velocity * rate
            taken = self._roll_out(reference, now, spliced, findings, velocity=velocity)
            if taken.plan is None:
                return taken
            plan = taken.plan
            rate = self._speeds.cap(plan.states, period_ns=settings.tick_ns, reduced=self.reduced).rate
            if rate >= SLOW_ENOUGH:
                break
        return Taken(replace(plan, cap=min(rate, near.rate)), taken.mild)

    def _roll_out(
        self,
        reference: Reference,
        now: Situation,
        rows: Timeline,
        findings: tuple[Finding, ...],
        *,
        velocity: Vector | None = None,
    ) -> Taken:
        joint = now.joint
        scale = reference.period_ns / self._settings.tick_ns
        timeline = rows.slowed(scale, about_ns=now.takeover_ns)
        refused: Taken | None = None
        try:
            for rolled in self._rollout.run(reference, joint.points, velocity=velocity):
                states = emitted(np.concatenate((joint.points[-2:], rolled.points)))
                motion = Motion(now.takeover_ns, self._settings.tick_ns, states, settled=1)
                third = self._chain.run(motion, stage=ChainStage.PLAN, measured=now.measured)
                if third.refused:
                    refused = refused or refusal_of(third, before=findings)
                    continue
                plan = MotionPlan(
                    joint=joint,
                    points=rolled.points,
                    states=states,
                    timeline=timeline,
                    slowing=joint.index + rolled.slowing,
                    rows_end=joint.index + rolled.rows_end,
                    scale=scale,
                    lag_ns=now.lag_ns,
                )
                return Taken(plan, findings + third.findings)
        except PlanUnsafe as error:
            refused = refused or Taken(mild=findings, refused=Finding(Verdict.HOLD, "plan_limit", str(error)))
        assert refused is not None, "a roll-out gives a plan or says why not"
        return refused

    def _splice(self, timeline: Timeline, admitted: Admitted, motion: Motion, takeover_ns: int) -> Timeline:
        """Splice; the blend is long enough for the distance that the chunk starts away from the timeline."""
        settings = self._settings
        here = timeline.at(np.array([takeover_ns], dtype=np.int64))[0]
        there = motion.rows[motion.settled]
        reach_ns = int(2e9 * float((np.abs(there - here) / self._limits.velocity).max()))
        blend_ns = settings.blend_ns if settings.strategy is Strategy.BLEND else 0
        times = SpliceTimes(
            takeover_ns=takeover_ns,
            blend_ns=max(blend_ns, reach_ns) if reach_ns > motion.period_ns else blend_ns,
            delay_ns=self.delays.delay_ns(),
        )
        return splice(timeline, admitted.chunk, motion.rows, strategy=settings.strategy, times=times)


def _too_long(length_ns: int) -> Finding:
    value, limit = length_ns * 1e-9, MAX_PLAN_NS * 1e-9
    text = f"the rows would last for {value:.1f} s, allowed {limit:.1f} s; the rows at hand go on"
    return Finding(Verdict.HOLD, "plan_too_long", text, "", value, limit)


def _delayed(admitted: Admitted, by_ns: int) -> Admitted:
    """Return the chunk with its rows due `by_ns` later [ns]."""
    if by_ns == 0:
        return admitted
    return replace(admitted, chunk=replace(admitted.chunk, stamp_ns=admitted.chunk.stamp_ns + by_ns))
