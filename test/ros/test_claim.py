# SPDX-License-Identifier: Apache-2.0
"""Who may command the arm, over real DDS: a second publisher in motion, and safety nodes of another computer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from safety_bench import ROBOT, Bench
from sensor_msgs.msg import JointState

from wam.core.verdict import Ladder
from wam.ros.inputs import UNKNOWN_NODE
from wam.ros.qos import COMMAND
from wam.runtime.safety import lease
from wam.runtime.safety.lease import RobotHeld
from wam_safety_node.claim import LEASE
from wam_safety_node.node import SafetyNode
from wam_safety_node.outputs import OtherPublisher

pytestmark = pytest.mark.ros

TOPIC = "left/joint_ctrl_single"
MOVING = 0.0015
RESTING = 1e-4
DISCOVERY_S = 10.0
"""Longer than discovery takes here; what is waited for ends the wait."""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SafetyNode]]:
    """A function that makes a safety node as it would run on another computer: other locks, other DDS participant."""
    made: list[tuple[SafetyNode, Context]] = []

    def make(**parameters: Any) -> SafetyNode:
        monkeypatch.setattr(lease, "RUNTIME_ROOT", tmp_path)
        context = Context()
        rclpy.init(context=context, args=[])
        values = {"robot": ROBOT, "discovery_time": DISCOVERY_S, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append((SafetyNode(context=context, parameter_overrides=overrides), context))
        return made[-1][0]

    yield make
    for node, context in made:
        node.trigger_shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def publishers(bench: Bench, count: int) -> bool:
    """Return whether the bench's safety node came to see `count` publishers of the command topic."""
    return bench.arms.wait_for(lambda: len(bench.safety.get_publishers_info_by_topic(f"/{TOPIC}")) == count)


def nodes(bench: Bench) -> list[str]:
    """Return the names of the nodes that publish on the command topic, as the bench's safety node sees them."""
    return [info.node_name for info in bench.safety.get_publishers_info_by_topic(f"/{TOPIC}")]


def steps(bench: Bench) -> np.ndarray:
    """Return the largest step of each pair of successive commands."""
    return np.abs(np.diff(bench.arms.commands["left"], axis=0)).max(axis=1)


def rivals(node: SafetyNode) -> list[OtherPublisher]:
    assert node._claim is not None
    assert node._outputs is not None
    return node._claim.rivals(node._outputs.other_publishers())


def test_a_second_publisher_in_motion_brings_the_arm_to_rest_and_then_to_silence(
    make_bench: Callable[..., Bench],
) -> None:
    """A latched STOP went on publishing its hold: the other node's commands and the hold alternated for ever."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: len(arms.commands["left"]) > 10 and steps(bench)[-1] > MOVING)
    intruder = arms.create_publisher(JointState, TOPIC, COMMAND)
    assert arms.wait_for(lambda: arms.saw("second_publisher"))
    watch = bench.safety._watch
    assert watch is not None
    assert arms.wait_for(lambda: watch.silent)
    bench.time.run(0.1)  # what was sent last may still be under way
    count = len(arms.commands["left"])
    assert steps(bench)[-1] < RESTING, "it came to rest before it fell silent"
    bench.time.run(1.0)
    assert len(arms.commands["left"]) == count
    assert bench.rung is Ladder.STOP
    assert not bench.call("clear_fault").success

    # The other node moves the arm, and goes.
    arms.measured["left"] = arms.measured["left"] + np.array([0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    arms.sending = False
    arms.destroy_publisher(intruder)
    assert publishers(bench, 1)
    assert arms.wait_for(lambda: not bench.raised("second_publisher"))
    bench.time.run(0.5)
    assert len(arms.commands["left"]) == count, "silent until an operator has cleared the fault"
    assert bench.call("clear_fault").success
    assert arms.wait_for(lambda: len(arms.commands["left"]) > count + 20)
    np.testing.assert_allclose(arms.commands["left"][count], arms.measured["left"], atol=1e-6)


def test_a_second_node_of_the_same_computer_is_refused_whatever_its_namespace(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.activate()
    overrides = [Parameter("robot", value=ROBOT), Parameter("dry_run", value=False)]
    remaps = ["--ros-args"]
    for group in bench.arms.robot.groups:
        remaps += ["-r", f"{group.command_topic}:=/{group.command_topic}"]
    other = SafetyNode(namespace="/cell", cli_args=remaps, parameter_overrides=overrides)
    try:
        assert other.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert other.trigger_activate() != TransitionCallbackReturn.SUCCESS
        assert isinstance(other.last_error, RobotHeld)
        assert "/wam_safety" in str(other.last_error)
        assert other._stream is None
        assert publishers(bench, 2)
        assert rivals(bench.safety) == [], "one that waits for the robot is no rival"
        assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert other.trigger_activate() == TransitionCallbackReturn.SUCCESS
    finally:
        other.trigger_shutdown()
        other.destroy_node()


def test_a_node_on_another_computer_is_refused_and_the_holder_goes_on(
    make_bench: Callable[..., Bench], elsewhere: Callable[..., SafetyNode]
) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    other = elsewhere(dry_run=False)
    assert other.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert publishers(bench, 2)
    assert rivals(bench.safety) == [], "one that only waits is no rival"
    assert other.trigger_activate() != TransitionCallbackReturn.SUCCESS
    assert isinstance(other.last_error, RobotHeld)
    assert "another computer" in str(other.last_error)
    assert other._stream is None
    bench.more_commands(20)
    assert not arms.saw("second_publisher")
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert arms.wait_for(lambda: not rivals(other))
    assert other.trigger_activate() == TransitionCallbackReturn.SUCCESS


def test_a_killed_node_that_is_being_forgotten_is_no_rival(
    make_bench: Callable[..., Bench], elsewhere: Callable[..., SafetyNode]
) -> None:
    """A safety node that was started in place of a killed one stopped the arm for good 20 s later.

    DDS forgets the publishers of a participant one after the other; without the one that announces it, the command
    publisher looked like a stranger's. Here the announcement goes and the command publishers stay.
    """
    bench = make_bench()
    bench.activate()
    other = elsewhere(dry_run=False)
    assert other.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert bench.arms.wait_for(lambda: nodes(bench) == ["wam_safety", "wam_safety"]), "its name comes late"
    assert rivals(bench.safety) == []
    assert other._claim is not None
    other._claim.close()
    name = f"{other.get_fully_qualified_name()}/{LEASE}"
    graph = bench.safety.get_topic_names_and_types
    assert bench.arms.wait_for(
        lambda: (
            sum(len(bench.safety.get_publishers_info_by_topic(one)) for one, _ in graph() if name in one) == 1
        )
    ), "only the announcement of the node that commands is left"
    assert publishers(bench, 2)
    assert rivals(bench.safety) == []
    bench.more_commands(20)
    assert not bench.arms.saw("second_publisher")

    # Its name may be taken away first; a stranger without a name is a rival all the same.
    claim, outputs = bench.safety._claim, bench.safety._outputs
    assert claim is not None
    assert outputs is not None
    nameless = [
        replace(one, node=f"_NODE_NAMESPACE_UNKNOWN_/{UNKNOWN_NODE}") for one in outputs.other_publishers()
    ]
    assert nameless
    assert claim.rivals(nameless) == []
    strangers = [replace(one, gid=tuple(byte ^ 1 for byte in one.gid)) for one in nameless]
    assert claim.rivals(strangers) == strangers


def test_a_dry_run_beside_the_node_that_commands_is_no_rival(
    make_bench: Callable[..., Bench], elsewhere: Callable[..., SafetyNode]
) -> None:
    bench = make_bench()
    bench.activate()
    watcher = elsewhere(dry_run=True)
    assert watcher.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert watcher.trigger_activate() == TransitionCallbackReturn.SUCCESS
    bench.more_commands(20)
    assert not bench.arms.saw("second_publisher")


def test_a_refused_activation_leaves_the_robot_to_others(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    intruder = bench.arms.create_publisher(JointState, TOPIC, COMMAND)
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert publishers(bench, 2)
    assert bench.safety.trigger_activate() != TransitionCallbackReturn.SUCCESS
    assert bench.safety._claim is not None
    assert not bench.safety._claim.held
    bench.arms.destroy_publisher(intruder)
    assert publishers(bench, 1)
    assert bench.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS
