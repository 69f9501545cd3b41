# SPDX-License-Identifier: Apache-2.0
"""Counts what a safety node said during a replay, whichever engine reported it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.replay.safety_events import (
    CommandEvent,
    LadderEvent,
    SafetyEvent,
    SafetyInfo,
    SafetySource,
    VerdictCountEvent,
    VerdictEvent,
)
from wam.evaluation.replay.safety_moments import SafetyMoments


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands of the safety node, thinned out to about one per chunk row.

    Attributes:
        times_ns: int64 [T], when the commands are due at the robot [ns].
        positions: float64 [T, N], joints of the robot in its order; NaN where no command was sent.
    """

    times_ns: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]


class SafetyTally:
    """Takes safety events and keeps the figures of the report.

    Args:
        info: who judges the chunks.
        joints: number of joints of the robot.
        row_period_ns: about one command per this time is kept [ns].

    Attributes:
        verdicts: verdict -> chunks.
        codes: finding -> chunks with it; of a running node, how often it was reported.
        examples: finding or cause -> the first text with it.
        rungs: rung -> ticks spent on it, from the first judged chunk on.
        causes: rung and cause -> how often the ladder went there for it.
        moves: time [ns] and new rung of every move.
        moments: when the arm was held or stopped, and the worst of the refused chunks.
    """

    def __init__(self, info: SafetyInfo, *, joints: int, row_period_ns: int) -> None:
        self._info = info
        self._keep_every = max(1, round(row_period_ns / info.tick_ns))
        self._ticks = 0
        self._kept: list[Commands] = []
        self._nothing = Commands(np.empty(0, dtype=np.int64), np.empty((0, joints)))
        self._jerk = _JerkMeter(joints, info.tick_ns)
        self.started = False
        self.verdicts: Counter[Verdict] = Counter()
        self.codes: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.rungs: Counter[Ladder] = Counter()
        self.causes: Counter[tuple[Ladder, str]] = Counter()
        self.moves: list[tuple[int, Ladder]] = []
        self.moments = SafetyMoments()

    @property
    def source(self) -> SafetySource:
        """Where these figures were measured."""
        return self._info.source

    @property
    def tick_ns(self) -> int:
        """Time between two commands [ns]."""
        return self._info.tick_ns

    @property
    def unchecked(self) -> str:
        """Why collisions and workspace are not checked; "" where they are."""
        return self._info.not_checked

    def take(self, event: SafetyEvent) -> None:
        """Take one event; events come in order of time."""
        if isinstance(event, VerdictEvent):
            self._start(event.time_ns)
            self.verdicts[event.verdict] += 1
            if event.finding is not None and event.verdict >= Verdict.HOLD:
                self.moments.refuse(event.time_ns, event.finding)
            for code in dict.fromkeys(finding.code for finding in event.outcome.findings):
                self.codes[code] += 1
            for finding in event.outcome.findings:
                self.examples.setdefault(finding.code, finding.text)
        elif isinstance(event, VerdictCountEvent):
            self._start(event.time_ns)
            self.verdicts.update(event.counts)
        elif isinstance(event, LadderEvent):
            self._take_move(event)
        else:
            self._take_commands(event)

    def take_commands(self) -> Commands:
        """Return the commands kept since the last call."""
        kept, self._kept = self._kept, []
        if not kept:
            return self._nothing
        return Commands(
            np.concatenate([one.times_ns for one in kept]), np.concatenate([one.positions for one in kept])
        )

    def jerk_rms(self) -> npt.NDArray[np.float64]:
        """Return the root mean square of the commands' third derivative, float64 [N] (per s^3)."""
        return self._jerk.rms()

    def share(self, rung: Ladder) -> float:
        """Return the share of time on a rung, from the first judged chunk on; NaN without one."""
        total = sum(self.rungs.values())
        return self.rungs[rung] / total if total else float("nan")

    def _start(self, time_ns: int) -> None:
        self.started = True
        self.moments.begin(time_ns)

    def _take_move(self, event: LadderEvent) -> None:
        move = event.event
        code, text = move.finding.code, move.finding.text
        if move.after is move.before:
            # Offline, the verdicts about the chunks contain these findings already.
            if self.started and self.source is SafetySource.LIVE_NODE:
                self.codes[code] += 1
                self.examples.setdefault(code, text)
                if move.finding.verdict >= Verdict.HOLD:
                    self.moments.refuse(event.time_ns, move.finding)
            return
        self.moves.append((event.time_ns, move.after))
        self.moments.move(event.time_ns, move.after, move.finding)
        if self.started and move.after > Ladder.NOMINAL:
            self.causes[move.after, code] += 1
            self.examples.setdefault(code, text)

    def _take_commands(self, event: CommandEvent) -> None:
        self.rungs.update(event.rungs)
        self._jerk.add(event.positions)
        # Blocks are of any length; the last of every `keep_every` ticks is kept.
        kept = slice((-self._ticks - 1) % self._keep_every, None, self._keep_every)
        self._ticks += len(event.due_ns)
        self._kept.append(Commands(event.due_ns[kept], event.positions[kept]))


class _JerkMeter:
    """Sums up third differences of a command stream; a tick without a command starts a new stretch."""

    def __init__(self, width: int, tick_ns: int) -> None:
        self._scale = (NS_PER_S / tick_ns) ** 3
        self._squares = np.zeros(width)
        self._count = 0
        self._past = np.empty((0, width))

    def add(self, positions: npt.NDArray[np.float64]) -> None:
        """Take the commands of some ticks, float64 [T, N]; NaN for none."""
        rows = np.concatenate((self._past, positions))
        self._past = rows[-3:]
        jerks = (rows[3:] - 3.0 * rows[2:-1] + 3.0 * rows[1:-2] - rows[:-3]) * self._scale
        jerks = jerks[~np.isnan(jerks).any(axis=1)]
        if len(jerks):
            # One after the other: however the stream is cut into blocks, the sum is the same to the last digit.
            self._squares = np.cumsum(np.concatenate((self._squares[None], jerks**2)), axis=0)[-1]
            self._count += len(jerks)

    def rms(self) -> npt.NDArray[np.float64]:
        if not self._count:
            return np.full(len(self._squares), np.nan)
        return np.sqrt(self._squares / self._count)
