# SPDX-License-Identifier: Apache-2.0
"""A vendor's driver in a launch: its launch file, our controller beside its own, and a new start where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from launch.actions import (
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace, SetRemap
from launch_ros.substitutions import FindPackageShare

from wam.devices.launch import VendorDriver
from wam_bringup.controllers import controllers_file, distribution_here
from wam_bringup.launch_environment import vendor_environment

RESPAWN_S = 2.0
"""A driver that ended because its device is not there is not started again faster than this [s]."""


def include_vendor(driver: VendorDriver, values: Mapping[str, str], context: LaunchContext) -> list[Any]:
    """Return what starts a vendor's launch file in its namespace, and our controller beside its own.

    Args:
        driver: whose file, with the values of its arguments.
        values: of our arguments.
        context: of this launch.

    Raises:
        ConfigError: the file lacks an argument that we pass.
    """
    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare(driver.package), "launch", driver.launch_file])
    )
    declared = [one.name for one in source.get_launch_description(context).get_launch_arguments()]
    arguments = driver.fitted(declared, source=source.location)
    inner: list[Any] = [
        *(SetEnvironmentVariable(name, value) for name, value in vendor_environment(values).items()),
        PushRosNamespace("/".join(part for part in (values["namespace"], driver.namespace) if part)),
        *(SetRemap(before, after) for before, after in driver.remaps),
        IncludeLaunchDescription(source, launch_arguments=list(arguments.items())),
    ]
    if driver.spawn:
        files = [controllers_file(name, distribution_here()) for name in driver.controllers]
        # The spawner waits for the controller manager by itself.
        inner.append(
            Node(
                package="controller_manager",
                executable="spawner",
                arguments=[driver.spawn, *(word for file in files for word in ("--param-file", str(file)))],
                output="screen",
            )
        )
    again = [_again(driver, values)] if driver.respawn else []
    return [GroupAction(inner), *again]


def _again(driver: VendorDriver, values: Mapping[str, str]) -> RegisterEventHandler:
    """Return the handler that includes the vendor's file anew whenever the driver's node has ended."""
    namespace = "/" + "/".join(part for part in (values["namespace"], driver.namespace) if part)

    def ended(action: Any) -> bool:
        return (
            isinstance(action, Node)
            and action.node_package == driver.package
            and action.expanded_node_namespace == namespace
        )

    def start(_event: Any, context: LaunchContext) -> list[Any]:
        if context.is_shutdown:
            return []
        text = f"the driver in {namespace} has ended and is started again; its arm has to be enabled again"
        include = OpaqueFunction(
            function=lambda later: include_vendor(replace(driver, respawn=False), values, later)
        )
        return [LogInfo(msg=text), TimerAction(period=RESPAWN_S, actions=[include])]

    return RegisterEventHandler(OnProcessExit(target_action=ended, on_exit=start))
