# SPDX-License-Identifier: Apache-2.0
"""Which twin answers for which driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wam.core.errors import ConfigError
from wam.robots.description import DriverKind, JointGroup
from wam.sim.controllers import StreamDriver, TrajectoryDriver
from wam.sim.driver import DriverTwin, PiperDriver

TWINS: Mapping[DriverKind, Callable[[JointGroup], DriverTwin]] = {
    DriverKind.PIPER: PiperDriver,
    DriverKind.FRANKA: TrajectoryDriver,
    DriverKind.UR: TrajectoryDriver,
    DriverKind.FRANKA_GRIPPER: StreamDriver,
    DriverKind.INSPIRE: StreamDriver,
}


def make_driver(group: JointGroup) -> DriverTwin:
    """Return the twin of the group's driver.

    Raises:
        ConfigError: there is none for this kind of driver, or the group does not fit it.
    """
    twin = TWINS.get(group.driver)
    if twin is None:
        raise ConfigError(
            f"group {group.name} has a driver without a twin",
            value=group.driver.value,
            allowed=", ".join(kind.value for kind in TWINS),
            where="the group's `driver` in the robot file",
        )
    return twin(group)
