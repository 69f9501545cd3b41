# SPDX-License-Identifier: Apache-2.0
"""The command thread: absolute deadlines on the monotonic clock, its jitter recorded. No rclpy."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from wam.core.clock import NS_PER_S
from wam.core.latency import LatencyWindow
from wam.core.thread_names import show_thread_name
from wam.core.turns import Turns

COMMAND_PRIORITY = 50
"""SCHED_FIFO priority of the command thread, that of ros2_control's controller manager."""

PROCESS_PRIORITY = 40
"""SCHED_FIFO priority of the other threads. At normal priority a thread that holds the interpreter lock could be put
aside by a busy process for many milliseconds, and the command thread would wait for it."""

PREPARE_NS = 5_000_000
"""Time before a deadline at which what the step needs is fetched, half the period at most [ns]: reading joint states
takes longer at one tick than at another, and a command must not wait for it."""


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """How well the thread kept its deadlines.

    Attributes:
        ticks: steps run.
        missed: deadlines that were skipped because a step or the machine was late; never made up for by a burst.
        jitter_p50: lateness of a step's start, median of the last window [s].
        jitter_p99: the same, 99th percentile [s].
        step_p99: duration of a step, 99th percentile [s].
    """

    ticks: int
    missed: int
    jitter_p50: float
    jitter_p99: float
    step_p99: float


class CommandStream:
    """Runs `step` once per period in a thread of its own.

    Args:
        step: called without arguments in the thread.
        period_ns: time between two deadlines [ns].
        on_error: called in the thread with an exception of `step` or `prepare`; the thread ends after it.
        prepare: called in the thread shortly before each deadline, to fetch what the step needs.
        turns: tells threads that compute for long when this one is due.
        window: steps over which percentiles are taken.
    """

    def __init__(
        self,
        step: Callable[[], None],
        *,
        period_ns: int,
        on_error: Callable[[Exception], None],
        prepare: Callable[[], None] = lambda: None,
        turns: Turns | None = None,
        window: int = 2000,
    ) -> None:
        self._step = step
        self._prepare = prepare
        self._turns = Turns() if turns is None else turns
        self._period_ns = period_ns
        self._on_error = on_error
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)
        self._jitter = LatencyWindow(window)
        self._duration = LatencyWindow(window)
        self._ticks = 0
        self._missed = 0
        self.realtime = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, *, timeout: float) -> bool:
        """Ask the thread to end after its step; return whether it has ended within `timeout` [s]."""
        self._stopping.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def health(self) -> StreamHealth:
        """Return how well deadlines were kept; called from any thread."""
        return StreamHealth(
            self._ticks,
            self._missed,
            self._jitter.percentile(50),
            self._jitter.percentile(99),
            self._duration.percentile(99),
        )

    def _run(self) -> None:
        show_thread_name()
        self.realtime = ask_for_realtime(COMMAND_PRIORITY)
        ahead_ns = min(PREPARE_NS, self._period_ns // 2)
        deadline = time.monotonic_ns()
        while not self._stopping.is_set():
            deadline += self._period_ns
            now = time.monotonic_ns()
            if now > deadline + self._period_ns:
                late = (now - deadline) // self._period_ns
                self._missed += late
                deadline += late * self._period_ns
            try:
                _sleep_until(deadline - ahead_ns)
                self._prepare()
                self._turns.expect(deadline)
                _sleep_until(deadline)
                woken = time.monotonic_ns()
                self._step()
            except Exception as error:  # handed to the node, which stops the arm and says so
                self._on_error(error)
                return
            finally:
                self._turns.over()
            self._ticks += 1
            self._jitter.add(max(0, woken - deadline))
            self._duration.add(time.monotonic_ns() - woken)


def _sleep_until(at_ns: int) -> None:
    left_ns = at_ns - time.monotonic_ns()
    if left_ns > 0:
        time.sleep(left_ns / NS_PER_S)


def ask_for_realtime(priority: int) -> bool:
    """Ask for SCHED_FIFO for this thread and the threads it starts from now on.

    Args:
        priority: 1..99.

    Returns:
        Whether the system allows it (rtprio in /etc/security/limits.conf).
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (PermissionError, OSError, AttributeError):
        return False
    return True
