# SPDX-License-Identifier: Apache-2.0
"""Experts of the Franka's tasks: one script for every pair of source and target."""

from __future__ import annotations

from functools import partial

from wam.sim.experts.goals import DOWN, AtItem, Carried, Shifted
from wam.sim.experts.script import Effector, Grip, Move, Retry, Script
from wam.sim.tasks.criteria import Held
from wam.sim.tasks.franka import (
    BLUE_CUBE,
    BLUE_CUP,
    FINGERS,
    GREEN_BRICK,
    ITEMS,
    NEAR,
    PAIRS,
    RED_CAN,
    SPONGE,
    TEDDY_BEAR,
    UNSEEN_ITEMS,
    Pair,
)
from wam.sim.tasks.task import Variant

ARM = Effector("arm", "fr3_hand_tcp", ("fr3_finger_joint1",), open=(0.04,), closed=(0.0,))

ABOVE = 0.14
"""Height over an object from which the hand goes straight down [m]."""

CARRY_HEIGHT = 0.24
"""Height of the tool over the table while it carries [m]."""

DROP = 0.02
"""Height of an object's foot over the deck of the target when it is let go [m]."""

GRASPS: dict[str, tuple[float, int]] = {
    TEDDY_BEAR.name: (0.050, 2),
    BLUE_CUBE.name: (0.0, 4),
    BLUE_CUP.name: (0.062, 8),
    SPONGE.name: (0.0, 2),
    RED_CAN.name: (0.015, 8),
    GREEN_BRICK.name: (0.0, 2),
}
"""Object -> height of the tool over its frame [m], and turns that grasp it in the same way. Fingers close along y."""


def script(pair: Pair, variant: Variant) -> Script:
    """Return approach, grasp, lift, carry, lower, release and retreat."""
    item = variant.item
    height, symmetry = GRASPS[item]
    origin = next(one.origin_height for one in (*ITEMS, *UNSEEN_ITEMS) if one.name == item)

    def over(offset: float) -> AtItem:
        return AtItem(item, (0.0, 0.0, offset), rotation=DOWN, symmetry=symmetry)

    deck = pair.target.deck or 0.0
    return {
        "arm": (
            Grip("arm", 0.0, wait=0.0),
            Move({"arm": over(height + ABOVE)}),
            Move({"arm": over(height)}, straight=True, speed=0.6),
            Grip("arm", 1.0),
            Move({"arm": Shifted(height=CARRY_HEIGHT)}, straight=True, speed=0.6),
            Retry(Held(item, tuple((finger,) for finger in FINGERS)), back=5),
            Move({"arm": Carried(item, pair.target.name, (0.0, 0.0, CARRY_HEIGHT - 0.05))}, speed=0.8),
            Move(
                {"arm": Carried(item, pair.target.name, (0.0, 0.0, deck + origin + DROP))},
                straight=True,
                speed=0.5,
            ),
            Grip("arm", 0.0),
            Move({"arm": Shifted(height=CARRY_HEIGHT)}, straight=True, speed=0.6),
        )
    }


SCRIPTS = {pair.name: ((ARM,), partial(script, pair)) for pair in PAIRS}
SCRIPTS[NEAR.name] = SCRIPTS[PAIRS[0].name]
