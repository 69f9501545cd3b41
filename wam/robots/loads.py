# SPDX-License-Identifier: Apache-2.0
"""Reads what a robot file says of forces and masses: servos of the twin, effort limits, the payload of a group."""

from __future__ import annotations

from wam.core.safety.effort import EffortLimits
from wam.robots.description import JointKind, Payload
from wam.robots.twin_spec import ServoSpec
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value

MAX_MASS = 100.0
"""A payload above it is a slip of the unit [kg]."""

EFFORT_DIMENSIONS = (Dimension.TORQUE, Dimension.FORCE, Dimension.CURRENT)
"""What drivers report as effort of a joint."""

SERVO = {
    JointKind.REVOLUTE: (Dimension.ROTATIONAL_STIFFNESS, Dimension.ROTATIONAL_DAMPING, Dimension.TORQUE),
    JointKind.PRISMATIC: (Dimension.STIFFNESS, Dimension.DAMPING, Dimension.FORCE),
    JointKind.RATIO: (Dimension.ROTATIONAL_STIFFNESS, Dimension.ROTATIONAL_DAMPING, Dimension.TORQUE),
}
"""Kind of a joint -> dimensions of stiffness, damping and force of its servo."""


def read_servo(value: Value, kind: JointKind, speed: Dimension) -> ServoSpec:
    """Return the servo of a joint of `kind`, whose speed has the dimension `speed`.

    Raises:
        ConfigError: a key is missing or unknown, or a number is out of range.
    """
    stiffness, damping, force = SERVO[kind]
    fields = value.fields(("stiffness", "damping", "force", "speed"))
    return ServoSpec(
        stiffness=fields["stiffness"].quantity(stiffness, lower=1e-9),
        damping=fields["damping"].quantity(damping, lower=0.0),
        force=fields["force"].quantity(force, lower=1e-9),
        speed=fields["speed"].quantity(speed, lower=1e-9),
    )


def read_effort_limits(value: Value, kind: JointKind) -> EffortLimits:
    """Return effort limits written as `{hold: 12, stop: {value: 20, unit: N m}}`, for a joint of `kind`.

    A plain number is in N m, or in N for a prismatic joint; other units are written out. Which one the driver has is
    checked by the rule of its device.

    Raises:
        ConfigError: neither `hold` nor `stop` is there, one is not above zero or has a unit of another quantity, the
            two have different units, or `hold` is not below `stop`.
    """
    fields = value.fields((), ("hold", "stop"))
    if not fields:
        raise value.error("has no limit", allowed="hold, stop or both")
    own = SERVO[kind][2]
    dimensions = (own, *(one for one in EFFORT_DIMENSIONS if one is not own))
    read = {key: one.quantity_of(dimensions, lower=1e-9) for key, one in fields.items()}
    units = {dimension.value for _, dimension in read.values()}
    if len(units) > 1:
        raise fields["stop"].error(
            "has another unit than hold", value=read["stop"][1].value, allowed=read["hold"][1].value
        )
    limits = EffortLimits(**{key: number for key, (number, _) in read.items()}, unit=units.pop())
    if len(read) == 2 and limits.hold >= limits.stop:
        raise fields["hold"].error(
            "is not below stop",
            value=f"hold {limits.hold:g}, stop {limits.stop:g} {limits.unit}",
            allowed="hold < stop",
        )
    return limits


def read_payload(value: Value) -> Payload:
    """Return the payload written as `{mass: 0.8, center_of_mass: [x, y, z]}` in the tip link.

    Raises:
        ConfigError: the mass is negative or above `MAX_MASS`, or the center has not three entries.
    """
    fields = value.fields(("mass", "center_of_mass"))
    entries = fields["center_of_mass"].items()
    if len(entries) != 3:
        raise fields["center_of_mass"].error(
            "has another number of entries", value=f"{len(entries)} entries", allowed="[x, y, z] in m"
        )
    x, y, z = (one.quantity(Dimension.LENGTH, lower=-2.0, upper=2.0) for one in entries)
    return Payload(fields["mass"].quantity(Dimension.MASS, lower=0.0, upper=MAX_MASS), (x, y, z))
