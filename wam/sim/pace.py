# SPDX-License-Identifier: Apache-2.0
"""Time of a simulation: the time that is published as /clock, and when something with its own rate is due."""

from __future__ import annotations

from collections.abc import Callable

from wam.core.clock import NS_PER_MS, NS_PER_S

START_NS = NS_PER_S
"""First time that is published: for a node with use_sim_time zero means that there is no time yet [ns]."""

MAX_STEP_NS = 20 * NS_PER_MS
"""Largest step of time [ns]: on a machine that is too slow, time runs slower and nothing is skipped."""


class Pace:
    """Reports once per period that something is due.

    Args:
        period_ns: [ns].

    Raises:
        ValueError: the period is not positive.
    """

    def __init__(self, period_ns: int) -> None:
        if period_ns <= 0:
            raise ValueError(f"period is {period_ns} ns, must be positive")
        self._period_ns, self._due_ns = period_ns, 0

    def due(self, now_ns: int) -> bool:
        """Return whether something is due at `now_ns` [ns].

        Counted from the moment that was due, which keeps the mean rate; restarted after a pause or a clock jump.
        """
        if 0 < self._due_ns - now_ns <= self._period_ns:
            return False
        late_ns = now_ns - self._due_ns
        self._due_ns = (self._due_ns if 0 <= late_ns < self._period_ns else now_ns) + self._period_ns
        return True


class SimTime:
    """Simulated time from wall time.

    Args:
        speed: simulated over wall time; 0 advances by `step_ns` at every call, as fast as possible.
        step_ns: see `speed` [ns].
        wall: monotonic wall time [ns].

    Raises:
        ValueError: `speed` is negative or `step_ns` not positive.
    """

    def __init__(self, *, speed: float, step_ns: int, wall: Callable[[], int]) -> None:
        if speed < 0.0 or step_ns <= 0:
            raise ValueError(f"speed is {speed} (must be >= 0), step is {step_ns} ns (must be > 0)")
        self._speed, self._step_ns, self._wall = speed, step_ns, wall
        self._now_ns = START_NS
        self._left = 0.0  # part of a nanosecond that was not counted yet
        self._wall_ns: int | None = None

    @property
    def now_ns(self) -> int:
        """Present simulated time [ns]."""
        return self._now_ns

    def advance(self) -> int:
        """Advance the time and return it [ns]; the first call sets the start."""
        wall_ns = self._wall()
        before, self._wall_ns = self._wall_ns, wall_ns
        if before is None:
            return self._now_ns
        if self._speed == 0.0:
            self._now_ns += self._step_ns
            return self._now_ns
        passed = (wall_ns - before) * self._speed + self._left
        whole = int(passed)
        self._left = passed - whole
        self._now_ns += min(whole, MAX_STEP_NS)
        return self._now_ns

    def pause(self) -> None:
        """Discard the wall time of the last call: time until the next call does not count."""
        self._wall_ns = None
