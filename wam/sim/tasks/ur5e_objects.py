# SPDX-License-Identifier: Apache-2.0
"""Objects of the UR5e's tasks: prisms, and a towel of hinged strips."""

from __future__ import annotations

import math
from collections.abc import Iterator

from wam.sim.scene import Limb, LimbMotion, Part, SceneObject, Shape

Rgba = tuple[float, float, float, float]

FLICKER = 2e-4
"""Difference in height that a camera can resolve [m]."""

BEND = 0.9
"""Largest bend between two strips of a towel [rad]; the crease bends by half a turn."""

TASSEL = 0.026
"""Diameter and length of a towel's tassel [m]."""

TASSEL_MASS = 0.006


def prism(name: str, rgba: Rgba, *, sides: int, width: float, height: float, mass: float) -> SceneObject:
    """Return an upright prism with an even number of sides; `width` is from side to side, one of them across x [m].

    Raises:
        ValueError: `sides` is odd or below 4.
    """
    if sides < 4 or sides % 2:
        raise ValueError(f"{name}: a prism has an even number of sides, 4 at least; got {sides}")
    side = width * math.tan(math.pi / sides)
    parts = []
    for k in range(sides // 2):
        # Tops at one height would flicker where they cover each other.
        tall = height - k * FLICKER
        turn = (0.0, 0.0, 2 * math.pi * k / sides)
        parts.append(Part(Shape.BOX, (width, side, tall), (0.0, 0.0, tall / 2), turn))
    radius = math.hypot(width, side) / 2
    return SceneObject(name, Shape.COMPOUND, (radius, height), rgba, mass, parts=tuple(parts))


def towel(
    name: str,
    rgba: Rgba,
    *,
    length: float = 0.22,
    width: float = 0.15,
    strips: int = 4,
    thickness: float = 0.005,
    mass: float = 0.08,
) -> SceneObject:
    """Return a flat towel: a stiff half from its middle along x, and a half of hinged strips along -x with a tassel.

    The hinges are at the upper side, so that the strips can lie on the stiff half; limb "strip0" is the one at the
    crease. The tassel, limb "tassel", stands out from the middle of the moving edge, which turns about it freely, as
    cloth does where it is held. Its flat ends look along y. Frame: at the crease.

    Args:
        name: unique in the scene.
        rgba: colour; the tassel and the stripes are brighter.
        length: along x without the tassel [m].
        width: along y [m].
        strips: of the moving half.
        thickness: [m].
        mass: without the tassel [kg].
    """
    half, step = length / 2, length / 2 / strips
    red, green, blue = ((1.0 + 2 * channel) / 3 for channel in rgba[:3])
    bright = (red, green, blue, 1.0)
    tassel = Limb(
        "tassel",
        (Part(Shape.CYLINDER, (TASSEL / 2, TASSEL), rotation=(math.pi / 2, 0.0, 0.0), rgba=bright),),
        TASSEL_MASS,
        LimbMotion.HINGE,
        axis=(0.0, 1.0, 0.0),
        position=(-step - TASSEL / 2, 0.0, TASSEL / 2 - thickness),
        lower=-math.pi,
        upper=math.pi,
        damping=2e-4,
    )
    limbs: tuple[Limb, ...] = (tassel,)
    for number in reversed(range(strips)):
        first, last = number == 0, number == strips - 1
        middle = (-step / 2, 0.0, -thickness / 2)
        parts = (Part(Shape.BOX, (step, width, thickness), middle, rgba=bright if last else None),)
        limb = Limb(
            f"strip{number}",
            parts,
            mass / (2 * strips),
            LimbMotion.HINGE,
            axis=(0.0, 1.0, 0.0),
            position=(0.0, 0.0, thickness) if first else (-step, 0.0, 0.0),
            lower=0.0 if first else -BEND,
            upper=math.pi if first else BEND,
            damping=0.003,
            stiffness=0.0 if first else 0.01,
            limbs=limbs,
        )
        limbs = (limb,)
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


def strips_of(item: SceneObject) -> Iterator[str]:
    """Yield the names of a towel's strips, from the crease outwards."""
    limbs = item.limbs
    while limbs:
        if limbs[0].name.startswith("strip"):
            yield limbs[0].name
        limbs = limbs[0].limbs
