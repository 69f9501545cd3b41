# SPDX-License-Identifier: Apache-2.0
"""The safety node over real DDS: the stream of commands, from the first measured state to the rest at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from safety_bench import Bench
from sensor_msgs.msg import JointState

from wam.ros.qos import JOINT_STATE
from wam.runtime.safety.cycle import CycleResult
from wam_safety_node.node import SafetyNode

pytestmark = pytest.mark.ros


def test_both_arms_are_streamed_completely_and_hold_the_measured_position_when_chunks_stop(
    make_bench: Callable[..., Bench],
) -> None:
    """A joint that is missing from a Piper command is driven to 0 rad, so every command names all seven."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values())), "held position is streamed before any chunk"
    home = {g.name: np.array([j.home for j in g.joints]) for g in arms.robot.groups}
    for name, commands in arms.commands.items():
        np.testing.assert_allclose(commands[0], home[name], atol=1e-9)
    arms.sending = True
    assert arms.wait_for(lambda: any(abs(c[0] - home["left"][0]) > 0.05 for c in arms.commands["left"]))
    arms.sending = False
    assert arms.wait_for(lambda: arms.saw("chunk_timeout"))
    bench.more_commands(100)
    settled = arms.commands["left"][-20:]
    np.testing.assert_allclose(settled, np.broadcast_to(settled[-1], (20, 7)), atol=1e-4)
    assert np.abs(settled[-1] - arms.measured["left"]).max() < 1e-3
    for message in arms.messages:
        assert list(message.name) == ["joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"]
        assert len(message.position) == 7
        assert list(message.velocity) == [0.0] * 6 + [100.0], "piper_ros reads the last one as speed percent"
        assert not message.effort, "Piper reads effort as gripper effort"
    arms.sending = True
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[-3:]))


def test_a_dry_run_sends_nothing_and_shows_what_it_would_send(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(dry_run=True)
    arms = bench.arms
    shown: list[JointState] = []
    arms.create_subscription(JointState, "wam_safety/command_preview", shown.append, JOINT_STATE)
    bench.activate()
    arms.sending = True
    assert arms.wait_for(lambda: len(shown) > 20)
    assert tuple(shown[-1].name) == arms.robot.joint_names
    assert not any(arms.commands.values())
    assert bench.safety.count_publishers("left/joint_ctrl_single") == 0


def test_commands_do_not_start_before_the_arm_was_measured(make_bench: Callable[..., Bench]) -> None:
    """Without a measured state the only position one could send is a guess: zeros slam the arm."""
    bench = make_bench()
    bench.arms.report = False
    bench.activate()
    bench.arms.sending = True
    stream = bench.safety._stream
    assert stream is not None
    assert bench.arms.wait_for(lambda: stream.health().ticks >= 50)
    assert not any(bench.arms.commands.values())
    bench.arms.report = True
    assert bench.arms.wait_for(lambda: all(bench.arms.commands.values()))


def test_joint_states_are_read_before_a_command_is_due_and_plans_know_when_that_is(ros: None) -> None:
    """They were read within the step, and the time that takes was the jitter of the commands."""
    values = {"robot": "piper", "dry_run": True, "discovery_time": 0.0}
    node = SafetyNode(parameter_overrides=[Parameter(name, value=value) for name, value in values.items()])
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
        cycle, states = node.cycle, node._states
        assert cycle is not None
        assert states is not None
        turns, during, enough = cycle.planning.turns, [], threading.Event()
        read, step = states.read, cycle.step

        def noted(what: str) -> None:
            if threading.current_thread().name == "commands":
                during.append((what, turns.at_work()))
                if len(during) == 20:
                    enough.set()

        def noted_read() -> None:
            noted("read")
            read()

        def noted_step(*given: Any) -> CycleResult:
            noted("step")
            return step(*given)

        states.read, cycle.step = noted_read, noted_step  # type: ignore[method-assign]
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, node.last_error
        assert enough.wait(30.0)
    finally:
        node.trigger_shutdown()
        node.destroy_node()
    assert during[:20] == [("read", False), ("step", True)] * 10, "plans are free to be made but for the step"


def test_deactivation_brings_the_arm_to_rest_before_the_stream_ends(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    home = arms.robot.groups[0].joints[0].home
    assert arms.wait_for(lambda: any(abs(c[0] - home) > 0.03 for c in arms.commands["left"]))
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    # What was sent last may still be under way.
    assert arms.wait_for(lambda: np.abs(np.diff(arms.commands["left"][-3:], axis=0)).max() < 1e-3)
    assert bench.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS
    count = len(arms.events)
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_an_arm_that_was_carried_elsewhere_while_the_node_was_inactive_follows(
    make_bench: Callable[..., Bench],
) -> None:
    """The way from the last command before to the first one after counted as a command that the arm had ignored.

    One simulated episode in five was held for good: between two episodes the arms are put to their home.
    """
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    bench.more_commands(20)
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    for name in arms.measured:
        arms.measured[name] = arms.measured[name] + np.array([0.0, 0.2, -0.2, 0.0, 0.0, 0.0, 0.0])
    for commands in arms.commands.values():
        commands.clear()
    assert bench.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert arms.wait_for(lambda: all(arms.commands.values()))
    bench.more_commands(60)
    assert not arms.saw("device_not_ready")
