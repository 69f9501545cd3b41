# SPDX-License-Identifier: Apache-2.0
"""How the simulated twin of a robot moves: a servo for each joint, delay and interface of each group's driver."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServoSpec:
    """How the simulated twin moves one joint of the driver.

    Attributes:
        stiffness: position gain of each model joint [N m/rad or N/m].
        damping: velocity gain of each model joint [N m s/rad or N s/m].
        force: largest torque or force of each model joint [N m or N].
        speed: fastest change of the set-point that the firmware allows [rad/s or m/s].
    """

    stiffness: float
    damping: float
    force: float
    speed: float


class CommandInterface(enum.Enum):
    """What a trajectory controller writes to the arm."""

    EFFORT = "effort"
    POSITION = "position"


@dataclass(frozen=True, slots=True)
class TwinSpec:
    """How the simulated twin of a group's driver differs from an ideal one.

    Attributes:
        delay_ns: time from a command to the motion it causes [ns].
        interface: what the trajectory controller writes; a Franka's reflex watches positions and not efforts.
        generation: of its driver, where those behave differently; "" for the newest.
    """

    delay_ns: int = 0
    interface: CommandInterface = CommandInterface.EFFORT
    generation: str = ""


IDEAL_TWIN = TwinSpec()
"""Twin of a driver that acts at once."""
