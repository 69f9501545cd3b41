# SPDX-License-Identifier: Apache-2.0
"""The safety node over real DDS: what its parameters and the robot file change, and what they refuse."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from rclpy.lifecycle import TransitionCallbackReturn
from safety_bench import ROBOT, Bench
from trajectory_msgs.msg import JointTrajectory

from wam.core.trajectory.seam import MAX_SEAM_NS
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.robots.collision import PinocchioChecker
from wam.robots.loader import find_robot
from wam.ros.qos import COMMAND

pytestmark = pytest.mark.ros


def test_an_unknown_filter_or_strategy_refuses_to_configure(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(filters_off=["speed"])
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "filters_off" in str(bench.safety.last_error)


def test_the_process_of_the_safety_node_never_imports_torch() -> None:
    code = (
        "import sys, wam_safety_node.main\n"
        "bad = [m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith('wam.models')]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_group_of_a_trajectory_controller_gets_rolling_trajectories(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    """joint_trajectory_controller tells a topic's publisher nothing when it drops a message, so the rules of its
    acceptance checks are kept by construction: stamp 0, known joints, increasing times, rest at the end."""
    text = find_robot(ROBOT).read_text(encoding="utf-8")
    text = text.replace("kind: joint_state_stream", "kind: joint_trajectory").replace("rate: 100", "rate: 20")
    text = text.replace("joint_ctrl_single", "joint_trajectory")
    text = text.replace("    driver: piper\n", "")  # which takes no trajectories
    file = tmp_path / "arm_with_controller.yaml"
    file.write_text(text, encoding="utf-8")
    bench = make_bench(robot=str(file))
    arms = bench.arms
    seen: list[JointTrajectory] = []

    def keep(message: JointTrajectory) -> None:
        seen.append(message)
        arms.measured["left"] = np.array(message.points[0].positions)

    def keep_right(message: JointTrajectory) -> None:
        arms.measured["right"] = np.array(message.points[0].positions)

    robot = load_robot(file)
    arms.create_subscription(JointTrajectory, robot.groups[0].command_topic, keep, COMMAND)
    arms.create_subscription(JointTrajectory, robot.groups[1].command_topic, keep_right, COMMAND)
    bench.activate()
    arms.sending = True
    home = robot.groups[0].joints[0].home
    assert arms.wait_for(lambda: any(abs(m.points[0].positions[0] - home) > 0.05 for m in seen))
    for message in seen:
        assert list(message.joint_names) == list(robot.groups[0].driver_names)
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
        times = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
        assert robot.safety.lead_ns <= times[0] <= MAX_SEAM_NS
        assert times == sorted(set(times))
        assert not any(message.points[-1].velocities)
        for point in message.points:
            assert len(point.positions) == len(point.velocities) == len(point.accelerations) == 7


def test_moveit_that_was_asked_for_and_is_not_installed_refuses_to_configure(
    make_bench: Callable[..., Bench],
) -> None:
    if importlib.util.find_spec("moveit_msgs") is not None:
        pytest.skip("moveit_msgs is installed")
    bench = make_bench(moveit="move_group")
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "moveit_msgs" in str(bench.safety.last_error)


def test_a_moveit_helper_that_cannot_start_holds_the_arm(make_bench: Callable[..., Bench]) -> None:
    if importlib.util.find_spec("moveit") is not None:
        pytest.skip("moveit_py is installed")
    bench = make_bench(moveit="process")
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("no_collision_answer"))
    assert bench.rung is Ladder.HOLD
    home = np.array([joint.home for joint in arms.robot.groups[0].joints])
    np.testing.assert_allclose(arms.commands["left"][-1], home, atol=1e-9)


def test_a_robot_s_own_collision_stops_the_arm_before_it_happens(make_bench: Callable[..., Bench]) -> None:
    """The left arm is led through the table in small, smooth steps: no other filter objects."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    down = np.zeros(14)
    down[1], down[2] = 1.0, 0.5

    def rows() -> np.ndarray:
        here = np.concatenate([arms.measured["left"], arms.measured["right"]])
        return here + down * 0.02 * np.arange(16)[:, None]

    arms.rows = rows  # type: ignore[method-assign]
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("collision"), 60.0)
    event = next(one for one in arms.events if one.code == "collision")
    assert "left" in event.joint
    assert event.ladder_to == int(Ladder.STOP)
    bench.more_commands(100)
    checker = PinocchioChecker(arms.robot)
    for left in arms.commands["left"]:
        assert not checker.colliding(np.concatenate([left, arms.measured["right"]]))
