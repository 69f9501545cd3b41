# SPDX-License-Identifier: Apache-2.0
"""The seam between the hand and what carries its registers, and a hand made of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wam.devices.errors import LinkLost
from wam.devices.inspire.registers import (
    ANGLE_ACT,
    ANGLE_SET,
    CLEAR_ERROR,
    ERROR,
    FINGER_COUNT,
    FORCE_ACT,
    KEEP,
    RAW_OPEN,
    REGISTERS,
    SPEED_SET,
    STATUS,
    TEMPERATURE,
    ErrorBits,
    FingerStatus,
    Register,
    check_values,
)

FULL_TRAVEL_S = 0.8
"""Time from open to closed at speed 1000 without load [s] (data sheet)."""


class HandLink(Protocol):
    """Reads and writes register blocks of one hand. Called from one thread; every call blocks for a bounded time."""

    def open(self) -> None:
        """Open the port or connection; called again after a loss. Opening twice does nothing.

        Raises:
            LinkLost: it cannot be opened.
        """
        ...

    def close(self) -> None:
        """Close it; safe to call twice."""
        ...

    def read(self, register: Register) -> tuple[int, ...]:
        """Return the values of a block.

        Raises:
            LinkError: the transaction failed; the text says how.
        """
        ...

    def write(self, register: Register, values: tuple[int, ...]) -> None:
        """Write all values of a block.

        Raises:
            LinkError: the transaction failed, and whether the hand took the values is not known.
            ValueError: the values are none that the register takes.
        """
        ...


class MockHand:
    """A hand made of memory: fingers go to their targets at the speed set. The mock backend, and the device in tests.

    Args:
        now: returns the time [s]; monotonic.
        hand_id: answer of HAND_ID.
    """

    def __init__(self, now: Callable[[], float], *, hand_id: int = 1) -> None:
        self._now = now
        self._last = now()
        self._opened = False
        self.memory: dict[str, list[int]] = {register.name: [0] * register.count for register in REGISTERS}
        self.memory["HAND_ID"] = [hand_id]
        self.memory[ANGLE_SET.name] = [RAW_OPEN] * FINGER_COUNT
        self.memory[SPEED_SET.name] = [1000] * FINGER_COUNT
        self.memory[TEMPERATURE.name] = [30] * FINGER_COUNT
        self._angles = [float(RAW_OPEN)] * FINGER_COUNT
        self.lost = False

    def open(self) -> None:
        """Open the link; refused while `lost` is set."""
        self._require_present()
        self._opened = True

    def close(self) -> None:
        """Close the link."""
        self._opened = False

    def read(self, register: Register) -> tuple[int, ...]:
        """Return a block, after letting the fingers move up to now."""
        self._require_present()
        self.advance()
        return tuple(self.memory[register.name])

    def write(self, register: Register, values: tuple[int, ...]) -> None:
        """Write a block; KEEP leaves a value as it is, CLEAR_ERROR clears the errors that are over."""
        self._require_present()
        check_values(register, values)
        self.advance()
        kept = self.memory[register.name]
        self.memory[register.name] = [
            old if new == KEEP else new for old, new in zip(kept, values, strict=True)
        ]
        if register is CLEAR_ERROR and values == (1,):
            self.memory[ERROR.name] = [0] * FINGER_COUNT
            self.memory[CLEAR_ERROR.name] = [0]

    def advance(self) -> None:
        """Let the fingers move up to now."""
        now = self._now()
        elapsed, self._last = now - self._last, now
        for finger in range(FINGER_COUNT):
            reach = elapsed * self.memory[SPEED_SET.name][finger] / FULL_TRAVEL_S
            away = self.memory[ANGLE_SET.name][finger] - self._angles[finger]
            step = max(-reach, min(reach, away))
            self._angles[finger] += step
            self.memory[ANGLE_ACT.name][finger] = round(self._angles[finger])
            if abs(away) <= reach:
                status = FingerStatus.AT_POSITION
            else:
                status = FingerStatus.GRASPING if away < 0 else FingerStatus.RELEASING
            self.memory[STATUS.name][finger] = int(status)

    def heat(self, celsius: int, *, finger: int = 0) -> None:
        """Make one finger report a temperature, and the hand's own error from 75 degrees on."""
        self.memory[TEMPERATURE.name][finger] = celsius
        if celsius >= 75:
            self.memory[ERROR.name][finger] |= int(ErrorBits.OVER_TEMPERATURE)

    def grasp(self, raw_force: int, *, finger: int) -> None:
        """Make one finger report a force and the stall that comes with it."""
        self.memory[FORCE_ACT.name][finger] = raw_force
        self.memory[ERROR.name][finger] |= int(ErrorBits.STALL)

    def _require_present(self) -> None:
        if self.lost:
            raise LinkLost("the mock hand was taken away", where="MockHand.lost")
