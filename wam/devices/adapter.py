# SPDX-License-Identifier: Apache-2.0
"""Devices that the suite's own driver node drives: the adapter of a kind, without ROS."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wam.devices.state import DriverState
from wam.robots.description import JointGroup


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Parameters of the driver node that adapters read; each takes those that its device has.

    Attributes:
        write_enabled: commands are allowed from the start.
        rate: cycles per second [Hz].
        speed: of the fingers, raw.
        force: limit of each finger, raw.
        temperature_limit: at which the device stops closing [degC].
        dead_band: smaller changes of a target are not written, raw.
        where: the node and its parameters, for error texts.
    """

    write_enabled: bool
    rate: float
    speed: int
    force: int
    temperature_limit: int
    dead_band: int
    where: str


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What one cycle has to publish: joints in the order of the group.

    Attributes:
        stamp_ns: when the positions were read [ns].
        names: driver's joint names.
        positions: [rad, m or 1].
        efforts: [N m or N].
    """

    stamp_ns: int
    names: tuple[str, ...]
    positions: tuple[float, ...]
    efforts: tuple[float, ...]


class DeviceCycle(Protocol):
    """One device in cycles. Commands and calls come from any thread, steps from one; `HandCycle` is the example."""

    @property
    def group(self) -> JointGroup:
        """Its joint group."""
        ...

    def offer_trajectory(
        self,
        names: Sequence[str],
        times_ns: Sequence[int],
        positions: Sequence[Sequence[float]],
        *,
        start_ns: int,
    ) -> None:
        """Take a rolling trajectory; JointError where it does not fit, and the former one stays."""
        ...

    def offer_positions(self, names: Sequence[str], positions: Sequence[float], *, stamp_ns: int) -> None:
        """Take one row of a stream; JointError where it does not fit, and the former one stays."""
        ...

    def hold(self) -> None:
        """Forget the command; the device stays where it is."""
        ...

    def step(self, now_ns: int) -> DeviceReading | None:
        """Run one cycle at `now_ns` [ns]; None when the device could not be read."""
        ...

    def enable(self, on: bool) -> DriverState:
        """Allow or forbid writing."""
        ...

    def clear(self) -> tuple[bool, str]:
        """Clear errors; return whether the device follows again, and its state in words."""
        ...

    def recover(self) -> tuple[bool, str]:
        """Carry out what leads out of the present state; the same answer."""
        ...

    def calibrate(self, now_ns: int) -> tuple[bool, str]:
        """Start the force calibration; return whether it runs, and why not."""
        ...

    def state(self) -> DriverState:
        """Return the state of the device."""
        ...

    def values(self) -> dict[str, object]:
        """Return what diagnostics show."""
        ...

    def close(self) -> None:
        """Close the link."""
        ...


class Cancel(enum.Enum):
    """The goal in flight shall be cancelled; the driver then stops the device."""

    CANCEL = "cancel"


class ActionGoal(Protocol):
    """A goal to send."""

    @property
    def name(self) -> str:
        """Action it is for, relative to the namespace of the device's state topic."""
        ...


class GoalDevice(Protocol):
    """A gripper whose driver takes one goal at a time. Called from one thread; `FrankaGripper` is the example."""

    goals: int

    def seed(self, measured: float) -> None:
        """Take where the gripper stands [m]."""
        ...

    def step(self, opening: float, now_ns: int) -> ActionGoal | Cancel | None:
        """Return what to do now for a wanted opening [m]."""
        ...

    def finished(self, ok: bool, reason: str = "") -> None:
        """Take how the goal in flight ended: reached, refused, failed or cancelled."""
        ...

    def state(self, *, server_seen: bool) -> DriverState:
        """Return the state of the gripper."""
        ...


@dataclass(frozen=True, slots=True)
class GoalSettings:
    """Parameters of the driver node for grippers behind actions.

    Attributes:
        api: which actions are used, a name of the kind's own.
        force: of a grasp [N].
        close_below: a wanted opening below this closes the gripper [m].
        open_above: a wanted opening above this opens it [m].
        dwell_ns: least time between two goals [ns].
        where: the node, for error texts.
    """

    api: str
    force: float
    close_below: float
    open_above: float
    dwell_ns: int
    where: str


@dataclass(frozen=True, slots=True)
class GoalAdapter:
    """Adapter of a gripper behind ROS actions: a stream of openings in, one goal at a time out.

    Attributes:
        make: makes the gripper; ConfigError where a setting does not fit.
        actions: returns the actions in use: name -> type, a key of `wam.devices.optional.VENDOR_TYPES`.
        fill: writes a goal into its message and returns it.
        opening: returns the opening [m] from names and positions of a joint state; NaN where it holds none.
        target_factor: opening per unit of the group's one joint.
    """

    make: Callable[[GoalSettings], GoalDevice]
    actions: Callable[[GoalSettings], Mapping[str, str]]
    fill: Callable[[Any, Any], Any]
    opening: Callable[[Sequence[str], Sequence[float]], float]
    target_factor: float = 1.0


MakeCycles = Callable[[Sequence[JointGroup], Sequence[str], AdapterSettings], list[DeviceCycle]]
"""Makes the cycles of all devices of a kind from their groups and addresses, which are as many; devices whose address
says that somebody else drives them are left out. ConfigError where an address or a setting does not fit."""


@dataclass(frozen=True, slots=True)
class AddressedAdapter:
    """Adapter of a device that is reached by an address, e.g. a serial port.

    Attributes:
        addresses: returns the addresses of so many devices from the launch arguments.
        make: makes the cycles.
    """

    addresses: Callable[[Mapping[str, str], int], tuple[str, ...]]
    make: MakeCycles
