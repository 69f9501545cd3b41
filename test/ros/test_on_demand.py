# SPDX-License-Identifier: Apache-2.0
"""What is read on demand wakes no executor, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from waiting import wait_until

from wam.core.clock import NS_PER_S, ManualClock
from wam.ros.conversions import ns_to_time
from wam.ros.inputs import GuardedInput, Inputs
from wam.ros.lifecycle import WamNode
from wam.ros.parameters import parameter
from wam.ros.qos import CLOCK, EVENT

pytestmark = [pytest.mark.ros, pytest.mark.usefixtures("ros")]

MAX_TURNS = 20
"""Turns of an executor that nothing keeps awake; one that is kept awake takes hundreds."""


class CountingExecutor(SingleThreadedExecutor):
    """Counts how often it looks for work."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def get_nodes(self) -> Any:
        self.turns += 1
        return super().get_nodes()


@dataclass(frozen=True, slots=True)
class Nothing:
    """One harmless parameter."""

    note: str = parameter("", description="a note")


class Timed(WamNode[Nothing]):
    """Asks for the time."""

    clock_on_demand = True


@pytest.fixture
def executor() -> Iterator[CountingExecutor]:
    made = CountingExecutor()
    yield made
    made.shutdown()


@pytest.fixture
def sender() -> Iterator[Node]:
    made = Node("sender")
    yield made
    made.destroy_node()


def rest(executor: CountingExecutor) -> int:
    """Return the turns that an executor takes within half a second without work."""
    for _ in range(10):
        executor.spin_once(timeout_sec=0.02)
    executor.turns = 0
    executor.spin_once(timeout_sec=0.5)
    return executor.turns


def test_an_input_on_demand_gives_all_that_has_come_in_order(
    executor: CountingExecutor, sender: Node
) -> None:
    node = Node("listener")
    executor.add_node(node)
    heard: list[str] = []
    inputs = Inputs(node, ManualClock(NS_PER_S))
    made: GuardedInput = inputs.listen(
        JointState, "states", lambda message: heard.append(message.name[0]), EVENT, on_demand=True
    )
    publisher = sender.create_publisher(JointState, "states", EVENT)

    def turn() -> None:
        executor.spin_once(timeout_sec=0.02)

    wait_until(lambda: publisher.get_subscription_count() == 1, "discovery", turn=turn)
    for number in range(5):
        publisher.publish(JointState(name=[str(number)], position=[0.0]))
    assert rest(executor) <= MAX_TURNS, "unread messages keep the executor awake"
    assert heard == []

    def drain() -> None:
        turn()
        made.drain()

    wait_until(lambda: len(heard) == 5, "five states", turn=drain)
    assert heard == list("01234")
    inputs.close()
    made.drain()  # of a subscription that is gone
    node.destroy_node()


def test_a_clock_on_demand_is_read_when_it_is_asked_and_wakes_nobody(
    executor: CountingExecutor, sender: Node
) -> None:
    """With Fast DDS the events of a reader kept the executor awake for as long as a message of `/clock` was unread."""
    node = Timed(
        "timed",
        Nothing,
        parameter_overrides=[Parameter("use_sim_time", value=True)],
    )
    executor.add_node(node)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    clock = sender.create_publisher(Clock, "/clock", CLOCK)

    def turn() -> None:
        executor.spin_once(timeout_sec=0.02)

    wait_until(lambda: clock.get_subscription_count() == 1, "discovery", turn=turn)
    assert node.clock.now_ns() == 0
    for second in (1, 2, 3):
        clock.publish(Clock(clock=ns_to_time(second * NS_PER_S)))
        wait_until(lambda: node.clock.now_ns() == second * NS_PER_S, "the time", turn=turn)  # noqa: B023
    clock.publish(Clock(clock=ns_to_time(4 * NS_PER_S)))
    assert rest(executor) <= MAX_TURNS
    assert int(node.get_clock().now().nanoseconds) == 3 * NS_PER_S, "it was read in a callback"
    assert node.clock.now_ns() == 4 * NS_PER_S
    node.trigger_shutdown()
    node.destroy_node()
