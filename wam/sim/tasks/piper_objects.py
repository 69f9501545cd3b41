# SPDX-License-Identifier: Apache-2.0
"""Objects of the tasks for two Piper arms. Sizes are ours; each gripper opens by 0.07 m."""

from __future__ import annotations

import math

from wam.sim.scene import Part, SceneObject, Shape
from wam.sim.shapes import WALL, Rgba

RIM = 0.012
"""Thickness of a plate [m]: a gripper presses the harder the wider it is kept open."""

SLOT_PITCH = 0.045
"""Distance of two slots of a rack [m]."""

CRADLE = 0.045
"""Half the distance of the two bars on which a plate stands [m]."""

BAR_HEIGHT = 0.020
BOARD = 0.005


def standing_plate(
    name: str, rgba: Rgba, band: Rgba, *, radius: float = 0.085, mass: float = 0.09
) -> SceneObject:
    """Return a flat plate that stands on its edge, its axis along y, with a coloured middle.

    Args:
        name: unique in the scene.
        rgba: colour.
        band: colour of the middle.
        radius: of the plate [m].
        mass: [kg].
    """
    upright = (math.pi / 2, 0.0, 0.0)
    parts = (
        Part(Shape.CYLINDER, (radius, RIM), position=(0.0, 0.0, radius), rotation=upright),
        Part(
            Shape.CYLINDER,
            (0.55 * radius, RIM + 0.001),
            position=(0.0, 0.0, radius),
            rotation=upright,
            rgba=band,
        ),
    )
    return SceneObject(name, Shape.COMPOUND, (radius, 2 * radius), rgba, mass, parts=parts, friction=1.2)


def seat(radius: float) -> float:
    """Return the height of the lowest point of a plate above the foot of the rack that it stands in [m]."""
    return BAR_HEIGHT + math.sqrt(radius**2 - CRADLE**2) - radius


def plate_rack(
    name: str, rgba: Rgba, *, slots: tuple[float, ...], stored: tuple[tuple[float, Rgba], ...] = ()
) -> SceneObject:
    """Return a rack for plates on their edge: a board, two bars that keep them from rolling, and slanted pegs.

    Args:
        name: unique in the scene.
        rgba: colour.
        slots: y of the middle of every slot [m].
        stored: y and colour of plates that belong to the rack.
    """
    y_min, y_max = min(slots) - SLOT_PITCH / 2, max(slots) + SLOT_PITCH / 2
    length, middle = y_max - y_min, (y_min + y_max) / 2
    wood = Part(Shape.BOX, (0.15, length + 0.01, BOARD), position=(0.0, middle, BOARD / 2))
    parts = [wood]
    slant, peg, gap = math.radians(14), 0.055, RIM / 2 + 0.002
    for x in (-CRADLE - 0.005, CRADLE + 0.005):
        parts.append(Part(Shape.BOX, (0.010, length, BAR_HEIGHT), position=(x, middle, BAR_HEIGHT / 2)))
        for y in slots:
            for side in (-1, 1):
                # Pegs lean apart: they lead a plate in that comes a little beside the slot.
                reach = gap + 0.003 + math.sin(slant) * peg / 2
                z = BAR_HEIGHT - 0.008 + math.cos(slant) * peg / 2
                parts.append(
                    Part(
                        Shape.CAPSULE,
                        (0.003, peg),
                        position=(x, y + side * reach, z),
                        rotation=(-side * slant, 0.0, 0.0),
                    )
                )
    for y, colour in stored:
        parts.append(
            Part(
                Shape.CYLINDER,
                (0.085, RIM),
                position=(0.0, y, seat(0.085) + 0.085),
                rotation=(math.pi / 2, 0.0, 0.0),
                rgba=colour,
            )
        )
    around = math.hypot(0.08, length / 2)
    return SceneObject(
        name, Shape.COMPOUND, (around, 0.07), rgba, 0.8, parts=tuple(parts), fixed=True, deck=seat(0.085)
    )


def banana(name: str, rgba: Rgba, *, mass: float = 0.07) -> SceneObject:
    """Return a bent fruit that lies along x, 0.14 m long and 0.032 m thick, with dark ends."""
    dark = (0.30, 0.22, 0.08, 1.0)
    lying = (0.0, math.pi / 2)
    parts = [Part(Shape.BOX, (0.055, 0.031, 0.024), position=(0.0, 0.0, 0.016))]
    parts.append(Part(Shape.CAPSULE, (0.016, 0.080), position=(0.0, 0.0, 0.016), rotation=(*lying, 0.0)))
    for side in (-1, 1):
        parts += [
            Part(
                Shape.CAPSULE,
                (0.0135, 0.062),
                position=(side * 0.044, 0.0075, 0.016),
                rotation=(*lying, side * 0.38),
            ),
            Part(
                Shape.CAPSULE,
                (0.005, 0.018),
                position=(side * 0.073, 0.0195, 0.017),
                rotation=(*lying, side * 0.38),
                rgba=dark,
            ),
        ]
    return SceneObject(name, Shape.COMPOUND, (0.082, 0.032), rgba, mass, parts=tuple(parts))


def root(name: str, rgba: Rgba, leaves: Rgba, *, thick: float = 0.032, mass: float = 0.06) -> SceneObject:
    """Return a carrot or a like vegetable that lies along x, 0.15 m long, thinner towards +x, with leaves."""
    height = thick / 2
    parts = [Part(Shape.BOX, (0.050, thick - 0.003, thick - 0.003), position=(-0.012, 0.0, height))]
    for number, x in enumerate((-0.022, 0.008, 0.034, 0.054)):
        radius = height * (1.0 - 0.18 * number)
        parts.append(
            Part(
                Shape.CAPSULE,
                (radius, 0.036 + 2 * radius),
                position=(x - 0.008, 0.0, height),
                rotation=(0.0, math.pi / 2, 0.0),
            )
        )
    for turn in (-0.5, 0.0, 0.5):
        parts.append(
            Part(
                Shape.CAPSULE,
                (0.0035, 0.028),
                position=(-0.068, 0.016 * turn, height),
                rotation=(0.0, math.pi / 2, -turn),
                rgba=leaves,
            )
        )
    return SceneObject(name, Shape.COMPOUND, (0.083, thick), rgba, mass, parts=tuple(parts))


def pen(name: str, rgba: Rgba, cap: Rgba, *, thick: float = 0.014, mass: float = 0.02) -> SceneObject:
    """Return an edged pen that lies along x, 0.14 m long; its cap is at -x."""
    height = thick / 2
    parts = (
        Part(Shape.BOX, (0.085, thick, thick), position=(0.010, 0.0, height)),
        Part(Shape.BOX, (0.045, thick + 0.001, thick), position=(-0.050, 0.0, height), rgba=cap),
        Part(Shape.BOX, (0.010, 0.6 * thick, 0.6 * thick), position=(0.057, 0.0, height), rgba=cap),
    )
    return SceneObject(name, Shape.COMPOUND, (0.073, thick), rgba, mass, parts=parts)


GRIP_X = -0.03
"""Where the middle of a screwdriver's handle is in its frame [m]."""


def screwdriver(name: str, rgba: Rgba, *, shaft: float = 0.07, mass: float = 0.08) -> SceneObject:
    """Return a tool that lies along x: an eight-sided handle, and a blade towards +x."""
    steel = (0.62, 0.64, 0.67, 1.0)
    radius, handle = 0.014, 0.08
    blade = Part(
        Shape.CYLINDER,
        (0.0035, shaft),
        position=(GRIP_X + (handle + shaft) / 2, 0.0, radius),
        rotation=(0.0, math.pi / 2, 0.0),
        rgba=steel,
    )
    around = max(handle / 2 - GRIP_X, GRIP_X + handle / 2 + shaft)
    return SceneObject(
        name,
        Shape.COMPOUND,
        (around, 2 * radius),
        rgba,
        mass,
        parts=(*_octagon(radius, handle, GRIP_X), blade),
    )


def roll(
    name: str, rgba: Rgba, *, radius: float = 0.022, length: float = 0.095, mass: float = 0.05
) -> SceneObject:
    """Return a roll that lies along x, eight-sided so that it stays where it lies, on a core of card."""
    card = (0.62, 0.47, 0.30, 1.0)
    core = Part(
        Shape.CYLINDER,
        (0.4 * radius, length + 0.004),
        position=(0.0, 0.0, radius),
        rotation=(0.0, math.pi / 2, 0.0),
        rgba=card,
    )
    return SceneObject(
        name,
        Shape.COMPOUND,
        (length / 2 + 0.006, 2 * radius),
        rgba,
        mass,
        parts=(*_octagon(radius, length, 0.0), core),
    )


def _octagon(radius: float, length: float, x: float) -> tuple[Part, ...]:
    """Return four crossed boxes whose hull is an eight-sided prism along x that lies on one side."""
    side = 2 * radius * math.tan(math.pi / 8)
    return tuple(
        Part(
            Shape.BOX,
            (length, 2 * radius, side),
            position=(x, 0.0, radius),
            rotation=(turn * math.pi / 4, 0.0, 0.0),
        )
        for turn in range(4)
    )


HANDLE_Y = 0.28
"""Distance of a handle from the middle of what two hands carry [m]."""

HANDLE_Z = 0.075
"""Height of the middle of a handle [m]."""


def two_handled(
    name: str,
    rgba: Rgba,
    grip: Rgba,
    *,
    depth: float = 0.14,
    length: float = 0.50,
    wall: float = 0.035,
    mass: float = 0.35,
) -> SceneObject:
    """Return a tray or crate: an open box, `length` along y, with a bar as handle at either end.

    Args:
        name: unique in the scene.
        rgba: colour.
        grip: colour of the handles.
        depth: along x [m].
        length: of the box without its handles, along y [m].
        wall: height of the walls [m].
        mass: [kg].
    """
    board = 0.006
    parts = [
        Part(Shape.BOX, (depth, length, board), position=(0.0, 0.0, board / 2)),
        Part(Shape.BOX, (board, length, wall), position=((depth - board) / 2, 0.0, wall / 2)),
        Part(Shape.BOX, (board, length, wall), position=((board - depth) / 2, 0.0, wall / 2)),
    ]
    for side in (-1, 1):
        parts += [
            Part(Shape.BOX, (depth, board, wall), position=(0.0, side * (length - board) / 2, wall / 2)),
            Part(Shape.BOX, (0.11, 0.016, 0.018), position=(0.0, side * HANDLE_Y, HANDLE_Z), rgba=grip),
        ]
        for x in (-0.048, 0.048):
            # Each post leans from the upper edge of the box out to the bar.
            inner, low = length / 2 - board / 2, wall - 0.012
            run, rise = HANDLE_Y - inner, HANDLE_Z - low
            parts.append(
                Part(
                    Shape.BOX,
                    (0.012, 0.010, math.hypot(run, rise)),
                    position=(x, side * (inner + HANDLE_Y) / 2, (low + HANDLE_Z) / 2),
                    rotation=(-side * math.atan2(run, rise), 0.0, 0.0),
                    rgba=grip,
                )
            )
    around = math.hypot(depth / 2, HANDLE_Y + 0.01)
    return SceneObject(
        name,
        Shape.COMPOUND,
        (around, HANDLE_Z + 0.01),
        rgba,
        mass,
        parts=tuple(parts),
        friction=1.2,
        deck=WALL,
    )
