# SPDX-License-Identifier: Apache-2.0
"""One cycle of the safety node: newest chunk and state in, bounded commands out. No rclpy, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.ladder import CAUSES, NOT_ARMED, DegradeLadder, finding
from wam.core.safety.collision import RemoteChecker
from wam.core.safety.limits import JointLimits
from wam.core.safety.monitor import StreamMonitor
from wam.core.safety.tracking import TrackingWatch
from wam.core.verdict import Event, Finding, Ladder, Verdict
from wam.runtime.safety.alignment import Realignment
from wam.runtime.safety.clock_watch import Break, ClockWatch, TimePassed
from wam.runtime.safety.cycle_view import CycleView
from wam.runtime.safety.intake import ChunkIntake, ChunkOutcome, CycleSettings
from wam.runtime.safety.mailbox import Mail
from wam.runtime.safety.measured import MeasuredRobot, MeasuredState
from wam.runtime.safety.overdue import Overdue
from wam.runtime.safety.planning import Answer, Planning
from wam.runtime.safety.playback import Playback
from wam.runtime.safety.remote_gate import Passed, RemoteGate
from wam.runtime.safety.retreat import Retreat

Vector = npt.NDArray[np.float64]
Emit = Callable[[Vector, Vector], None]
"""Takes position and velocity, float64 [N] each, of the command for the coming tick."""

REPEAT_NS = 1_000_000_000
"""A repeated verdict that does not change the rung is reported again after this time without it [ns]."""

PLAYED_OUT = ("rows_exhausted", "aligning")
"""Causes of HOLD under which the plan in hand is played to its end."""

FULL_SPEED = 0.99
"""A robot that reports at least this share of its speed is not slowed."""

CAUSES_OF_STOP = tuple(code for code, cause in CAUSES.items() if cause.rung is Ladder.STOP)

NOBODY_FOLLOWS = ("no_listener", "device_not_ready")
"""Causes of HOLD during which nothing is sent: the arm does not follow and may be moved by hand. One that is guessed
brings the arm to rest first."""

EFFORT_HIGH = ("effort_high", "external_torque_high")
"""Causes of HOLD of a joint that pushes too hard."""

GO_AGAIN = (*NOBODY_FOLLOWS, "driver_unconfirmed", "driver_lost", *EFFORT_HIGH)
"""Causes of HOLD after which the arm needs another go: its driver was away, or it pushed; somebody may be there."""

CONTROLLER_RESTS_NS = 200_000_000
"""A controller that has come to the end of its plan stands there by then: what is sent takes time to reach it [ns]."""

AWAY_NS = 500_000_000
"""Joint states that are missing for so long are those of a driver that was away [ns]. A process that has slept for so
long has heard nobody: what an emergency stop said meanwhile may be lost."""


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


class SafetyCycle(CycleView):
    """The safety node's work, named stage by stage in `step`.

    The methods of `Mailbox`, `offer_state` and `offer_reference` may be called from any thread; `step` from one.

    Args:
        limits: limits of all joints of the robot, in its order.
        measured: where joint states are stored.
        intake: what chunks go through.
        settings: times and strategy.
        tracking: watch of the distance between command and measured state.
        wall: monotonic time [ns], to notice a stream that was silent and a clock that stands still.
        remote: a checker in another process that checks every plan as well, or None.
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
        playback = Playback(limits, settings)
        self._gate = RemoteGate(remote, budget_ns=remote_budget_ns, tick_ns=settings.tick_ns)
        planning = Planning(intake, playback, measured, wait_ticks=self._gate.ticks)
        super().__init__(
            intake=intake,
            settings=settings,
            measured=measured,
            tracking=tracking,
            playback=playback,
            planning=planning,
            retreat=Retreat(limits.joint_names, settings, playback, planning, tracking),
        )
        self._alignment = Realignment(settings, playback, planning, tracking)
        self._limits = limits
        self._clock = ClockWatch(tick_ns=settings.tick_ns, wall=wall)
        self._monitor = StreamMonitor(limits, period=settings.tick_ns * 1e-9)
        self._overdue = Overdue(settings)
        self.ladder = DegradeLadder()
        self._hold: Finding = finding("no_chunk_yet")
        self._go = settings.start_by_itself
        self._resting = True
        self._held: Finding | None = None
        self._seen: dict[tuple[str, str], int] = {}
        self._events: list[Event] = []
        self.speed_scaling = 1.0
        self.paused = False
        self._tracked = 0.0
        self.accepted = 0
        self.refused = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.sequence = 0

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
        if time.cause is not None:
            causes.insert(0, self._enter_hold(time.cause))
        # 3. The newest measured state; the first one that is complete and fresh seeds the command stream.
        measured = self._measured.look(now_ns)
        seed_cause = self._seed(measured)
        # An arm that does not follow is led by hand, which is no fault.
        effort = None if self._nobody_follows(causes) else measured.effort
        causes += [one for one in (measured.stale, seed_cause, effort) if one is not None]
        self._held = next((one for one in causes if CAUSES[one.code].rung >= Ladder.HOLD), None)
        # 4. Plans that have been made since, and the answer of a remote checker to one of them.
        if self._planning.error is not None:
            error, self._planning.error = self._planning.error, None
            raise error
        outcome = self._take_answer(self._planning.take_answer(), now_ns)
        self._adopt(self._gate.poll())
        # 5. Whatever is late, running out, lost or out of bounds now.
        present = tuple(causes)
        causes += self._judge(now_ns, measured, mail, present)
        # 6. The ladder decides the rung.
        if mail.clear_requested:
            self._release(causes, measured)
        self._climb(causes)
        self._retreat.note(present)
        asked = self.take_retreat()
        if asked is not None:
            present += self._off_track(measured)
            self._note(self._retreat.ask(asked, self.ladder, present, measured))
        # 7. The plan is played one tick on, at the rate that the rung leaves.
        # 8. The last look at what is about to be emitted.
        # 9. The command goes out.
        position, reason = self._command(causes, time, measured, now_ns)
        velocity = None if position is None else self._playback.velocity
        if position is not None and velocity is not None and emit is not None:
            emit(position, velocity)
        # 10. The newest chunk becomes a plan, here or in a thread of its own: admit -> chain -> splice -> resample ->
        #     chain -> roll out to rest -> chain.
        self._planning.forbidden = self._forbidden()
        self._planning.settle(waiting=self._gate.waiting)
        if mail.chunk is not None:
            self._planning.offer(*mail.chunk)
            outcome = self._take_answer(self._planning.take_answer(), now_ns) or outcome
        return CycleResult(position, velocity, self.ladder.rung, tuple(self._events), reason, outcome)

    def begin(self) -> None:
        """Begin anew at an activation: commands start where the arm is then, and on hardware it waits for a go.

        Called while no steps run.
        """
        self.withdraw_cause("deactivated")
        self.forget_requests()
        self._hold = finding("no_chunk_yet")
        self._playback.unseed()
        self._clock.begin()

    def offer_chunk(self, chunk: ActionChunk, *, arrival_ns: int) -> None:
        """Store the newest chunk, which arrived at `arrival_ns` [ns]; a thread that plans begins with it at once."""
        if self._planning.threaded:
            self._planning.offer(chunk, arrival_ns)
        else:
            super().offer_chunk(chunk, arrival_ns=arrival_ns)

    def _take(self, now_ns: int) -> tuple[Mail, list[Finding]]:
        mail = self.take_mail(leave_chunk=self._gate.waiting)
        busy = self._retreat.active
        # A request that lets nothing go leaves the limits of effort alone: an arm in motion may push no harder for it.
        lets_go = (
            mail.clear_requested if self.ladder.stopped else mail.resume_requested and self._waits_for_a_go()
        )
        if lets_go and not busy:
            self._measured.let_off()
        if mail.clear_requested and self.ladder.stopped and not busy:
            self._hold = finding("no_chunk_yet")
        asked = mail.resume_requested and not self.ladder.stopped and not self._go and not busy
        if asked and all(one.code != NOT_ARMED for one in mail.causes):
            self._go, self._hold = True, finding("no_chunk_yet")
            self._playback.start_gently()
        causes = [one for one in mail.causes if one.code in CAUSES]
        for one in mail.causes:
            if one.code not in CAUSES:
                self._report(one, 0, now_ns)
        return mail, causes

    def _waits_for_a_go(self) -> bool:
        """Return whether the arm is held until an operator lets it go, or for as long as it pushes."""
        cause = self.ladder.cause
        return not self._go or (cause is not None and cause.code in EFFORT_HIGH)

    def _after(self, time: TimePassed) -> None:
        """Take note of a break of time."""
        if time.silent_ns > AWAY_NS:
            self._need_go()
        if time.broken is Break.JUMP:
            self._planning.forget()
            self._measured.forget()
            self._playback.forget_stamps()
        if not self._playback.seeded:
            return
        if self._settings.controllers_play:
            self._catch_up(self._played_elsewhere(time) // self._settings.tick_ns - 1)
            if time.gap:
                self._need_go()
        elif time.gap:
            self._playback.stand()
            self._monitor.reset(self._playback.position)

    def _played_elsewhere(self, time: TimePassed) -> int:
        """Return for how long a controller has gone on since the last step [ns]; a clock that was set moves no arm."""
        if not self._settings.simulated_time:
            return time.silent_ns
        return 0 if time.broken is Break.JUMP else min(time.passed_ns, time.silent_ns)

    def _catch_up(self, ticks: int) -> None:
        """Go on along the plan, unsent, as a controller has done for `ticks` ticks with what was sent of it before.

        One that has rested for a while may have been led elsewhere if the silence was long enough for that: commands
        begin where the arm is now. After a shorter one they go on from the last, whatever is measured.
        """
        playback, tick_ns = self._playback, self._settings.tick_ns
        rests = len(playback.ahead().positions) + CONTROLLER_RESTS_NS // tick_ns
        if ticks > max(rests, AWAY_NS // tick_ns):
            playback.unseed()
            return
        for _ in range(ticks):
            position = playback.go_on()
            self._monitor.check(position)
            self._tracking.commanded(position)

    def _seed(self, measured: MeasuredRobot) -> Finding | None:
        """Start the command stream at the measured position, at rest; return why that is refused."""
        if measured.stale is not None or not measured.complete or self._playback.seeded:
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
        self._start_at(positions)
        self._need_go()
        return None

    def _start_at(self, position: Vector) -> None:
        self._playback.seed(position)
        self._monitor.reset(position)
        self._tracking.reset(position)

    def _forbidden(self) -> Finding | None:
        """Return why chunks move nothing now, or None."""
        if self.ladder.stopped:
            return self.ladder.cause
        if not self._playback.seeded:
            return finding("no_joint_state_yet")
        if self._alignment.active:
            return finding("aligning")
        if self._retreat.active:
            return finding("retreating")
        return self._held if self._go else finding("awaiting_resume")

    def _need_go(self) -> None:
        """Wait for the operator before the arm moves again, unless the robot file lets it start by itself."""
        self._go = self._settings.start_by_itself

    def _take_answer(self, answer: Answer | None, now_ns: int) -> ChunkOutcome | None:
        """Act on what became of a chunk; return its findings."""
        if answer is None:
            return None
        for one in answer.mild:
            self._report(one, answer.chunk.sequence, now_ns)
        if answer.refused is not None:
            # A chunk that is not admitted leaves the rows in execution alone; HOLD follows when they run out.
            self.refused += 1
            self._report(answer.refused, answer.chunk.sequence, now_ns)
            if answer.reset and self._playback.executing is not None:
                self._enter_hold(finding("generation_reset"))
        elif answer.cause is not None:
            self.sequence = answer.chunk.sequence
            self.refused += 1
            self._enter_hold(answer.cause)
        elif answer.plan is not None and answer.epoch == self._playback.epoch and self._forbidden() is None:
            self.sequence = answer.chunk.sequence
            self._adopt(self._gate.submit(Passed(answer.plan, answer.chunk, answer.arrival_ns)))
        outcome = ChunkOutcome(answer.chunk.sequence, answer.findings)
        self.verdicts[outcome.verdict] += 1
        return outcome

    def _adopt(self, outcome: Passed | Finding | None) -> None:
        """Play a plan that has passed every check, or hold for the finding that refuses it."""
        if isinstance(outcome, Finding):
            self.refused += 1
            self._enter_hold(outcome)
        elif outcome is not None and self._forbidden() is None:
            adopted = self._playback.adopt(
                outcome.plan,
                outcome.chunk,
                arrival_ns=outcome.arrival_ns,
                interval_ns=self.delays.interval_ns(),
            )
            if adopted:
                self.accepted += 1

    def _judge(
        self, now_ns: int, measured: MeasuredRobot, mail: Mail, present: tuple[Finding, ...]
    ) -> list[Finding]:
        """Return the causes that are present now, apart from those raised from outside: `present`."""
        playback = self._playback
        if self._retreat.active:
            return self._go_back(measured, present)
        if measured.stale is not None and playback.executing is not None:
            self._enter_hold(measured.stale)
        elif self._alignment.active:
            self._hold = self._alignment.mind()
        else:
            for off in self._off_track(measured):
                self._enter_hold(off)
        away = playback.seeded and _away(measured)
        outside = (*mail.causes, *([] if measured.effort is None else [measured.effort]))
        if away or any(one.code in GO_AGAIN for one in outside):
            self._need_go()
        if not self._go and not self._alignment.active and self._hold.code not in CAUSES_OF_STOP:
            self._enter_hold(finding("awaiting_resume"))
        if playback.executing is None:
            return [self._hold]
        overdue = self._overdue.check(playback, now_ns)
        if overdue and CAUSES[overdue[0].code].rung is Ladder.HOLD:
            return [self._enter_hold(overdue[0])]
        if self.speed_scaling < FULL_SPEED:
            overdue.append(finding("robot_slowed", value=self.speed_scaling, limit=FULL_SPEED))
        return overdue

    def _off_track(self, measured: MeasuredRobot) -> tuple[Finding, ...]:
        """Return the finding of an arm that is not where it was commanded, where that is known."""
        if measured.stale is not None or not self._playback.seeded or not self._settings.track:
            return ()
        off = self._tracking.check(measured.positions)
        return () if off is None else (off,)

    def _go_back(self, measured: MeasuredRobot, present: tuple[Finding, ...]) -> list[Finding]:
        """Go on with a retreat; return the causes that are present beside those raised from outside."""
        off = self._off_track(measured)
        self._note(self._retreat.mind((*present, *off), self.ladder))
        if self._retreat.active:
            self._hold = finding("retreating")
        else:
            self._hold = finding("no_chunk_yet")
            self._need_go()
        return [self._hold, *off]

    def _release(self, causes: list[Finding], measured: MeasuredRobot) -> None:
        """Release a latched STOP where its cause has gone; the arm stays where it is, or is aligned slowly.

        Args:
            causes: present causes; changed by what the alignment makes of them.
            measured: newest measured state.
        """
        playback = self._playback
        if self._retreat.active:
            self.answered.set()
            return
        if self.ladder.stopped and playback.seeded and playback.standing and measured.stale is None:
            self._hold = self._alignment.begin(self._hold, causes, measured)
        cleared = self.ladder.clear(causes)
        if cleared is not None:
            self._retreat.cleared()
        self._note(cleared)
        self.answered.set()

    def _climb(self, causes: list[Finding]) -> None:
        self._note(self.ladder.update(causes, chunk_sequence=self.sequence))
        if self.ladder.stopped:
            self._need_go()

    def _command(
        self, causes: list[Finding], time: TimePassed, measured: MeasuredRobot, now_ns: int
    ) -> tuple[Vector | None, str]:
        """Return the position to command, float64 [N], or None and why nothing may be sent."""
        playback = self._playback
        if self._nobody_follows(causes) or (_away(measured) and playback.standing):
            # The arm may stand anywhere when somebody follows again: start anew from there.
            playback.unseed()
            self._measured.forget_references()
        if not playback.seeded:
            self.rested.set()
            return None, "" if self.ladder.cause is None else self.ladder.cause.text
        cause = self.ladder.cause
        held = cause is not None and self.ladder.rung >= Ladder.HOLD
        # Rows that have run out, an alignment and a retreat come to rest by themselves; nothing else lets them.
        going = self._retreat.going or (cause is not None and cause.code in PLAYED_OUT)
        if cause is not None and held and playback.moving and not going:
            self._enter_hold(cause)
        rate = self._clock.speed
        slowed = self.speed_scaling < FULL_SPEED
        playback.scaling = self.speed_scaling if slowed else 1.0
        if slowed:
            rate = min(rate, max(0.0, self.speed_scaling))
        sent = playback.position
        position = playback.tick(now_ns, passed_ns=time.passed_ns, rate=rate)
        if not self._sound(position, sent):
            return None, "the computed command violates a limit"
        resting = playback.executing is None and playback.standing
        if resting:
            if not self.rested.is_set():
                self.rested.set()
            if not self._resting and not self._settings.track and measured.stale is None:
                # Nobody follows in a dry run: the next motion begins where the arm is then.
                self._start_at(np.clip(measured.positions, self._limits.lower, self._limits.upper))
        self._resting = resting
        self._tracked += self._playback.scaling
        if self._tracked >= 1.0:  # an arm that is slowed is as far behind as one at full speed, for longer
            self._tracked -= 1.0
            self._tracking.commanded(position)
        return position, ""

    def _nobody_follows(self, causes: Sequence[Finding]) -> bool:
        """Return whether nothing may be sent to an arm that does not follow.

        Where that is a guess the arm may well be in motion: its commands come to rest before they end.
        """
        if not causes:
            return False
        standing = self._playback.standing
        return any(one.code in NOBODY_FOLLOWS and (standing or not one.guessed) for one in causes)

    def _enter_hold(self, cause: Finding) -> Finding:
        """Drop the rows in execution: the arm comes to rest on its plan and stays at the last command."""
        self._playback.drop(run_out=cause.code == "rows_exhausted")
        self._gate.forget()
        self._hold = cause
        self.delays.pause()
        return cause

    def _sound(self, position: Vector, sent: Vector) -> bool:
        """Return whether `position` may be sent; if not, the arm stays at `sent`, the command before."""
        found = self._monitor.check(position)
        if found is None:
            return True
        self._enter_hold(found)
        self._retreat.note([found])
        self._note(self.ladder.update([found], chunk_sequence=self.sequence))
        self._playback.seed(sent)
        self._monitor.reset(sent)
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


def _away(measured: MeasuredRobot) -> bool:
    """Return whether a driver is away: the arm may stand anywhere when it returns."""
    return measured.stale is not None and measured.age_ns > AWAY_NS
