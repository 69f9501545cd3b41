# SPDX-License-Identifier: Apache-2.0
"""The suite's own processes in a launch, with their parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch_ros.actions import Node

from wam.core.errors import ConfigError
from wam.devices.adapter import AddressedAdapter
from wam.devices.loader import load_robot
from wam.devices.registry import kind_of
from wam.robots.description import NO_DRIVER
from wam.robots.paths import config_dir
from wam.robots.urdf import robot_urdf
from wam.ros.command_line import write_parameters
from wam.ros.security.settings import enclave_of
from wam_bringup.launch_environment import EXECUTOR, ROBOT_NAME, suite_environment, vendor_environment
from wam_bringup.launch_schema import SAFETY_PROFILES, adapter_addresses

PACKAGE = "wam_deploy"
STOP_TIMEOUT_S = "8"
FRAME_PREFIX = "wam/"
"""Prefix of the frames of our own robot_state_publisher, so that they do not conflict with the driver's."""


def gate_process(
    values: Mapping[str, str], *, robot: str = "", nodes: Sequence[str] = (), absent: Sequence[str] = ()
) -> Node:
    """Return a process that ends with 0 once drivers of `robot` report, `nodes` are active, or no `absent` one runs."""
    parameters: dict[str, Any] = {"robot": robot}
    for name, given in (("nodes", nodes), ("absent", absent)):
        if given:
            parameters[name] = list(given)
    return suite_process("wam_gate", {"wam_gate": parameters}, values)


def safety_node(values: Mapping[str, str], parameters: Mapping[str, Any]) -> Node:
    """Return the safety node with its profile.

    Raises:
        ConfigError: there is no such profile.
    """
    profile = values["safety_profile"]
    file = config_dir() / "safety" / f"{profile}.yaml" if profile in SAFETY_PROFILES else Path(profile)
    if not file.is_file():
        raise ConfigError(
            "safety_profile",
            value=profile,
            allowed=f"{', '.join(SAFETY_PROFILES)}, or an existing parameter file",
            where="the launch command",
        )
    # The executor is started beside it, so nobody else may send chunks.
    parameters = {**parameters, "chunk_sender": EXECUTOR}
    return suite_process("wam_safety_node", {"wam_safety": parameters}, values, parameter_file=file)


def driver_nodes(robot: str, values: Mapping[str, str], *, write_enabled: bool) -> list[Node]:
    """Return the suite's own driver of hands and grippers, which also watches the arms and recovers them.

    With `launch_driver:=false` and no `hand_device`, the hand's driver runs already, and that is this node.

    Raises:
        ConfigError: `driver_params` is no file, or there is no node to give it to.
    """
    description = load_robot(robot)
    kinds = {group.driver: kind_of(group) for group in description.groups}
    addressed = any(isinstance(kind.adapter, AddressedAdapter) for kind in kinds.values())
    runs = values["launch_driver"] == "false" and not values["hand_device"]
    file = _parameter_file(values, "driver_params")
    if set(kinds) == {NO_DRIVER} or (addressed and runs):
        if file is not None:
            raise ConfigError(
                "driver_params",
                value=str(file),
                allowed="nothing: this launch starts no wam_driver, and one that runs keeps its parameters",
                where="the launch command; hand_device:=ADDRESS lets it start the hand's driver",
            )
        return []
    parameters: dict[str, Any] = {"robot": robot, "write_enabled": write_enabled}
    if addressed:
        parameters["devices"] = list(adapter_addresses(description, values))
    return [suite_process("wam_driver_node", {"wam_driver": parameters}, values, parameter_file=file)]


def policy_nodes(values: Mapping[str, str], common: Mapping[str, Any]) -> list[Node]:
    """Return planner and executor, in one process or two.

    Raises:
        ConfigError: a number does not parse, or there is no such parameter file.
    """
    common = {
        **common,
        "policy": values["policy"],
        "device": values["device"],
        "backend": values["backend"],
        "threads": int(_number(values, "threads", whole=True)),
    }
    planner: dict[str, Any] = {**common, "instruction": values["instruction"]}
    executor: dict[str, Any] = dict(common)
    for name, parameters in (("plan_period", planner), ("chunk_period", executor)):
        if values[name]:
            parameters["period"] = _number(values, name)
    file = _parameter_file(values, "policy_params")
    if values["composed"] == "true":
        both = {"wam_planner": planner, "wam_executor": executor}
        return [suite_process("wam_bringup", both, values, parameter_file=file)]
    return [
        suite_process("wam_planner_node", {"wam_planner": planner}, values, parameter_file=file),
        suite_process("wam_executor_node", {"wam_executor": executor}, values, parameter_file=file),
    ]


def view_actions(robot: str, values: Mapping[str, str]) -> list[Any]:
    """Return RViz with the suite's own model state, in frames with a prefix: the driver's frames stay its own."""
    view = suite_process("wam_view", {"wam_view": {"robot": robot}}, values)
    description = load_robot(robot)
    publisher = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name="wam_model",
        namespace=values["namespace"],
        parameters=[{"robot_description": robot_urdf(description), "frame_prefix": FRAME_PREFIX}],
        remappings=[
            ("joint_states", "wam_view/joint_states"),
            ("robot_description", "wam_model/robot_description"),
        ],
        additional_env=vendor_environment(values),
    )
    file = config_dir() / "rviz" / f"{description.name}.rviz"
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", str(file)] if file.is_file() else [],
        additional_env=vendor_environment(values),
    )
    return [view, publisher, rviz]


def suite_process(
    executable: str,
    parameters: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, str],
    *,
    parameter_file: Path | None = None,
) -> Node:
    """Return a process of the suite.

    Args:
        executable: its name.
        parameters: node -> parameter -> value, for each node in it.
        values: of the arguments.
        parameter_file: read first, so that `parameters` override it.
    """
    # A process may hold several nodes, which a parameter dictionary of launch_ros cannot tell apart.
    own = write_parameters(Path(tempfile.mkdtemp(prefix="wam_launch_")) / f"{executable}.yaml", parameters)
    arguments = ["--ros-args", "--log-level", values["log_level"]]
    for file in (parameter_file, own):
        if file is not None:
            arguments += ["--params-file", str(file)]
    if values.get("secure") == "true":
        arguments += ["--enclave", enclave_of(values[ROBOT_NAME], executable.removesuffix("_node"))]
    return Node(
        package=PACKAGE,
        executable=executable,
        namespace=values["namespace"],
        arguments=arguments,
        output="screen",
        sigterm_timeout=STOP_TIMEOUT_S,
        additional_env=suite_environment(values),
    )


def _parameter_file(values: Mapping[str, str], name: str) -> Path | None:
    """Return the file that the argument `name` gives, None where it gives none.

    Raises:
        ConfigError: there is no such file.
    """
    if not values[name]:
        return None
    file = Path(values[name]).expanduser()
    if not file.is_file():
        raise ConfigError(
            name, value=str(file), allowed="an existing ROS parameter file", where="the launch command"
        )
    return file


def _number(values: Mapping[str, str], name: str, *, whole: bool = False) -> float:
    try:
        return int(values[name]) if whole else float(values[name])
    except ValueError:
        allowed = "a whole number" if whole else "a number of seconds"
        raise ConfigError(name, value=values[name], allowed=allowed, where="the launch command") from None
