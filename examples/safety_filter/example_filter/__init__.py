# SPDX-License-Identifier: Apache-2.0
"""A safety filter of another package: joints keep away from the ends of their travel.

`example_filter:make_margin` is its factory; docs/how-to/add-a-safety-filter.md explains every part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.safety.filters import ChainStage, Filter, Filtered
from wam.core.safety.limits import JointLimits
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Finding, Verdict
from wam.runtime.safety.filters import FilterInputs

MARGIN = 0.2
"""Share of a joint's travel that stays free at either end."""


@dataclass(frozen=True, slots=True)
class TravelMargin:
    """Refuses a motion that brings a joint near an end of its travel; the robot is held until a chunk keeps away.

    Attributes:
        limits: of all joints.
        margin: share of the travel that stays free at either end, 0..0.5.
        name: by which `filters_off` switches it off.
        stages: it judges what the robot would be sent, not the rows of the policy.
    """

    limits: JointLimits
    margin: float = MARGIN
    name: str = "travel_margin"
    stages: frozenset[ChainStage] = frozenset({ChainStage.TRAJECTORY})

    def apply(self, motion: Motion, *, measured: npt.NDArray[np.float64]) -> Filtered:
        """Return the motion, refused with a HOLD where a joint comes too near; one on its way back may go on.

        Args:
            motion: rows float64 [K, N]; the first `settled` are history.
            measured: float64 [N].
        """
        free = self.margin * (self.limits.upper - self.limits.lower)
        # A joint that is too near already may stay or leave, so that the arm is never caught there.
        low = np.minimum(self.limits.lower + free, measured)
        high = np.maximum(self.limits.upper - free, measured)
        rows = motion.rows[motion.settled :]
        beyond = np.maximum(low - rows, rows - high)
        row, joint = np.unravel_index(np.argmax(beyond), beyond.shape)
        if beyond[row, joint] <= 0.0:
            return Filtered(motion)
        value = float(rows[row, joint])
        end = float(low[joint] if value < low[joint] else high[joint])
        name = self.limits.joint_names[joint]
        text = f"{name} would reach {value:.3f}, {self.margin:.0%} of its travel stay free up to {end:.3f}"
        return Filtered(motion, Finding(Verdict.HOLD, self.name, text, name, value, end))


def make_margin(inputs: FilterInputs) -> Filter:
    """Return the filter of a robot."""
    return TravelMargin(inputs.limits)
