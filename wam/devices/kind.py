# SPDX-License-Identifier: Apache-2.0
"""What the suite knows of one kind of device: one row of the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wam.devices.jtc import ControllerOptions
from wam.devices.rules import DeviceRule
from wam.devices.twin import DriverTwin
from wam.robots.description import JointGroup

MakeTwin = Callable[[JointGroup, ControllerOptions | None], DriverTwin]
"""Makes the simulated driver of a group; the options are those of its trajectory controller, where it has one."""


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """One kind of device: everything that depends on which device a joint group is.

    Attributes:
        name: `driver` of a joint group in a robot file.
        title: device and driver, for people.
        rule: what its driver requires of the joint group.
        twin: makes its simulated driver; None where it cannot be simulated.
        controllers: its controller parameters are config/controllers/CONTROLLERS.DISTRIBUTION.yaml; "" for none.
    """

    name: str
    title: str
    rule: DeviceRule
    twin: MakeTwin | None = None
    controllers: str = ""
