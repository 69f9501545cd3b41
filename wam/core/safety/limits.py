# SPDX-License-Identifier: Apache-2.0
"""Joint limits as arrays: what filters and resamplers read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VelocityEnvelope:
    """Position-dependent velocity limits: v <= sqrt(slope (upper_end - q)) - corner, and mirrored below.

    The form and, for the Franka Research 3, the numbers are those of libfranka's rate limiting. Joints without such
    a limit have slope = inf, corner = 0 and infinite ends.

    Attributes:
        slope: float64 [N], positive [rad/s^2].
        corner: float64 [N], not negative [rad/s].
        upper_end: float64 [N] [rad].
        lower_end: float64 [N] [rad].
    """

    slope: Vector
    corner: Vector
    upper_end: Vector
    lower_end: Vector

    def __post_init__(self) -> None:
        shape = self.slope.shape
        for label in ("slope", "corner", "upper_end", "lower_end"):
            array = getattr(self, label)
            if array.shape != shape or np.any(np.isnan(array)):
                raise ValueError(f"{label} is {array} for {shape[0]} joints")
            array.flags.writeable = False
        if not (np.all(self.slope > 0) and np.all(self.corner >= 0)):
            raise ValueError(f"slope {self.slope} must be positive, corner {self.corner} not negative")

    def select(self, index: npt.NDArray[np.intp]) -> VelocityEnvelope:
        """Return the envelope of the joints at `index`, in that order."""
        return VelocityEnvelope(
            self.slope[index], self.corner[index], self.upper_end[index], self.lower_end[index]
        )

    def bounds(self, position: Vector) -> tuple[Vector, Vector]:
        """Return the largest and the smallest velocity allowed at `position`, float64 [..., N] each."""
        with np.errstate(invalid="ignore"):
            up = np.sqrt(np.maximum(self.slope * (self.upper_end - position), 0.0)) - self.corner
            down = np.sqrt(np.maximum(self.slope * (position - self.lower_end), 0.0)) - self.corner
        return np.maximum(up, 0.0), -np.maximum(down, 0.0)


@dataclass(frozen=True, slots=True)
class JointLimits:
    """Limits of N joints; rad or m and their time derivatives.

    Attributes:
        joint_names: policy-side names.
        lower: float64 [N].
        upper: float64 [N].
        velocity: float64 [N], positive.
        acceleration: float64 [N], positive.
        jerk: float64 [N], positive.
        velocity_envelope: velocity limits that depend on the position, or None.
    """

    joint_names: tuple[str, ...]
    lower: Vector
    upper: Vector
    velocity: Vector
    acceleration: Vector
    jerk: Vector
    velocity_envelope: VelocityEnvelope | None = None

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        for label in ("lower", "upper", "velocity", "acceleration", "jerk"):
            array = getattr(self, label)
            if array.shape != (n,):
                raise ValueError(f"{label} has shape {array.shape} for {n} joints")
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{label} is not finite: {array}")
            array.flags.writeable = False
        if not np.all(self.lower < self.upper):
            raise ValueError(f"lower {self.lower} is not below upper {self.upper}")
        for label in ("velocity", "acceleration", "jerk"):
            if not np.all(getattr(self, label) > 0):
                raise ValueError(f"{label} must be positive: {getattr(self, label)}")
        if self.velocity_envelope is not None and self.velocity_envelope.slope.shape != (n,):
            raise ValueError(f"velocity_envelope is for {len(self.velocity_envelope.slope)} of {n} joints")

    def select(self, index: npt.NDArray[np.intp]) -> JointLimits:
        """Return the limits of the joints at `index`, in that order."""
        return JointLimits(
            joint_names=tuple(self.joint_names[i] for i in index),
            lower=self.lower[index].copy(),
            upper=self.upper[index].copy(),
            velocity=self.velocity[index].copy(),
            acceleration=self.acceleration[index].copy(),
            jerk=self.jerk[index].copy(),
            velocity_envelope=self.velocity_envelope.select(index) if self.velocity_envelope else None,
        )
