# SPDX-License-Identifier: Apache-2.0
"""What criteria and experts may read of a world; `SimWorld` satisfies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Pose = npt.NDArray[np.float64]
"""float64 [4, 4], homogeneous; lengths in m."""


class WorldView(Protocol):
    """Read access to a simulated world: its own truth, which no policy sees."""

    @property
    def time(self) -> float:
        """Simulated time since the reset [s]."""
        ...

    def object_pose(self, name: str) -> Pose:
        """Return the frame of an object in the world, float64 [4, 4]."""
        ...

    def object_centre(self, name: str) -> Vector:
        """Return the centre of mass of an object, float64 [3] [m]."""
        ...

    def object_speed(self, name: str) -> float:
        """Return how fast an object moves [m/s]."""
        ...

    def limb_position(self, name: str, limb: str) -> float:
        """Return the position of a limb's joint [rad or m]."""
        ...

    def link_pose(self, link: str) -> Pose:
        """Return the frame of a link of the robot in the world, float64 [4, 4]."""
        ...

    def positions(self) -> Vector:
        """Return the measured positions of all joints in the robot's order, float64 [N]."""
        ...

    def contact_forces(self) -> Mapping[frozenset[str], float]:
        """Return the normal force between each two that touch [N]; objects by name, the robot by its links."""
        ...
