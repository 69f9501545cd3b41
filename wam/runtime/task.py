# SPDX-License-Identifier: Apache-2.0
"""One run of a task, from acceptance to exactly one ending. Pure: no rclpy, no torch."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder


class Result(enum.IntEnum):
    """Every way a run can end; values are those of `wam_msgs/RunTask`."""

    TIME_LIMIT = 0
    CANCELED = 1
    PREEMPTED = 2
    REFUSED = 3
    HOLD = 4
    STOP = 5
    POLICY_FAULT = 6
    NODE_LOST = 7
    SHUTDOWN = 8


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        result: which of the ways.
        message: one sentence that names the cause.
    """

    result: Result
    message: str


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a run tolerates.

    Attributes:
        time_limit_ns: longest run [ns]; 0 is without a limit.
        hold_grace_ns: longest uninterrupted HOLD, also at the start, before the first chunk [ns].
        silence_ns: longest silence of a node's status [ns].
    """

    time_limit_ns: int
    hold_grace_ns: int
    silence_ns: int


class TaskRun:
    """Watches a run; the first cause of an end is latched.

    Args:
        limits: what it tolerates.
        now_ns: time of acceptance [ns].
    """

    def __init__(self, limits: TaskLimits, *, now_ns: int) -> None:
        self._limits = limits
        self._start_ns = now_ns
        self._held_since_ns: int | None = now_ns
        self._heard_ns = {"wam_planner": now_ns, "wam_executor": now_ns}
        self.ladder: Ladder | None = None
        self.chunks = 0
        self.context_age = math.nan
        self.ending: Ending | None = None

    def elapsed_ns(self, now_ns: int) -> int:
        """Return the time since acceptance [ns]."""
        return now_ns - self._start_ns

    def on_chunk(self, *, context_age: float) -> None:
        """Count a chunk; `context_age` is the age of its context [s]."""
        self.chunks += 1
        self.context_age = context_age

    def on_ladder(self, rung: Ladder, *, text: str, now_ns: int) -> None:
        """Take the rung on which the degrade ladder stands now, with the reason for it."""
        self.ladder = rung
        if rung is Ladder.STOP:
            self.end(Result.STOP, f"the degrade ladder latched STOP: {text}")
        elif rung is not Ladder.HOLD:
            self._held_since_ns = None
        elif self._held_since_ns is None:
            self._held_since_ns = now_ns

    def on_status(self, node: str, *, fault: str, now_ns: int) -> None:
        """Take a sign of life of "wam_planner" or "wam_executor"; `fault` is "" while it works."""
        self._heard_ns[node] = now_ns
        if fault:
            self.end(Result.POLICY_FAULT, f"{node}: {fault}")

    def poll(self, now_ns: int, *, safety_there: bool) -> Ending | None:
        """Return how the run has ended by `now_ns` [ns], or None while it goes on."""
        limits = self._limits
        if not safety_there:
            self.end(Result.NODE_LOST, "wam_safety has disappeared")
        for node, heard_ns in self._heard_ns.items():
            if now_ns - heard_ns > limits.silence_ns:
                silence = (now_ns - heard_ns) / NS_PER_S
                self.end(Result.NODE_LOST, f"{node} has said nothing for {silence:.1f} s")
        if self._held_since_ns is not None and now_ns - self._held_since_ns > limits.hold_grace_ns:
            held = (now_ns - self._held_since_ns) / NS_PER_S
            self.end(Result.HOLD, f"the arm has been held for {held:.1f} s; see the last event of wam_safety")
        if limits.time_limit_ns and self.elapsed_ns(now_ns) >= limits.time_limit_ns:
            self.end(Result.TIME_LIMIT, f"the time limit of {limits.time_limit_ns / NS_PER_S:g} s has passed")
        return self.ending

    def end(self, result: Result, message: str) -> None:
        """End the run; a run that has ended keeps its first cause."""
        if self.ending is None:
            self.ending = Ending(result, message)
