# SPDX-License-Identifier: Apache-2.0
"""Launch descriptions made from the schema: every robot's launch file is one call of `robot_launch`.

Start order, by events and never by timers: driver (or simulated robot), safety once every driver reports joint states,
planner and executor once the safety node is active, a recording once those are. Each condition is the exit of a
`wam_gate` process, which logs what is missing until then. Every node configures and activates itself (parameter
`autostart`). Nothing may keep running without the safety process: its exit ends the launch. On Ctrl-C launch interrupts
every process; the safety node stops the arms and holds them before it exits.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_context import LaunchContext
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.description import CommandKind
from wam.robots.loader import DISTRIBUTION_VARIABLE
from wam_bringup.descriptions import with_description
from wam_bringup.launch_checks import require_known, require_policy, summary
from wam_bringup.launch_environment import (
    POLICY,
    ROBOT_NAME,
    SAFETY,
    SIMULATION,
    network_actions,
    security_actions,
    suite_environment,
)
from wam_bringup.launch_processes import (
    driver_nodes,
    gate_process,
    policy_nodes,
    safety_node,
    suite_process,
    view_actions,
)
from wam_bringup.launch_schema import (
    ARGUMENTS,
    POLICY_PARTS,
    REPLAY_ARGUMENTS,
    ROBOT_PARTS,
    LaunchArgument,
    vendor_drivers,
)
from wam_bringup.launch_vendor import include_vendor

CLOCK_RATE_HZ = "200"
"""Rate of /clock in a replay: at the usual 40 Hz time would advance in steps of 25 ms."""


def robot_launch(robot: str, /, **defaults: str) -> LaunchDescription:
    """Return the launch description of `robot`.

    Args:
        robot: default of the argument `robot`: a name in config/robots, or the path of a robot file.
        defaults: other defaults of single arguments, e.g. `simulate="true"`.
    """
    arguments = [
        LaunchArgument(
            "robot", robot, "robot: a name in config/robots, or the path of a robot file (a copy)"
        ),
        *ARGUMENTS,
    ]
    actions = OpaqueFunction(function=_robot_actions, kwargs={"arguments": arguments})
    return LaunchDescription([*_declared(arguments, defaults), actions])


def replay_launch() -> LaunchDescription:
    """Return the launch description that plays a bag to the nodes; the recorded commands are remapped."""
    return LaunchDescription([*_declared(REPLAY_ARGUMENTS, {}), OpaqueFunction(function=_replay_actions)])


def _declared(arguments: Sequence[LaunchArgument], defaults: Mapping[str, str]) -> list[Any]:
    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=defaults.get(argument.name, argument.default),
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for argument in arguments
    ]


def _values(context: LaunchContext, arguments: Sequence[LaunchArgument]) -> dict[str, str]:
    return {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in arguments}


def _robot_actions(context: LaunchContext, *, arguments: Sequence[LaunchArgument]) -> list[Any]:
    require_known(context.launch_configurations, [argument.name for argument in arguments])
    values = _values(context, arguments)
    robot = _model(values["robot"], values["description"])
    simulated = values["simulate"] == "true"
    description = load_robot(robot)
    values[ROBOT_NAME] = description.name
    cameras = bool(description.cameras) and not simulated
    dry_run = values["dry_run"] == "true" and not simulated
    if values["parts"] != ROBOT_PARTS:
        harmless = dry_run or simulated or values["use_mock_hardware"] == "true"
        # Whether the other computer runs dry is not known on the policy's.
        moves = values["parts"] == POLICY_PARTS or not harmless
        values["policy"] = require_policy(values["policy"], moves=moves)
    network = [
        *network_actions(values, cameras=cameras),
        *security_actions(values),
        LogInfo(msg=summary(values, dry_run=dry_run)),
    ]
    ready = gate_process(values, nodes=(SAFETY,))
    policy = [] if values["parts"] == ROBOT_PARTS else policy_nodes(values, {"robot": robot})
    names = POLICY if policy else ()
    if values["parts"] == POLICY_PARTS:
        return [*network, *_beside_nobody(values, names, [*_after(ready, policy), ready])]
    actions: list[Any] = []
    if simulated:
        actions.append(suite_process("wam_sim_node", {SIMULATION: {"robot": robot}}, values))
    elif values["launch_driver"] == "true":
        here = {**values, "distribution": os.environ.get(DISTRIBUTION_VARIABLE, "")}
        for driver in vendor_drivers(description, here):
            actions += include_vendor(driver, values, context)
    if not simulated:
        actions += driver_nodes(robot, values, write_enabled=not dry_run)
    drivers = gate_process(values, robot=robot)
    safety = safety_node(values, {"robot": robot, "dry_run": dry_run, "simulated": simulated})
    if policy:
        actions += [*_after(drivers, [safety, ready]), *_after(ready, policy)]
    else:
        actions += _after(drivers, [safety])
    actions += [*_ending(safety), drivers]
    if values["rviz"] == "true":
        actions += view_actions(robot, values)
    names = (SAFETY, *names, *((SIMULATION,) if simulated else ()))
    return [*network, *_beside_nobody(values, names, actions)]


def _replay_actions(context: LaunchContext) -> list[Any]:
    require_known(context.launch_configurations, [argument.name for argument in REPLAY_ARGUMENTS])
    values = _values(context, REPLAY_ARGUMENTS)
    values["policy"] = require_policy(values["policy"], moves=False)
    if not values["bag"]:
        raise ConfigError(
            "bag", value="", allowed="a recorded bag", where="the launch command: bag:=DIRECTORY"
        )
    robot = values["robot"]
    network = network_actions(values, cameras=False)
    play = ["ros2", "bag", "play", values["bag"], "--clock", CLOCK_RATE_HZ, "--rate", values["rate"]]
    commands = [
        group.command_topic
        for group in load_robot(robot).groups
        if group.command_kind is not CommandKind.NONE
    ]
    if commands:
        # The recording's own commands must not look like ours.
        prefix = f"/{values['namespace']}/".replace("//", "/")
        play += ["--remap", *(f"{prefix}{topic}:=/bag{prefix}{topic}" for topic in commands)]
    simulated_time = {"use_sim_time": True}
    safety = safety_node(values, {"robot": robot, "dry_run": True, **simulated_time})
    policy = policy_nodes(values, {"robot": robot, **simulated_time})
    # The recording starts last, so that nothing of it is missed while nodes load.
    player = ExecuteProcess(cmd=play, output="screen", additional_env=suite_environment(values))
    ready, loaded = gate_process(values, nodes=(SAFETY,)), gate_process(values, nodes=POLICY)
    ended = EmitEvent(event=Shutdown(reason="the recording has ended"))
    actions = [
        *_after(ready, [*policy, loaded]),
        *_after(loaded, [player]),
        *_ending(safety),
        safety,
        ready,
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[ended])),
    ]
    return [*network, *_beside_nobody(values, (SAFETY, *POLICY), actions)]


def _model(robot: str, description: str) -> str:
    """Return the robot to give to the nodes: its name, or a robot file with the description that was asked for."""
    if not description:
        return robot
    folder = Path(tempfile.mkdtemp(prefix="wam_launch_"))
    return str(with_description(robot, Path(description), folder))


class _OnOpened(OnProcessExit):  # type: ignore[misc]
    """Starts the next processes when a gate has opened; a gate that failed or was interrupted ends the launch."""

    def handle(self, event: Any, context: LaunchContext) -> Any:
        """Return what to do after the end of the gate."""
        if event.returncode == 0:
            return super().handle(event, context)
        return EmitEvent(event=Shutdown(reason="a start condition cannot be met"))


def _after(gate: Node, then: Sequence[Any]) -> list[Any]:
    """Return the handler that starts `then` once `gate` has opened."""
    return [RegisterEventHandler(_OnOpened(target_action=gate, on_exit=list(then)))]


def _beside_nobody(values: Mapping[str, str], names: Sequence[str], then: Sequence[Any]) -> list[Any]:
    """Return the actions that start `then` once no other launch has nodes of these names in the namespace."""
    gate = gate_process(values, absent=names)
    return [*_after(gate, then), gate]


def _ending(safety: Node) -> list[Any]:
    """Return the handler that ends everything with the safety process."""
    ending = EmitEvent(event=Shutdown(reason="the safety process has exited"))
    return [RegisterEventHandler(OnProcessExit(target_action=safety, on_exit=[ending]))]
