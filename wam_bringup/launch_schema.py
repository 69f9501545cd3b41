# SPDX-License-Identifier: Apache-2.0
"""One schema of launch arguments for every robot, and its mapping to the vendors' launch files. Imports no launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wam.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LaunchArgument:
    """One argument that every launch file of the suite has.

    Attributes:
        name: as typed after `ros2 launch ... `.
        default: value when it is left out.
        description: one sentence for `ros2 launch ... --show-args`.
        choices: legal values; empty for any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


BOOLEAN = ("true", "false")

ARGUMENTS: tuple[LaunchArgument, ...] = (
    LaunchArgument("policy", "fake", "directory of a policy bundle, or a built-in name (fake, aha_wam/tiny)"),
    LaunchArgument("instruction", "", "task text; empty takes the policy's own"),
    LaunchArgument(
        "dry_run", "true", "run everything and send nothing; set false to move the robot", BOOLEAN
    ),
    LaunchArgument(
        "safety_profile", "normal", "parameters of the safety node: normal, cautious, or a parameter file"
    ),
    LaunchArgument("robot_ip", "", "address of the robot's controller (Franka, UR)"),
    LaunchArgument("can_ports", "can_left,can_right", "CAN interfaces, comma separated (Piper: left, right)"),
    LaunchArgument(
        "hand_device",
        "",
        "where the hand is: serial:PORT#ID, modbus:HOST:PORT#UNIT, or jtc behind a trajectory controller; mock with "
        "mock hardware",
    ),
    LaunchArgument("use_mock_hardware", "false", "let the vendor's driver pretend a robot", BOOLEAN),
    LaunchArgument("launch_driver", "true", "start the vendor's driver; false when it runs already", BOOLEAN),
    LaunchArgument("simulate", "false", "start the suite's simulated robot in place of the driver", BOOLEAN),
    LaunchArgument("composed", "true", "planner and executor in one process", BOOLEAN),
    LaunchArgument("namespace", "", "namespace of every node of the suite"),
    LaunchArgument("rviz", "false", "show model, cameras and commands in RViz", BOOLEAN),
    LaunchArgument(
        "description",
        "",
        "URDF or xacro to use in place of the suite's own, e.g. the vendor's; empty takes ours",
    ),
    LaunchArgument("log_level", "info", "log level of the suite's nodes", ("debug", "info", "warn", "error")),
)
"""Deployment facts only; tuning lives in config/."""


@dataclass(frozen=True, slots=True)
class VendorDriver:
    """A vendor's launch file with our arguments filled in.

    Attributes:
        package: ROS package of the vendor.
        launch_file: file in its `launch/` directory.
        namespace: namespace of the driver; "" for none.
        arguments: the vendor's argument names with values.
        controllers_argument: the vendor's argument for a controllers file; "" where it has none.
        controllers_file: the vendor's own controllers file, in its share directory.
        controllers: ours are config/controllers/CONTROLLERS.DISTRIBUTION.yaml, laid over the vendor's.
        spawn: controllers that the vendor's file does not start.
    """

    package: str
    launch_file: str
    namespace: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    controllers_argument: str = ""
    controllers_file: str = ""
    controllers: str = ""
    spawn: tuple[str, ...] = ()


def piper_drivers(arguments: Mapping[str, str]) -> tuple[VendorDriver, ...]:
    """Return the two Piper drivers (piper_ros, package `piper`), one CAN interface each.

    Raises:
        ConfigError: `can_ports` does not name two interfaces, or a mock was asked for, which piper_ros lacks.
    """
    if arguments["use_mock_hardware"] == "true":
        raise ConfigError(
            "use_mock_hardware",
            value="true",
            allowed="false: piper_ros has no mock hardware",
            where="the launch command; use simulate:=true instead",
        )
    ports = tuple(port.strip() for port in arguments["can_ports"].split(",") if port.strip())
    if len(ports) != 2 or ports[0] == ports[1]:
        raise ConfigError(
            "can_ports",
            value=arguments["can_ports"],
            allowed="two different CAN interfaces, left then right, e.g. can_left,can_right",
            where="the launch command",
        )
    return tuple(
        VendorDriver(
            package="piper",
            launch_file="start_single_piper.launch.py",
            namespace=side,
            # "gripper_val_mutiple" is the vendor's spelling; 1 means that commands are full widths in metres.
            arguments={
                "can_port": port,
                "auto_enable": "false",
                "gripper_exist": "true",
                "gripper_val_mutiple": "1",
            },
        )
        for side, port in zip(("left", "right"), ports, strict=True)
    )


def franka_drivers(arguments: Mapping[str, str]) -> tuple[VendorDriver, ...]:
    """Return the driver of the FR3 (franka_ros2, package `franka_bringup`), which starts no trajectory controller.

    Raises:
        ConfigError: there is neither an address nor mock hardware.
    """
    return (
        VendorDriver(
            package="franka_bringup",
            launch_file="franka.launch.py",
            namespace="",
            arguments={
                "robot_type": "fr3",
                "robot_ip": _address(arguments),
                "load_gripper": "true",
                "use_fake_hardware": arguments["use_mock_hardware"],
                # Ours is pushed around the whole file; the vendor's would be added to it.
                "namespace": "",
            },
            controllers_argument="controllers_yaml",
            controllers_file="config/controllers.yaml",
            controllers="franka",
            spawn=("fr3_arm_controller",),
        ),
    )


def ur_drivers(arguments: Mapping[str, str]) -> tuple[VendorDriver, ...]:
    """Return the driver of the UR5e (ur_robot_driver).

    Raises:
        ConfigError: there is neither an address nor mock hardware, or a namespace, which the vendor's file lacks.
    """
    if arguments["namespace"]:
        raise ConfigError(
            "namespace",
            value=arguments["namespace"],
            allowed="none: ur_control.launch.py asks for /controller_manager",
            where="the launch command; start the driver yourself and use launch_driver:=false",
        )
    lyrical = arguments.get("distribution", "") in ("lyrical", "rolling")
    return (
        VendorDriver(
            package="ur_robot_driver",
            launch_file="ur_control.launch.py",
            namespace="",
            arguments={
                "ur_type": "ur5e",
                "robot_ip": _address(arguments),
                # Humble has another word for the same thing.
                (
                    "use_fake_hardware" if arguments.get("distribution") == "humble" else "use_mock_hardware"
                ): arguments["use_mock_hardware"],
                "initial_joint_controller": f"{'' if lyrical else 'scaled_'}joint_trajectory_controller",
                "launch_rviz": "false",
            },
            controllers_argument="controllers_file",
            controllers_file="config/ur_controllers.yaml",
            controllers="ur",
        ),
    )


def hand_devices(arguments: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return where each of `count` hands is, for the suite's own driver node.

    Raises:
        ConfigError: `hand_device` names another number of hands and they are not mocked.
    """
    if arguments["use_mock_hardware"] == "true":
        return ("mock",) * count
    devices = tuple(arguments["hand_device"].replace(",", " ").split())
    if len(devices) != count:
        raise ConfigError(
            "hand_device",
            value=arguments["hand_device"],
            allowed=f"{count} of serial:PORT#ID, modbus:HOST:PORT#UNIT or jtc, or use_mock_hardware:=true",
            where="the launch command",
        )
    return devices


def _address(arguments: Mapping[str, str]) -> str:
    address = arguments["robot_ip"].strip()
    if address:
        return address
    if arguments["use_mock_hardware"] == "true":
        return "127.0.0.1"  # the vendors' files want one even where nothing listens
    raise ConfigError(
        "robot_ip",
        value="",
        allowed="the address of the robot's controller, or use_mock_hardware:=true",
        where="the launch command",
    )


Drivers = Callable[[Mapping[str, str]], tuple[VendorDriver, ...]]

DRIVERS: Mapping[str, Drivers] = {
    "piper": piper_drivers,
    "franka": franka_drivers,
    "ur5e_inspire": ur_drivers,
}
"""Robot -> function that fills in its vendor's launch files from our arguments and `distribution`."""

SAFETY_PROFILES = ("normal", "cautious")

REPLAY_ARGUMENTS: tuple[LaunchArgument, ...] = (
    LaunchArgument("bag", "", "recorded bag: a directory"),
    LaunchArgument("robot", "piper", "robot of the recording: a name in config/robots or a file"),
    LaunchArgument("rate", "1.0", "speed of the recording"),
    *(
        one
        for one in ARGUMENTS
        if one.name in ("policy", "instruction", "composed", "namespace", "safety_profile", "log_level")
    ),
)
"""Arguments of replay.launch.py; nothing is ever commanded there."""
