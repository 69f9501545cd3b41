# SPDX-License-Identifier: Apache-2.0
"""What a joint of the driver is elsewhere: in the URDF, on the device's wire, in the driver's messages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelJoint:
    """A joint of the URDF that follows a joint of the driver: q = ratio * position + offset.

    Attributes:
        name: name in the URDF.
        ratio: unit of the URDF joint per unit of the driver's joint.
        offset: [rad or m].
    """

    name: str
    ratio: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class RawScale:
    """What a device writes on its wire for a joint, linear between the joint's limits.

    Attributes:
        at_lower: raw value at the lower limit.
        at_upper: raw value at the upper limit; smaller than `at_lower` for a device that counts the other way.
    """

    at_lower: float
    at_upper: float


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a driver makes of a position, where that is not the position itself.

    Attributes:
        state: measured position = what the driver reports times this.
        command: what the driver is told = wanted position times this.
    """

    state: float = 1.0
    command: float = 1.0


NO_CONVERSION = Conversion()
