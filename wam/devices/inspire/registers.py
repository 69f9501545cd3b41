# SPDX-License-Identifier: Apache-2.0
"""Registers of the RH56, the same over serial frames and Modbus-TCP.

Six fingers always come in the order pinky, ring, middle, index, thumb bend, thumb rotation. An angle is 0 when closed
and 1000 when open; -1 as a target leaves the finger as it is. Source: RH56DFX and RH56FTP user manuals.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

FINGER_COUNT = 6
RAW_CLOSED, RAW_OPEN = 0, 1000
KEEP = -1
"""Target that leaves a finger as it is (0xFFFF on the wire)."""


class Finger(enum.IntEnum):
    """Fingers in the order of every register block."""

    PINKY = 0
    RING = 1
    MIDDLE = 2
    INDEX = 3
    THUMB_BEND = 4
    THUMB_ROTATION = 5


@dataclass(frozen=True, slots=True)
class Register:
    """One block of registers.

    Attributes:
        name: for people.
        address: address of the first value; serial frames count bytes, Modbus counts registers from it.
        count: number of values.
        width: bytes per value on the serial line; values of one byte come two to a Modbus register.
        lower: smallest legal value.
        upper: largest legal value.
        writable: whether it may be written.
    """

    name: str
    address: int
    count: int
    width: int
    lower: int
    upper: int
    writable: bool = False

    @property
    def size(self) -> int:
        """Bytes on the serial line."""
        return self.count * self.width


HAND_ID = Register("HAND_ID", 1000, 1, 1, 1, 254)
CLEAR_ERROR = Register("CLEAR_ERROR", 1004, 1, 1, 0, 1, writable=True)
FORCE_CALIBRATION = Register("FORCE_CLB", 1009, 1, 1, 0, 1, writable=True)
CURRENT_LIMIT = Register("CURRENT_LIMIT", 1020, 6, 2, 0, 1500, writable=True)
ANGLE_SET = Register("ANGLE_SET", 1486, 6, 2, KEEP, RAW_OPEN, writable=True)
FORCE_SET = Register("FORCE_SET", 1498, 6, 2, KEEP, 1000, writable=True)
SPEED_SET = Register("SPEED_SET", 1522, 6, 2, KEEP, 1000, writable=True)
ANGLE_ACT = Register("ANGLE_ACT", 1546, 6, 2, -32768, 32767)
FORCE_ACT = Register("FORCE_ACT", 1582, 6, 2, -32768, 32767)
CURRENT_ACT = Register("CURRENT", 1594, 6, 2, -32768, 32767)
ERROR = Register("ERROR", 1606, 6, 1, 0, 255)
STATUS = Register("STATUS", 1612, 6, 1, 0, 255)
TEMPERATURE = Register("TEMP", 1618, 6, 1, 0, 255)

REGISTERS = (
    HAND_ID, CLEAR_ERROR, FORCE_CALIBRATION, CURRENT_LIMIT, ANGLE_SET, FORCE_SET, SPEED_SET, ANGLE_ACT, FORCE_ACT,
    CURRENT_ACT, ERROR, STATUS, TEMPERATURE,
)  # fmt: skip


class ErrorBits(enum.IntFlag):
    """Bits of one finger in ERROR."""

    NONE = 0
    STALL = 1  # normal while something is grasped
    OVER_TEMPERATURE = 2
    OVER_CURRENT = 4
    MOTOR = 8
    COMMUNICATION = 16


GRAVE = ErrorBits.OVER_TEMPERATURE | ErrorBits.OVER_CURRENT | ErrorBits.MOTOR | ErrorBits.COMMUNICATION
"""Errors after which the hand must not close further; a stall is what a grasp looks like."""


class FingerStatus(enum.IntEnum):
    """Value of one finger in STATUS."""

    RELEASING = 0
    GRASPING = 1
    AT_POSITION = 2
    FORCE_REACHED = 3
    CURRENT_PROTECTION = 5
    STALLED = 6
    FAULT = 7
    UNKNOWN = 255  # a value that the manuals do not name


def finger_status(value: int) -> FingerStatus:
    """Return the status that `value` stands for; one that the manuals do not name is UNKNOWN."""
    try:
        return FingerStatus(value)
    except ValueError:
        return FingerStatus.UNKNOWN


def check_values(register: Register, values: tuple[int, ...]) -> None:
    """Check what is about to be written.

    Raises:
        ValueError: the register is read-only, or number or range of the values is wrong.
    """
    if not register.writable:
        raise ValueError(f"{register.name} is read-only")
    if len(values) != register.count:
        raise ValueError(f"{register.name} takes {register.count} values, got {len(values)}")
    for index, value in enumerate(values):
        if not register.lower <= value <= register.upper:
            raise ValueError(
                f"{register.name}[{index}] = {value}; allowed: {register.lower} .. {register.upper}"
            )


def to_bytes(register: Register, values: tuple[int, ...]) -> bytes:
    """Return values as the serial line carries them: little endian, negative ones as two's complement."""
    mask = (1 << (8 * register.width)) - 1
    return b"".join((value & mask).to_bytes(register.width, "little") for value in values)


def from_bytes(register: Register, data: bytes) -> tuple[int, ...]:
    """Return values of a block; two-byte ones are signed, single bytes are not."""
    width = register.width
    return tuple(
        int.from_bytes(data[at : at + width], "little", signed=width == 2)
        for at in range(0, register.size, width)
    )
