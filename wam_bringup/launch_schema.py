# SPDX-License-Identifier: Apache-2.0
"""One schema of launch arguments for every robot, and the vendors' launch files of its devices. Imports no launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wam.core.errors import ConfigError
from wam.devices.adapter import AddressedAdapter
from wam.devices.launch import VendorDriver
from wam.devices.registry import KINDS, kind_of
from wam.robots.description import CommandKind, RobotDescription


@dataclass(frozen=True, slots=True)
class LaunchArgument:
    """One argument that every launch file of the suite has.

    Attributes:
        name: name as typed after `ros2 launch ... `.
        default: value if it is omitted.
        description: one sentence for `ros2 launch ... --show-args`.
        choices: legal values; empty for any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


BOOLEAN = ("true", "false")
ALL, ROBOT_PARTS, POLICY_PARTS = PARTS = ("all", "robot", "policy")
"""What one launch starts: everything, driver and safety node, or planner and executor."""

ARGUMENTS: tuple[LaunchArgument, ...] = (
    LaunchArgument(
        "policy",
        "",
        "directory of a policy bundle, or its name in wam info (fake, aha_wam/random); empty: fake, but for an arm "
        "that is sent commands",
    ),
    LaunchArgument(
        "device", "auto", "device of the policy: auto (CUDA where there is one, else the CPU), cpu, cuda:N"
    ),
    LaunchArgument(
        "backend",
        "auto",
        "backend of the network, or of single stages (auto, denoise: eager); auto: the best that is possible",
    ),
    LaunchArgument("threads", "1", "CPU threads of the policy's tensor library, per node"),
    LaunchArgument(
        "plan_period", "", "least time between two prefills [s]; empty: the planner node's default"
    ),
    LaunchArgument("chunk_period", "", "time between two chunks [s]; empty: the executor node's default"),
    LaunchArgument(
        "policy_params",
        "",
        "parameter file for planner and executor; other arguments of this launch override it",
    ),
    LaunchArgument("instruction", "", "task text; empty: the policy's default"),
    LaunchArgument(
        "dry_run", "true", "run all nodes but send no commands; set false to move the robot", BOOLEAN
    ),
    LaunchArgument(
        "safety_profile", "normal", "parameters of the safety node: normal, cautious, or a parameter file"
    ),
    LaunchArgument("robot_ip", "", "address of the robot's controller (Franka, UR)"),
    LaunchArgument("can_ports", "can_left,can_right", "CAN interfaces, comma separated (Piper: left, right)"),
    LaunchArgument(
        "hand_device",
        "",
        "address of the hand: serial:PORT#ID, modbus:HOST:PORT#UNIT, or jtc for a hand behind a trajectory controller; "
        "not used with use_mock_hardware:=true",
    ),
    LaunchArgument(
        "driver_params",
        "",
        "parameter file for the suite's own driver node, wam_driver (speed, force, temperature_limit, recover_moving, "
        "...); other arguments of this launch override it",
    ),
    LaunchArgument("use_mock_hardware", "false", "use the mock hardware of the vendor's driver", BOOLEAN),
    LaunchArgument(
        "launch_driver", "true", "start the vendor's driver; false if it is already running", BOOLEAN
    ),
    LaunchArgument("simulate", "false", "start the suite's simulated robot instead of the driver", BOOLEAN),
    LaunchArgument(
        "parts",
        ALL,
        "what to start here: all; robot (drivers and safety node), on the robot's computer; policy (planner and "
        "executor), on the one with the GPU",
        PARTS,
    ),
    LaunchArgument("composed", "true", "run planner and executor in one process", BOOLEAN),
    LaunchArgument("namespace", "", "namespace of every node of the suite"),
    LaunchArgument("rviz", "false", "show model, cameras and commands in RViz", BOOLEAN),
    LaunchArgument(
        "description",
        "",
        "URDF or xacro to use instead of the suite's, e.g. the vendor's; empty: the suite's",
    ),
    LaunchArgument("log_level", "info", "log level of the suite's nodes", ("debug", "info", "warn", "error")),
    LaunchArgument(
        "allow_domain_0",
        "false",
        "run on ROS domain 0, where every ROS 2 process starts that was told nothing",
        BOOLEAN,
    ),
    LaunchArgument(
        "dds_profile",
        "",
        "Fast DDS profile of the suite's processes, never of a vendor's: a file, or suite for the suite's own; empty: "
        "what the shell says; where it says nothing, the suite's for a simulated robot or a recording",
    ),
    LaunchArgument(
        "secure", "false", "let only processes with a key of this robot take part (DDS security)", BOOLEAN
    ),
    LaunchArgument("keystore", "", "folder that `wam secure` wrote; needed with secure:=true"),
)
"""Deployment facts only; tuning lives in config/."""


def vendor_drivers(robot: RobotDescription, arguments: Mapping[str, str]) -> tuple[VendorDriver, ...]:
    """Return the vendors' launch files of a robot's devices, with our arguments filled in.

    Args:
        robot: its groups name their kinds of device.
        arguments: values of `ARGUMENTS`, and `distribution`: name of the ROS 2 distribution, or "".

    Raises:
        ConfigError: an argument does not fit, or a joint group is commanded and has no driver that can be started.
    """
    kinds = {group.driver: kind_of(group) for group in robot.groups}
    for group in robot.groups:
        kind = kinds[group.driver]
        if kind.launch is None and kind.adapter is None and group.command_kind is not CommandKind.NONE:
            raise ConfigError(
                f"robot {robot.name} has no driver to start: group {group.name} has driver {kind.name}",
                allowed=", ".join(one.name for one in KINDS.values() if one.launch is not None),
                where="the launch command; use launch_driver:=false or simulate:=true",
            )
    return tuple(
        driver
        for kind in kinds.values()
        if kind.launch is not None
        for driver in kind.launch(robot, arguments)
    )


def adapter_addresses(robot: RobotDescription, arguments: Mapping[str, str]) -> tuple[str, ...]:
    """Return the address of each device that the suite's own driver node reaches by one, in the robot's order.

    Raises:
        ConfigError: the arguments do not name as many addresses as the robot has such devices.
    """
    found: dict[str, str] = {}
    for kind in {group.driver: kind_of(group) for group in robot.groups}.values():
        if isinstance(kind.adapter, AddressedAdapter):
            groups = robot.groups_of(kind.name)
            addresses = kind.adapter.addresses(arguments, len(groups))
            found.update(zip((group.name for group in groups), addresses, strict=True))
    return tuple(found[group.name] for group in robot.groups if group.name in found)


SAFETY_PROFILES = ("normal", "cautious")

REPLAY_ARGUMENTS: tuple[LaunchArgument, ...] = (
    LaunchArgument("bag", "", "directory of the recorded bag"),
    LaunchArgument("robot", "piper", "robot of the recording: a name in config/robots, or a robot file"),
    LaunchArgument("rate", "1.0", "playback speed; 1 is real time"),
    *(
        one
        for one in ARGUMENTS
        if one.name
        in (
            "policy",
            "device",
            "backend",
            "threads",
            "plan_period",
            "chunk_period",
            "policy_params",
            "instruction",
            "composed",
            "namespace",
            "safety_profile",
            "log_level",
            "allow_domain_0",
            "dds_profile",
        )
    ),
)
"""Arguments of replay.launch.py, which never sends commands."""
