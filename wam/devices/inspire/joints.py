# SPDX-License-Identifier: Apache-2.0
"""Joint positions to raw register values and back, by the joints of the robot file."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wam.core.errors import ConfigError
from wam.devices.inspire.registers import FINGER_COUNT, KEEP, RAW_OPEN, Finger
from wam.robots.description import JointKind, JointSpec

_WORDS = (
    (Finger.THUMB_ROTATION, (("thumb",), ("rotation", "yaw"))),
    (Finger.THUMB_BEND, (("thumb",), ("bend", "pitch"))),
    (Finger.PINKY, (("pinky", "little"),)),
    (Finger.RING, (("ring",),)),
    (Finger.MIDDLE, (("middle",),)),
    (Finger.INDEX, (("index",),)),
)
"""A joint is a finger's when its driver name holds one word of each group."""


def finger_of(name: str) -> Finger:
    """Return the finger that a driver's joint name stands for, e.g. "R_thumb_proximal_yaw_joint".

    Raises:
        ConfigError: the name stands for none.
    """
    lowered = name.lower()
    for finger, groups in _WORDS:
        if all(any(word in lowered for word in group) for group in groups):
            return finger
    raise ConfigError(
        "joint is no finger of an Inspire hand",
        value=name,
        allowed="a name with pinky or little, ring, middle, index, or thumb and one of bend, pitch, rotation, yaw",
        where="`driver_name` of the hand's joints in the robot file",
    )


class HandJoints:
    """Converts between joint positions and raw values of all six fingers.

    A revolute joint is lower (open) .. upper (closed) [rad], so raw = 1000 - 1000 (q - lower)/(upper - lower); a ratio
    is 0 (closed) .. 1 (open), so raw = 1000 q. A finger that has no joint is never moved.

    Args:
        joints: of the hand's group, in any order.

    Raises:
        ConfigError: a joint is no finger, two are the same, or its kind or range does not fit.
    """

    def __init__(self, joints: Sequence[JointSpec]) -> None:
        self._joints = tuple(joints)
        self.fingers = tuple(finger_of(joint.driver_name) for joint in joints)
        for joint, finger in zip(self._joints, self.fingers, strict=True):
            if self.fingers.count(finger) > 1:
                same = [j.driver_name for j, f in zip(self._joints, self.fingers, strict=True) if f is finger]
                raise ConfigError(
                    f"joints stand for the same finger ({finger.name.lower()})",
                    value=", ".join(same),
                    allowed="one joint per finger",
                    where="the hand's joints in the robot file",
                )
            if joint.kind is JointKind.PRISMATIC or (
                joint.kind is JointKind.RATIO and (joint.lower, joint.upper) != (0.0, 1.0)
            ):
                raise ConfigError(
                    f"joint {joint.driver_name} cannot be a finger",
                    value=f"{joint.kind.value} {joint.lower:g} .. {joint.upper:g}",
                    allowed="revolute (0 open .. closed, rad) or ratio 0 (closed) .. 1 (open)",
                    where="the hand's joints in the robot file",
                )

    def to_raw(self, positions: Sequence[float]) -> tuple[int, ...]:
        """Return raw targets of all six fingers for positions in the order of the joints.

        Positions beyond the limits are clipped; a position that is not finite leaves its finger as it is.
        """
        raw = [KEEP] * FINGER_COUNT
        for joint, finger, position in zip(self._joints, self.fingers, positions, strict=True):
            if not math.isfinite(position):
                continue
            share = (min(max(position, joint.lower), joint.upper) - joint.lower) / (joint.upper - joint.lower)
            opened = share if joint.kind is JointKind.RATIO else 1.0 - share
            raw[finger] = round(RAW_OPEN * opened)
        return tuple(raw)

    def to_positions(self, raw: Sequence[int]) -> tuple[float, ...]:
        """Return positions in the order of the joints for raw values of all six fingers."""
        positions = []
        for joint, finger in zip(self._joints, self.fingers, strict=True):
            opened = raw[finger] / RAW_OPEN
            share = opened if joint.kind is JointKind.RATIO else 1.0 - opened
            positions.append(joint.lower + share * (joint.upper - joint.lower))
        return tuple(positions)
