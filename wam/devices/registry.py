# SPDX-License-Identifier: Apache-2.0
"""Which twin answers for which driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wam.core.errors import ConfigError
from wam.devices.controllers import StreamDriver, TrajectoryDriver
from wam.devices.franka.twin import FrankaDriver, GripperDriver
from wam.devices.jtc import ControllerOptions
from wam.devices.jtc.parameters import controller_options, distribution_or_default
from wam.devices.piper.twin import PiperDriver
from wam.devices.twin import DriverTwin
from wam.devices.ur.twin import UrDriver
from wam.robots.description import Distribution, DriverKind, JointGroup, RobotDescription

ARMS: Mapping[DriverKind, Callable[[JointGroup, ControllerOptions | None], TrajectoryDriver]] = {
    DriverKind.FRANKA: FrankaDriver,
    DriverKind.UR: UrDriver,
}
TWINS: Mapping[DriverKind, Callable[[JointGroup], DriverTwin]] = {
    DriverKind.PIPER: PiperDriver,
    DriverKind.FRANKA: FrankaDriver,
    DriverKind.UR: UrDriver,
    DriverKind.FRANKA_GRIPPER: GripperDriver,
    DriverKind.INSPIRE: StreamDriver,
}


def make_driver(group: JointGroup, options: ControllerOptions | None = None) -> DriverTwin:
    """Return the twin of the group's driver.

    Args:
        group: whose driver.
        options: parameters of its trajectory controller, where it has one.

    Raises:
        ConfigError: there is none for this kind of driver, or the group does not fit it.
    """
    arm = ARMS.get(group.driver)
    if arm is not None:
        return arm(group, options)
    twin = TWINS.get(group.driver)
    if twin is None:
        raise ConfigError(
            f"group {group.name} has a driver without a twin",
            value=group.driver.value,
            allowed=", ".join(kind.value for kind in TWINS),
            where="the group's `driver` in the robot file",
        )
    return twin(group)


def make_drivers(robot: RobotDescription, distribution: Distribution | None = None) -> dict[str, DriverTwin]:
    """Return joint group -> twin, trajectory controllers with the parameters of config/controllers.

    Args:
        robot: the robot.
        distribution: whose rules count; None takes that of the environment.

    Raises:
        ConfigError: a group's driver has no twin.
    """
    rules = distribution or distribution_or_default()
    return {
        group.name: make_driver(
            group, controller_options(robot.name, group, rules) if group.driver in ARMS else None
        )
        for group in robot.groups
    }
