# SPDX-License-Identifier: Apache-2.0
"""The joints of a robot file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from wam.core.safety.effort import NO_LIMITS
from wam.robots.description import UNSTATED, JointEnvelope, JointKind, JointSpec
from wam.robots.joint_mapping import Conversion, ModelJoint, RawScale
from wam.robots.loads import read_effort_limits, read_servo
from wam.robots.names import name_of
from wam.robots.units import Dimension
from wam.robots.yaml_reader import Value

OBSERVED = "observed"
"""Key of a number that a recording shows where the robot's own limit is not known."""

MOTION = {
    JointKind.REVOLUTE: (
        Dimension.ANGLE,
        Dimension.ANGULAR_VELOCITY,
        Dimension.ANGULAR_ACCELERATION,
        Dimension.ANGULAR_JERK,
    ),
    JointKind.PRISMATIC: (Dimension.LENGTH, Dimension.VELOCITY, Dimension.ACCELERATION, Dimension.JERK),
    JointKind.RATIO: (
        Dimension.RATIO,
        Dimension.RATIO_VELOCITY,
        Dimension.RATIO_ACCELERATION,
        Dimension.RATIO_JERK,
    ),
}
"""Kind of a joint -> dimensions of its position and of the derivatives."""


@dataclass(frozen=True, slots=True)
class Openings:
    """What a robot file does not state; a file by which a robot may move states everything.

    Attributes:
        allowed: the file is for replay only.
        found: dotted paths of what it leaves open, in order.
    """

    allowed: bool
    found: list[str] = field(default_factory=list)

    def todo(self, value: Value, dimension: Dimension, *, lower: float) -> float:
        """Return a limit that no recording tells, in SI units, or `UNSTATED` where it is left open.

        Raises:
            ConfigError: it is left open in a file that is not for replay only, or illegal.
        """
        if value.is_todo and self.allowed:
            self.found.append(value.path)
            return UNSTATED
        return value.quantity(dimension, lower=lower)

    def limit(self, value: Value, dimension: Dimension, *, lower: float = -math.inf) -> float:
        """Return a limit in SI units; `{observed: NUMBER}` is what a recording shows in its place.

        Raises:
            ConfigError: it was observed and the file is not for replay only, or it is illegal.
        """
        if not (value.is_mapping and OBSERVED in value.table()):
            return value.quantity(dimension, lower=lower)
        number = value.fields((OBSERVED,))[OBSERVED].quantity(dimension, lower=lower)
        if not self.allowed:
            raise value.error(
                "is what a recording shows, and no limit of the robot",
                value=f"{OBSERVED}: {number:g}",
                allowed=f"the limit from the vendor or the URDF, in {dimension.value}",
            )
        self.found.append(value.path)
        return number


def read_joint(value: Value, *, prefix: str, has_model: bool, openings: Openings) -> JointSpec:
    """Return a joint.

    Args:
        value: its entry.
        prefix: of the group.
        has_model: the robot has a URDF.
        openings: what the file leaves open, which this adds to.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    required = ("driver_name", "kind", "lower", "upper", "velocity", "acceleration", "jerk")
    fields = value.fields(
        required,
        (
            "name",
            "home",
            "gripper",
            "velocity_envelope",
            "raw",
            "conversion",
            "effort",
            "external_torque",
            *(("model", "servo") if has_model else ()),
        ),
    )
    kind = fields["kind"].choice(JointKind)
    position, velocity, acceleration, jerk = MOTION[kind]
    lower, upper = (openings.limit(fields[key], position) for key in ("lower", "upper"))
    if lower >= upper:
        raise fields["lower"].error(
            "is not below upper",
            value=f"lower {lower:g}, upper {upper:g} {position.value}",
            allowed="lower < upper",
        )
    tiny = 1e-9
    name = prefix + (name_of(fields["name"]) if "name" in fields else name_of(fields["driver_name"]))
    if "home" in fields:
        home = fields["home"].quantity(position, lower=lower, upper=upper)
    else:
        home = min(max(0.0, lower), upper)
    model_joints: tuple[ModelJoint, ...] = ()
    if "model" in fields:
        model_joints = tuple(_model_joint(entry, prefix) for entry in fields["model"].items())
    elif has_model:
        model_joints = (ModelJoint(name),)
    return JointSpec(
        name=name,
        driver_name=fields["driver_name"].text(),
        kind=kind,
        lower=lower,
        upper=upper,
        velocity=openings.limit(fields["velocity"], velocity, lower=tiny),
        acceleration=openings.todo(fields["acceleration"], acceleration, lower=tiny),
        jerk=openings.todo(fields["jerk"], jerk, lower=tiny),
        home=home,
        gripper=fields["gripper"].flag() if "gripper" in fields else None,
        model_joints=model_joints,
        servo=read_servo(fields["servo"], kind, velocity) if "servo" in fields else None,
        envelope=_envelope(fields["velocity_envelope"], kind, lower, upper)
        if "velocity_envelope" in fields
        else None,
        raw=_raw(fields["raw"]) if "raw" in fields else None,
        conversion=_conversion(fields["conversion"]) if "conversion" in fields else Conversion(),
        effort=read_effort_limits(fields["effort"], kind) if "effort" in fields else NO_LIMITS,
        external_torque=read_effort_limits(fields["external_torque"], kind)
        if "external_torque" in fields
        else NO_LIMITS,
    )


def _envelope(value: Value, kind: JointKind, lower: float, upper: float) -> JointEnvelope:
    position, velocity, acceleration, _ = MOTION[kind]
    fields = value.fields(("slope", "corner", "upper_end", "lower_end"))
    return JointEnvelope(
        slope=fields["slope"].quantity(acceleration, lower=1e-9),
        corner=fields["corner"].quantity(velocity, lower=0.0),
        upper_end=fields["upper_end"].quantity(position, lower=upper),
        lower_end=fields["lower_end"].quantity(position, upper=lower),
    )


def _raw(value: Value) -> RawScale:
    fields = value.fields(("at_lower", "at_upper"))
    scale = RawScale(*(fields[key].quantity(Dimension.RATIO) for key in ("at_lower", "at_upper")))
    if scale.at_lower == scale.at_upper:
        raise value.error("maps the whole range to one value", allowed="two different numbers")
    return scale


def _conversion(value: Value) -> Conversion:
    fields = value.fields(("state", "command"))
    # A factor beyond these bounds is another unit than rad, m or 1 with a name of its own, or a slip.
    bounds = {"lower": 1e-6, "upper": 1e6}
    return Conversion(*(fields[key].quantity(Dimension.RATIO, **bounds) for key in ("state", "command")))


def _model_joint(value: Value, prefix: str) -> ModelJoint:
    fields = value.fields(("joint",), ("ratio", "offset"))
    ratio = fields["ratio"].quantity(Dimension.RATIO) if "ratio" in fields else 1.0
    if ratio == 0.0:
        raise fields["ratio"].error("is zero", allowed="any other number")
    offset = fields["offset"].quantity(Dimension.ANGLE) if "offset" in fields else 0.0
    return ModelJoint(prefix + name_of(fields["joint"]), ratio, offset)
