# SPDX-License-Identifier: Apache-2.0
"""Time as the command thread sees it: clocks that jump, stand still or run slowly, and gaps. No rclpy."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from wam.core.ladder import finding
from wam.core.verdict import Finding

MAX_GAP_TICKS = 10
"""A command stream that was silent for longer is held: the arm has stopped meanwhile."""

CLOCK_BACK_NS = 50_000_000
"""A clock that goes back by more has been set."""

CLOCK_AHEAD_NS = 2_000_000_000
"""A clock that goes ahead by more between two ticks has been set."""

CLOCK_STILL_NS = 100_000_000
"""A clock that stands still for longer (wall time) is paused."""

SPEED_TICKS = 20
"""Ticks over which the speed of the clock is measured."""

SLOW_CLOCK = 0.95
"""A clock that is faster than this share of wall time keeps up; jitter is not a slow clock."""


class Break(enum.Enum):
    """What is wrong with time."""

    NONE = "none"
    JUMP = "jump"  # stamps of before mean nothing any more
    GAP = "gap"  # no command went out for a while
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class TimePassed:
    """What has passed since the last step.

    Attributes:
        passed_ns: time of the node's clock [ns].
        silent_ns: wall time [ns].
        broken: what is wrong.
        cause: the cause of HOLD that goes with it, or None.
        gap: no command went out for a while, whatever became of the clock meanwhile.
    """

    passed_ns: int
    silent_ns: int
    broken: Break = Break.NONE
    cause: Finding | None = None
    gap: bool = False


class ClockWatch:
    """Compares the node's clock with wall time; one thread.

    Args:
        tick_ns: nominal time between two steps [ns].
        wall: monotonic time [ns].
    """

    def __init__(self, *, tick_ns: int, wall: Callable[[], int]) -> None:
        self._tick_ns = tick_ns
        self._wall = wall
        self._last: tuple[int, int] | None = None
        self._still_since_ns: int | None = None
        self._window: deque[tuple[int, int]] = deque()
        self._sums = (0, 0)
        self._anew = False

    def begin(self) -> None:
        """Begin anew: the time without steps before the next one was meant, and is no gap."""
        self._anew = True

    @property
    def speed(self) -> float:
        """Speed of the node's clock against wall time, in [0, 1]; a simulation may run slowly."""
        passed, silent = self._sums
        if len(self._window) < SPEED_TICKS or silent <= 0:
            return 1.0
        speed = passed / silent
        return 1.0 if speed >= SLOW_CLOCK else max(0.0, speed)

    def step(self, now_ns: int) -> TimePassed:
        """Return what has passed until `now_ns` on the node's clock [ns]."""
        wall_ns, tick_ns = self._wall(), self._tick_ns
        last, self._last = self._last, (now_ns, wall_ns)
        if last is None:
            return TimePassed(tick_ns, tick_ns)
        passed, silent = now_ns - last[0], wall_ns - last[1]
        anew, self._anew = self._anew, False
        gap = silent > MAX_GAP_TICKS * tick_ns
        if passed < -CLOCK_BACK_NS or passed > max(CLOCK_AHEAD_NS, 2 * silent):
            limit = -CLOCK_BACK_NS if passed < 0 else CLOCK_AHEAD_NS
            cause = finding("clock_jump", value=passed * 1e-9, limit=limit * 1e-9)
            self._forget()
            return TimePassed(silent, silent, Break.JUMP, cause, gap)
        if anew:
            self._still_since_ns = None
            self._forget()
            return TimePassed(tick_ns, tick_ns)
        if gap:
            limit = MAX_GAP_TICKS * tick_ns
            cause = finding("command_gap", value=silent * 1e-9, limit=limit * 1e-9)
            self._forget()
            return TimePassed(passed, silent, Break.GAP, cause, gap)
        self._note(max(0, passed), silent)
        if passed > 0:
            self._still_since_ns = None
        elif self._still_since_ns is None:
            self._still_since_ns = last[1]
        if self._still_since_ns is not None and wall_ns - self._still_since_ns > CLOCK_STILL_NS:
            still_s = (wall_ns - self._still_since_ns) * 1e-9
            return TimePassed(0, silent, Break.PAUSE, finding("clock_paused", value=still_s))
        return TimePassed(max(0, passed), silent)

    def _note(self, passed: int, silent: int) -> None:
        """Take one tick into the speed, and the oldest one out of it."""
        old = self._window.popleft() if len(self._window) == SPEED_TICKS else (0, 0)
        self._window.append((passed, silent))
        self._sums = (self._sums[0] + passed - old[0], self._sums[1] + silent - old[1])

    def _forget(self) -> None:
        self._window.clear()
        self._sums = (0, 0)
