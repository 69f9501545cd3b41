# SPDX-License-Identifier: Apache-2.0
"""The safety node's inputs over real DDS: foreign executors, foreign drivers, chunks that last too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from safety_bench import Bench
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

from wam.core.input_guard import InputReason
from wam.core.verdict import Ladder
from wam.ros.conversions import ns_to_time
from wam.ros.qos import CHUNK, JOINT_STATE_PUBLISHER
from wam_msgs.msg import ActionChunk

pytestmark = pytest.mark.ros
CHUNKS = "wam_executor/chunk"


@pytest.fixture
def other_process() -> Iterator[Callable[[str], Node]]:
    """A function that returns a node of a participant of its own, under any name."""
    context = Context()
    rclpy.init(context=context, args=[])
    nodes: list[Node] = []

    def make(name: str) -> Node:
        nodes.append(Node(name, context=context, use_global_arguments=False))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def refused(bench: Bench, topic: str, reason: InputReason) -> int:
    return bench.safety.inputs.refused().get(topic, {}).get(reason, 0)


def test_a_chunk_that_lasts_for_hours_is_refused_at_once_and_the_arm_moves_on(
    make_bench: Callable[..., Bench],
) -> None:
    """Sixteen rows of 600 s, 2.4 kB, silenced the command stream for 2.4 s and delayed an emergency stop as long."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    events = len(arms.events)
    arms.publish_chunk(arms.rows(), row_period_ns=600 * 10**9)
    assert arms.wait_for(lambda: refused(bench, CHUNKS, InputReason.MALFORMED) == 1)
    bench.more_commands(20)
    assert bench.rung is Ladder.NOMINAL
    told = [event for event in arms.events[events:] if event.code == "malformed_chunk"]
    assert "9600 s of motion" in told[0].text


def test_one_foreign_chunk_locks_no_contract_and_blocks_no_chunk(
    make_bench: Callable[..., Bench], other_process: Callable[[str], Node]
) -> None:
    """A foreign first chunk locked the contract, and one stamped 99 ms ahead blocked those of the policy."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    attacker = other_process("attacker").create_publisher(ActionChunk, CHUNKS, CHUNK)
    executor = other_process("wam_executor").create_publisher(ActionChunk, CHUNKS, CHUNK)
    assert arms.wait_for(lambda: attacker.get_subscription_count() and executor.get_subscription_count())
    assert arms.wait_for(lambda: all(arms.commands.values()))
    arms.chunks = attacker
    arms.publish_chunk(arms.rows(), contract_hash="f" * 64, stamp_ns=arms.now_ns() + 90_000_000)
    assert arms.wait_for(lambda: bench.safety.cycle.contract_hash == "f" * 64)
    arms.chunks = executor
    arms.sending = True
    assert arms.wait_for(lambda: bench.safety.cycle.contract_hash == "a" * 64)
    assert arms.wait_for(lambda: bench.rung is Ladder.NOMINAL)
    # The executor's first chunks are refused for as long as the attacker's has just been taken.
    before = refused(bench, CHUNKS, InputReason.SENDER)
    arms.sending, arms.chunks = False, attacker
    arms.publish_chunk(arms.rows(), contract_hash="f" * 64)
    assert arms.wait_for(lambda: refused(bench, CHUNKS, InputReason.SENDER) == before + 1)
    assert bench.safety.cycle.contract_hash == "a" * 64


def test_with_a_named_sender_no_other_node_moves_the_arm(
    make_bench: Callable[..., Bench], other_process: Callable[[str], Node]
) -> None:
    bench = make_bench(chunk_sender="wam_executor")
    bench.activate()
    arms = bench.arms
    executor = other_process("wam_executor").create_publisher(ActionChunk, CHUNKS, CHUNK)
    assert arms.wait_for(lambda: executor.get_subscription_count() and arms.chunks.get_subscription_count())
    arms.sending = True  # from the node `arms`
    assert arms.wait_for(lambda: refused(bench, CHUNKS, InputReason.SENDER) > 3)
    assert bench.safety.cycle.contract_hash == ""
    assert arms.wait_for(lambda: arms.saw("foreign_sender"))
    arms.chunks = executor
    assert arms.wait_for(lambda: bench.rung is Ladder.NOMINAL)


def test_a_second_process_does_not_set_the_pace_of_the_arm(
    make_bench: Callable[..., Bench], other_process: Callable[[str], Node]
) -> None:
    """Whoever published on the topic of the speed scaling slowed the arm, or let a slowed one go at full speed."""
    bench = make_bench(speed_scaling_topic="speed_scaling")
    bench.activate()
    arms, cycle = bench.arms, bench.safety.cycle
    driver = arms.create_publisher(Float64, "speed_scaling", JOINT_STATE_PUBLISHER)
    rogue = other_process("pendant").create_publisher(Float64, "speed_scaling", JOINT_STATE_PUBLISHER)
    assert arms.wait_for(lambda: driver.get_subscription_count() > 0 and rogue.get_subscription_count() > 0)

    def slowed() -> bool:
        driver.publish(Float64(data=50.0))
        return cycle.speed_scaling == 0.5

    assert arms.wait_for(slowed)

    def refused_often() -> bool:
        driver.publish(Float64(data=50.0))
        rogue.publish(Float64(data=100.0))
        assert cycle.speed_scaling == 0.5
        return refused(bench, "speed_scaling", InputReason.SENDER) > 3

    assert arms.wait_for(refused_often)


def test_joint_states_of_a_second_process_under_the_drivers_name_move_nothing_and_are_noticed(
    make_bench: Callable[..., Bench], other_process: Callable[[str], Node]
) -> None:
    """Names were compared: a process under the driver's own name reported another pose, and the arm went there."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    group = arms.robot.groups[0]
    assert arms.wait_for(lambda: all(arms.commands.values()))
    rogue = other_process("arms").create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
    assert arms.wait_for(lambda: rogue.get_subscription_count() > 0)
    before = arms.commands["left"][-1].copy()
    told: list[int] = []

    def lie() -> bool:
        elsewhere = (before + 0.5) / group.state_factors
        message = JointState(name=list(group.driver_names), position=elsewhere.tolist())
        message.header.stamp = ns_to_time(arms.now_ns())
        rogue.publish(message)
        told.append(1)
        return arms.saw("drivers_disagree")

    assert arms.wait_for(lie)
    event = next(one for one in arms.events if one.code == "drivers_disagree")
    assert event.text.count(" (participant ") == 2, "a name that is not known yet is told as such"
    assert event.joint in [joint.name for joint in group.joints]
    said = before[[joint.name for joint in group.joints].index(event.joint)]
    assert f"{said:.4g} " in event.text
    assert f"{said + 0.5:.4g} " in event.text
    assert f"both on /{group.state_topic}" in event.text
    assert event.ladder_to == int(Ladder.HOLD)
    assert refused(bench, group.state_topic, InputReason.SENDER) > 0
    np.testing.assert_allclose(arms.commands["left"][-1], before, atol=1e-3)
    assert arms.wait_for(lambda: not bench.raised("drivers_disagree"))


def test_a_node_with_one_of_the_joints_a_duplicate_and_wheels_hold_nothing(
    make_bench: Callable[..., Bench], other_process: Callable[[str], Node]
) -> None:
    """Every second publisher on the topic was a second driver, and an arm whose gripper has its own node was held."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    group = arms.robot.groups[0]
    node = other_process("others")
    gripper, copy, wheels = (
        node.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER) for _ in range(3)
    )
    assert arms.wait_for(lambda: min(one.get_subscription_count() for one in (gripper, copy, wheels)) > 0)
    arm_driver = arms._states["left"]
    sent: list[int] = []

    class Split:
        """The left arm's driver without its gripper, which a second node reports; a third repeats everything."""

        def publish(self, message: JointState) -> None:
            names, positions = list(message.name), list(message.position)
            for publisher, part in ((arm_driver, slice(0, 6)), (gripper, slice(6, 7)), (copy, slice(0, 7))):
                some = JointState(name=names[part], position=positions[part])
                some.header.stamp = message.header.stamp
                publisher.publish(some)
            other = JointState(name=["wheel"], position=[float(len(sent))])
            other.header.stamp = message.header.stamp
            wheels.publish(other)
            sent.append(1)

    arms._states["left"] = Split()
    arms.sending = True
    assert arms.wait_for(lambda: bench.rung is Ladder.NOMINAL)
    seen = len(sent)
    assert arms.wait_for(lambda: len(sent) > seen + 200 and bench.rung is Ladder.NOMINAL)
    assert not arms.saw("drivers_disagree")
    assert refused(bench, group.state_topic, InputReason.SENDER) > 0, "the copies"
    arms._states["left"] = arm_driver


def test_states_stamped_ahead_are_refused_and_the_arm_is_held(make_bench: Callable[..., Bench]) -> None:
    """States stamped 5 s ahead, then lost: the arm was held after 5.1 s, where 0.1 s are allowed."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.report = False
    group = arms.robot.groups[0]

    def ahead() -> bool:
        reported = arms.measured["left"] / group.state_factors
        message = JointState(name=list(group.driver_names), position=reported.tolist())
        message.header.stamp = ns_to_time(arms.now_ns() + 5 * 10**9)
        arms._states["left"].publish(message)
        return bench.rung is Ladder.HOLD

    assert arms.wait_for(ahead)
    assert refused(bench, group.state_topic, InputReason.AHEAD) > 0
    assert arms.wait_for(lambda: arms.saw("future_joint_state"))
