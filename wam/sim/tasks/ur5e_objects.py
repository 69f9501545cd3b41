# SPDX-License-Identifier: Apache-2.0
"""Objects of the UR5e's tasks: prisms, and a towel of hinged strips."""

from __future__ import annotations

import math
from collections.abc import Iterator

from wam.sim.scene import Limb, Motion, Part, SceneObject, Shape

Rgba = tuple[float, float, float, float]

TASSEL = 0.022
"""Diameter and length of a towel's tassel [m]."""


def prism(
    name: str, rgba: Rgba, *, sides: int, width: float, height: float, mass: float
) -> SceneObject:
    """Return an upright prism with an even number of sides; `width` is from side to side, one of them across x [m].

    Raises:
        ValueError: `sides` is odd or below 4.
    """
    if sides < 4 or sides % 2:
        raise ValueError(f"{name}: a prism has an even number of sides, 4 at least; got {sides}")
    side = width * math.tan(math.pi / sides)
    parts = tuple(
        Part(Shape.BOX, (width, side, height), (0.0, 0.0, height / 2), (0.0, 0.0, 2 * math.pi * k / sides))
        for k in range(sides // 2)
    )
    radius = math.hypot(width, side) / 2
    return SceneObject(name, Shape.COMPOUND, (radius, height), rgba, mass, parts=parts)


def towel(
    name: str,
    rgba: Rgba,
    *,
    length: float = 0.22,
    width: float = 0.15,
    strips: int = 3,
    thickness: float = 0.005,
    mass: float = 0.08,
) -> SceneObject:
    """Return a flat towel: a stiff half from its middle along x, and a half of hinged strips along -x with a tassel.

    The hinges are at the upper side, so that the strips can lie on the stiff half; limb "strip0" is the one at the
    crease. The tassel stands out from the middle of the moving edge: its round axis is along y, so that strips turn
    about it while it is held between two fingers. Frame: at the crease.

    Args:
        name: unique in the scene.
        rgba: colour; the tassel and the stripes are brighter.
        length: along x without the tassel [m].
        width: along y [m].
        strips: of the moving half.
        thickness: [m].
        mass: [kg].
    """
    half, step = length / 2, length / 2 / strips
    bright = (*((1.0 + 2 * channel) / 3 for channel in rgba[:3]), 1.0)
    share = mass / (2 * strips)
    limbs: tuple[Limb, ...] = ()
    for number in reversed(range(strips)):
        parts = [Part(Shape.BOX, (step, width, thickness), (-step / 2, 0.0, -thickness / 2))]
        if number == strips - 1:
            parts[0] = Part(Shape.BOX, (step, width, thickness), (-step / 2, 0.0, -thickness / 2), rgba=bright)
            parts.append(
                Part(
                    Shape.CYLINDER,
                    (TASSEL / 2, TASSEL),
                    (-step - TASSEL / 2, 0.0, TASSEL / 2 - thickness),
                    (math.pi / 2, 0.0, 0.0),
                    rgba=bright,
                )
            )
        limbs = (
            Limb(
                f"strip{number}",
                tuple(parts),
                share,
                Motion.HINGE,
                axis=(0.0, 1.0, 0.0),
                position=(0.0 if number == 0 else -step, 0.0, thickness if number == 0 else 0.0),
                lower=0.0 if number == 0 else -0.9,
                upper=math.pi if number == 0 else 0.9,
                damping=0.003,
                stiffness=0.0 if number == 0 else 0.01,
                limbs=limbs,
            ),
        )
    base = (
        Part(Shape.BOX, (half - step, width, thickness), ((half - step) / 2, 0.0, thickness / 2)),
        Part(Shape.BOX, (step, width, thickness), (half - step / 2, 0.0, thickness / 2), rgba=bright),
    )
    return SceneObject(
        name,
        Shape.COMPOUND,
        (math.hypot(half + TASSEL, width / 2), TASSEL),
        rgba,
        mass / 2,
        parts=base,
        limbs=limbs,
    )


def leaves(item: SceneObject) -> Iterator[Limb]:
    """Yield the limbs of a chain, the first one that the object carries first."""
    limbs = item.limbs
    while limbs:
        yield limbs[0]
        limbs = limbs[0].limbs
