# SPDX-License-Identifier: Apache-2.0
"""Launch descriptions made from the schema: every robot's launch file is one call of `robot_launch`.

Start order: driver (or simulated robot), safety, then planner and executor. Every node configures and activates
itself (parameter `autostart`); the safety node waits for joint states and the executor for a context by themselves,
so the order never hangs on a timer. On Ctrl-C launch interrupts every process; the safety node brings the arms to a
held stop before it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from wam.robots.paths import config_dir
from wam.ros.command_line import yaml_scalar
from wam_bringup.launch_schema import ARGUMENTS, DRIVERS, VendorDriver

PACKAGE = "wam_deploy"
STOP_TIMEOUT_S = "8"


def robot_launch(robot: str, **defaults: str) -> LaunchDescription:
    """Return the launch description of `robot`.

    Args:
        robot: name in config/robots.
        defaults: other defaults of single arguments, e.g. `simulate="true"`.
    """
    declared = [
        DeclareLaunchArgument(
            argument.name,
            default_value=defaults.get(argument.name, argument.default),
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions, kwargs={"robot": robot})])


def _actions(context: LaunchContext, *, robot: str) -> list[Any]:
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    simulated = values["simulate"] == "true"
    actions: list[Any] = [
        SetEnvironmentVariable("FASTDDS_DEFAULT_PROFILES_FILE", str(config_dir() / "dds" / "fastdds_shm.xml"))
    ]
    if simulated:
        actions.append(_process("wam_sim_node", {"wam_sim": {"robot": robot}}, values))
    elif values["launch_driver"] == "true":
        actions += [_include(driver, values["namespace"]) for driver in DRIVERS[robot](values)]
    dry_run = values["dry_run"] == "true" and not simulated
    actions.append(_process("wam_safety_node", {"wam_safety": {"robot": robot, "dry_run": dry_run}}, values))
    policy = {"robot": robot, "policy": values["policy"]}
    planner = {**policy, "instruction": values["instruction"]}
    if values["composed"] == "true":
        actions.append(_process("wam_bringup", {"wam_planner": planner, "wam_executor": policy}, values))
    else:
        actions.append(_process("wam_planner_node", {"wam_planner": planner}, values))
        actions.append(_process("wam_executor_node", {"wam_executor": policy}, values))
    return actions


def _process(executable: str, parameters: Mapping[str, Mapping[str, Any]], values: Mapping[str, str]) -> Node:
    # A process may hold several nodes, which a parameter dictionary of launch_ros cannot tell apart.
    arguments = ["--ros-args", "--log-level", values["log_level"]]
    for node, pairs in parameters.items():
        for name, value in pairs.items():
            arguments += ["-p", f"{node}:{name}:={yaml_scalar(value)}"]
    return Node(
        package=PACKAGE,
        executable=executable,
        namespace=values["namespace"],
        arguments=arguments,
        output="screen",
        sigterm_timeout=STOP_TIMEOUT_S,
    )


def _include(driver: VendorDriver, namespace: str) -> GroupAction:
    source = PathJoinSubstitution([FindPackageShare(driver.package), "launch", driver.launch_file])
    return GroupAction(
        [
            PushRosNamespace("/".join(part for part in (namespace, driver.namespace) if part)),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(source), launch_arguments=list(driver.arguments.items())
            ),
        ]
    )
