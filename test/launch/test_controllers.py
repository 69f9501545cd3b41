# SPDX-License-Identifier: Apache-2.0
"""Controller parameters agree with the robot files and with what each ROS 2 distribution understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.description import CommandKind, Distribution
from wam_bringup.controllers import (
    controllers_file,
    distribution_here,
    merged,
    read_parameters,
    write_merged,
)

ROBOTS = ["franka", "ur5e_inspire"]
KINDS = {"franka": "franka", "ur5e_inspire": "ur"}
CASES = [(robot, distribution) for robot in ROBOTS for distribution in Distribution]


def controller(robot: str, distribution: Distribution) -> tuple[str, dict[str, Any], str]:
    """Return name, parameters and type of the arm's trajectory controller."""
    content = read_parameters(controllers_file(KINDS[robot], distribution))
    (name,) = set(content) - {"controller_manager"}
    kind = content["controller_manager"]["ros__parameters"][name]["type"]
    return name, content[name]["ros__parameters"], kind


@pytest.mark.parametrize(("robot", "distribution"), CASES)
def test_a_controller_is_the_one_that_the_robot_file_commands(
    robot: str, distribution: Distribution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution.value)
    arm = load_robot(robot).group("arm")
    name, parameters, _ = controller(robot, distribution)
    assert arm.command_kind is CommandKind.JOINT_TRAJECTORY
    assert arm.command_topic == f"{name}/joint_trajectory"
    assert tuple(parameters["joints"]) == arm.driver_names


@pytest.mark.parametrize(("robot", "distribution"), CASES)
def test_a_new_trajectory_continues_the_last_command_where_the_distribution_can(
    robot: str, distribution: Distribution
) -> None:
    _, parameters, _ = controller(robot, distribution)
    flags = {key: parameters.get(key) for key in ("open_loop_control", "interpolate_from_desired_state")}
    if distribution is not Distribution.HUMBLE:
        assert flags == {"open_loop_control": None, "interpolate_from_desired_state": True}
    else:
        # On Humble the flag also switches the PID off, which an effort interface cannot do without.
        effort = parameters["command_interfaces"] == ["effort"]
        assert flags == {"open_loop_control": not effort, "interpolate_from_desired_state": None}
    assert parameters["allow_nonzero_velocity_at_trajectory_end"] is False


@pytest.mark.parametrize("distribution", Distribution)
def test_the_ur_controller_scales_with_the_robots_speed(distribution: Distribution) -> None:
    _, parameters, kind = controller("ur5e_inspire", distribution)
    if distribution in (Distribution.LYRICAL, Distribution.ROLLING):
        assert kind == "joint_trajectory_controller/JointTrajectoryController"
        assert parameters["speed_scaling"] == {"state_interface": "speed_scaling/speed_scaling_factor"}
    else:
        assert kind == "ur_controllers/ScaledJointTrajectoryController"


@pytest.mark.parametrize("distribution", Distribution)
def test_the_franka_controller_has_an_effort_interface_with_gains(distribution: Distribution) -> None:
    _, parameters, kind = controller("franka", distribution)
    assert kind == "joint_trajectory_controller/JointTrajectoryController"
    assert parameters["command_interfaces"] == ["effort"]
    assert set(parameters["gains"]) == set(parameters["joints"])
    assert all(gain["p"] > 0 and gain["d"] > 0 and gain["i"] == 0 for gain in parameters["gains"].values())


@pytest.mark.parametrize(("robot", "distribution"), CASES)
def test_the_safety_node_holds_before_the_controller_gives_up(robot: str, distribution: Distribution) -> None:
    """A controller whose tolerance is violated stops following, and tells a topic publisher nothing."""
    _, parameters, _ = controller(robot, distribution)
    constraints = parameters["constraints"]
    assert parameters["cmd_timeout"] > constraints["goal_time"] > 0
    for joint in parameters["joints"]:
        assert constraints[joint]["trajectory"] > load_robot(robot).safety.tracking_error


VENDOR_TOP = {
    "controller_manager": {"ros__parameters": {"joint_state_broadcaster": {"type": "a/B"}, "rate": 500}},
    "arm": {"ros__parameters": {"joints": ["$(var tf_prefix)j1"], "keep": 1, "deep": {"a": 1, "b": 2}}},
}
OURS = {
    "controller_manager": {"ros__parameters": {"arm": {"type": "c/D"}}},
    "arm": {"ros__parameters": {"joints": ["j1", "j2"], "deep": {"b": 3}}},
    "other": {"ros__parameters": {"x": 1}},
}
MERGED_ARM = {"ros__parameters": {"joints": ["j1", "j2"], "keep": 1, "deep": {"a": 1, "b": 3}}}


def test_our_parameters_are_laid_over_the_vendors() -> None:
    both = merged(VENDOR_TOP, OURS)
    assert both["arm"] == MERGED_ARM
    manager = both["controller_manager"]["ros__parameters"]
    assert manager == {"joint_state_broadcaster": {"type": "a/B"}, "rate": 500, "arm": {"type": "c/D"}}
    assert both["other"] == OURS["other"]
    assert VENDOR_TOP["arm"]["ros__parameters"]["joints"] == ["$(var tf_prefix)j1"]


def test_nodes_below_a_wildcard_are_found_there() -> None:
    """franka_ros2 puts its nodes below /**, so that they are found in any namespace; ours must land beside them."""
    both = merged({"/**": VENDOR_TOP}, OURS)
    assert set(both) == {"/**"}
    assert both["/**"]["arm"] == MERGED_ARM
    assert both["/**"]["other"] == OURS["other"]


def test_parameters_of_all_nodes_are_not_taken_for_a_node() -> None:
    both = merged({"/**": {"ros__parameters": {"use_sim_time": False}}}, OURS)
    assert both["/**"] == {"ros__parameters": {"use_sim_time": False}}
    assert both["arm"] == OURS["arm"]


def test_the_merged_file_keeps_the_vendors_substitutions(tmp_path: Path) -> None:
    vendor = tmp_path / "vendor.yaml"
    vendor.write_text(yaml.safe_dump({"io": {"ros__parameters": {"tf_prefix": "$(var tf_prefix)"}}}))
    out = write_merged(vendor, controllers_file("ur", Distribution.JAZZY), tmp_path / "out.yaml")
    content = read_parameters(out)
    assert content["io"]["ros__parameters"]["tf_prefix"] == "$(var tf_prefix)"
    assert "scaled_joint_trajectory_controller" in content


def test_a_vendor_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml cannot be read"):
        read_parameters(tmp_path / "gone.yaml")


def test_a_robot_without_controllers_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no controller parameters for piper.*franka\.humble\.yaml"):
        controllers_file("piper", Distribution.JAZZY)


@pytest.mark.parametrize("name", ["", "foxy"])
def test_an_unknown_distribution_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", name)
    with pytest.raises(ConfigError, match="allowed: humble, jazzy, kilted, lyrical, rolling"):
        distribution_here()
