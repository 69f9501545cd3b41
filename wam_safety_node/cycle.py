# SPDX-License-Identifier: Apache-2.0
"""One cycle of the safety node: newest chunk and state in, bounded commands out. No rclpy, no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.admission import Admission, Admitted, ChunkRefused, Refusal
from wam.core.chunk.splice import SpliceTimes, StaleChunk, Strategy, splice
from wam.core.chunk.timeline import DelayWindow, Timeline, hold_timeline
from wam.core.ladder import CAUSES, DegradeLadder, finding
from wam.core.safety.chain import Judged, SafetyChain
from wam.core.safety.filters import Stage
from wam.core.safety.limits import JointLimits
from wam.core.safety.monitor import StreamMonitor
from wam.core.safety.tracking import TrackingWatch
from wam.core.trajectory.follower import Follower
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.reference import Reference, make_reference, resample, warm_up
from wam.core.verdict import Event, Finding, Ladder, Verdict
from wam_safety_node.measured import Measured, MeasuredState

Vector = npt.NDArray[np.float64]

MAX_GAP_TICKS = 10
"""A command stream that was silent for longer starts anew: the arm has stopped meanwhile."""

CLOCK_BACK_NS = 50_000_000
"""A clock that goes back by more has been set."""

CLOCK_AHEAD_NS = 2_000_000_000
"""A clock that goes ahead by more between two ticks has been set."""

CLOCK_STILL_NS = 100_000_000
"""A clock that stands still for longer (wall time) is paused."""

UNSEED_NS = 1_000_000_000
"""Joint states lost for longer: the robot may be another one when they return, so the stream starts anew [ns]."""

REPEAT_NS = 1_000_000_000
"""A verdict that leaves the rung as it is is reported again after it was absent for so long [ns]."""

STOP_SHARE = 0.8
"""Share of the acceleration limit with which rows that run out are slowed to their end."""


@dataclass(frozen=True, slots=True)
class CycleSettings:
    """What a cycle can be told.

    Attributes:
        tick_ns: time between two steps [ns].
        lead_ns: time by which commands run ahead [ns].
        blend_ns: time over which a chunk takes over [ns].
        chunk_timeout_ns: no valid chunk for so long means HOLD [ns].
        max_context_age_ns: an older planner context means LATE [ns].
        strategy: how chunks take over.
        track: judge the tracking error (off in a dry run: the robot is not commanded).
    """

    tick_ns: int
    lead_ns: int
    blend_ns: int
    chunk_timeout_ns: int
    max_context_age_ns: int = 1_000_000_000
    strategy: Strategy = Strategy.BLEND
    track: bool = True


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle has to publish.

    Attributes:
        position: float64 [N] to command for the coming tick, or None: nothing may be sent.
        velocity: float64 [N], its finite difference; None with `position`.
        rung: rung of the ladder after the cycle.
        events: what changed.
        reason: why nothing is sent; "" otherwise.
    """

    position: Vector | None
    velocity: Vector | None
    rung: Ladder
    events: tuple[Event, ...] = ()
    reason: str = ""


class SafetyCycle:
    """The safety node's work, named stage by stage in `step`.

    `offer_chunk`, `offer_state`, `estop`, `raise_cause`, `withdraw_cause` and `clear_fault` may be called from any
    thread; `step` from one.

    Args:
        limits: limits of all joints of the robot, in its order.
        measured: where joint states are stored.
        chain: filters of chunk and trajectory.
        settings: times and strategy.
        tracking: watch of the distance between command and measured state.
        smoothing: float64 [N], acceleration beyond which rows are averaged; infinite for joints that may snap.
        contract_hash: the only contract let in; "" takes that of the first chunk.
        wall: monotonic time [ns], to notice a stream that was silent and a clock that stands still.
    """

    def __init__(
        self,
        *,
        limits: JointLimits,
        measured: MeasuredState,
        chain: SafetyChain,
        settings: CycleSettings,
        tracking: TrackingWatch,
        smoothing: Vector,
        contract_hash: str = "",
        wall: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._measured = measured
        self._chain = chain
        self._settings = settings
        self._tracking = tracking
        self._smoothing = smoothing
        self._wall = wall
        self._admission = Admission(limits.joint_names, contract_hash=contract_hash)
        period = settings.tick_ns * 1e-9
        self._follower = Follower(limits, period=period)
        self._monitor = StreamMonitor(limits, period=period)
        self._stop_need = 1.0 / (2.0 * STOP_SHARE * limits.acceleration)
        warm_up()
        self.ladder = DegradeLadder()
        self.delays = DelayWindow()
        self._lock = threading.Lock()
        self._offered: tuple[ActionChunk, int] | None = None
        self._causes: dict[tuple[str, str], Finding] = {}
        self._clear_asked = False
        self._seeded = False
        self._timeline: Timeline | None = None
        self._reference: Reference | None = None
        self._index = 0.0
        self._phase_ns = 0
        self._hold: Finding = finding("no_chunk_yet")
        self._hold_at: Vector | None = None
        self._last_now_ns: int | None = None
        self._last_wall_ns = 0
        self._still_since_ns: int | None = None
        self._arrival_ns = 0
        self._interval_ns = 0
        self._need_ns = 0.0
        self._context_age_ns = 0
        self._seen: dict[str, int] = {}
        self._events: list[Event] = []
        self.scale = 1.0
        self.speed_scaling = 1.0
        self.accepted = 0
        self.refused = 0
        self.sequence = 0
        self.answered = threading.Event()
        self.rested = threading.Event()
        self.rested.set()

    @property
    def contract_hash(self) -> str:
        """Contract of the chunks being executed; "" before the first."""
        return self._admission.contract_hash

    @property
    def filters_off(self) -> tuple[str, ...]:
        """Names of the filters that are switched off."""
        return self._chain.off

    @property
    def tracking_error(self) -> float:
        """Largest distance of the measured state from the last commands [rad]."""
        return self._tracking.error

    @property
    def follower(self) -> Follower:
        """State of the command stream; read by the command thread only."""
        return self._follower

    @property
    def reference(self) -> tuple[Reference | None, float]:
        """What the follower is led by, and the index of its present sample; read by the command thread only."""
        return self._reference, self._index

    def offer_chunk(self, chunk: ActionChunk, *, arrival_ns: int) -> None:
        """Store the newest chunk, which arrived at `arrival_ns` [ns]."""
        with self._lock:
            self._offered = (chunk, arrival_ns)

    def offer_state(self, group: str, *, stamp_ns: int, positions: Vector) -> None:
        """Store the newest joint state of `group`, float64 [n] in the group's order."""
        self._measured.offer(group, stamp_ns=stamp_ns, positions=positions)

    def estop(self, *, held: bool = False) -> None:
        """Ask for an emergency stop; `held` keeps the cause present until `withdraw_cause("estop")`."""
        self.raise_cause(finding("estop"), once=not held)

    def raise_cause(self, cause: Finding, *, once: bool = False, of: str = "") -> None:
        """Add a cause that lies outside of the cycle (second publisher, liveliness, e-stop).

        Args:
            cause: its code is a key of `wam.core.ladder.CAUSES`.
            once: the cause is seen by one step alone (a STOP stays latched after it).
            of: whose cause it is, where several may raise the same.
        """
        with self._lock:
            self._causes[("once" if once else of, cause.code)] = cause

    def withdraw_cause(self, code: str, *, of: str = "") -> None:
        """Remove a cause that was raised; a latched STOP stays until `clear_fault`."""
        with self._lock:
            self._causes.pop((of, code), None)

    def rest(self) -> None:
        """Ask for a stop that ends the command stream; `rested` is set once the arm is at rest."""
        self.rested.clear()
        self.raise_cause(finding("deactivated"))

    def clear_fault(self) -> None:
        """Ask the next step to release a latched STOP; `answered` is set once it has decided."""
        with self._lock:
            self._clear_asked = True
            self.answered.clear()

    def reject(self, refusal: str, text: str) -> None:
        """Report a message that could not even be read as a chunk; called from any thread."""
        with self._lock:
            self._causes["once", refusal] = Finding(Verdict.HOLD, refusal, text)

    def step(self, now_ns: int) -> CycleResult:
        """Run one cycle at `now_ns` [ns]."""
        self._events = []
        # 1. Take what has arrived since the last step.
        offered, causes, clear_asked = self._take(now_ns)
        if clear_asked and self.ladder.stopped:
            self._hold = finding("no_chunk_yet")
        # 2. Time: the clock may have jumped, stand still, or this thread may have slept through ticks.
        ticks, time_cause = self._keep_time(now_ns)
        # 3. The newest measured state; the first one that is complete and fresh seeds the command stream. A clock
        #    that jumps does not break the stream: the arm is moving and is brought to rest by the same follower.
        measured = self._measured.look(now_ns)
        seed_cause = self._seed(measured)
        if time_cause is not None:
            causes.insert(0, self._enter_hold(time_cause))
        causes += [one for one in (measured.stale, seed_cause) if one is not None]
        # 4. The newest chunk: admit -> chain -> splice -> resample -> chain again.
        if offered is not None and self._seeded:
            self._take_chunk(*offered, now_ns=now_ns, measured=measured)
        # 5. What is late, short, lost or out of bounds now.
        causes += self._judge(now_ns, measured)
        # 6. The ladder decides the rung.
        if clear_asked:
            self._note(self.ladder.clear(causes))
            self.answered.set()
        self._note(self.ladder.update(causes, chunk_sequence=self.sequence))
        rung = self.ladder.rung
        if any(one.code == "no_listener" for one in causes):
            # Nobody follows, so the arm may stand anywhere when somebody does: start anew from there.
            self._seeded = False
        if not self._seeded:
            self.rested.set()
            cause = self.ladder.cause
            return self._silent(rung, "" if cause is None else cause.text)
        # 7. The follower moves one tick: along the reference, or to a stop and then the measured position.
        position = self._follow(rung, ticks, measured)
        # 8. The last look at what is about to be emitted.
        if not self._sound(position):
            return self._silent(self.ladder.rung, "the computed command violates a limit")
        self._tracking.commanded(position)
        return CycleResult(position, self._follower.velocity, self.ladder.rung, tuple(self._events))

    def _take(self, now_ns: int) -> tuple[tuple[ActionChunk, int] | None, list[Finding], bool]:
        with self._lock:
            offered, self._offered = self._offered, None
            given = list(self._causes.values())
            self._causes = {key: one for key, one in self._causes.items() if key[0] != "once"}
            asked, self._clear_asked = self._clear_asked, False
        causes = [one for one in given if one.code in CAUSES]
        for one in given:
            if one.code not in CAUSES:
                self._report(one, 0, now_ns)
        return offered, causes, asked

    def _keep_time(self, now_ns: int) -> tuple[int, Finding | None]:
        """Return the ticks since the last step, and a cause of HOLD where time went wrong."""
        wall_ns, tick_ns = self._wall(), self._settings.tick_ns
        last, last_wall = self._last_now_ns, self._last_wall_ns
        self._last_now_ns, self._last_wall_ns = now_ns, wall_ns
        if last is None:
            return 1, None
        elapsed, silent = now_ns - last, wall_ns - last_wall
        if elapsed < -CLOCK_BACK_NS or elapsed > max(CLOCK_AHEAD_NS, 2 * silent):
            self._admission.forget()
            self._measured.forget()
            self.delays.pause()
            limit = -CLOCK_BACK_NS if elapsed < 0 else CLOCK_AHEAD_NS
            return 1, finding("clock_jump", value=elapsed * 1e-9, limit=limit * 1e-9)
        if silent > MAX_GAP_TICKS * tick_ns:
            self._seeded = False
            return 1, finding("command_gap", value=silent * 1e-9, limit=MAX_GAP_TICKS * tick_ns * 1e-9)
        if elapsed > 0:
            self._still_since_ns = None
        elif self._still_since_ns is None:
            self._still_since_ns = last_wall
        if self._still_since_ns is not None and wall_ns - self._still_since_ns > CLOCK_STILL_NS:
            return 0, finding("clock_paused", value=(wall_ns - self._still_since_ns) * 1e-9)
        self._phase_ns += max(0, elapsed)
        ticks = (2 * self._phase_ns + tick_ns) // (2 * tick_ns)
        self._phase_ns -= ticks * tick_ns
        return ticks, None

    def _seed(self, measured: Measured) -> Finding | None:
        """Start the command stream at the measured position, at rest; return why that is refused."""
        if measured.stale is not None or not measured.complete:
            if measured.age_ns > UNSEED_NS:
                self._seeded = False
            return None
        if self._seeded:
            return None
        limits, positions = self._limits, measured.positions
        outside = np.maximum(limits.lower - positions, positions - limits.upper)
        allowed = 0.1 * (limits.upper - limits.lower)
        if np.any(outside > allowed):
            column = int(np.argmax(outside / allowed))
            joint, value = limits.joint_names[column], float(positions[column])
            text = (
                f"{joint} is measured at {value:.3f}, {outside[column]:.3f} outside its limits "
                f"{limits.lower[column]:.3f} .. {limits.upper[column]:.3f}; move it back by hand or mend the robot file"
            )
            return Finding(
                Verdict.STOP, "outside_limits", text, joint, float(outside[column]), float(allowed[column])
            )
        self._follower.reset(positions)
        self._monitor.reset(positions)
        self._tracking.reset(positions)
        self._hold_at = positions.copy()
        self._seeded = True
        return None

    def _take_chunk(self, chunk: ActionChunk, arrival_ns: int, *, now_ns: int, measured: Measured) -> None:
        settings = self._settings
        # 4a. Is it for us, in order, and of joints that we have?
        try:
            admitted = self._admission.admit(chunk, now_ns=now_ns)
        except ChunkRefused as error:
            self._refuse(error.refusal, str(error), chunk, now_ns)
            return
        if self.ladder.stopped or measured.stale is not None:
            return
        if admitted.reset and self._timeline is not None:
            self._enter_hold(finding("generation_reset"))
        self.delays.add(stamp_ns=chunk.stamp_ns, arrival_ns=arrival_ns)
        takeover_ns = now_ns + settings.lead_ns
        # 4b. The chain judges the rows to come.
        rows = admitted.over(self._follower.position)
        passed = 0
        if settings.strategy is not Strategy.SEQUENTIAL:
            passed = min(len(rows) - 1, max(0, -((chunk.stamp_ns - takeover_ns) // chunk.row_period_ns)))
        judged = self._chain.run(
            Motion(chunk.stamp_ns, chunk.row_period_ns, rows.copy(), settled=passed),
            stage=Stage.CHUNK,
            measured=measured.positions,
        )
        if self._refused_by(judged, chunk, now_ns):
            return
        # 4c. Splice it onto what is being executed.
        timeline = self._timeline or hold_timeline(
            self._follower.position, now_ns=now_ns, period_ns=chunk.row_period_ns
        )
        try:
            timeline = self._splice(timeline, admitted, judged.motion, takeover_ns)
        except StaleChunk as error:
            self._refuse(Refusal.STALE, str(error), chunk, now_ns)
            return
        # 4d. C2 fit and resampling; then the chain again, since a spline may leave limits between its rows.
        slower = judged.motion.period_ns / chunk.row_period_ns
        motion = resample(
            timeline.motion,
            from_ns=takeover_ns,
            period_ns=settings.tick_ns,
            acceleration=self._smoothing,
        )
        motion = replace(motion, period_ns=int(settings.tick_ns * slower))
        judged = self._chain.run(motion, stage=Stage.TRAJECTORY, measured=measured.positions)
        if self._refused_by(judged, chunk, now_ns):
            return
        # 4e. From now on the follower is led by it.
        self._timeline = timeline
        self._reference = make_reference(judged.motion, tick_ns=settings.tick_ns)
        self._index, self._phase_ns = -1.0, 0
        self.scale = judged.motion.period_ns / settings.tick_ns
        self._hold_at = None
        self._arrival_ns = arrival_ns
        self._interval_ns = self.delays.interval_ns()
        self._context_age_ns = chunk.context_age_ns
        self.sequence = chunk.sequence
        self.accepted += 1

    def _splice(self, timeline: Timeline, admitted: Admitted, motion: Motion, takeover_ns: int) -> Timeline:
        """Splice; the blend is long enough for the distance that the chunk starts away from the timeline."""
        settings = self._settings
        here = timeline.at(np.array([takeover_ns], dtype=np.int64))[0]
        there = motion.rows[motion.settled]
        reach_ns = int(2e9 * float(np.max(np.abs(there - here) / self._limits.velocity)))
        blend_ns = settings.blend_ns if settings.strategy is Strategy.BLEND else 0
        times = SpliceTimes(
            takeover_ns=takeover_ns,
            blend_ns=max(blend_ns, reach_ns) if reach_ns > motion.period_ns else blend_ns,
            delay_ns=self.delays.delay_ns(),
        )
        return splice(timeline, admitted.chunk, motion.rows, strategy=settings.strategy, times=times)

    def _refused_by(self, judged: Judged, chunk: ActionChunk, now_ns: int) -> bool:
        """Report what the chain found; return whether the chunk is refused (the arm then holds or stops)."""
        for one in judged.findings:
            if one.verdict < Verdict.HOLD:
                self._report(one, chunk.sequence, now_ns)
        if not judged.refused:
            return False
        self.refused += 1
        self.sequence = chunk.sequence
        self._enter_hold(judged.findings[-1])
        return True

    def _refuse(self, refusal: Refusal, text: str, chunk: ActionChunk, now_ns: int) -> None:
        """A chunk that is not let in leaves the rows at hand alone; HOLD follows when they run out."""
        self.refused += 1
        self._report(Finding(Verdict.HOLD, refusal.value, text), chunk.sequence, now_ns)

    def _judge(self, now_ns: int, measured: Measured) -> list[Finding]:
        """Return the causes that hold now, beside those from outside."""
        settings = self._settings
        if measured.stale is not None and self._reference is not None:
            self._enter_hold(measured.stale)
        elif measured.stale is None and self._seeded and settings.track:
            off = self._tracking.check(measured.positions)
            if off is not None:
                self._enter_hold(off)
        reference = self._reference
        if reference is None:
            return [self._hold]
        age_ns = now_ns - self._arrival_ns
        left_ns = (reference.last - max(self._index, 0.0)) * reference.period_ns
        if age_ns > settings.chunk_timeout_ns:
            limit = settings.chunk_timeout_ns * 1e-9
            return [self._enter_hold(finding("chunk_timeout", value=age_ns * 1e-9, limit=limit))]
        if left_ns < 0.5 * settings.tick_ns and settings.strategy is not Strategy.SEQUENTIAL:
            late_ns = now_ns + settings.lead_ns - reference.start_ns - reference.last * reference.period_ns
            return [self._enter_hold(finding("rows_exhausted", value=max(0, late_ns) * 1e-9))]
        causes = []
        usual_ns = 2 * self._interval_ns + 2 * settings.tick_ns
        if self._interval_ns and age_ns > usual_ns:
            causes.append(finding("chunk_late", value=age_ns * 1e-9, limit=usual_ns * 1e-9))
        context_ns = self._context_age_ns + age_ns
        if context_ns > settings.max_context_age_ns:
            limit = settings.max_context_age_ns * 1e-9
            causes.append(finding("context_late", value=context_ns * 1e-9, limit=limit))
        need_ns = self._need_ns = self._time_to_rest()
        if left_ns < need_ns:
            causes.append(finding("horizon_short", value=left_ns * 1e-9, limit=need_ns * 1e-9))
        if self.speed_scaling < 0.99:
            causes.append(finding("robot_slowed", value=self.speed_scaling, limit=0.99))
        return causes

    def _time_to_rest(self) -> float:
        """Return the time of rows over which the arm can be slowed from its present speed to rest [ns]."""
        return float((np.abs(self._follower.velocity) * self._stop_need).max()) * 1e9

    def _rate(self, reference: Reference) -> float:
        """Return samples per tick: slowed as the chain asked, to the end of the rows, and with the robot."""
        if self.speed_scaling < 0.99:
            return 0.0
        rate = reference.tick_ns / reference.period_ns
        left_ns = (reference.last - max(self._index, 0.0)) * reference.period_ns
        need_ns = self._need_ns
        if left_ns < need_ns:
            rate *= float(np.sqrt(left_ns / need_ns))
        return rate

    def _enter_hold(self, cause: Finding) -> Finding:
        """Drop the rows at hand: the arm stops, then holds the measured position, until a valid chunk comes."""
        self._timeline, self._reference = None, None
        self._hold = cause
        self.delays.pause()
        return cause

    def _follow(self, rung: Ladder, ticks: int, measured: Measured) -> Vector:
        reference, follower = self._reference, self._follower
        if rung >= Ladder.HOLD or reference is None:
            if reference is not None and self.ladder.cause is not None:
                self._enter_hold(self.ladder.cause)
            return self._brake(measured)
        rate = self._rate(reference)
        self._index = min(self._index + max(ticks, 1 if self._index < 0 else 0) * rate, float(reference.last))
        self._index = max(self._index, 0.0)
        return follower.step(*reference.at(self._index, rate=rate))

    def _brake(self, measured: Measured) -> Vector:
        """Stop with limited jerk; at rest, move to the measured position of that moment and stay there.

        The measured position is taken once: feeding it back tick after tick would let the arm drift.
        """
        follower = self._follower
        if self._hold_at is None:
            if not follower.at_rest():
                return follower.brake()
            self._hold_at = (
                follower.position
                if measured.stale is not None
                else np.clip(measured.positions, self._limits.lower, self._limits.upper)
            )
        self.rested.set()
        zero = np.zeros_like(self._hold_at)
        return follower.step(self._hold_at, zero, zero)

    def _sound(self, position: Vector) -> bool:
        found = self._monitor.check(position)
        if found is None:
            return True
        self._enter_hold(found)
        self._note(self.ladder.update([found], chunk_sequence=self.sequence))
        self._seeded = False
        return False

    def _report(self, one: Finding, sequence: int, now_ns: int) -> None:
        """Report a verdict that leaves the rung as it is, on its edge."""
        seen = self._seen.get(one.code)
        self._seen[one.code] = now_ns
        if seen is None or not 0 <= now_ns - seen < REPEAT_NS:
            self._events.append(Event(one, self.ladder.rung, self.ladder.rung, sequence))

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)

    def _silent(self, rung: Ladder, reason: str) -> CycleResult:
        return CycleResult(None, None, rung, tuple(self._events), reason)
