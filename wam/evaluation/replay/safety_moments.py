# SPDX-License-Identifier: Apache-2.0
"""When a safety node held or stopped the arm during a replay, and which chunks it refused: what, when, how badly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from wam.core.verdict import Finding, Ladder, Verdict


@dataclass(frozen=True, slots=True)
class HeldSpan:
    """A time in which the arm would have been held or stopped.

    Attributes:
        rung: HOLD or STOP.
        start_ns: when it began [ns].
        end_ns: when it ended [ns].
        finding: why: what moved the ladder there, or the first finding in it; None where nothing was said.
    """

    rung: Ladder
    start_ns: int
    end_ns: int
    finding: Finding | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Chunks that were refused for one finding.

    Attributes:
        count: how many; of a running node, how often it was reported.
        time_ns: when the worst one was [ns].
        finding: the worst one: with the largest distance between value and limit, else the first.
    """

    count: int
    time_ns: int
    finding: Finding

    @property
    def excess(self) -> float:
        """Distance between value and limit; 0 where there are none."""
        distance = abs(self.finding.value - self.finding.limit)
        return distance if math.isfinite(distance) else 0.0


class SafetyMoments:
    """Follows the ladder from the first judged chunk on, and the chunks that are refused.

    Attributes:
        refused: finding -> chunks that were refused for it.
    """

    def __init__(self) -> None:
        # Every run begins in HOLD.
        self._rung = Ladder.HOLD
        self._since_ns: int | None = None
        self._finding: Finding | None = None
        self._stretches: list[HeldSpan] = []
        self.refused: dict[str, Refused] = {}

    def begin(self, time_ns: int) -> None:
        """Count time from now on: the first chunk was judged. Later calls change nothing."""
        if self._since_ns is None:
            self._since_ns, self._finding = time_ns, None

    def refuse(self, time_ns: int, finding: Finding) -> None:
        """Take a chunk that was refused."""
        if self._rung >= Ladder.HOLD and self._finding is None:
            self._finding = finding
        new = Refused(1, time_ns, finding)
        before = self.refused.get(finding.code)
        if before is not None:
            worse = new if new.excess > before.excess else before
            new = replace(worse, count=before.count + 1)
        self.refused[finding.code] = new

    def move(self, time_ns: int, rung: Ladder, finding: Finding) -> None:
        """Take a move of the ladder."""
        self._close(time_ns)
        self._rung = rung
        self._finding = finding if rung >= Ladder.HOLD and finding.verdict >= Verdict.HOLD else None
        if self._since_ns is not None:
            self._since_ns = time_ns

    def stretches(self, end_ns: int) -> tuple[HeldSpan, ...]:
        """Return every time on HOLD or STOP, in order; a last one lasts to `end_ns` [ns]."""
        last = self._open(end_ns)
        return (*self._stretches, last) if last is not None else tuple(self._stretches)

    def _close(self, end_ns: int) -> None:
        last = self._open(end_ns)
        if last is not None:
            self._stretches.append(last)

    def _open(self, end_ns: int) -> HeldSpan | None:
        if self._since_ns is None or self._rung < Ladder.HOLD or end_ns <= self._since_ns:
            return None
        return HeldSpan(self._rung, self._since_ns, end_ns, self._finding)
