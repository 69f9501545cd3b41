# SPDX-License-Identifier: Apache-2.0
"""One cycle of the safety node: newest chunk and state in, bounded commands out. No rclpy, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.core.chunk.timeline import DelayWindow
from wam.core.ladder import CAUSES, DegradeLadder, finding
from wam.core.safety.collision import RemoteChecker
from wam.core.safety.limits import JointLimits
from wam.core.safety.monitor import StreamMonitor
from wam.core.safety.tracking import TrackingWatch
from wam.core.trajectory.follower import Follower
from wam.core.trajectory.path_stop import PathStop
from wam.core.trajectory.reference import Reference
from wam.core.verdict import Event, Finding, Ladder, Verdict
from wam.runtime.safety.clock_watch import Break, ClockWatch, TimePassed
from wam.runtime.safety.intake import ChunkIntake, ChunkOutcome, CycleSettings, Executing
from wam.runtime.safety.mailbox import Mail, Mailbox
from wam.runtime.safety.measured import MeasuredRobot, MeasuredState
from wam.runtime.safety.remote_gate import Passed, RemoteGate

Vector = npt.NDArray[np.float64]
Emit = Callable[[Vector, Vector], None]
"""Takes position and velocity, float64 [N] each, of the command for the coming tick."""

UNSEED_NS = 1_000_000_000
"""After joint states were lost for longer than this, the robot may have been moved: the stream starts anew [ns]."""

REPEAT_NS = 1_000_000_000
"""A repeated verdict that does not change the rung is reported again after this time without it [ns]."""

OFF_PATH = ("tracking_error", "command_limit", "internal_error")
"""Causes after which the path is not trusted: every joint brakes on its own, as fast as it can."""

STOP_SHARE = 0.8
"""Share of the acceleration limit with which rows that run out are slowed to their end."""


@dataclass(frozen=True, slots=True)
class CycleResult:
    """What one cycle has to publish.

    Attributes:
        position: float64 [N] to command for the coming tick, or None: nothing may be sent.
        velocity: float64 [N], its finite difference; None with `position`.
        rung: rung of the ladder after the cycle.
        events: what changed.
        reason: why nothing is sent; "" otherwise.
        outcome: findings of the chunk that was taken, None where none was. A remote checker answers later.
    """

    position: Vector | None
    velocity: Vector | None
    rung: Ladder
    events: tuple[Event, ...] = ()
    reason: str = ""
    outcome: ChunkOutcome | None = None


class SafetyCycle(Mailbox):
    """The safety node's work, named stage by stage in `step`.

    The methods of `Mailbox`, `offer_state` and `offer_reference` may be called from any thread; `step` from one.

    Args:
        limits: limits of all joints of the robot, in its order.
        measured: where joint states are stored.
        intake: what chunks go through.
        settings: times and strategy.
        tracking: watch of the distance between command and measured state.
        wall: monotonic time [ns], to notice a stream that was silent and a clock that stands still.
        remote: a checker in another process that checks every trajectory as well, or None.
        remote_budget_ns: it must answer within this time [ns].
    """

    def __init__(
        self,
        *,
        limits: JointLimits,
        measured: MeasuredState,
        intake: ChunkIntake,
        settings: CycleSettings,
        tracking: TrackingWatch,
        wall: Callable[[], int],
        remote: RemoteChecker | None = None,
        remote_budget_ns: int = 0,
    ) -> None:
        super().__init__()
        self._limits = limits
        self._measured = measured
        self._intake = intake
        self._settings = settings
        self._tracking = tracking
        self._clock = ClockWatch(tick_ns=settings.tick_ns, wall=wall)
        period = settings.tick_ns * 1e-9
        self._follower = Follower(limits, period=period)
        self._monitor = StreamMonitor(limits, period=period)
        self._stop_need = 1.0 / (2.0 * STOP_SHARE * limits.acceleration)
        self.ladder = DegradeLadder()
        self._gate = RemoteGate(remote, budget_ns=remote_budget_ns, tick_ns=settings.tick_ns, limits=limits)
        self._seeded = False
        self._executing: Executing | None = None
        self._index = 0.0
        self._need_ns = 0.0
        self._hold: Finding = finding("no_chunk_yet")
        self._hold_at: Vector | None = None
        self._stop: PathStop | None = None
        self._played = 1.0
        self._arrival_ns = 0
        self._interval_ns = 0
        self._context_age_ns = 0
        self._seen: dict[tuple[str, str], int] = {}
        self._events: list[Event] = []
        self.speed_scaling = 1.0
        self.accepted = 0
        self.refused = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.sequence = 0

    @property
    def contract_hash(self) -> str:
        """Contract of the chunks being executed; "" before the first."""
        return self._intake.admission.contract_hash

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the filters in force, in the order in which they run."""
        return self._intake.filters

    @property
    def filters_off(self) -> tuple[str, ...]:
        """Names of the filters that are switched off."""
        return self._intake.filters_off

    @property
    def delays(self) -> DelayWindow:
        """Measured inference delays and chunk intervals."""
        return self._intake.delays

    @property
    def scale(self) -> float:
        """Factor by which the motion is slowed."""
        executing = self._executing
        return 1.0 if executing is None else executing.scale

    @property
    def tracking_error(self) -> float:
        """Largest distance of the measured state from the last commands [rad]."""
        return self._tracking.error

    @property
    def executing(self) -> Executing | None:
        """What the follower tracks; None while the arm stops or holds. Read by the command thread only."""
        return self._executing

    @property
    def follower(self) -> Follower:
        """State of the command stream; read by the command thread only."""
        return self._follower

    @property
    def reference(self) -> tuple[Reference | None, float]:
        """What the follower tracks, and the index of its present sample; read by the command thread only."""
        return None if self._executing is None else self._executing.reference, self._index

    def offer_state(self, group: str, *, stamp_ns: int, positions: Vector) -> None:
        """Store the newest joint state of `group`, float64 [n] in the group's order."""
        self._measured.offer(group, stamp_ns=stamp_ns, positions=positions)

    def offer_reference(self, group: str, *, stamp_ns: int, positions: Vector) -> None:
        """Store the reference of the controller of `group`, float64 [n] in the group's order."""
        self._measured.offer_reference(group, stamp_ns=stamp_ns, positions=positions)

    def step(self, now_ns: int, emit: Emit | None = None) -> CycleResult:
        """Run one cycle at `now_ns` [ns].

        Args:
            now_ns: present time on the axis of the stamps.
            emit: called with the command as soon as it is known, so that processing a chunk does not delay it.
        """
        self._events = []
        # 1. Take what has arrived since the last step.
        mail, causes = self._take(now_ns)
        # 2. Time: the clock may have jumped, stand still, or this thread may have slept through ticks.
        time = self._clock.step(now_ns)
        self._after(time)
        # 3. The newest measured state; the first one that is complete and fresh seeds the command stream. A clock
        #    that jumps does not break the stream: the arm is moving and is brought to rest by the same follower.
        measured = self._measured.look(now_ns)
        seed_cause = self._seed(measured)
        if time.cause is not None:
            causes.insert(0, self._enter_hold(time.cause))
        causes += [one for one in (measured.stale, seed_cause) if one is not None]
        # 4. The answer of a remote checker to a motion that the chain has passed.
        self._adopt(self._gate.poll(time.ticks))
        # 5. Whatever is late, running out, lost or out of bounds now.
        causes += self._judge(now_ns, measured)
        # 6. The ladder decides the rung.
        self._climb(causes, mail.clear_requested)
        # 7. The follower moves one tick: along the reference, or to a stop and then the measured position.
        # 8. The last look at what is about to be emitted.
        # 9. The command goes out.
        position, reason = self._command(causes, time, measured)
        velocity = None if position is None else self._follower.velocity
        if position is not None and velocity is not None and emit is not None:
            emit(position, velocity)
        # 10. The newest chunk, for the coming tick: admit -> chain -> splice -> resample -> chain again.
        outcome = None
        if mail.chunk is not None and self._seeded:
            findings = self._take_chunk(*mail.chunk, now_ns=now_ns, measured=measured)
            outcome = ChunkOutcome(mail.chunk[0].sequence, findings)
            self.verdicts[outcome.verdict] += 1
        return CycleResult(position, velocity, self.ladder.rung, tuple(self._events), reason, outcome)

    def _climb(self, causes: list[Finding], clear_requested: bool) -> None:
        if clear_requested:
            self._note(self.ladder.clear(causes))
            self.answered.set()
        self._note(self.ladder.update(causes, chunk_sequence=self.sequence))

    def _command(
        self, causes: list[Finding], time: TimePassed, measured: MeasuredRobot
    ) -> tuple[Vector | None, str]:
        """Return the position to command, float64 [N], or None and why nothing may be sent."""
        if any(one.code == "no_listener" for one in causes):
            # Nobody follows, so the arm may stand anywhere when somebody does: start anew from there.
            self._seeded = False
        if not self._seeded:
            self.rested.set()
            return None, "" if self.ladder.cause is None else self.ladder.cause.text
        position = self._follow(self.ladder.rung, time, measured)
        if not self._sound(position):
            return None, "the computed command violates a limit"
        self._tracking.commanded(position)
        return position, ""

    def _take(self, now_ns: int) -> tuple[Mail, list[Finding]]:
        mail = self.take_mail(leave_chunk=self._gate.waiting)
        if mail.clear_requested and self.ladder.stopped:
            self._hold = finding("no_chunk_yet")
        causes = [one for one in mail.causes if one.code in CAUSES]
        for one in mail.causes:
            if one.code not in CAUSES:
                self._report(one, 0, now_ns)
        return mail, causes

    def _after(self, time: TimePassed) -> None:
        """Forget what a break of time has made meaningless."""
        if time.broken is Break.JUMP:
            self._intake.admission.forget()
            self._measured.forget()
        elif time.broken is Break.GAP:
            self._seeded = False

    def _seed(self, measured: MeasuredRobot) -> Finding | None:
        """Start the command stream at the measured position, at rest; return why that is refused."""
        if measured.stale is not None or not measured.complete:
            if measured.age_ns > UNSEED_NS:
                self._seeded = False
            return None
        if self._seeded:
            return None
        limits, positions = self._limits, measured.seed
        outside = np.maximum(limits.lower - positions, positions - limits.upper)
        allowed = 0.1 * (limits.upper - limits.lower)
        if np.any(outside > allowed):
            column = int(np.argmax(outside / allowed))
            joint, value = limits.joint_names[column], float(positions[column])
            text = (
                f"{joint} is measured at {value:.3f}, {outside[column]:.3f} outside its limits "
                f"{limits.lower[column]:.3f} .. {limits.upper[column]:.3f}; move it back by hand or fix the robot file"
            )
            return Finding(
                Verdict.STOP, "outside_limits", text, joint, float(outside[column]), float(allowed[column])
            )
        self._follower.reset(positions)
        self._monitor.reset(positions)
        self._tracking.reset(positions)
        self._hold_at, self._stop = positions.copy(), None
        self._seeded = True
        return None

    def _take_chunk(
        self, chunk: ActionChunk, arrival_ns: int, *, now_ns: int, measured: MeasuredRobot
    ) -> tuple[Finding, ...]:
        """Take a chunk where it may be executed; return its findings."""
        admitted = self._intake.admit(chunk, now_ns=now_ns)
        if isinstance(admitted, Finding):
            self._refuse(admitted, chunk, now_ns)
            return (admitted,)
        if self.ladder.stopped or measured.stale is not None:
            why = self.ladder.cause if self.ladder.stopped else measured.stale
            return () if why is None else (why,)
        if admitted.reset and self._executing is not None:
            self._enter_hold(finding("generation_reset"))
        taken = self._intake.take(
            admitted,
            arrival_ns=arrival_ns,
            now_ns=now_ns,
            timeline=None if self._executing is None else self._executing.timeline,
            position=self._follower.position,
            measured=measured.positions,
        )
        for one in taken.mild:
            self._report(one, chunk.sequence, now_ns)
        if taken.refused is not None:
            self._refuse(taken.refused, chunk, now_ns)
            return (*taken.mild, taken.refused)
        self.sequence = chunk.sequence
        if taken.executing is None:
            self.refused += 1
            return (*taken.mild, self._enter_hold(taken.cause or self._hold))
        motion = Passed(taken.executing, chunk, arrival_ns)
        self._adopt(self._gate.submit(motion, position=self._follower.position))
        return taken.mild

    def _adopt(self, outcome: Passed | Finding | None) -> None:
        """Execute a motion that has passed every check, or hold for the finding that refuses it."""
        if isinstance(outcome, Finding):
            self.refused += 1
            self._enter_hold(outcome)
        elif outcome is not None and not self.ladder.stopped:
            self._executing = outcome.executing
            self._index = outcome.ticks - 1.0
            self._clock.align()
            self._hold_at, self._stop = None, None
            self._arrival_ns = outcome.arrival_ns
            self._interval_ns = self.delays.interval_ns()
            self._context_age_ns = outcome.chunk.context_age_ns
            self.accepted += 1

    def _refuse(self, why: Finding, chunk: ActionChunk, now_ns: int) -> None:
        """A chunk that is not admitted leaves the rows in execution alone; HOLD follows when they run out."""
        self.refused += 1
        self._report(why, chunk.sequence, now_ns)

    def _judge(self, now_ns: int, measured: MeasuredRobot) -> list[Finding]:
        """Return the causes that are present now, apart from those raised from outside."""
        settings = self._settings
        if measured.stale is not None and self._executing is not None:
            self._enter_hold(measured.stale)
        elif measured.stale is None and self._seeded and settings.track:
            off = self._tracking.check(measured.positions)
            if off is not None:
                self._enter_hold(off)
        if self._executing is None:
            return [self._hold]
        reference = self._executing.reference
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
        if context_ns > settings.late_context_age_ns:
            limit = settings.late_context_age_ns * 1e-9
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
        """Drop the rows in execution: the arm stops on their path, then holds the measured position."""
        if self._executing is not None and cause.code not in OFF_PATH:
            reference, rate = self._executing.reference, self._played
            # A stop over T covers T / 2 of the path and decelerates by at most 1.5 v / T.
            ticks = 3.0 * self._time_to_rest() / self._settings.tick_ns
            left = (reference.last - self._index) / rate if rate > 0.0 else 0.0
            self._stop = PathStop(reference, index=self._index, rate=rate, ticks=min(ticks, 2.0 * left))
        self._executing = None
        self._gate.forget()
        self._hold = cause
        self.delays.pause()
        return cause

    def _follow(self, rung: Ladder, time: TimePassed, measured: MeasuredRobot) -> Vector:
        executing = self._executing
        if rung >= Ladder.HOLD or executing is None:
            if executing is not None and self.ladder.cause is not None:
                self._enter_hold(self.ladder.cause)
            return self._brake(measured)
        reference = executing.reference
        rate = self._played = self._rate(reference)
        # Ticks that this thread slept through are not skipped: catching up is faster than the rows, and an arm that is
        # faster than its rows does not stop in the room that was checked. The next chunk is in time again.
        ticks = min(time.ticks, 1) if time.slept else time.ticks
        self._index = min(self._index + max(ticks, 1 if self._index < 0 else 0) * rate, float(reference.last))
        self._index = max(self._index, 0.0)
        return self._follower.step(*reference.at(self._index, rate=rate))

    def _brake(self, measured: MeasuredRobot) -> Vector:
        """Stop with limited jerk; at rest, move to the measured position of that moment and stay there.

        The measured position is taken once: feeding it back tick after tick would let the arm drift.
        """
        follower = self._follower
        if self._hold_at is None:
            ahead = None if self._stop is None else self._stop.step()
            if ahead is not None:
                return follower.step(*ahead)
            self._stop = None
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
        """Report a verdict that does not change the rung, once when it begins."""
        key = (one.code, one.joint)
        seen = self._seen.get(key)
        self._seen[key] = now_ns
        if seen is None or not 0 <= now_ns - seen < REPEAT_NS:
            self._events.append(Event(one, self.ladder.rung, self.ladder.rung, sequence))

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)
