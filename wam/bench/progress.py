# SPDX-License-Identifier: Apache-2.0
"""How far a campaign of several kinds of runs is, and how long the rest will take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping


class RunsLeft:
    """Counts finished runs; the rest is estimated from what runs of the same kind took.

    Args:
        counts: kind -> runs of it that the campaign has.
        workers: processes that work at the same time.
        clock: wall time [s].
    """

    def __init__(
        self, counts: Mapping[str, int], workers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counts = {kind: count for kind, count in counts.items() if count}
        self._workers, self._clock = workers, clock
        self._runs: Counter[str] = Counter()
        self._seconds = dict.fromkeys(counts, 0.0)
        self._begun, self._now = clock(), 0.0

    def had(self, kind: str, runs: int, seconds: float) -> None:
        """Note runs that an earlier run of the campaign did, in `seconds` of processor time."""
        self._runs[kind] += runs
        self._seconds[kind] += seconds

    def ran(self, kind: str, runs: int, seconds: float) -> None:
        """Note runs that this one did, in `seconds` of processor time."""
        self.had(kind, runs, seconds)
        self._now += seconds

    def left(self) -> float | None:
        """Return the wall time that the rest will take [s]; None before every kind has been seen."""
        work = 0.0
        for kind, count in self._counts.items():
            if count > self._runs[kind]:
                if not self._runs[kind]:
                    return None
                work += (count - self._runs[kind]) * self._seconds[kind] / self._runs[kind]
        # A shared machine gives less than all of its time.
        slower = (self._clock() - self._begun) / self._now if self._now > 0.0 else 1.0 / self._workers
        return work * slower

    def text(self) -> str:
        """Return the progress in words."""
        done = ", ".join(f"{self._runs[kind]:,} of {count:,} {kind}" for kind, count in self._counts.items())
        left = self.left()
        if left is None:
            return done
        minutes = round(left / 60.0)
        spoken = f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
        return f"{done}, {spoken} left"
