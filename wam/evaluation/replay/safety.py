# SPDX-License-Identifier: Apache-2.0
"""The safety node on the clock of a recording: its own cycle, dry, fed with the recorded joint states.

    joint state at its time -> SafetyCycle, which steps at the rate of the robot's command stream
    chunk when it is out    ->   what it says to every chunk, the rungs it climbs, the commands it would have sent

The recorded robot does not follow these commands, so the tracking error is not judged, as in a dry run of the node.
Topics that a recording does not tell of (e-stop, publishers that come and go, speed scaling) are taken to be fine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk.splice import Strategy
from wam.core.clock import NS_PER_S
from wam.core.errors import InputError, MissingDependency
from wam.core.verdict import Event, Finding, Ladder, Verdict, worst
from wam.evaluation.replay.engine import ChunkEvent
from wam.robots.description import CommandKind, RobotDescription
from wam.robots.joint_reader import JointReader
from wam.runtime.safety.build import STREAM_RATE, build_cycle, settings_for
from wam.runtime.safety.cycle import CycleResult
from wam.runtime.safety.filters import ChainOptions, build_chain
from wam.runtime.safety.intake import ChunkOutcome

CLEAR_NS = NS_PER_S
"""A latched STOP is cleared after so long, as an operator would, so that what follows is judged too [ns]."""

MAX_SILENCE_NS = 60 * NS_PER_S
"""A gap in the recording that is longer is not stepped through; the cycle sees a clock that was set [ns]."""


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """What the safety chain said to a chunk.

    Attributes:
        time_ns: when [ns].
        generation: of the chunk.
        outcome: its number and the findings.
    """

    time_ns: int
    generation: int
    outcome: ChunkOutcome

    @property
    def finding(self) -> Finding | None:
        """The most severe finding, or None where the chain was content."""
        return worst(self.outcome.findings)

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict; OK where there is no finding."""
        finding = self.finding
        return Verdict.OK if finding is None else finding.verdict


@dataclass(frozen=True, slots=True)
class LadderEvent:
    """A move on the degrade ladder, or a verdict that leaves the rung as it is.

    Attributes:
        time_ns: when [ns].
        event: the move and its cause.
    """

    time_ns: int
    event: Event


SafetyNote = VerdictEvent | LadderEvent


@dataclass(frozen=True, slots=True)
class Commands:
    """What would have been sent, thinned out to about one command per chunk row.

    Attributes:
        times_ns: int64 [T], when the commands are due at the robot [ns].
        positions: float64 [T, N], joints of the robot in its order; NaN where nothing would have been sent.
    """

    times_ns: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]


class SafetyReplay:
    """Steps a safety cycle on the recording's clock. One thread.

    Args:
        robot: limits, groups and budgets; a recorded robot that is never commanded is judged at 100 Hz.
        row_period_ns: about one command in so long is kept [ns].
        strategy: how chunks take over.
        extra_filters: factories of filters from other packages, as the safety node's parameter.

    Raises:
        ConfigError: an extra filter cannot be made.
    """

    def __init__(
        self,
        robot: RobotDescription,
        *,
        row_period_ns: int,
        strategy: Strategy = Strategy.BLEND,
        extra_filters: tuple[str, ...] = (),
    ) -> None:
        commanded = any(group.command_kind is not CommandKind.NONE for group in robot.groups)
        rate = {} if commanded else {"tick_ns": round(NS_PER_S / STREAM_RATE)}
        settings = settings_for(robot, strategy=strategy, track=False, **rate)
        self._tick_ns, self._lead_ns = settings.tick_ns, settings.lead_ns
        self.unchecked = "" if robot.urdf is not None else f"{robot.name} has no model"
        options = ChainOptions(extra_filters=extra_filters)
        try:
            chain = build_chain(robot, options)
        except MissingDependency as error:
            chain, self.unchecked = build_chain(robot, options, model=False), str(error)
        # Every step is one tick of wall time too: a recording has no threads that sleep too long.
        self._wall_ns = 0
        self._cycle = build_cycle(robot, settings, chain, wall=lambda: self._wall_ns)
        self._readers = {group.name: JointReader(group) for group in robot.groups}
        self._keep_every = max(1, round(row_period_ns / settings.tick_ns))
        self._next_ns: int | None = None
        self._generation = 0
        self._stopped_ns: int | None = None
        self._steps = 0
        self._times: list[int] = []
        self._positions: list[npt.NDArray[np.float64]] = []
        self._nothing = np.full(len(robot.joint_names), np.nan)
        self._jerk = _JerkMeter(len(robot.joint_names), settings.tick_ns)
        self._notes: list[SafetyNote] = []
        self.started = False
        self.verdicts: Counter[Verdict] = Counter()
        self.codes: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.rungs: Counter[Ladder] = Counter()
        self.causes: Counter[tuple[Ladder, str]] = Counter()
        self.moves: list[tuple[int, Ladder]] = []

    @property
    def tick_ns(self) -> int:
        """Time between two commands [ns]."""
        return self._tick_ns

    def offer_state(self, group: str, message: Any, *, time_ns: int) -> None:
        """Take a recorded sensor_msgs/JointState; one that does not fit ages like one that never came.

        Args:
            group: name of the joint group.
            message: of rclpy or of rosbags.
            time_ns: when it is delivered [ns]; earlier than the time before means that the clock went back.
        """
        if self._next_ns is None:
            self.moves.append((time_ns, self._cycle.ladder.rung))
        if self._next_ns is None or time_ns < self._next_ns - 2 * self._tick_ns:
            self._next_ns = time_ns
        self.advance(time_ns)
        try:
            positions, _ = self._readers[group].read(message)
        except InputError as error:
            self._cycle.reject("malformed_joint_state", str(error))
            return
        stamp = message.header.stamp
        stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
        self._cycle.offer_state(group, stamp_ns=stamp_ns, positions=positions)

    def offer_chunk(self, event: ChunkEvent) -> None:
        """Take a chunk that came out at `event.ready_ns`."""
        self.advance(event.ready_ns)
        self._generation = event.chunk.generation
        self._cycle.offer_chunk(event.chunk, arrival_ns=event.ready_ns)

    def advance(self, until_ns: int) -> None:
        """Step every tick before `until_ns`."""
        if self._next_ns is None:
            return
        if until_ns - self._next_ns > MAX_SILENCE_NS:
            self._next_ns = until_ns - self._tick_ns
        while self._next_ns < until_ns:
            self._step(self._next_ns)
            self._next_ns += self._tick_ns

    def take_notes(self) -> list[SafetyNote]:
        """Return what was said since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def take_commands(self) -> Commands:
        """Return the commands kept since the last call."""
        times, positions = self._times, self._positions
        self._times, self._positions = [], []
        table = np.stack(positions) if positions else np.empty((0, len(self._nothing)))
        return Commands(np.array(times, dtype=np.int64), table)

    def jerk_rms(self) -> npt.NDArray[np.float64]:
        """Return the root mean square of the commands' third derivative, float64 [N] (per s^3)."""
        return self._jerk.rms()

    def share(self, rung: Ladder) -> float:
        """Return the share of time on a rung, from the first chunk on; NaN without one."""
        total = sum(self.rungs.values())
        return self.rungs[rung] / total if total else float("nan")

    def _step(self, now_ns: int) -> None:
        self._wall_ns += self._tick_ns
        if self._stopped_ns is not None and not 0 <= now_ns - self._stopped_ns < CLEAR_NS:
            self._cycle.clear_fault()
            self._stopped_ns = None
        result = self._cycle.step(now_ns)
        if result.outcome is not None:
            self._note_verdict(now_ns, result.outcome)
        self._note_moves(now_ns, result)
        if not self.started:
            return
        self.rungs[result.rung] += 1
        self._jerk.add(result.position)
        self._steps += 1
        if self._steps % self._keep_every == 0:
            self._times.append(now_ns + self._lead_ns)
            self._positions.append(self._nothing if result.position is None else result.position.copy())

    def _note_verdict(self, now_ns: int, outcome: ChunkOutcome) -> None:
        self.started = True
        note = VerdictEvent(now_ns, self._generation, outcome)
        self._notes.append(note)
        self.verdicts[note.verdict] += 1
        for code in dict.fromkeys(finding.code for finding in outcome.findings):
            self.codes[code] += 1
        for finding in outcome.findings:
            self.examples.setdefault(finding.code, finding.text)

    def _note_moves(self, now_ns: int, result: CycleResult) -> None:
        for event in result.events:
            self._notes.append(LadderEvent(now_ns, event))
            if event.after is event.before:
                continue
            self.moves.append((now_ns, event.after))
            if self.started and event.after > Ladder.NOMINAL:
                self.causes[event.after, event.finding.code] += 1
                self.examples.setdefault(event.finding.code, event.finding.text)
        if result.rung is Ladder.STOP and self._stopped_ns is None:
            self._stopped_ns = now_ns


class _JerkMeter:
    """Third differences of a command stream, summed up; a tick without a command starts anew."""

    def __init__(self, width: int, tick_ns: int) -> None:
        self._scale = (NS_PER_S / tick_ns) ** 3
        self._squares = np.zeros(width)
        self._count = 0
        self._past: list[npt.NDArray[np.float64]] = []

    def add(self, position: npt.NDArray[np.float64] | None) -> None:
        if position is None:
            self._past = []
            return
        self._past.append(position.copy())
        if len(self._past) == 4:
            a, b, c, d = self._past
            self._squares += ((d - 3.0 * c + 3.0 * b - a) * self._scale) ** 2
            self._count += 1
            self._past.pop(0)

    def rms(self) -> npt.NDArray[np.float64]:
        if not self._count:
            return np.full(len(self._squares), np.nan)
        return np.sqrt(self._squares / self._count)
