# SPDX-License-Identifier: Apache-2.0
"""Guarded subscriptions on real DDS: what a callback raises, and what is no message at all, ends no node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from waiting import wait_until

from wam.core.clock import NS_PER_S, ManualClock
from wam.core.errors import JointError
from wam.core.input_guard import Arrival, InputContract, InputReason
from wam.ros.conversions import ns_to_time
from wam.ros.inputs import GuardedInput, Inputs, ReadBy, node_of_topic
from wam.ros.qos import EVENT

pytestmark = pytest.mark.ros
NOW = 100 * NS_PER_S


class Wire:
    """A node that listens through a guard, and publishers of two participants."""

    def __init__(self) -> None:
        rclpy.init(args=[])
        self.other = Context()
        rclpy.init(context=self.other, args=[])
        self.node = Node("listener")
        self.rogue = Node("driver", context=self.other, use_global_arguments=False)
        self.driver = Node("driver")
        self.inputs = Inputs(self.node, ManualClock(NOW))
        self.heard: list[tuple[Any, Arrival]] = []
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def listen(self, kind: type[Any] = JointState, **more: Any) -> GuardedInput:
        return self.inputs.subscribe(
            kind, "states", lambda message, arrival: self.heard.append((message, arrival)), EVENT, **more
        )

    def publisher(self, node: Node, kind: type[Any] = JointState) -> Any:
        made = node.create_publisher(kind, "states", EVENT)
        wait_until(lambda: made.get_subscription_count() == 1, "discovery", turn=self.turn)
        return made

    def turn(self) -> None:
        self._executor.spin_once(timeout_sec=0.02)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, turn=self.turn, details=lambda: [str(self.inputs.values())])

    def counts(self, reason: InputReason) -> int:
        return self.inputs.refused().get("states", {}).get(reason, 0)

    def close(self) -> None:
        self.inputs.close()
        self._executor.shutdown()
        for node in (self.node, self.driver, self.rogue):
            node.destroy_node()
        rclpy.try_shutdown(context=self.other)
        rclpy.try_shutdown()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def state(stamp_ns: int = NOW, joints: int = 3) -> JointState:
    message = JointState(name=[f"joint{k}" for k in range(joints)], position=[0.1] * joints)
    message.header.stamp = ns_to_time(stamp_ns)
    return message


def test_bytes_that_are_no_message_are_refused_and_the_next_message_is_heard(wire: Wire) -> None:
    wire.listen()
    publisher = wire.publisher(wire.driver)
    publisher.publish(serialize_message(state())[:30])
    wire.until(lambda: wire.counts(InputReason.MALFORMED) == 1, "a refusal")

    def heard() -> bool:
        publisher.publish(state())  # its sender is not read for a while
        return bool(wire.heard)

    wire.until(heard, "a message")
    message, arrival = wire.heard[0]
    assert list(message.name) == ["joint0", "joint1", "joint2"]
    assert len(arrival.sender) >= 12
    assert arrival.waited_ns < 60 * NS_PER_S


@pytest.mark.parametrize("error", [JointError("joint state of group 'left'"), RuntimeError("unforeseen")])
def test_what_a_callback_raises_does_not_reach_the_executor_of_the_node(wire: Wire, error: Exception) -> None:
    refused: list[Any] = []

    def fail(_message: Any, _arrival: Arrival) -> None:
        raise error

    wire.inputs.subscribe(JointState, "states", fail, EVENT, on_refused=refused.append)
    publisher = wire.publisher(wire.driver)
    for _ in range(3):
        publisher.publish(state())
    expected = InputReason.MALFORMED if isinstance(error, JointError) else InputReason.INTERNAL
    wire.until(lambda: wire.counts(expected) == 3, "three refusals")
    assert len(refused) == 3
    assert str(error) in refused[0].text
    assert wire.inputs.values()["inputs_refused"] == 3


def test_a_publisher_of_the_same_node_name_in_another_process_is_refused_and_noticed(wire: Wire) -> None:
    """Joint states of a second process under the driver's own node name moved the arm: names were compared."""
    read: list[bytes] = []
    listening = wire.listen(
        contract=InputContract(sole=True, parts={"joint0": "joint0"}, release_ns=3_600 * NS_PER_S),
        on_read=lambda _, arrival: read.append(arrival.sender),
    )
    driver, rogue = wire.publisher(wire.driver), None
    driver.publish(state())
    wire.until(lambda: len(wire.heard) == 1, "the driver's state")
    rogue = wire.rogue.create_publisher(JointState, "states", EVENT)
    wire.until(lambda: rogue.get_subscription_count() == 1, "discovery of the other process")
    rogue.publish(state())
    wire.until(lambda: wire.counts(InputReason.SENDER) == 1, "a refusal")
    assert len(set(read)) == 2, "what is refused is read all the same, to be compared"
    assert all("/driver (participant" in listening.guard.describe(gid) for gid in read)
    assert len(wire.heard) == 1


def test_in_lock_step_a_publisher_is_silent_by_the_nodes_clock_and_not_by_wall_time(wire: Wire) -> None:
    """On a busy machine the executor was silent for a second of wall time, and a foreign node's chunks were taken."""
    listening = wire.listen(contract=InputContract(sole=True, release_ns=1, node_time=True))
    assert listening.receipt_ns() == NOW
    wire.publisher(wire.driver).publish(state())
    wire.until(lambda: len(wire.heard) == 1, "the driver's state")
    rogue = wire.rogue.create_publisher(JointState, "states", EVENT)
    wire.until(lambda: rogue.get_subscription_count() == 1, "discovery of the other process")
    rogue.publish(state())
    wire.until(lambda: wire.counts(InputReason.SENDER) == 1, "a refusal")
    assert wire.heard[0][1].receive_ns == NOW


@pytest.mark.parametrize("lock_step", [True, False])
def test_every_driver_is_silent_by_simulated_time_in_lock_step(wire: Wire, lock_step: bool) -> None:
    """Joint states were leased by wall time: on a busy machine a second driver was followed after half a second."""
    from wam.devices.loader import load_robot
    from wam.ros.ingest import RosIngest
    from wam_safety_node.contracts import chunk_contract, driver_contract, state_contract
    from wam_safety_node.parameters import SafetyParameters

    robot = load_robot("piper")
    p = SafetyParameters(robot="piper", lock_step=lock_step)
    contracts = [chunk_contract(wire.node, p, robot), state_contract(p, robot.groups[0]), driver_contract(p)]
    ingest = RosIngest(wire.node, robot, (), ManualClock(NOW), node_time=lock_step)
    contracts += [one.guard.contract for one in ingest.inputs._open]
    ingest.close()
    assert len(contracts) == 3 + len(robot.groups)
    assert [(one.sole, one.node_time) for one in contracts] == [(True, lock_step)] * len(contracts)


def test_a_stamp_ahead_and_a_message_too_long_are_refused_and_counted(wire: Wire) -> None:
    wire.listen(contract=InputContract(max_bytes=400, max_ahead_ns=NS_PER_S // 10))
    publisher = wire.publisher(wire.driver)
    publisher.publish(state(NOW + 5 * NS_PER_S))
    publisher.publish(state(joints=100))
    publisher.publish(state())
    wire.until(lambda: len(wire.heard) == 1, "the good one")
    assert wire.counts(InputReason.AHEAD) == wire.counts(InputReason.SIZE) == 1
    shown = wire.inputs.values()["refused states"]
    assert "stamp_ahead 1" in str(shown)
    assert "message_too_large 1" in str(shown)


@pytest.mark.parametrize("read_by", list(ReadBy))
def test_a_message_arrives_whoever_reads_it(wire: Wire, read_by: ReadBy) -> None:
    wire.listen(Bool, read_by=read_by)
    wire.publisher(wire.driver, Bool).publish(Bool(data=True))
    wire.until(lambda: bool(wire.heard), "a message")
    assert isinstance(wire.heard[0][0], bytes if read_by is ReadBy.CALLBACK else Bool)


def test_what_a_removed_subscription_has_refused_still_counts(wire: Wire) -> None:
    listening = wire.listen(contract=InputContract(max_bytes=1))
    wire.publisher(wire.driver).publish(state())
    wire.until(lambda: wire.counts(InputReason.SIZE) == 1, "a refusal")
    wire.inputs.remove(listening)
    assert wire.counts(InputReason.SIZE) == 1


def test_a_topic_is_named_after_its_node(wire: Wire) -> None:
    assert node_of_topic(wire.node, "wam_executor/chunk") == "/wam_executor"
