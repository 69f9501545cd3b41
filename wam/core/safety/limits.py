# SPDX-License-Identifier: Apache-2.0
"""Joint limits as arrays: what filters and resamplers read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


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
    """

    joint_names: tuple[str, ...]
    lower: Vector
    upper: Vector
    velocity: Vector
    acceleration: Vector
    jerk: Vector

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

    def select(self, index: npt.NDArray[np.intp]) -> JointLimits:
        """Return the limits of the joints at `index`, in that order."""
        return JointLimits(
            joint_names=tuple(self.joint_names[i] for i in index),
            lower=self.lower[index].copy(),
            upper=self.upper[index].copy(),
            velocity=self.velocity[index].copy(),
            acceleration=self.acceleration[index].copy(),
            jerk=self.jerk[index].copy(),
        )
