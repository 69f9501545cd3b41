# SPDX-License-Identifier: Apache-2.0
"""A vendor's launch file as a kind of device fills it in. Imports no launch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wam.core.errors import ConfigError
from wam.robots.description import JointGroup, RobotDescription


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
        controllers: our parameters, config/controllers/CONTROLLERS.DISTRIBUTION.yaml, are laid over that file.
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


VendorLaunch = Callable[[RobotDescription, Mapping[str, str]], tuple[VendorDriver, ...]]
"""Fills in the vendor's launch files for all groups of a kind, from the launch arguments of the suite.

The arguments are those of `wam_bringup.launch_schema`, and `distribution`: the name of the ROS 2 distribution.
It raises ConfigError where one of them does not fit.
"""


def controller_address(arguments: Mapping[str, str]) -> str:
    """Return the address of the robot's controller.

    Raises:
        ConfigError: there is neither an address nor mock hardware.
    """
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


def only_group(robot: RobotDescription, kind: str) -> JointGroup:
    """Return the one group of a kind whose launch file starts a single arm.

    Raises:
        ConfigError: the robot has several.
    """
    groups = robot.groups_of(kind)
    if len(groups) != 1:
        raise ConfigError(
            f"robot {robot.name} has several arms with driver {kind}",
            value=", ".join(group.name for group in groups),
            allowed="one: the vendor's launch file starts one arm",
            where="the launch command; start the drivers yourself and use launch_driver:=false",
        )
    return groups[0]
