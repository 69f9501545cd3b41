# SPDX-License-Identifier: Apache-2.0
"""Launch files: one schema, real executables, vendor files with the vendor's own argument names."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_walk import LAUNCH_FILES, ROBOTS, ROOT, launched
from setuptools import find_packages
from vendor_data import DECLARED, FACTS, OF_ROBOT, REMAPPED, launch_facts, needs_vendor_data

from wam.core.errors import ConfigError
from wam.devices.inspire.launch import hand_devices
from wam.devices.launch import VendorDriver
from wam.devices.loader import load_robot
from wam.robots.kinematics import forward_kinematics
from wam.robots.urdf import robot_urdf
from wam_bringup.descriptions import with_description
from wam_bringup.launch_schema import (
    ARGUMENTS,
    BOOLEAN,
    SAFETY_PROFILES,
    adapter_addresses,
    vendor_drivers,
)
from wam_safety_node.parameters import SafetyParameters

DEFAULTS = {argument.name: argument.default for argument in ARGUMENTS}


def drivers(robot: str, arguments: Mapping[str, str]) -> tuple[VendorDriver, ...]:
    return vendor_drivers(load_robot(robot), arguments)


def test_hardware_does_not_move_unless_it_is_asked_to() -> None:
    assert DEFAULTS["dry_run"] == "true"
    assert DEFAULTS["simulate"] == "false"


@pytest.mark.parametrize("argument", ARGUMENTS, ids=lambda argument: argument.name)
def test_an_argument_is_described_and_its_default_is_legal(argument: Any) -> None:
    assert len(argument.description) > 10
    assert not argument.choices or argument.default in argument.choices
    assert argument.default not in BOOLEAN or argument.choices == BOOLEAN


def test_each_piper_driver_gets_its_own_can_interface_and_namespace() -> None:
    left, right = drivers("piper", {**DEFAULTS, "can_ports": "can0, can1"})
    assert (left.namespace, left.arguments["can_port"]) == ("left", "can0")
    assert (right.namespace, right.arguments["can_port"]) == ("right", "can1")


@pytest.mark.parametrize("ports", ["", "can0", "can0,can0", "a,b,c"])
def test_can_ports_that_are_not_two_different_ones_are_refused(ports: str) -> None:
    with pytest.raises(ConfigError, match="two different CAN interfaces"):
        drivers("piper", {**DEFAULTS, "can_ports": ports})


def test_a_mock_that_the_vendor_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="piper_ros has no mock hardware"):
        drivers("piper", {**DEFAULTS, "use_mock_hardware": "true"})


def test_every_robot_of_the_schema_has_a_file_and_a_launch_file() -> None:
    for robot in ROBOTS:
        assert (ROOT / "config" / "robots" / f"{robot}.yaml").is_file()
        assert (ROOT / "launch" / f"{robot}.launch.py").is_file()


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_is_one_call(path: Path) -> None:
    statements = [
        line for line in path.read_text().splitlines() if line.startswith(("from", "import", "    return"))
    ]
    assert len(statements) == 2


def test_the_franka_driver_is_told_in_the_vendors_words() -> None:
    (driver,) = drivers("franka", {**DEFAULTS, "robot_ip": "172.16.0.2"})
    assert (driver.package, driver.launch_file) == ("franka_bringup", "franka.launch.py")
    assert driver.arguments == {
        "robot_type": "fr3",
        "robot_ip": "172.16.0.2",
        "load_gripper": "true",
        "use_fake_hardware": "false",
        "namespace": "",
    }
    assert (driver.spawn, driver.controllers) == ("fr3_arm_controller", ("franka",))


@pytest.mark.parametrize("word", ["use_fake_hardware", "use_mock_hardware"])
def test_the_ur_driver_is_told_in_the_words_of_its_release(word: str) -> None:
    (driver,) = drivers("ur5e_inspire", {**DEFAULTS, "use_mock_hardware": "true"})
    declared = {*driver.arguments, word} - {"use_mock_hardware", "use_fake_hardware"} | {word}
    fitted = driver.fitted(declared, source="ur_control.launch.py")
    assert fitted[word] == "true"
    assert fitted["launch_rviz"] == "false"
    assert (driver.spawn, driver.controllers) == ("ur_arm_controller", ("ur",))


@pytest.mark.parametrize("robot", ["franka", "ur5e_inspire"])
def test_a_robot_without_an_address_is_refused(robot: str) -> None:
    with pytest.raises(ConfigError, match=r"robot_ip: .*use_mock_hardware:=true"):
        drivers(robot, DEFAULTS)


def test_a_namespace_that_the_ur_driver_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="start the driver yourself and use launch_driver:=false"):
        drivers("ur5e_inspire", {**DEFAULTS, "robot_ip": "1.2.3.4", "namespace": "lab"})


def test_a_hand_needs_a_device_unless_it_is_mocked() -> None:
    assert hand_devices({**DEFAULTS, "use_mock_hardware": "true"}, 2) == ("mock", "mock")
    robot = load_robot("ur5e_inspire")
    given = adapter_addresses(robot, {**DEFAULTS, "hand_device": "serial:/dev/ttyUSB0#1"})
    assert given == ("serial:/dev/ttyUSB0#1",)
    with pytest.raises(ConfigError, match=r"hand_device: .*allowed: 1 of serial:PORT#ID"):
        adapter_addresses(robot, DEFAULTS)


@pytest.mark.parametrize("profile", SAFETY_PROFILES)
def test_a_safety_profile_sets_parameters_that_the_node_has(profile: str) -> None:
    content = yaml.safe_load((ROOT / "config" / "safety" / f"{profile}.yaml").read_text())
    parameters = content["/**"]["ros__parameters"]
    known = {field.name: field for field in fields(SafetyParameters)}
    assert set(parameters) <= set(known)
    if profile == "normal":
        assert parameters == {name: known[name].default for name in parameters}


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robots_view_shows_the_cameras_of_its_file(robot: str) -> None:
    view = yaml.safe_load((ROOT / "config" / "rviz" / f"{robot}.rviz").read_text())
    shown = [
        display["Topic"]["Value"]
        for display in view["Visualization Manager"]["Displays"]
        if display["Class"].endswith("/Image")
    ]
    assert shown == [camera.raw_topic for camera in load_robot(robot).cameras]


def test_the_vendors_description_takes_the_place_of_ours(tmp_path: Path) -> None:
    """It keeps joints, limits and topics, and drops the arguments of our own xacro."""
    vendor = tmp_path / "vendor.urdf"
    vendor.write_text(robot_urdf(load_robot("ur5e_inspire")).replace("0.1625", "0.1635"))
    folder = tmp_path / "out"
    folder.mkdir()
    robot = load_robot(with_description("ur5e_inspire", vendor, folder))
    assert (robot.name, robot.urdf, robot.xacro_args) == ("ur5e_inspire", vendor, ())
    assert robot.joints == load_robot("ur5e_inspire").joints
    zeros = [0.0] * 6
    lifted = forward_kinematics(robot, "tool0", zeros) - forward_kinematics(
        load_robot("ur5e_inspire"), "tool0", zeros
    )
    assert lifted[2, 3] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("elbow_joint", "elbow"), "drives a joint that the URDF does not have"),
        (("tool0", "tool9"), "lacks a link"),
    ],
)
def test_a_description_of_another_robot_is_refused(change: tuple[str, str], why: str, tmp_path: Path) -> None:
    vendor = tmp_path / "vendor.urdf"
    vendor.write_text(robot_urdf(load_robot("ur5e_inspire")).replace(*change))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ConfigError, match=why):
        with_description("ur5e_inspire", vendor, folder)


def test_a_description_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="description does not exist"):
        with_description("franka", tmp_path / "gone.urdf", tmp_path)


OWN = {"wam_view", "wam_gate", *find_packages(str(ROOT))}
OTHERS = {"robot_state_publisher", "rviz2"}


@pytest.mark.parametrize("composed", BOOLEAN)
@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_a_launch_file_starts_executables_that_exist(path: Path, composed: str, tmp_path: Path) -> None:
    nodes, _ = launched(path, launch_driver="false", composed=composed, bag=str(tmp_path))
    executables = [node.node_executable for node in nodes]
    assert set(executables) <= OWN
    assert executables.count("wam_safety_node") == 1
    policy = {"wam_bringup"} if composed == "true" else {"wam_planner_node", "wam_executor_node"}
    assert policy <= set(executables)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_suites_own_driver_is_started_beside_a_driver_that_runs_already(robot: str) -> None:
    """Without it nobody takes the commands of a Franka Hand, and the arm waits for a listener for ever."""
    file = ROOT / "launch" / f"{robot}.launch.py"
    hand = {"hand_device": "jtc"} if robot == "ur5e_inspire" else {}
    nodes, _ = launched(file, launch_driver="false", **hand)
    assert [node.node_executable for node in nodes].count("wam_driver_node") == 1


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_view_is_started_beside_the_nodes_when_it_is_asked_for(robot: str) -> None:
    nodes, _ = launched(ROOT / "launch" / f"{robot}.launch.py", launch_driver="false", rviz="true")
    assert {node.node_executable for node in nodes} - OWN == OTHERS


def parameters_of(process: Any) -> dict[str, dict[str, Any]]:
    """Return what the launch itself gives to the nodes of a process: node -> parameter -> value."""
    words = ["".join(getattr(part, "text", "") for part in word) for word in process.cmd]
    file = [Path(word) for at, word in enumerate(words) if words[at - 1] == "--params-file"][-1]
    found = json.loads(file.read_text())
    return {name.removeprefix("/**/"): one["ros__parameters"] for name, one in found.items()}


def test_the_simulated_robot_is_an_argument_of_its_launch_file() -> None:
    nodes, _ = launched(ROOT / "launch" / "sim.launch.py", robot="franka")
    (sim,) = [node for node in nodes if node.node_executable == "wam_sim_node"]
    assert parameters_of(sim)["wam_sim"]["robot"] == "franka"


def test_a_replay_moves_the_recorded_commands_out_of_the_way(tmp_path: Path) -> None:
    """A bag that plays its own commands would look like a second publisher, or move a robot."""
    _, processes = launched(ROOT / "launch" / "replay.launch.py", bag=str(tmp_path), robot="franka")
    (player,) = processes
    words = ["".join(part.text for part in word) for word in player.cmd]
    assert words[:4] == ["ros2", "bag", "play", str(tmp_path)]
    remaps = words[words.index("--remap") + 1 :]
    wanted = [f"/{group.command_topic}:=/bag/{group.command_topic}" for group in load_robot("franka").groups]
    assert remaps == wanted


def test_a_replay_without_a_recording_is_refused() -> None:
    with pytest.raises(ConfigError, match="bag:=DIRECTORY"):
        launched(ROOT / "launch" / "replay.launch.py")


def vendor_share(prefix: Path, robot: str, *, without: str = "") -> None:
    """Make the vendor's package, with a launch file that declares the vendor's arguments and starts nothing."""
    package, launch_file = OF_ROBOT[robot]
    names = [name for name in DECLARED[robot] if name != without]
    share = prefix / "share" / package
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    for folder in (share / "launch", index):
        folder.mkdir(parents=True, exist_ok=True)
    (index / package).touch()
    (share / "launch" / launch_file).write_text(
        "from launch import LaunchDescription\nfrom launch.actions import DeclareLaunchArgument\n"
        "def generate_launch_description():\n"
        f"    return LaunchDescription([DeclareLaunchArgument(name, default_value='') for name in {names}])\n"
    )


def test_the_successor_of_piper_ros_is_started_by_its_own_file(tmp_path: Path) -> None:
    """With the robot file that the how-to makes."""
    page = (ROOT / "docs" / "how-to" / "piper.md").read_text(encoding="utf-8")
    command = page[page.index("    sed -E") :].split("\n\n", 1)[0]
    (tmp_path / "config").symlink_to(ROOT / "config")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    file = tmp_path / "piper_agx.yaml"
    robot = load_robot(str(file))
    assert [group.state_topic for group in robot.groups] == [
        "left/feedback/joint_states",
        "right/feedback/joint_states",
    ]
    assert all(group.command_topic == f"{group.name}/control/joint_states" for group in robot.groups)
    assert all((joint.conversion.state, joint.conversion.command) == (1.0, 1.0) for joint in robot.joints)
    left, right = drivers(str(file), {**DEFAULTS, "can_ports": "can0,can1"})
    assert (left.package, left.launch_file) == ("agx_arm_ctrl", "start_single_agx_arm.launch.py")
    assert (left.namespace, right.namespace) == ("left", "right")
    assert left.arguments["namespace"] == "", "its file would take our argument of this name for its own"
    assert left.arguments["speed_percent"] == "100"
    assert left.arguments["auto_enable"] == "false"
    assert left.respawn


@needs_vendor_data
@pytest.mark.parametrize("robot", DECLARED)
def test_a_stand_in_is_like_the_vendors_file(robot: str) -> None:
    """The stand-ins declared the arguments that we pass, so that each of ours was right."""
    real = launch_facts(FACTS[robot])
    assert set(DECLARED[robot]) <= set(real["arguments"])
    remapped = [
        tuple(rule) for node in real["nodes"] for rule in node.get("remappings", ()) if len(rule) == 2
    ]
    assert remapped == REMAPPED.get(robot, [])


def spawned(nodes: list[Any]) -> list[list[str]]:
    """Return the arguments of each spawner."""
    found = []
    for node in nodes:
        if node.node_executable == "spawner":
            words = ["".join(getattr(part, "text", "") for part in word) for word in node.cmd]
            found.append(words[1 : words.index("--ros-args")] if "--ros-args" in words else words[1:])
    return found


@pytest.mark.parametrize(
    ("robot", "wanted"),
    [
        ("franka", ["fr3_arm_controller", "franka.jazzy.yaml", "franka.mock.yaml"]),
        ("ur5e_inspire", ["ur_arm_controller", "ur.jazzy.yaml"]),
    ],
)
def test_the_vendors_driver_gets_our_controller_beside_its_own(
    robot: str, wanted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the vendor's parameter file with ours laid over it lost keys and quotes; now it stays as it is."""
    vendor_share(tmp_path, robot)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    nodes, _ = launched(ROOT / "launch" / f"{robot}.launch.py", use_mock_hardware="true")
    own = {"wam_gate", "wam_safety_node", "wam_bringup", "wam_driver_node"}
    assert {node.node_executable for node in nodes} == {"spawner", *own}
    (words,) = spawned(nodes)
    assert words[0] == wanted[0]
    assert words[1::2] == ["--param-file"] * (len(wanted) - 1)
    assert [Path(word).name for word in words[2::2]] == wanted[1:]
    assert all(Path(word).is_file() for word in words[2::2])


def test_a_vendor_file_without_an_argument_of_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """launch ignores arguments that a file does not declare."""
    vendor_share(tmp_path, "franka", without="load_gripper")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    with pytest.raises(ConfigError, match=r"no argument load_gripper.*arm_prefix.*franka\.launch\.py"):
        launched(ROOT / "launch" / "franka.launch.py", robot_ip="10.0.0.1")


def test_franka_on_a_distribution_without_a_release_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor_share(tmp_path, "franka")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    with pytest.raises(ConfigError, match=r"got 'kilted'; allowed: humble, jazzy"):
        launched(ROOT / "launch" / "franka.launch.py", robot_ip="10.0.0.1")


def test_a_copy_of_a_robot_file_starts_the_same_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kinds of device in the file say which driver is started, not the robot's name. The how-tos ask for a copy
    (the adapter of a hand, the zero of a Piper), and only sim.launch.py could be given one."""
    vendor_share(tmp_path, "franka")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    copy = tmp_path / "myarm.yaml"
    copy.write_text((ROOT / "config" / "robots" / "franka.yaml").read_text())
    file = ROOT / "launch" / "franka.launch.py"
    names = []
    given: list[dict[str, str]] = [{}, {"robot": str(copy)}]
    for robot in given:
        nodes, _ = launched(file, robot_ip="10.0.0.1", **robot)
        names.append([node.node_executable for node in nodes])
    (safety,) = [node for node in nodes if node.node_executable == "wam_safety_node"]
    assert parameters_of(safety)["wam_safety"]["robot"] == str(copy)
    assert names[0] == names[1]
    assert {"spawner", "wam_driver_node"} <= set(names[1])
    assert "wam_sim_node" not in names[1]


@pytest.mark.parametrize(
    ("parts", "started"),
    [
        ("robot", {"wam_gate", "wam_driver_node", "wam_safety_node"}),
        ("policy", {"wam_gate", "wam_bringup"}),
    ],
)
def test_each_of_two_computers_starts_its_own_part(parts: str, started: set[str]) -> None:
    """The safety node is on the robot's side of the cable: where that is cut, the arm is brought to rest."""
    nodes, _ = launched(
        ROOT / "launch" / "piper.launch.py", launch_driver="false", parts=parts, policy="fake"
    )
    assert {node.node_executable for node in nodes} == started


@pytest.mark.parametrize("composed", BOOLEAN)
def test_the_policy_gets_its_machine(composed: str, tmp_path: Path) -> None:
    """A bundle always ran on the CPU with one thread: the nodes' defaults, and no argument for them."""
    nodes, _ = launched(
        ROOT / "launch" / "piper.launch.py",
        launch_driver="false",
        composed=composed,
        device="cuda:1",
        backend="eager",
        threads="4",
        plan_period="0.25",
        chunk_period="0.08",
        policy_params=str(file_of(tmp_path)),
    )
    found: dict[str, dict[str, Any]] = {}
    for node in nodes:
        words = ["".join(getattr(part, "text", "") for part in word) for word in node.cmd]
        files = [Path(word) for at, word in enumerate(words) if words[at - 1] == "--params-file"]
        own = parameters_of(node)
        found |= own
        if {"wam_planner", "wam_executor"} & set(own):
            assert files[0] == tmp_path / "mine.yaml", "read first, so that arguments override it"
    for name, period in (("wam_planner", 0.25), ("wam_executor", 0.08)):
        values = found[name]
        assert (values["device"], values["backend"], values["threads"]) == ("cuda:1", "eager", 4)
        assert values["period"] == period


@pytest.mark.ros
@pytest.mark.parametrize("namespace", ["", "lab"])
def test_the_hands_driver_gets_its_parameters_and_what_the_launch_says_stays(
    tmp_path: Path, namespace: str
) -> None:
    """Speed and temperature limit of a hand had no launch argument: the driver had to be started by hand."""
    rclpy = pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")
    from rclpy.node import Node

    file = tmp_path / "hand.yaml"
    file.write_text(
        "/**/wam_driver: {ros__parameters: {speed: 200, temperature_limit: 60, recover_moving: true, "
        "write_enabled: true}}\n"
    )
    nodes, _ = launched(
        ROOT / "launch" / "ur5e_inspire.launch.py",
        launch_driver="false",
        hand_device="serial:/dev/ttyUSB0#1",
        driver_params=str(file),
        namespace=namespace,
    )
    (driver,) = (node for node in nodes if node.node_executable == "wam_driver_node")
    words = ["".join(getattr(part, "text", "") for part in word) for word in driver.cmd]
    files = [word for at, word in enumerate(words) if words[at - 1] == "--params-file"]
    given = ["--ros-args", *(word for one in files for word in ("--params-file", one))]
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    try:
        node = Node(
            "wam_driver",
            namespace=namespace,
            context=context,
            cli_args=given,
            automatically_declare_parameters_from_overrides=True,
        )
        found = {
            name: node.get_parameter(name).value
            for name in ("speed", "temperature_limit", "recover_moving", "write_enabled", "devices")
        }
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    assert found == {
        "speed": 200,
        "temperature_limit": 60,
        "recover_moving": True,
        "write_enabled": False,  # a dry run
        "devices": ["serial:/dev/ttyUSB0#1"],
    }


def test_parameters_for_a_driver_that_runs_already_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this launch starts no wam_driver"):
        launched(
            ROOT / "launch" / "ur5e_inspire.launch.py",
            launch_driver="false",
            driver_params=str(file_of(tmp_path)),
        )


def file_of(folder: Path) -> Path:
    file = folder / "mine.yaml"
    file.write_text("/**: {ros__parameters: {seed: 3}}\n")
    return file


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("threads", "two", "a whole number"),
        ("chunk_period", "fast", "a number of seconds"),
        ("policy_params", "/gone.yaml", "an existing ROS parameter file"),
        ("driver_params", "/gone.yaml", "an existing ROS parameter file"),
    ],
)
def test_an_argument_that_means_nothing_is_refused(argument: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=f"{argument}: got .*allowed: {allowed}"):
        launched(ROOT / "launch" / "piper.launch.py", launch_driver="false", **{argument: value})


def test_an_unknown_safety_profile_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed: normal, cautious, or an existing parameter file"):
        launched(ROOT / "launch" / "piper.launch.py", launch_driver="false", safety_profile="brave")
