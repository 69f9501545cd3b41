# SPDX-License-Identifier: Apache-2.0
"""Makers of compound objects: bowls, plates, baskets, cups and a toy, from solids that MuJoCo touches exactly."""

from __future__ import annotations

import math

from wam.sim.scene import Part, SceneObject, Shape

Rgba = tuple[float, float, float, float]

WALL = 0.004
"""Thickness of walls and floors [m]; thinner ones let fast objects slip through."""


def ring(
    radius: float,
    height: float,
    *,
    sides: int,
    z: float,
    slant: float = 0.0,
    thickness: float = WALL,
) -> tuple[Part, ...]:
    """Return a ring of boxes.

    Args:
        radius: from the axis to the middle of a wall, halfway up [m].
        height: along the slant [m].
        sides: number of boxes.
        z: height of the middle of the walls [m].
        slant: how far the walls lean outwards from upright [rad].
        thickness: of the walls [m].
    """
    top = radius + thickness / 2 + math.sin(slant) * height / 2
    width = 2 * top * math.tan(math.pi / sides)
    parts = []
    for number in range(sides):
        angle = 2 * math.pi * number / sides
        parts.append(
            Part(
                Shape.BOX,
                (thickness, width, height),
                position=(radius * math.cos(angle), radius * math.sin(angle), z),
                rotation=(0.0, slant, angle),
            )
        )
    return tuple(parts)


def bowl(
    name: str,
    rgba: Rgba,
    *,
    radius: float = 0.085,
    height: float = 0.05,
    mass: float = 0.25,
    sides: int = 12,
    fixed: bool = False,
) -> SceneObject:
    """Return a bowl with a flat foot and slanted walls.

    Args:
        name: unique in the scene.
        rgba: colour.
        radius: of the rim [m].
        height: over all [m].
        mass: [kg].
        sides: boxes of the wall.
        fixed: it cannot move.
    """
    return _round_dish(
        name, rgba, foot=0.55 * radius, radius=radius, height=height, mass=mass, sides=sides, fixed=fixed
    )


def _round_dish(
    name: str, rgba: Rgba, *, foot: float, radius: float, height: float, mass: float, sides: int, fixed: bool
) -> SceneObject:
    """Return a flat floor of radius `foot` [m] and a slanted wall from there to the rim; the rest as of `bowl`."""
    slant = math.atan2(radius - foot, height)
    wall = ring(
        (radius + foot) / 2, height / math.cos(slant), sides=sides, z=height / 2 + WALL / 2, slant=slant
    )
    floor = Part(Shape.CYLINDER, (foot + WALL, WALL), position=(0.0, 0.0, WALL / 2))
    return SceneObject(
        name,
        Shape.COMPOUND,
        (radius + WALL, height),
        rgba,
        mass,
        parts=(floor, *wall),
        fixed=fixed,
        deck=WALL,
    )


def plate(
    name: str,
    rgba: Rgba,
    *,
    radius: float = 0.11,
    height: float = 0.018,
    mass: float = 0.3,
    sides: int = 16,
    fixed: bool = False,
) -> SceneObject:
    """Return a plate: a flat disc with a low slanted rim; sizes as of `bowl`."""
    return _round_dish(
        name, rgba, foot=0.75 * radius, radius=radius, height=height, mass=mass, sides=sides, fixed=fixed
    )


def basket(
    name: str,
    rgba: Rgba,
    *,
    length: float = 0.20,
    width: float = 0.16,
    height: float = 0.05,
    mass: float = 0.3,
    wall: float = 0.006,
    fixed: bool = False,
) -> SceneObject:
    """Return an open box with upright walls, `length` along x and `width` along y outside [m]."""
    middle = height / 2
    parts = (
        Part(Shape.BOX, (length, width, WALL), position=(0.0, 0.0, WALL / 2)),
        Part(Shape.BOX, (wall, width, height), position=((length - wall) / 2, 0.0, middle)),
        Part(Shape.BOX, (wall, width, height), position=((wall - length) / 2, 0.0, middle)),
        Part(Shape.BOX, (length, wall, height), position=(0.0, (width - wall) / 2, middle)),
        Part(Shape.BOX, (length, wall, height), position=(0.0, (wall - width) / 2, middle)),
    )
    return SceneObject(
        name,
        Shape.COMPOUND,
        (math.hypot(length, width) / 2, height),
        rgba,
        mass,
        parts=parts,
        fixed=fixed,
        deck=WALL,
    )


def pedestal(
    name: str,
    rgba: Rgba,
    *,
    length: float,
    width: float,
    height: float,
    mass: float = 0.5,
    fixed: bool = True,
) -> SceneObject:
    """Return a closed box to put things on, `length` along x and `width` along y [m]."""
    return SceneObject(name, Shape.BOX, (length, width, height), rgba, mass, fixed=fixed, deck=height)


def cup(
    name: str, rgba: Rgba, *, radius: float = 0.03, height: float = 0.08, mass: float = 0.09, sides: int = 10
) -> SceneObject:
    """Return a cup without a handle: a floor and upright walls, `radius` outside [m]."""
    walls = ring(radius - WALL / 2, height, sides=sides, z=height / 2 + WALL / 4)
    floor = Part(Shape.CYLINDER, (radius - WALL, WALL), position=(0.0, 0.0, WALL / 2))
    return SceneObject(name, Shape.COMPOUND, (radius, height), rgba, mass, parts=(floor, *walls))


def teddy_bear(name: str, rgba: Rgba, *, mass: float = 0.08) -> SceneObject:
    """Return a sitting toy bear, 0.10 m tall, that looks along x; its body is 0.05 m wide."""
    bright = (min(1.0, rgba[0] + 0.2), min(1.0, rgba[1] + 0.2), min(1.0, rgba[2] + 0.2), 1.0)
    dark = (0.08, 0.06, 0.05, 1.0)
    parts = [
        Part(Shape.BOX, (0.046, 0.048, 0.050), position=(0.0, 0.0, 0.027)),
        Part(Shape.CYLINDER, (0.026, 0.010), position=(0.0, 0.0, 0.005)),
        Part(Shape.ELLIPSOID, (0.046, 0.050, 0.046), position=(0.004, 0.0, 0.073)),
        Part(Shape.ELLIPSOID, (0.020, 0.022, 0.018), position=(0.026, 0.0, 0.068), rgba=bright),
        Part(Shape.ELLIPSOID, (0.008, 0.010, 0.008), position=(0.036, 0.0, 0.071), rgba=dark),
        Part(Shape.ELLIPSOID, (0.012, 0.036, 0.036), position=(0.022, 0.0, 0.030), rgba=bright),
    ]
    for side in (-1, 1):
        parts += [
            Part(Shape.ELLIPSOID, (0.010, 0.018, 0.018), position=(0.0, side * 0.019, 0.094)),
            Part(Shape.ELLIPSOID, (0.006, 0.006, 0.006), position=(0.025, side * 0.010, 0.080), rgba=dark),
            Part(
                Shape.CAPSULE,
                (0.010, 0.034),
                position=(0.032, side * 0.014, 0.010),
                rotation=(0, math.pi / 2, 0),
            ),
        ]
    return SceneObject(name, Shape.COMPOUND, (0.05, 0.10), rgba, mass, parts=tuple(parts))
