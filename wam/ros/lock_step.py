# SPDX-License-Identifier: Apache-2.0
"""Lock-step: a node's loop runs on `/clock` and reports how far it has come, so that simulated time can wait for it.

Whoever publishes `/clock` (a test, a co-simulation) advances it only after every node has answered the last time on
`lock_step`; a node that computes slowly then delays simulated time instead of missing deadlines. `use_sim_time` must
be set, since stamps and deadlines have to count the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from std_msgs.msg import Header

from wam.core.clock import seconds_to_ns
from wam.core.errors import ConfigError
from wam.core.thread_names import show_thread_name
from wam.ros.conversions import ns_to_time
from wam.ros.qos import LOCK_STEP
from wam.ros.worker import Worker
from wam.runtime.safety.stream import StreamHealth

TOPIC = "lock_step"
"""Answers of all nodes, relative: `stamp` is the time that a node has dealt with, `frame_id` its full name; a stamp of
zero says that the node has stopped and must not be waited for."""

ACKNOWLEDGE_S = 1.0


class SteppedWorker:
    """Runs `step` once per period of the node's clock, with the interface of `wam.ros.worker.Worker`.

    Every new time is answered on `lock_step` once the step that was due at it, if any, is done.

    Args:
        node: whose clock counts.
        name: name of the thread.
        step: called without arguments in the worker thread.
        period: time between two steps [s]; 0 steps at every new time.
        on_error: called in the worker thread with an exception of `step`; the worker ends after it.

    Raises:
        ConfigError: the node runs on wall time.
    """

    def __init__(
        self,
        node: Any,
        name: str,
        step: Callable[[], None],
        *,
        period: float,
        on_error: Callable[[Exception], None],
    ) -> None:
        if not node.get_parameter("use_sim_time").value:
            raise ConfigError(
                "parameter lock_step of a node on wall time",
                value="use_sim_time: false",
                allowed="use_sim_time: true, or lock_step: false",
                where=f"the parameters of {node.get_fully_qualified_name()}",
            )
        self._node, self._step, self._on_error = node, step, on_error
        self._clock, self._period_ns = node.get_clock(), seconds_to_ns(period)
        self._changed = threading.Condition()
        self._now_ns = self._answered_ns = 0
        self._last_ns: int | None = None
        self._woken = self._stopping = self._free = False
        self._answers: Any = node.create_publisher(Header, TOPIC, LOCK_STEP)
        one = Duration(nanoseconds=1)
        self._jump = self._clock.create_jump_callback(
            JumpThreshold(min_forward=one, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=self._on_time,
        )
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.steps = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Make the next step happen at once; called from any thread."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def free(self) -> None:
        """Step on wall time from now on: the clock does not come through while a lifecycle transition runs."""
        with self._changed:
            self._free = True
            self._changed.notify()

    def stop(self, *, timeout: float) -> bool:
        """Ask the thread to end after its step, wait for at most `timeout` [s] and say that it no longer answers.

        Returns:
            Whether it has ended.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        if self._answers is None:
            return not self._thread.is_alive()
        self._jump.unregister()
        self._answer(0)
        # Destroyed at once it could be lost, and time would wait for this node forever.
        self._answers.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
        self._node.destroy_publisher(self._answers)
        self._answers = None
        return not self._thread.is_alive()

    def _on_time(self, _jump: Any) -> None:
        with self._changed:
            self._now_ns = int(self._clock.now().nanoseconds)
            self._changed.notify()

    def _run(self) -> None:
        show_thread_name()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._free:
                    self._changed.wait_for(lambda: self._stopping, self._period_ns * 1e-9)
                if self._stopping:
                    return
                now_ns, woken, free = self._now_ns, self._woken, self._free
                self._woken = False
            if now_ns and (woken or free or self._due(now_ns)):
                self._last_ns = now_ns if woken or free else self._last_ns
                try:
                    self._step()
                except Exception as error:  # handed to the node, which reports it and stops acting
                    self._on_error(error)
                    self._answer(0)
                    return
                self.steps += 1
            self._answer(now_ns)
            with self._changed:
                self._answered_ns = now_ns

    def _has_work(self) -> bool:
        return self._stopping or self._free or self._woken or self._now_ns != self._answered_ns

    def _due(self, now_ns: int) -> bool:
        last_ns = self._last_ns
        if last_ns is None or now_ns < last_ns or now_ns - last_ns >= 2 * self._period_ns:
            self._last_ns = now_ns
        elif now_ns - last_ns >= self._period_ns:
            # Counted from the moment that was due, which keeps the mean rate.
            self._last_ns = last_ns + self._period_ns
        else:
            return False
        return True

    def _answer(self, now_ns: int) -> None:
        answers = self._answers
        if answers is None:
            return  # a thread that did not end in time and was left behind
        answer = Header(frame_id=self._node.get_fully_qualified_name())
        answer.stamp = ns_to_time(now_ns)
        answers.publish(answer)


class SteppedStream(SteppedWorker):
    """The command stream in lock-step, with the interface of `wam.runtime.safety.stream.CommandStream`.

    Args:
        node: whose clock counts.
        step: called without arguments in the thread.
        period_ns: time between two steps [ns].
        on_error: called in the thread with an exception of `step`; the thread ends after it.
    """

    realtime = False

    def __init__(
        self, node: Any, step: Callable[[], None], *, period_ns: int, on_error: Callable[[Exception], None]
    ) -> None:
        super().__init__(node, "commands", step, period=period_ns * 1e-9, on_error=on_error)

    def health(self) -> StreamHealth:
        """Return the number of steps; there are no deadlines to miss."""
        return StreamHealth(self.steps, 0, 0.0, 0.0, 0.0)


def make_worker(
    node: Any,
    name: str,
    step: Callable[[], None],
    *,
    period: float,
    lock_step: bool,
    on_error: Callable[[Exception], None],
) -> Worker | SteppedWorker:
    """Return the worker of a node: on wall time, or in lock-step with `/clock`.

    Args:
        node: whose loop it runs.
        name: name of the thread.
        step: called without arguments in the worker thread.
        period: time between two steps [s].
        lock_step: the node's parameter.
        on_error: called in the worker thread with an exception of `step`; the worker ends after it.

    Raises:
        ConfigError: lock-step without `use_sim_time`.
    """
    if lock_step:
        return SteppedWorker(node, name, step, period=period, on_error=on_error)
    return Worker(name, step, period=period, on_error=on_error)
