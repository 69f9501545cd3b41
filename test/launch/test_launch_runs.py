# SPDX-License-Identifier: Apache-2.0
"""Launch files run for real: order of start, and how all ends, with waiting programs and with the nodes themselves."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from launch_prefix import FAIL, OPEN, REAL, install
from vendor_data import DECLARED, OF_ROBOT, REMAPPED

pytest.importorskip("launch_ros", reason="launch_ros is not installed (part of a ROS 2 distribution)")

from launch.actions import EmitEvent, RegisterEventHandler, SetLaunchConfiguration, TimerAction
from launch.event_handlers import OnProcessExit, OnProcessIO, OnProcessStart
from launch.events import Shutdown

from launch import LaunchDescription, LaunchService

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
"""A run that has not ended by then is ended, so that no process outlives its test."""


class Run:
    """One run of a launch file.

    Attributes:
        started: executables in the order of their start, without gates.
        codes: exit codes by executable.
        text: everything the processes wrote.
    """

    def __init__(self, file: str, *, until: str = "", seen: Sequence[str] = (), **arguments: str) -> None:
        """Run `file` until `until` has started, or the processes have written all of `seen`, or by itself."""
        self.started: list[str] = []
        self.codes: dict[str, int] = {}
        self.text = ""
        self._until, self._seen = until, seen
        service = LaunchService(noninteractive=True)
        description = runpy.run_path(str(ROOT / "launch" / file))["generate_launch_description"]()
        for action in (
            TimerAction(period=LIMIT_S, actions=self._end()),
            RegisterEventHandler(OnProcessStart(on_start=self._on_start)),
            RegisterEventHandler(OnProcessExit(on_exit=self._on_exit)),
            RegisterEventHandler(OnProcessIO(on_stdout=self._on_text, on_stderr=self._on_text)),
            *(SetLaunchConfiguration(name, value) for name, value in arguments.items()),
            description,
        ):
            service.include_launch_description(LaunchDescription([action]))
        service.run()

    def _on_start(self, event: Any, _context: Any) -> list[Any]:
        name = Path(event.cmd[0]).name
        if name != "wam_gate":
            self.started.append(name)
        return self._end() if name == self._until else []

    def _on_exit(self, event: Any, _context: Any) -> None:
        self.codes[Path(event.cmd[0]).name] = event.returncode

    def _on_text(self, event: Any) -> list[Any]:
        before, self.text = self.text, self.text + event.text.decode(errors="replace")
        return self._end() if self._saw(self.text) and not self._saw(before) else []

    def _saw(self, text: str) -> bool:
        return bool(self._seen) and all(one in text for one in self._seen)

    def _end(self) -> list[Any]:
        """Do what Ctrl-C does: interrupt every process and wait."""
        return [EmitEvent(event=Shutdown(reason="seen", due_to_sigint=False))]


def test_the_simulated_robot_starts_first_and_the_policy_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    run = Run("sim.launch.py", until="wam_bringup", robot="franka")
    assert run.started == ["wam_sim_node", "wam_safety_node", "wam_bringup"]


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_planner_and_executor_wait_for_the_safety_process(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    run = Run(
        f"{robot}.launch.py",
        until="wam_executor_node",
        launch_driver="false",
        composed="false",
        use_mock_hardware="true",
        hand_device="mock",
    )
    assert run.started[:2] == ["wam_driver_node", "wam_safety_node"]
    assert set(run.started[2:]) == {"wam_planner_node", "wam_executor_node"}


def test_the_end_of_the_safety_process_ends_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that runs on without it would look alive while nothing moves."""
    install(tmp_path, monkeypatch, wam_safety_node=FAIL)
    run = Run("sim.launch.py", robot="piper")
    assert run.started[:2] == ["wam_sim_node", "wam_safety_node"]
    assert run.codes["wam_safety_node"] == 3


def test_nothing_starts_behind_a_gate_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a driver: where another launch of the robot runs, the first gate is the one that fails."""
    install(tmp_path, monkeypatch, wam_gate=FAIL)
    assert Run("sim.launch.py", robot="piper").started == []


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_a_simulated_robot_is_driven_and_held_and_everything_ends_well(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes themselves, until chunks are followed; then what Ctrl-C does."""
    install(tmp_path, monkeypatch, every=REAL)
    run = Run("sim.launch.py", seen=["HOLD -> NOMINAL"], robot=robot, namespace="lab")
    assert "HOLD -> NOMINAL" in run.text, run.text
    assert "NOMINAL -> HOLD: deactivated" in run.text, "held, then down"
    assert run.codes == dict.fromkeys(("wam_sim_node", "wam_gate", "wam_safety_node", "wam_bringup"), 0)
    assert "Traceback" not in run.text, run.text


GIVEN = {
    "piper": {},
    "franka": {"robot_ip": "10.0.0.1"},
    "ur5e_inspire": {"robot_ip": "10.0.0.1", "hand_device": "mock"},
}
"""Launch arguments of ours by robot."""
DRIVER = """\
import sys
import rclpy
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory
from wam.robots.description import CommandKind
from wam.devices.loader import load_robot
from wam.ros.qos import COMMAND, JOINT_STATE_PUBLISHER

rclpy.init()
node = rclpy.create_node("stand_in")
robot = load_robot(sys.argv[1])
side = node.get_namespace().rpartition("/")[2]
for group in robot.groups:
    if group.driver == "inspire" or (robot.name == "piper" and group.name != side):
        continue
    strip = f"{group.name}/" if robot.name == "piper" else ""
    states = node.create_publisher(JointState, group.state_topic.removeprefix(strip), JOINT_STATE_PUBLISHER)
    message = JointState(name=list(group.driver_names), position=[joint.home for joint in group.joints])
    if group.driver == "franka_gripper":
        message.name.append("fr3_finger_joint2")
        message.position.append(message.position[0])

    def tick(message=message, states=states):
        message.header.stamp = node.get_clock().now().to_msg()
        states.publish(message)

    node.create_timer(0.02, tick)
    kind = JointTrajectory if group.command_kind is CommandKind.JOINT_TRAJECTORY else JointState


    def take(_, name=group.name):
        print(f"{name} is commanded", flush=True)

    if group.driver != "franka_gripper":
        node.create_subscription(kind, group.command_topic.removeprefix(strip), take, COMMAND)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
"""
LAUNCH = """\
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

NAMES = {names}

def generate_launch_description():
    words = [LaunchConfiguration(name) for name in NAMES]
    driver = Node(
        package="{package}",
        executable="driver",
        arguments=["{robot}", *words],
        remappings={remapped},
        output="screen",
    )
    return LaunchDescription([*(DeclareLaunchArgument(name, default_value="") for name in NAMES), driver])
"""


def install_vendor(prefix: Path, robot: str) -> None:
    """Make the vendor's package: a launch file like the vendor's that starts a driver made of this suite."""
    package, launch_file = OF_ROBOT[robot]
    share, folder = prefix / "share" / package, prefix / "lib" / package
    for path in (share / "launch", folder):
        path.mkdir(parents=True)
    (prefix / "share/ament_index/resource_index/packages" / package).touch()
    (share / "launch" / launch_file).write_text(
        LAUNCH.format(
            names=list(DECLARED[robot]), package=package, robot=robot, remapped=REMAPPED.get(robot, [])
        )
    )
    (prefix / "driver.py").write_text(DRIVER)
    (folder / "driver").write_text(f'#!/bin/sh\nexec {sys.executable} {prefix / "driver.py"} "$@"\n')
    (folder / "driver").chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("robot", OF_ROBOT)
def test_the_vendors_driver_is_started_with_our_arguments_and_the_robot_is_commanded(
    robot: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's driver is made of this suite; its launch file has the vendor's arguments and remappings."""
    if robot == "franka":
        pytest.importorskip("franka_msgs", reason="franka_msgs is not installed (the gripper's actions)")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    install(tmp_path, monkeypatch, every=REAL)
    # The spawner belongs to controller_manager, which is not there; it ends at once.
    index, spawner = (
        tmp_path / "share/ament_index/resource_index/packages",
        tmp_path / "lib/controller_manager",
    )
    (index / "controller_manager").touch()
    spawner.mkdir()
    (spawner / "spawner").write_text(OPEN)
    (spawner / "spawner").chmod(0o755)
    install_vendor(tmp_path, robot)
    commanded = [f"{name} is commanded" for name in (("left", "right") if robot == "piper" else ("arm",))]
    run = Run(
        f"{robot}.launch.py", seen=[*commanded, "policy fake"], dry_run="false", policy="fake", **GIVEN[robot]
    )
    assert all(text in run.text for text in commanded), run.text
    assert run.started.count("driver") == (2 if robot == "piper" else 1)
    assert (
        run.started.index("driver") < run.started.index("wam_safety_node") < run.started.index("wam_bringup")
    )
    assert run.codes["wam_driver_node"] == run.codes["wam_safety_node"] == 0
    assert "Traceback" not in run.text, run.text


def test_a_driver_that_ends_without_its_bus_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer releases of piper_ros end when CAN is lost; nothing started them again, and the arm was lost for good."""
    monkeypatch.setattr("wam_bringup.launch_vendor.RESPAWN_S", 0.1)
    install(tmp_path, monkeypatch)
    install_vendor(tmp_path, "piper")
    driver = tmp_path / "lib" / "piper" / "driver"
    times = f"for n in first second third; do mkdir {tmp_path}/$n 2>/dev/null && break; done"
    driver.write_text(
        f"#!/bin/sh\n{times}\necho the $n driver, $*\n[ $n = first ] && exit 1\nexec sleep 60\n"
    )
    run = Run("piper.launch.py", seen=["the third driver"], can_ports="can_a,can_b")
    assert run.started.count("driver") == 3
    ports = [line for line in run.text.splitlines() if " driver, " in line]
    ended, started = (next(line for line in ports if name in line) for name in ("the first", "the third"))
    assert (
        ended.partition("driver, ")[2].split(" --ros-args")[0]
        == started.partition("driver, ")[2].split(" --ros-args")[0]
    )
    assert f"__ns:=/{'left' if 'can_a' in ended else 'right'}" in started
