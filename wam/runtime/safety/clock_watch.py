# SPDX-License-Identifier: Apache-2.0
"""Time as the command thread sees it: ticks that have passed, clocks that jump or stand still, gaps. No rclpy."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from wam.core.ladder import finding
from wam.core.verdict import Finding

MAX_GAP_TICKS = 10
"""A command stream that was silent for longer starts anew: the arm has stopped meanwhile."""

CLOCK_BACK_NS = 50_000_000
"""A clock that goes back by more has been set."""

CLOCK_AHEAD_NS = 2_000_000_000
"""A clock that goes ahead by more between two ticks has been set."""

CLOCK_STILL_NS = 100_000_000
"""A clock that stands still for longer (wall time) is paused."""


class Break(enum.Enum):
    """What is wrong with time."""

    NONE = "none"
    JUMP = "jump"  # stamps of before mean nothing any more
    GAP = "gap"  # the arm has come to rest by itself
    PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class TimePassed:
    """What has passed since the last step.

    Attributes:
        ticks: whole ticks of the node's clock.
        broken: what is wrong.
        cause: the cause of HOLD that goes with it, or None.
        slept: whether this thread slept through ticks of wall time.
    """

    ticks: int
    broken: Break = Break.NONE
    cause: Finding | None = None
    slept: bool = False


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
        self._phase_ns = 0

    def align(self) -> None:
        """Start counting ticks anew from the last step."""
        self._phase_ns = 0

    def step(self, now_ns: int) -> TimePassed:
        """Return what has passed until `now_ns` on the node's clock [ns].

        A tick is counted when half of it has passed, and what is over is kept: a clock that runs slower or faster
        than wall time (a simulation) is followed on average, and jitter is not.
        """
        wall_ns, tick_ns = self._wall(), self._tick_ns
        last, self._last = self._last, (now_ns, wall_ns)
        if last is None:
            return TimePassed(1)
        elapsed, silent = now_ns - last[0], wall_ns - last[1]
        if elapsed < -CLOCK_BACK_NS or elapsed > max(CLOCK_AHEAD_NS, 2 * silent):
            limit = -CLOCK_BACK_NS if elapsed < 0 else CLOCK_AHEAD_NS
            return TimePassed(1, Break.JUMP, finding("clock_jump", value=elapsed * 1e-9, limit=limit * 1e-9))
        if silent > MAX_GAP_TICKS * tick_ns:
            limit = MAX_GAP_TICKS * tick_ns
            return TimePassed(1, Break.GAP, finding("command_gap", value=silent * 1e-9, limit=limit * 1e-9))
        if elapsed > 0:
            self._still_since_ns = None
        elif self._still_since_ns is None:
            self._still_since_ns = last[1]
        if self._still_since_ns is not None and wall_ns - self._still_since_ns > CLOCK_STILL_NS:
            return TimePassed(
                0, Break.PAUSE, finding("clock_paused", value=(wall_ns - self._still_since_ns) * 1e-9)
            )
        self._phase_ns += max(0, elapsed)
        ticks = (2 * self._phase_ns + tick_ns) // (2 * tick_ns)
        self._phase_ns -= ticks * tick_ns
        return TimePassed(ticks, slept=silent > 2 * tick_ns)
