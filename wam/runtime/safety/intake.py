# SPDX-License-Identifier: Apache-2.0
"""What happens to a chunk: admit -> chain -> splice -> resample -> chain again. No rclpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.admission import Admission, Admitted, ChunkRefused, Refusal
from wam.core.chunk.splice import SpliceTimes, StaleChunk, Strategy, splice
from wam.core.chunk.timeline import DelayWindow, Timeline, hold_timeline
from wam.core.safety.chain import Judged, SafetyChain
from wam.core.safety.filters import ChainStage
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.reference import Reference, make_reference, resample, warm_up
from wam.core.verdict import Finding, Verdict

Vector = npt.NDArray[np.float64]


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
    """

    tick_ns: int
    lead_ns: int
    blend_ns: int
    chunk_timeout_ns: int
    late_context_age_ns: int = 1_000_000_000
    strategy: Strategy = Strategy.BLEND
    track: bool = True


@dataclass(frozen=True, slots=True)
class Executing:
    """What the follower tracks.

    Attributes:
        timeline: the rows.
        reference: the same, resampled and checked.
    """

    timeline: Timeline
    reference: Reference

    @property
    def scale(self) -> float:
        """Factor by which the motion is slowed."""
        return self.reference.period_ns / self.reference.tick_ns


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a chunk.

    Attributes:
        executing: what is executed from the coming tick on; None where the chunk was refused.
        mild: verdicts that did not refuse it.
        refused: why it was not let in; the rows at hand go on.
        cause: why the chain refused it; the arm holds or stops.
    """

    executing: Executing | None = None
    mild: tuple[Finding, ...] = ()
    refused: Finding | None = None
    cause: Finding | None = None


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
    """Turns chunks into references; one thread.

    Args:
        limits: limits of all joints of the robot, in its order.
        chain: filters of chunk and trajectory.
        settings: times and strategy.
        smoothing: float64 [N], acceleration beyond which rows are averaged; infinite for joints that may snap.
        leads_ns: int64 [N], delay of a joint's device, by which its commands are sent early [ns].
        contract_hash: the only contract let in; "" takes that of the first chunk.
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
    ) -> None:
        self._limits = limits
        self._chain = chain
        self._settings = settings
        self._smoothing = smoothing
        self._leads_ns = leads_ns
        self.admission = Admission(limits.joint_names, contract_hash=contract_hash)
        self.delays = DelayWindow()
        warm_up()

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

    def take(
        self,
        admitted: Admitted,
        *,
        arrival_ns: int,
        now_ns: int,
        timeline: Timeline | None,
        position: Vector,
        measured: Vector,
    ) -> Taken:
        """Check and splice a chunk that was admitted.

        Args:
            admitted: the chunk.
            arrival_ns: when it arrived [ns].
            now_ns: present time [ns].
            timeline: what is being executed; None while the arm holds.
            position: float64 [N], newest command.
            measured: float64 [N], newest measured positions.
        """
        admitted = admitted.advanced(self._leads_ns)
        settings, chunk = self._settings, admitted.chunk
        self.delays.add(stamp_ns=chunk.stamp_ns, arrival_ns=arrival_ns)
        takeover_ns = now_ns + settings.tick_ns + settings.lead_ns
        # The chain judges the rows to come.
        rows = admitted.over(position)
        passed = 0
        if settings.strategy is not Strategy.SEQUENTIAL:
            passed = min(len(rows) - 1, max(0, -((chunk.stamp_ns - takeover_ns) // chunk.row_period_ns)))
        chunk_motion = Motion(chunk.stamp_ns, chunk.row_period_ns, rows.copy(), settled=passed)
        first = self._chain.run(chunk_motion, stage=ChainStage.CHUNK, measured=measured)
        if first.refused:
            return _refused(first)
        # Splice it onto what is being executed.
        base = timeline or hold_timeline(position, now_ns=now_ns, period_ns=chunk.row_period_ns)
        try:
            spliced = self._splice(base, admitted, first.motion, takeover_ns)
        except StaleChunk as error:
            return Taken(refused=Finding(Verdict.HOLD, Refusal.STALE.value, str(error)))
        # C2 fit and resampling; then the chain again, since a spline may leave limits between its rows.
        motion = resample(
            spliced.motion,
            from_ns=takeover_ns,
            period_ns=settings.tick_ns,
            acceleration=self._smoothing,
        )
        slower = first.motion.period_ns / chunk.row_period_ns
        motion = replace(motion, period_ns=int(settings.tick_ns * slower))
        second = self._chain.run(motion, stage=ChainStage.TRAJECTORY, measured=measured)
        if second.refused:
            return _refused(second, before=first.findings)
        reference = make_reference(second.motion, tick_ns=settings.tick_ns)
        return Taken(Executing(spliced, reference), first.findings + second.findings)

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


def _refused(judged: Judged, before: tuple[Finding, ...] = ()) -> Taken:
    return Taken(mild=before + judged.findings[:-1], cause=judged.findings[-1])
