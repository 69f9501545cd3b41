# SPDX-License-Identifier: Apache-2.0
"""Nodes in lock-step: their loops run on /clock, and every time is answered once its work is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from wam.core.errors import ConfigError
from wam.ros.conversions import ns_to_time
from wam.ros.lock_step import SteppedWorker, make_worker
from wam.ros.qos import CLOCK, EVENT
from wam.ros.worker import Worker
from wam.stack.lock_step import START_NS, TICK_NS, LockStep

pytestmark = pytest.mark.ros


class Loop:
    """A node whose worker notes the time of every step."""

    def __init__(self, *, period: float) -> None:
        self.node = Node("loop", parameter_overrides=[Parameter("use_sim_time", value=True)])
        self.times: list[int] = []
        self.errors: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.stepped = threading.Event()
        self.fail = False
        self.worker = SteppedWorker(self.node, "loop", self._step, period=period, on_error=self.errors.append)
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.worker.start()

    def _step(self) -> None:
        self.gate.wait(20.0)
        if self.fail:
            raise ZeroDivisionError("surprise")
        self.times.append(int(self.node.get_clock().now().nanoseconds))
        self.stepped.set()

    def _spin(self) -> None:
        while not self._end.is_set():
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.gate.set()
        self.worker.stop(timeout=5.0)
        self._end.set()
        self._thread.join(5.0)
        self.executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def time() -> Iterator[LockStep]:
    rclpy.init(args=[])
    time = LockStep(context=rclpy.get_default_context())
    yield time
    time.close()
    rclpy.try_shutdown()


@pytest.fixture
def loop(time: LockStep) -> Iterator[Loop]:
    loop = Loop(period=2.5 * TICK_NS * 1e-9)
    assert time.until(lambda: time.participants() == {"/loop"}, timeout=20.0)
    yield loop
    loop.close()


def test_a_loop_steps_at_its_mean_rate_in_simulated_time(time: LockStep, loop: Loop) -> None:
    loop.times.clear()
    time.run(100 * TICK_NS * 1e-9)
    assert 39 <= len(loop.times) <= 41
    assert {b - a for a, b in zip(loop.times, loop.times[1:], strict=False)} == {2 * TICK_NS, 3 * TICK_NS}
    assert loop.times[0] > START_NS


def test_time_stands_still_until_a_node_that_starts_takes_part(time: LockStep) -> None:
    """Nodes that were up went on at full load for 20 s of simulated time, while others loaded their modules."""
    begun = time.now_ns
    assert not time.hold("/loop", timeout=0.1)
    loop = Loop(period=TICK_NS * 1e-9)
    try:
        assert time.hold("/loop", timeout=20.0)
        assert time.now_ns == begun
        assert set(loop.times) <= {begun}
        time.run(3 * TICK_NS * 1e-9)
        assert begun + 3 * TICK_NS in loop.times
    finally:
        loop.close()


def test_an_answer_that_was_given_before_its_listener_was_discovered_counts() -> None:
    """On a busy machine the first answer of a node that had just started was lost; time stood still for ever."""
    rclpy.init(args=[])
    loop = Loop(period=TICK_NS * 1e-9)
    clock = Node("clock")
    try:
        ticks = clock.create_publisher(Clock, "/clock", CLOCK)
        deadline = monotonic() + 20.0
        while not loop.times and monotonic() < deadline:
            ticks.publish(Clock(clock=ns_to_time(START_NS)))
            loop.stepped.wait(0.05)
        assert loop.times == [START_NS]
        time = LockStep()
        try:
            assert time.hold("/loop", timeout=20.0)
        finally:
            time.close()
    finally:
        clock.destroy_node()
        loop.close()
        rclpy.try_shutdown()


def test_time_waits_for_a_step_that_takes_long(time: LockStep, loop: Loop) -> None:
    loop.gate.clear()
    stuck = threading.Thread(target=time.run, args=(10 * TICK_NS * 1e-9,))
    begun = time.now_ns
    stuck.start()
    stuck.join(0.5)
    assert stuck.is_alive()
    assert time.now_ns <= begun + 3 * TICK_NS, "no time beyond the one that is not answered"
    loop.gate.set()
    stuck.join(20.0)
    assert time.now_ns == begun + 10 * TICK_NS


def test_time_waits_for_a_message_that_was_sent_and_not_taken_yet(time: LockStep) -> None:
    """On a slow machine a chunk waited in a queue while 0.3 s of simulated time went by, and the arm was held."""
    taken, gate = threading.Event(), threading.Event()
    gate.set()
    listener = Node("listener")

    def take(_message: Header) -> None:
        taken.set()
        gate.wait(20.0)

    listener.create_subscription(Header, "letters", take, EVENT)
    time.include(listener)
    letters = time.node.create_publisher(Header, "letters", EVENT)
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    ended = threading.Event()

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.05)

    spinning = threading.Thread(target=spin, daemon=True)
    spinning.start()

    def is_heard() -> bool:
        letters.publish(Header())
        return taken.is_set()

    assert time.until(is_heard, timeout=20.0, least=20.0)
    time.run(10 * TICK_NS * 1e-9)
    gate.clear()
    taken.clear()
    letters.publish(Header())
    begun = time.now_ns
    stuck = threading.Thread(target=time.run, args=(10 * TICK_NS * 1e-9,))
    stuck.start()
    stuck.join(0.5)
    assert stuck.is_alive()
    assert time.now_ns <= begun + 2 * TICK_NS
    gate.set()
    stuck.join(20.0)
    assert time.now_ns == begun + 10 * TICK_NS
    time.leave_out(listener)
    ended.set()
    spinning.join(5.0)
    executor.shutdown()
    listener.destroy_node()


def test_a_loop_that_stops_or_fails_is_not_waited_for(time: LockStep, loop: Loop) -> None:
    loop.fail = True
    assert time.until(lambda: loop.errors, timeout=20.0)
    assert time.until(lambda: not time.participants(), timeout=20.0)
    again = Loop(period=0.0)
    assert time.until(lambda: time.participants() == {"/loop"}, timeout=20.0)
    assert again.worker.stop(timeout=5.0)
    assert time.until(lambda: not time.participants(), timeout=20.0)
    again.close()


def test_a_node_that_is_left_out_does_not_hold_time_up_and_joins_again(time: LockStep, loop: Loop) -> None:
    loop.gate.clear()
    time.exclude("/loop")
    time.run(5 * TICK_NS * 1e-9)
    time.admit("/loop")
    loop.gate.set()
    assert time.until(lambda: time.participants() == {"/loop"}, timeout=20.0)


def test_lock_step_needs_simulated_time(time: LockStep) -> None:
    node = Node("loop")
    words: dict[str, Any] = {"period": 0.1, "on_error": print}
    with pytest.raises(ConfigError, match="use_sim_time: true, or lock_step: false"):
        make_worker(node, "loop", print, lock_step=True, **words)
    assert isinstance(make_worker(node, "loop", print, lock_step=False, **words), Worker)
    node.destroy_node()
