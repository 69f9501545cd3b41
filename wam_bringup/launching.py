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
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_context import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace, SetRemap
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription
from wam.core.errors import ConfigError
from wam.devices.adapter import AddressedAdapter
from wam.devices.launch import VendorDriver
from wam.devices.loader import load_robot
from wam.devices.registry import kind_of
from wam.robots.description import NO_DRIVER, CommandKind
from wam.robots.loader import DISTRIBUTION_VARIABLE
from wam.robots.paths import config_dir
from wam.robots.urdf import robot_urdf
from wam.ros.command_line import write_parameters
from wam.ros.environment import (
    PROFILE,
    RANGE,
    images_remedy,
    launch_settings,
    network_of,
    suite_profile,
)
from wam.ros.security.settings import OVERRIDE, enclave_of, security_settings
from wam.ros.security.suite import VENDOR
from wam_bringup.controllers import controllers_file, distribution_here
from wam_bringup.descriptions import with_description
from wam_bringup.launch_schema import (
    ARGUMENTS,
    REPLAY_ARGUMENTS,
    SAFETY_PROFILES,
    LaunchArgument,
    adapter_addresses,
    vendor_drivers,
)

PACKAGE = "wam_deploy"
EXECUTOR = "wam_executor"
SAFETY, POLICY = "wam_safety", ("wam_planner", EXECUTOR)
ROBOT_NAME = "robot_name"
"""Key under which the values of a launch hold the name of the robot."""

STOP_TIMEOUT_S = "8"
RESPAWN_S = 2.0
"""A driver that ended because its device is not there is not started again faster than this [s]."""
SUITE_PROFILE = "suite"
"""Value of `dds_profile` that takes the suite's profile for the discovery range."""

CLOCK_RATE_HZ = "200"
"""Rate of /clock in a replay: at the usual 40 Hz time would advance in steps of 25 ms."""

FRAME_PREFIX = "wam/"
"""Prefix of the frames of our own robot_state_publisher, so that they do not conflict with the driver's."""


def robot_launch(robot: str, /, **defaults: str) -> LaunchDescription:
    """Return the launch description of `robot`.

    Args:
        robot: a name in config/robots, or the path of a robot file.
        defaults: other defaults of single arguments, e.g. `simulate="true"`; `robot` makes the robot an argument.
    """
    arguments = list(ARGUMENTS)
    if "robot" in defaults:
        arguments.insert(
            0, LaunchArgument("robot", robot, "robot: a name in config/robots or the path of a YAML file")
        )
    actions = OpaqueFunction(function=_robot_actions, kwargs={"robot": robot, "arguments": arguments})
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


def _robot_actions(context: LaunchContext, *, robot: str, arguments: Sequence[LaunchArgument]) -> list[Any]:
    values = _values(context, arguments)
    robot = _model(values.get("robot", robot), values["description"])
    simulated = values["simulate"] == "true"
    description = load_robot(robot)
    values[ROBOT_NAME] = description.name
    cameras = bool(description.cameras) and not simulated
    actions: list[Any] = [*_network(values, cameras=cameras), *_security(values)]
    dry_run = values["dry_run"] == "true" and not simulated
    if simulated:
        actions.append(_process("wam_sim_node", {"wam_sim": {"robot": robot}}, values))
    elif values["launch_driver"] == "true":
        here = {**values, "distribution": os.environ.get(DISTRIBUTION_VARIABLE, "")}
        for driver in vendor_drivers(description, here):
            actions += _include(driver, values, context)
    if not simulated:
        actions += _adapter(robot, values, write_enabled=not dry_run)
    drivers = _gate(values, robot=robot)
    safety = _safety(values, {"robot": robot, "dry_run": dry_run, "simulated": simulated})
    ready = _gate(values, nodes=(SAFETY,))
    policy = _policy(values, {"robot": robot})
    actions += [*_after(drivers, [safety, ready]), *_after(ready, policy), *_ending(safety), drivers]
    if values["rviz"] == "true":
        actions += _rviz(robot, values)
    return actions


def _replay_actions(context: LaunchContext) -> list[Any]:
    values = _values(context, REPLAY_ARGUMENTS)
    if not values["bag"]:
        raise ConfigError(
            "bag", value="", allowed="a recorded bag", where="the launch command: bag:=DIRECTORY"
        )
    robot = values["robot"]
    network = _network(values, cameras=False)
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
    safety = _safety(values, {"robot": robot, "dry_run": True, **simulated_time})
    policy = _policy(values, {"robot": robot, **simulated_time})
    # The recording starts last, so that nothing of it is missed while nodes load.
    player = ExecuteProcess(cmd=play, output="screen", additional_env=_profile(values))
    ready, loaded = _gate(values, nodes=(SAFETY,)), _gate(values, nodes=POLICY)
    return [
        *network,
        *_after(ready, [*policy, loaded]),
        *_after(loaded, [player]),
        *_ending(safety),
        safety,
        ready,
        RegisterEventHandler(
            OnProcessExit(
                target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the recording has ended"))]
            )
        ),
    ]


def _model(robot: str, description: str) -> str:
    """Return the robot to give to the nodes: its name, or a robot file with the description that was asked for."""
    if not description:
        return robot
    folder = Path(tempfile.mkdtemp(prefix="wam_launch_"))
    return str(with_description(robot, Path(description), folder))


def _network(values: dict[str, str], *, cameras: bool) -> list[Any]:
    """Return what gives every process domain and range of this launch, and says which they are.

    The Fast DDS profile is noted in `values` for the suite's own processes. Those of a vendor keep what the shell says,
    and so do the suite's where the robot is a real one: the profile has to suit drivers on other computers as well.

    Args:
        values: of the arguments.
        cameras: whether images come from a process that this launch does not start.

    Raises:
        ConfigError: ROS_DOMAIN_ID is missing or 0 and not allowed, a variable has no legal value, or there is no such
            profile.
    """
    settings = launch_settings(os.environ, allow_domain_0=values["allow_domain_0"] == "true")
    given = values["dds_profile"]
    # A simulated robot or a recording is on this computer, and its images need the large segments.
    if not given and values.get("simulate", "true") == "true" and not os.environ.get(PROFILE):
        given = SUITE_PROFILE
    profile = suite_profile(settings[RANGE]) if given == SUITE_PROFILE else Path(given).expanduser().resolve()
    if given and not profile.is_file():
        raise ConfigError(
            "dds_profile",
            value=given,
            allowed=f"an existing Fast DDS profile, or {SUITE_PROFILE}",
            where="the launch command",
        )
    values[PROFILE] = str(profile) if given else ""
    network = network_of({**os.environ, **settings, **_profile(values)})
    told = [f"{network}"]
    if cameras and network.drops_images:
        told.append(f"{images_remedy(network)} (dds_profile:={SUITE_PROFILE}: for the suite's nodes)")
    return [
        *(SetEnvironmentVariable(name, value) for name, value in settings.items()),
        *(LogInfo(msg=line) for line in told),
    ]


def _profile(values: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that gives the suite's own processes the profile of this launch; nothing for the shell's."""
    return {PROFILE: values[PROFILE]} if values[PROFILE] else {}


def _security(values: Mapping[str, str]) -> list[SetEnvironmentVariable]:
    """Return what makes every process refuse to run without its key, once all of the keys have been found usable.

    Raises:
        ConfigError: there is no keystore, or it does not fit this robot, domain and moment.
    """
    if values["secure"] != "true":
        return []
    if not values["keystore"]:
        raise ConfigError(
            "secure:=true needs the keys of the robot",
            allowed="the folder that `wam secure ROBOT --out DIR` wrote",
            where="the launch command: keystore:=DIR",
        )
    policy = ("wam_bringup",) if values["composed"] == "true" else POLICY
    drivers = ("wam_sim",) if values["simulate"] == "true" else ("wam_driver", VENDOR)
    viewers = ("wam_view", VENDOR) if values["rviz"] == "true" else ()
    names = dict.fromkeys((SAFETY, "wam_gate", *policy, *drivers, *viewers))
    settings = security_settings(
        Path(values["keystore"]).expanduser(),
        [enclave_of(values[ROBOT_NAME], name) for name in names],
        environment=os.environ,
    )
    return [SetEnvironmentVariable(name, value) for name, value in settings.items()]


def _vendors_key(values: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that gives processes of others their key; nothing without security."""
    secure = values.get("secure") == "true"
    return {OVERRIDE: enclave_of(values[ROBOT_NAME], VENDOR)} if secure else {}


def _gate(values: Mapping[str, str], *, robot: str = "", nodes: Sequence[str] = ()) -> Node:
    """Return a process that ends with 0 once the drivers of `robot` report, or the `nodes` are active."""
    parameters: dict[str, Any] = {"robot": robot}
    if nodes:
        parameters["nodes"] = list(nodes)
    return _process("wam_gate", {"wam_gate": parameters}, values)


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


def _ending(safety: Node) -> list[Any]:
    """Return the handler that ends everything with the safety process."""
    ending = EmitEvent(event=Shutdown(reason="the safety process has exited"))
    return [RegisterEventHandler(OnProcessExit(target_action=safety, on_exit=[ending]))]


def _safety(values: Mapping[str, str], parameters: Mapping[str, Any]) -> Node:
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
    return _process("wam_safety_node", {"wam_safety": parameters}, values, parameter_file=file)


def _adapter(robot: str, values: Mapping[str, str], *, write_enabled: bool) -> list[Node]:
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
    return [_process("wam_driver_node", {"wam_driver": parameters}, values, parameter_file=file)]


def _policy(values: Mapping[str, str], common: Mapping[str, Any]) -> list[Node]:
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
        return [_process("wam_bringup", both, values, parameter_file=file)]
    return [
        _process("wam_planner_node", {"wam_planner": planner}, values, parameter_file=file),
        _process("wam_executor_node", {"wam_executor": executor}, values, parameter_file=file),
    ]


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


def _rviz(robot: str, values: Mapping[str, str]) -> list[Any]:
    """Return RViz with the suite's own model state, in frames with a prefix: the driver's frames stay its own."""
    view = _process("wam_view", {"wam_view": {"robot": robot}}, values)
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
        additional_env=_vendors_key(values),
    )
    file = config_dir() / "rviz" / f"{description.name}.rviz"
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", str(file)] if file.is_file() else [],
        additional_env=_vendors_key(values),
    )
    return [view, publisher, rviz]


def _process(
    executable: str,
    parameters: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, str],
    *,
    parameter_file: Path | None = None,
) -> Node:
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
        additional_env=_profile(values),
    )


def _include(driver: VendorDriver, values: Mapping[str, str], context: LaunchContext) -> list[Any]:
    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare(driver.package), "launch", driver.launch_file])
    )
    declared = [one.name for one in source.get_launch_description(context).get_launch_arguments()]
    arguments = driver.fitted(declared, source=source.location)
    inner: list[Any] = [
        *(SetEnvironmentVariable(name, value) for name, value in _vendors_key(values).items()),
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
            function=lambda later: _include(replace(driver, respawn=False), values, later)
        )
        return [LogInfo(msg=text), TimerAction(period=RESPAWN_S, actions=[include])]

    return RegisterEventHandler(OnProcessExit(target_action=ended, on_exit=start))
