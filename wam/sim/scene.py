# SPDX-License-Identifier: Apache-2.0
"""What stands around a robot: objects to grasp, where they may lie, and the room."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

MAX_TRIES = 10_000


class Shape(enum.Enum):
    """Shape of an object; it decides what `SceneObject.size` means."""

    BOX = "box"  # full edge lengths x, y, z
    CYLINDER = "cylinder"  # radius, height


@dataclass(frozen=True, slots=True)
class SceneObject:
    """A rigid object that lies on the table.

    Attributes:
        name: unique in the scene.
        shape: shape.
        size: see `Shape` [m].
        rgba: colour, 0..1.
        mass: [kg].
    """

    name: str
    shape: Shape
    size: tuple[float, ...]
    rgba: tuple[float, float, float, float]
    mass: float

    @property
    def height(self) -> float:
        """Height when it stands [m]."""
        return self.size[-1]

    @property
    def footprint(self) -> float:
        """Radius of the circle around it, seen from above [m]."""
        if self.shape is Shape.CYLINDER:
            return self.size[0]
        return math.hypot(self.size[0], self.size[1]) / 2


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle in the robot's world in which objects are put down [m]."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float
    z: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an object lies: centre of its foot [m] and turn about the vertical [rad]."""

    x: float
    y: float
    z: float
    yaw: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects and room of a world.

    Attributes:
        objects: what lies on the table.
        region: where it may lie.
        clearance: least distance between two footprints [m].
        floor_z: height of the floor in the robot's world [m].
    """

    objects: tuple[SceneObject, ...]
    region: Region
    clearance: float = 0.02
    floor_z: float = -0.74

    def place(self, seed: int) -> tuple[Placement, ...]:
        """Return where each object lies; the same seed gives the same placements.

        Raises:
            ValueError: the region is too small for the objects.
        """
        rng = np.random.default_rng(seed)
        placed: list[tuple[float, float, float]] = []
        result: list[Placement] = []
        region = self.region
        for item in self.objects:
            for _ in range(MAX_TRIES):
                x = rng.uniform(region.x_min + item.footprint, region.x_max - item.footprint)
                y = rng.uniform(region.y_min + item.footprint, region.y_max - item.footprint)
                if all(
                    math.hypot(x - other_x, y - other_y) >= item.footprint + radius + self.clearance
                    for other_x, other_y, radius in placed
                ):
                    break
            else:
                raise ValueError(
                    f"region {region} has no room for {item.name!r} beside {len(placed)} objects"
                )
            placed.append((x, y, item.footprint))
            result.append(Placement(x, y, region.z, rng.uniform(-math.pi, math.pi)))
        return tuple(result)


def tabletop() -> Scene:
    """Return four objects on a table top at z = 0, within reach of arms at x = 0."""
    return Scene(
        objects=(
            SceneObject("red_cube", Shape.BOX, (0.04, 0.04, 0.04), (0.80, 0.12, 0.10, 1.0), 0.05),
            SceneObject("blue_can", Shape.CYLINDER, (0.025, 0.09), (0.10, 0.25, 0.70, 1.0), 0.10),
            SceneObject("green_block", Shape.BOX, (0.03, 0.09, 0.03), (0.13, 0.55, 0.25, 1.0), 0.06),
            SceneObject("white_plate", Shape.CYLINDER, (0.07, 0.014), (0.93, 0.93, 0.90, 1.0), 0.12),
        ),
        region=Region(x_min=0.22, x_max=0.54, y_min=-0.28, y_max=0.28, z=0.0),
    )
