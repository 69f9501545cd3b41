# SPDX-License-Identifier: Apache-2.0
"""One cycle of one hand: the present target, the transaction with the device, joint states back."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from wam.devices.adapter import DeviceReading
from wam.devices.channel import TrajectoryChannel
from wam.devices.errors import LinkError
from wam.devices.inspire.hand import InspireHand, force_newton
from wam.devices.inspire.joints import HandJoints
from wam.devices.state import DriverState, Readiness
from wam.robots.description import JointGroup


class HandCycle:
    """The hand's work, named stage by stage in `step`. Commands and calls come from any thread, steps from one.

    Args:
        group: the hand's joint group.
        hand: the device.

    Raises:
        ConfigError: a joint of the group is no finger.
    """

    def __init__(self, group: JointGroup, hand: InspireHand) -> None:
        self.group = group
        self._hand = hand
        self._joints = HandJoints(group.joints)
        self._channel = TrajectoryChannel(group.driver_names)
        self._device = threading.Lock()

    def offer_trajectory(
        self,
        names: Sequence[str],
        times_ns: Sequence[int],
        positions: Sequence[Sequence[float]],
        *,
        start_ns: int,
    ) -> None:
        """Take a rolling trajectory.

        Raises:
            JointError: it does not fit; the previous one stays.
        """
        self._channel.offer(names, times_ns, positions, start_ns=start_ns)

    def offer_positions(self, names: Sequence[str], positions: Sequence[float], *, stamp_ns: int) -> None:
        """Take one row of a stream; it stands until the next one.

        Raises:
            JointError: it does not fit; the previous one stays.
        """
        self._channel.offer(names, [0], [positions], start_ns=stamp_ns)

    def hold(self) -> None:
        """Discard the command; the hand stays at its last target."""
        self._channel.hold()

    def step(self, now_ns: int) -> DeviceReading | None:
        """Run one cycle at `now_ns` [ns]; None when the hand could not be read."""
        # 1. The present target: the safety node sends it ahead by the hand's own delay.
        target = self._channel.target(now_ns)
        # 2. Radians or fractions to raw values of six fingers.
        raw = None if target is None else self._joints.to_raw(target.tolist())
        # 3. One transaction with the device, which protects itself.
        with self._device:
            reading = self._hand.step(raw, now_ns)
        if reading is None:
            return None
        # 4. Raw values back, in the order of the group.
        forces = tuple(force_newton(finger, reading.forces[finger]) for finger in self._joints.fingers)
        return DeviceReading(
            reading.stamp_ns, self.group.driver_names, self._joints.to_positions(reading.angles), forces
        )

    def enable(self, on: bool) -> DriverState:
        """Allow or forbid writing; the fingers stay where they are until the next command."""
        with self._device:
            if on and not self._hand.write_enabled:
                self._channel.hold()
            self._hand.write_enabled = on
            return self._hand.state()

    def clear(self) -> tuple[bool, str]:
        """Clear errors and protection; return whether the hand follows again, and a sentence on its state."""
        with self._device:
            try:
                state = self._hand.clear()
            except LinkError as error:
                return False, str(error)
        return state.commandable, state.text

    def recover(self) -> tuple[bool, str]:
        """Clear a hand that protects itself; return whether it can be used, and a sentence on its state."""
        state = self._hand.state()
        return (
            self.clear()
            if state.readiness is Readiness.BLOCKED
            else (state.readiness < Readiness.BLOCKED, state.text)
        )

    def calibrate(self, now_ns: int) -> tuple[bool, str]:
        """Start the force calibration; return whether it runs, and why not."""
        with self._device:
            try:
                refusal = self._hand.calibrate_force(now_ns)
            except LinkError as error:
                return False, str(error)
        return not refusal, refusal or "calibrating for 15 s; keep the hand open and unloaded"

    def state(self) -> DriverState:
        """Return the state of the hand."""
        return self._hand.state()

    def values(self) -> dict[str, object]:
        """Return the values for diagnostics."""
        reading = self._hand.reading
        values: dict[str, object] = {
            "phase": self._hand.phase.value,
            "write_enabled": self._hand.write_enabled,
            "transactions": self._hand.transactions,
            "failures": self._hand.failures,
        }
        if reading is not None:
            values["hottest [degC]"] = max(reading.temperatures)
            values["errors"] = " ".join(str(int(error)) for error in reading.errors)
            values["statuses"] = " ".join(status.name.lower() for status in reading.statuses)
        return values

    def close(self) -> None:
        """Close the link."""
        with self._device:
            self._hand.close()
