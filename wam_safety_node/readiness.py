# SPDX-License-Identifier: Apache-2.0
"""Whether the devices follow commands at all: what their drivers report, as causes of the cycle.

A driver keeps its subscriptions while the program on a UR is stopped, a Franka stands in a reflex, or a controller is
inactive. Commands that went on meanwhile would be met as a jump by whoever switches the device on again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.verdict import Finding
from wam.devices.optional import Find, find_type
from wam.devices.registry import make_watch
from wam.devices.watch import Heard, Seen, Watch, not_ready
from wam.robots.description import NO_DRIVER, CommandKind, JointGroup, RobotDescription
from wam.ros.status_feeds import StatusListener
from wam.runtime.safety.cycle import SafetyCycle

Vector = npt.NDArray[np.float64]

LOOK_PERIOD_S = 0.05
"""Period at which silences are looked for; what a driver says is looked at when it comes [s]."""

CONTROLLER_SILENT_S = 0.3
"""A trajectory controller publishes its state while it is active, at 20 Hz or more [s]."""


@dataclass(slots=True)
class _Device:
    """What is known of one commanded device."""

    group: JointGroup
    columns: slice
    watch: Watch
    status: StatusListener
    reference_at: float | None = None
    told: Finding | None = None


class DeviceReadiness:
    """Holds the arm, and sends nothing, while a driver reports that its device does not follow.

    Args:
        node: the safety node.
        robot: its commanded groups are watched.
        cycle: gets the causes.
        now_ns: the node's clock [ns].
        find: returns a vendor's message type, or None where its package is not installed.
    """

    def __init__(
        self,
        node: Any,
        robot: RobotDescription,
        cycle: SafetyCycle,
        *,
        now_ns: Callable[[], int],
        find: Find = find_type,
    ) -> None:
        self._node, self._cycle, self._now_ns = node, cycle, now_ns
        self._devices: dict[str, _Device] = {}
        self._looking = threading.RLock()
        end = 0
        for group in robot.groups:
            columns = slice(end, end := end + len(group.joints))
            if group.driver == NO_DRIVER or group.command_kind is CommandKind.NONE:
                continue
            watch = make_watch(group)
            changed = partial(self._look_at, group.name)
            status = StatusListener(node.inputs, watch.deaf_feeds, changed=changed, find=find)
            self._devices[group.name] = _Device(group, columns, watch, status)

    def note_reference(self, group: str) -> None:
        """Note that the trajectory controller of `group` has published its state: it is active."""
        device = self._devices.get(group)
        if (
            device is not None and not self._node.simulated_time
        ):  # a slow simulation is not a silent controller
            device.reference_at = time.monotonic()

    def note_state(self, group: str, positions: Vector, stamp_ns: int) -> None:
        """Note a joint state of `group`, float64 [N], with its stamp [ns]."""
        device = self._devices.get(group)
        if device is not None and device.watch.following is not None:
            device.watch.on_joint_state(Heard(stamp_ns, self._now_ns(), positions=positions))

    def forgive(self) -> tuple[str, ...]:
        """Take that a person has checked the arms that did not follow their commands; return their names."""
        forgiven = []
        for name, device in self._devices.items():
            if device.watch.following is not None and device.watch.following.why:
                device.watch.following.forgive()
                self._look_at(name)
                forgiven.append(name)
        return tuple(forgiven)

    def commanded(self, position: Vector | None) -> None:
        """Note what was sent to all joints, float64 [N], or that nothing was; called in the command thread."""
        for device in self._devices.values():
            following = device.watch.following
            if following is None:
                continue
            if position is None:
                following.interrupted()
            elif following.commanded(position[device.columns], self._now_ns()):
                self._look_at(device.group.name)

    def look(self) -> None:
        """Look at every device; called at `LOOK_PERIOD_S`."""
        for name in self._devices:
            self._look_at(name)

    def close(self) -> None:
        """Remove the subscriptions."""
        for device in self._devices.values():
            device.status.close()
        self._devices.clear()

    def _look_at(self, name: str) -> None:
        device = self._devices.get(name)
        if device is None:  # a status comes while the subscriptions are being made
            return
        with self._looking:
            self._tell(name, device)

    def _tell(self, name: str, device: _Device) -> None:
        cause = self._cause(device)
        if cause is not None and cause != device.told:
            self._cycle.raise_cause(cause, of=name)
        elif device.told is not None and cause is None:
            self._cycle.withdraw_cause("device_not_ready", of=name)
        device.told = cause

    def _cause(self, device: _Device) -> Finding | None:
        status = device.status
        seen = Seen(self._now_ns(), status.values, status.lacking, silent_s=status.silent_s)
        cause = device.watch.not_following(seen)
        if cause is not None or device.reference_at is None:
            return cause
        silent_s = time.monotonic() - device.reference_at
        if silent_s <= CONTROLLER_SILENT_S:
            return None
        controller = device.group.command_topic.rpartition("/")[0]
        why = f"{controller}/controller_state has been silent for {CONTROLLER_SILENT_S:g} s: is it active?"
        return not_ready(device.group.name, why, guessed=True)
