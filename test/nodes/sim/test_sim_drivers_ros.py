# SPDX-License-Identifier: Apache-2.0
"""Over real DDS: what each robot's driver offers beside joint states, on a machine without the vendors' packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wam.devices.franka import simulated as franka
from wam.devices.franka.twin import GoalKind, GripperGoal
from wam.devices.loader import load_robot
from wam.devices.ur.arm import PROGRAM_TOPIC, SCALING_TOPIC
from wam.devices.ur.simulated import SLIDER_TOPIC
from wam.robots.loader import find_robot
from wam.robots.paths import urdf_dir
from wam.ros.conversions import time_to_ns
from wam.ros.qos import COMMAND, EVENT, JOINT_STATE, STATIC, STATUS

pytestmark = [pytest.mark.ros, pytest.mark.sim]

ARM_NAMES = [f"fr3_joint{i}" for i in range(1, 8)]
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]


def no_vendor(_name: str) -> None:
    """A machine on which no vendor's package is installed."""


def modes(message: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in message.values}


@pytest.mark.parametrize("name", ["franka", "myarm"])
def test_the_franka_publishes_arm_hand_and_their_slower_merge(stage: Any, name: str, tmp_path: Path) -> None:
    """Under another name too: what a driver offers depends on the kind of the device."""
    robot = tmp_path / f"{name}.yaml"
    robot.write_text(find_robot("franka").read_text().replace(" urdf/", f" {urdf_dir()}/"))
    told = stage.listen(DiagnosticStatus, "franka_robot_state_broadcaster/robot_state_text", STATUS)
    arm = stage.listen(JointState, "franka/joint_states", JOINT_STATE)
    hand = stage.listen(JointState, "franka_gripper/joint_states", JOINT_STATE)
    merged = stage.listen(JointState, "joint_states", JOINT_STATE)
    stage.run(robot=str(robot), cameras=False, vendor=no_vendor)
    stage.until(lambda: len(merged) >= 10 and bool(arm and hand and told), "the four topics")
    assert arm[-1].name == ARM_NAMES
    assert hand[-1].name == FINGERS
    assert merged[-1].name == ARM_NAMES + FINGERS
    span_ns = time_to_ns(merged[-1].header.stamp) - time_to_ns(merged[0].header.stamp)
    assert span_ns / (len(merged) - 1) > 30_000_000, "30 Hz"


def test_a_franka_in_reflex_takes_nothing_until_its_recovery(stage: Any) -> None:
    told = stage.listen(DiagnosticStatus, "franka_robot_state_broadcaster/robot_state_text", STATUS)
    reference = stage.listen(JointState, "fr3_arm_controller/controller_reference", JOINT_STATE)
    commands = stage.node.create_publisher(JointTrajectory, "fr3_arm_controller/joint_trajectory", COMMAND)
    sim = stage.run(robot="franka", cameras=False, vendor=no_vendor)
    home = [joint.home for joint in load_robot("franka").group("arm").joints]
    goal = JointTrajectory(joint_names=ARM_NAMES)
    point = JointTrajectoryPoint(positions=[home[0] + 0.1, *home[1:]])
    point.time_from_start.nanosec = 200_000_000
    goal.points = [point]
    stage.until(lambda: commands.get_subscription_count() > 0 and bool(reference), "the controller")
    stage.until(lambda: bool(told) and modes(told[-1])["robot_mode"] == "2", "MOVE")
    assert stage.call(Trigger, "wam_sim/arm/fault").success
    told.clear()
    commands.publish(goal)
    stage.until(lambda: sim.cycle.refused == 1, "the refusal")
    assert not told, "the broadcasters stop with the hardware"
    assert stage.call(Trigger, "action_server/error_recovery").success
    stage.until(lambda: bool(told) and modes(told[-1])["robot_mode"] == "2", "MOVE")
    assert modes(told[-1])["last_motion_errors"] == "cartesian_reflex"
    # What was sent in between is lost, and a new trajectory is taken.
    assert reference[-1].position[0] == pytest.approx(home[0], abs=1e-3)
    commands.publish(goal)
    stage.until(
        lambda: reference[-1].position[0] == pytest.approx(home[0] + 0.1), "the end of the trajectory"
    )


def test_the_ur_tells_speed_scaling_and_its_program_and_obeys_its_dashboard(stage: Any) -> None:
    scaling = stage.listen(Float64, SCALING_TOPIC, STATUS)
    stage.run(robot="ur5e_inspire", cameras=False, vendor=no_vendor)
    stage.until(lambda: bool(scaling), "speed scaling")
    assert scaling[-1].data == 100.0
    # The program's topic is latched: a listener that comes late is told.
    program = stage.listen(Bool, PROGRAM_TOPIC, STATIC)
    stage.until(lambda: bool(program) and program[-1].data, "a running program")
    slider = stage.node.create_publisher(Float64, SLIDER_TOPIC, EVENT)
    stage.until(lambda: slider.get_subscription_count() > 0, "the slider")
    slider.publish(Float64(data=0.4))
    stage.until(lambda: scaling[-1].data == pytest.approx(40.0), "40 percent")
    assert stage.call(Trigger, "wam_sim/arm/fault").success
    stage.until(lambda: not program[-1].data and scaling[-1].data == 0.0, "a protective stop")
    refused = stage.call(Trigger, "dashboard_client/unlock_protective_stop")
    assert not refused.success
    assert "5 s after it" in refused.message
    assert stage.call(Trigger, "dashboard_client/stop").success
    assert not stage.call(Trigger, "dashboard_client/play").success, "still locked"


def test_the_pipers_drives_are_switched_by_their_service_and_their_status_is_told(stage: Any) -> None:
    told = stage.listen(DiagnosticStatus, "left/arm_status_text", STATUS)
    states = stage.listen(JointState, "left/joint_states_single", JOINT_STATE)
    stage.run(robot="piper", cameras=False, vendor=no_vendor)
    stage.until(lambda: bool(told and states), "the left arm")
    assert (modes(told[-1])["enabled"], modes(told[-1])["arm_status"]) == ("1", "0")
    home = states[-1].position[2]
    assert stage.call(SetBool, "left/enable_srv", SetBool.Request(data=False)).success
    stage.until(lambda: abs(states[-1].position[2] - home) > 0.2, "the arm falling")
    stage.until(lambda: modes(told[-1])["enabled"] == "0", "its status")
    assert stage.call(SetBool, "left/enable_srv", SetBool.Request(data=True)).success
    assert stage.call(Trigger, "wam_sim/left/fault").success
    stage.until(lambda: modes(told[-1])["arm_status"] == "1", "an emergency stop")


def test_goals_of_the_gripper_wait_for_each_other_and_can_be_cancelled(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RunTask stands in for franka_msgs/Move, which no registry has: its instruction is the width."""
    from wam.ros.action_client import SpunActionClient
    from wam_msgs.action import RunTask

    monkeypatch.setattr(
        franka, "read_goal", lambda _kind, m: GripperGoal(GoalKind.MOVE, float(m.instruction), speed=0.1)
    )
    states = stage.listen(JointState, "franka_gripper/joint_states", JOINT_STATE)
    stage.run(robot="franka", cameras=False, vendor=lambda name: RunTask if name == "franka_move" else None)
    client = SpunActionClient(stage.node, RunTask, "franka_gripper/move")
    stage.until(client.server_is_ready, "the action move")
    sent = [client.send_goal_async(RunTask.Goal(instruction=width)) for width in ("0.02", "0.07")]
    stage.until(lambda: all(one.done() for one in sent), "both goals accepted")
    results = [one.result().get_result_async() for one in sent]
    stage.until(results[0].done, "the first goal")
    assert results[0].result().status == 4
    assert not results[1].done()
    assert states[-1].position[0] == pytest.approx(0.01, abs=1e-3)
    stage.until(results[1].done, "the second goal")
    assert states[-1].position[0] == pytest.approx(0.035, abs=1e-3)
    last = client.send_goal_async(RunTask.Goal(instruction="0.0"))
    stage.until(last.done, "the third goal accepted")
    ended = last.result().get_result_async()
    stage.until(lambda: states[-1].position[0] < 0.03, "the fingers closing")
    last.result().cancel_goal_async()
    stage.until(ended.done, "the cancelled goal")
    assert ended.result().status == 5
    assert states[-1].position[0] > 0.003
    client.destroy()
