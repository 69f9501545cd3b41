# SPDX-License-Identifier: Apache-2.0
"""Reduced speed by parameter and topic, and the look at the measured arm, in the real node.

What is judged are the messages that the driver of the left arm gets: tip, tool end and elbow from one to the next, by
their stamps, with poses of `tool_speed.ToolSpeedJudge`, which shares no code with what limits them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from safety_bench import ROBOT, Arms, Bench
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

from tool_speed import ToolSpeedJudge

from wam.devices.loader import load_robot
from wam.ros.qos import COMMAND, EVENT

pytestmark = pytest.mark.ros

JUDGE = ToolSpeedJudge(load_robot(ROBOT).source)


def fastest(messages: list[JointState]) -> float:
    """Return the largest speed of a point of the left arm [m/s], by the stamps: a message may be lost on the way."""
    rows = JUDGE.positions("left", [one.position for one in messages])
    stamps = [one.header.stamp.sec * 10**9 + one.header.stamp.nanosec for one in messages]
    return JUDGE.fastest(rows, np.array(stamps, dtype=np.int64))


def swing_the_base(arms: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the first joint alone swing, four times as far: its tools are far from its axis."""
    swing = arms.rows
    home = np.array([joint.home for joint in arms.robot.joints])
    base = np.arange(len(home)) == 0
    monkeypatch.setattr(arms, "rows", lambda: home + 4.0 * base * (swing() - home))


def test_reduced_speed_is_kept_by_tools_and_lifted_again(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit held for tools: the joints of a Piper allow 1.9 m/s, those of a UR 3.6 m/s."""
    bench = make_bench(reduced_speed=True)
    arms = bench.arms
    left: list[JointState] = []
    arms.create_subscription(JointState, arms.robot.groups[0].command_topic, left.append, COMMAND)
    bench.activate()
    swing_the_base(arms, monkeypatch)
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.more_commands(300)
    slow = left.copy()
    assert 0.1 < fastest(slow) <= 0.26
    publisher = arms.create_publisher(Bool, "reduced_speed", EVENT)
    assert arms.wait_for(lambda: publisher.get_subscription_count() > 0)
    publisher.publish(Bool(data=False))
    bench.more_commands(300)
    assert fastest(left[len(slow) :]) > 0.3
    assert not [event for event in arms.events if event.ladder_to == 5]


def test_a_switch_that_has_died_keeps_tools_slow_although_another_says_false(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panel that repeated false all along lifted what a switch had asked for, once the switch had gone."""
    bench = make_bench()
    arms = bench.arms
    left: list[JointState] = []
    arms.create_subscription(JointState, arms.robot.groups[0].command_topic, left.append, COMMAND)
    switch, panel = (arms.create_publisher(Bool, "reduced_speed", EVENT) for _ in range(2))
    bench.activate()
    cycle = bench.safety.cycle
    assert cycle is not None
    assert arms.wait_for(lambda: min(one.get_subscription_count() for one in (switch, panel)) > 0)
    panel.publish(Bool(data=False))
    switch.publish(Bool(data=True))
    assert arms.wait_for(lambda: cycle._intake.reduced)
    swing_the_base(arms, monkeypatch)
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    bench.more_commands(50)
    arms.destroy_publisher(switch)
    assert arms.wait_for(lambda: arms.count_publishers("reduced_speed") == 1)
    for _ in range(10):
        panel.publish(Bool(data=False))
        bench.more_commands(25)
    assert 0.1 < fastest(left) <= 0.26
    later = arms.create_publisher(Bool, "reduced_speed", EVENT)
    assert arms.wait_for(lambda: later.get_subscription_count() > 0)
    slow = len(left)
    later.publish(Bool(data=False))
    bench.more_commands(300)
    assert fastest(left[slow:]) > 0.3


@pytest.mark.parametrize("reliability", [QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT])
@pytest.mark.parametrize("durability", [QoSDurabilityPolicy.TRANSIENT_LOCAL, QoSDurabilityPolicy.VOLATILE])
def test_a_switch_of_any_qos_is_heard_and_one_that_latches_also_by_a_node_that_starts_later(
    make_bench: Callable[..., Bench], reliability: QoSReliabilityPolicy, durability: QoSDurabilityPolicy
) -> None:
    """The node only heard what was said reliably while it ran: restarted in reduced mode, it moved tools at full speed,
    and a best-effort switch was never heard."""
    bench = make_bench()
    arms = bench.arms
    silent = PublisherEventCallbacks(incompatible_qos=lambda _info: None)
    qos = QoSProfile(depth=1, reliability=reliability, durability=durability)
    switch = arms.create_publisher(Bool, "reduced_speed", qos, event_callbacks=silent)
    latches = qos.reliability is QoSReliabilityPolicy.RELIABLE and (
        qos.durability is QoSDurabilityPolicy.TRANSIENT_LOCAL
    )
    if latches:
        switch.publish(Bool(data=True))
    bench.activate()
    cycle = bench.safety.cycle
    assert cycle is not None
    if not latches:
        assert arms.wait_for(lambda: switch.get_subscription_count() > 0)
        switch.publish(Bool(data=True))
    assert arms.wait_for(lambda: cycle._intake.reduced)
    switch.publish(Bool(data=False))
    assert arms.wait_for(lambda: not cycle._intake.reduced)
