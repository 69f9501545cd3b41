# SPDX-License-Identifier: Apache-2.0
"""One schema of launch arguments for every robot, and its mapping to the vendors' launch files. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    LaunchArgument("robot_ip", "", "address of the robot's controller (Franka, UR)"),
    LaunchArgument("can_ports", "can_left,can_right", "CAN interfaces, comma separated (Piper: left, right)"),
    LaunchArgument("use_mock_hardware", "false", "let the vendor's driver pretend a robot", BOOLEAN),
    LaunchArgument("launch_driver", "true", "start the vendor's driver; false when it runs already", BOOLEAN),
    LaunchArgument("simulate", "false", "start the suite's simulated robot in place of the driver", BOOLEAN),
    LaunchArgument("composed", "true", "planner and executor in one process", BOOLEAN),
    LaunchArgument("namespace", "", "namespace of every node of the suite"),
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
    """

    package: str
    launch_file: str
    namespace: str
    arguments: Mapping[str, str]


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


DRIVERS = {"piper": piper_drivers}
"""Robot -> function that fills in its vendor's launch files."""
