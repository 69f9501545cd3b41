# SPDX-License-Identifier: Apache-2.0
"""Commands move nothing before the driver behind the topic is known to receive them."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

import rclpy
from domains import turns
from rclpy.context import Context
from rclpy.node import Node
from safety_bench import Bench
from sensor_msgs.msg import JointState

from wam.ros.qos import COMMAND, COMMAND_PUBLISHER, JOINT_STATE_PUBLISHER
from wam_safety_node.handshake import PATIENCE_S, Handshake

pytestmark = pytest.mark.ros

TOPIC = "/left/joint_commands"
WALL_TIMEOUT_S = 30.0
TICK_S = 0.01
SLOWER = 10.0
"""The time of a stream passes slower than the wall clock, so that what is confirmed is not confirmed by patience."""


@pytest.fixture
def make_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Node]]:
    """Return a maker of nodes with a DDS participant of their own each, as processes have."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(next(turns())))
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Node:
            context = Context()
            rclpy.init(context=context, args=[])
            stack.callback(rclpy.try_shutdown, context=context)
            node = Node(name, context=context, use_global_arguments=False)
            stack.callback(node.destroy_node)
            return node

        yield make


class Stream:
    """A command stream that does not move, on a time that the test sets."""

    def __init__(self, node: Node) -> None:
        self.seconds = 0.0
        self._publisher = node.create_publisher(JointState, TOPIC, COMMAND_PUBLISHER)
        self.handshake = Handshake(node, self._publisher, TOPIC, now=lambda: self.seconds)

    def code(self) -> str:
        """Do what the safety node does in a tick; return why the arm is held, "" where it is not."""
        found = self.handshake.check()
        if self.handshake.due():
            self._publisher.publish(JointState())
            self.handshake.note(sent=True)
        return "" if found is None else found.code

    def until(self, code: str) -> None:
        """Send until the arm is held for `code`."""
        end = time.monotonic() + WALL_TIMEOUT_S
        pause = threading.Event()
        while (seen := self.code()) != code:
            assert time.monotonic() < end, f"{seen!r} instead of {code!r}"
            pause.wait(TICK_S)
            self.seconds += TICK_S / SLOWER


def driver(node: Node) -> None:
    """Make `node` one that reports joint states and listens to commands."""
    node.create_publisher(JointState, "/left/joint_states", JOINT_STATE_PUBLISHER)
    node.create_subscription(JointState, TOPIC, lambda _: None, COMMAND)


def test_a_recorder_is_not_taken_for_the_driver(make_process: Callable[[str], Node]) -> None:
    """A recorder that was discovered before the driver made the first commands go out while no driver heard them."""
    stream = Stream(make_process("safety"))
    assert stream.code() == "no_listener"
    recorder = make_process("recorder")
    recorder.create_subscription(JointState, TOPIC, lambda _: None, COMMAND)
    stream.until("driver_unconfirmed")
    for _ in range(20):
        assert stream.code() == "driver_unconfirmed"
    driver(make_process("driver"))
    stream.until("")
    assert stream.seconds < PATIENCE_S


def test_a_driver_that_publishes_no_joint_states_itself_is_trusted_after_a_while(
    make_process: Callable[[str], Node],
) -> None:
    stream = Stream(make_process("safety"))
    other = make_process("split_driver")
    other.create_subscription(JointState, TOPIC, lambda _: None, COMMAND)
    stream.until("driver_unconfirmed")
    stream.seconds += 0.9 * PATIENCE_S
    assert stream.code() == "driver_unconfirmed"
    stream.seconds += 0.2 * PATIENCE_S
    assert stream.code() == ""


def test_a_trajectory_that_is_not_due_yet_confirms_nothing(make_process: Callable[[str], Node]) -> None:
    """Until the first trajectory was due, up to four ticks, the arm was free to leave where its driver holds it."""
    node = make_process("safety")
    publisher = node.create_publisher(JointState, TOPIC, COMMAND_PUBLISHER)
    driver(node)
    handshake = Handshake(node, publisher, TOPIC)
    assert publisher.get_subscription_count() == 1
    for _ in range(4):
        handshake.note(sent=False)
        found = handshake.check()
        assert found is not None
        assert found.code == "driver_unconfirmed"


def test_an_arm_whose_driver_confirms_nothing_is_not_moved(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wam_safety_node.handshake.PATIENCE_S", math.inf)
    monkeypatch.setattr(Handshake, "_driver_listens", lambda _: False)
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("driver_unconfirmed"))
    bench.more_commands(100)
    for group in arms.robot.groups:
        commands = np.array(arms.commands[group.name])
        assert np.ptp(commands, axis=0).max() < 1e-9
    monkeypatch.undo()
    bench.more_commands(100)
    assert np.ptp(np.array(arms.commands["left"]), axis=0).max() > 0.05, (
        "confirmed, the arm follows the same chunks"
    )


def test_after_an_interruption_the_driver_is_asked_again(make_process: Callable[[str], Node]) -> None:
    stream = Stream(make_process("safety"))
    driver(make_process("driver"))
    stream.until("")
    stream.handshake.reset()
    assert stream.code() == "", "nothing was sent since"
    assert stream.code() == "driver_unconfirmed"
    stream.until("")
