# SPDX-License-Identifier: Apache-2.0
"""Surroundings of a robot: objects to grasp, where they may lie, and the room."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from wam.sim.look import PLAIN, Look

MAX_TRIES = 10_000


class Shape(enum.Enum):
    """Shape of an object or of a part of one; it decides what `size` means."""

    BOX = "box"  # full edge lengths x, y, z
    CYLINDER = "cylinder"  # radius, height
    CAPSULE = "capsule"  # radius, height over all
    ELLIPSOID = "ellipsoid"  # full lengths of the axes x, y, z
    COMPOUND = (
        "compound"  # radius and height of the upright cylinder around it; `parts` say what it is made of
    )


class LimbMotion(enum.Enum):
    """How a limb moves against what carries it."""

    HINGE = "hinge"  # about the axis [rad]
    SLIDE = "slide"  # along the axis [m]


@dataclass(frozen=True, slots=True)
class Part:
    """One solid of a compound object.

    Attributes:
        shape: any but COMPOUND.
        size: see `Shape` [m].
        position: its centre in the frame of the object or limb [m].
        rotation: roll, pitch, yaw about fixed axes [rad].
        rgba: colour, or None for the object's.
    """

    shape: Shape
    size: tuple[float, ...]
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rgba: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.shape is Shape.COMPOUND:
            raise ValueError("a part cannot be a compound")

    @property
    def volume(self) -> float:
        """Its volume [m^3]."""
        if self.shape is Shape.BOX:
            return math.prod(self.size)
        if self.shape is Shape.ELLIPSOID:
            return math.pi / 6 * math.prod(self.size)
        radius, height = self.size
        if self.shape is Shape.CYLINDER:
            return math.pi * radius**2 * height
        return math.pi * radius**2 * (height - 2 * radius) + 4 / 3 * math.pi * radius**3


@dataclass(frozen=True, slots=True)
class Limb:
    """A piece of an object that moves on a joint: a lid, a drawer, a leaf of a folding sheet.

    Attributes:
        name: unique in the object; body and joint are called `OBJECT/NAME` in the model.
        parts: its solids, in the frame of its joint.
        mass: [kg].
        motion: hinge or slide.
        axis: of the joint, in the frame of what carries it.
        position: of the joint, in the frame of what carries it [m].
        lower: end of the range [rad or m].
        upper: end of the range [rad or m].
        home: position after a reset [rad or m].
        damping: [N m s/rad or N s/m].
        friction: dry friction of the joint [N m or N].
        stiffness: spring towards `home` [N m/rad or N/m].
        limbs: what it carries in turn.
    """

    name: str
    parts: tuple[Part, ...]
    mass: float
    motion: LimbMotion
    axis: tuple[float, float, float]
    position: tuple[float, float, float]
    lower: float
    upper: float
    home: float = 0.0
    damping: float = 0.01
    friction: float = 0.0
    stiffness: float = 0.0
    limbs: tuple[Limb, ...] = ()


@dataclass(frozen=True, slots=True)
class SceneObject:
    """An object that lies on the table. A compound's frame is at the middle of its foot, any other's at its centre.

    Attributes:
        name: unique in the scene.
        shape: shape.
        size: see `Shape` [m].
        rgba: colour, 0..1.
        mass: of the object without its limbs [kg]; shared among its parts by their volume.
        parts: what a compound is made of; empty for any other shape.
        limbs: pieces that move on joints.
        fixed: it cannot move, as if screwed to the table.
        friction: sliding friction of its surface.
        deck: height above its foot at which others stand on or in it [m]; None where nothing does.
    """

    name: str
    shape: Shape
    size: tuple[float, ...]
    rgba: tuple[float, float, float, float]
    mass: float
    parts: tuple[Part, ...] = ()
    limbs: tuple[Limb, ...] = ()
    fixed: bool = False
    friction: float = 1.0
    deck: float | None = None

    def __post_init__(self) -> None:
        if (self.shape is Shape.COMPOUND) != bool(self.parts):
            raise ValueError(f"{self.name}: parts belong to a compound, and a compound has some")

    @property
    def height(self) -> float:
        """Height when it stands [m]."""
        return self.size[-1]

    @property
    def origin_height(self) -> float:
        """Height of its frame above its foot [m]."""
        return 0.0 if self.shape is Shape.COMPOUND else self.height / 2

    @property
    def footprint(self) -> float:
        """Radius of the circle around it, seen from above [m]."""
        if self.shape in (Shape.BOX, Shape.ELLIPSOID):
            return math.hypot(self.size[0], self.size[1]) / 2
        return self.size[0]

    @property
    def solids(self) -> tuple[Part, ...]:
        """What it is made of: its parts, or itself."""
        return self.parts or (Part(self.shape, self.size),)


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

    A scene that places its objects by other rules, leaves some out or changes its look overrides `place` and `look`.

    Attributes:
        objects: what may lie on the table.
        region: where it may lie.
        clearance: least distance between two footprints [m].
        floor_z: height of the floor in the robot's world [m].
    """

    objects: tuple[SceneObject, ...]
    region: Region
    clearance: float = 0.02
    floor_z: float = -0.74

    def place(self, seed: int) -> tuple[Placement | None, ...]:
        """Return where each object lies, or None for one that is not there; the same seed gives the same.

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
                    f"region {region} has no space for {item.name!r} beside {len(placed)} objects"
                )
            placed.append((x, y, item.footprint))
            result.append(Placement(x, y, region.z, rng.uniform(-math.pi, math.pi)))
        return tuple(result)

    def look(self, seed: int) -> Look:
        """Return light and textures; the same seed gives the same."""
        return PLAIN


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
