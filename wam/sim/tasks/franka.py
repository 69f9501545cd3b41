# SPDX-License-Identifier: Apache-2.0
"""Pick and place with a Franka Research 3: the four real-world tasks of the DUST paper (appendix A.4).

Each has a source, a target and four objects. Sizes are ours; the hand opens by 0.08 m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from wam.sim.scene import Region, SceneObject, Shape
from wam.sim.shapes import basket, bowl, cup, pedestal, plate, teddy_bear
from wam.sim.tasks.criteria import Above, All, AtRest, Free, Held
from wam.sim.tasks.slide import Sliding
from wam.sim.tasks.task import ITEM, Spot, Stages, Task, TaskStage, Variant

ROBOT = "franka"
FINGERS = ("fr3_leftfinger", "fr3_rightfinger")
HAND = (*FINGERS, "fr3_hand")

BROWN_BOX = pedestal("brown_box", (0.42, 0.27, 0.15, 1.0), length=0.16, width=0.16, height=0.05)
GOLDEN_BOWL = bowl("golden_bowl", (0.83, 0.63, 0.14, 1.0), fixed=True)
BLACK_BOWL = bowl("black_bowl", (0.09, 0.09, 0.10, 1.0), fixed=True)
WHITE_PLATE = plate("white_plate", (0.90, 0.90, 0.88, 1.0), fixed=True)
WHITE_BASKET = basket(
    "white_basket", (0.88, 0.88, 0.85, 1.0), length=0.22, width=0.20, height=0.045, fixed=True
)

TEDDY_BEAR = teddy_bear("teddy_bear", (0.50, 0.31, 0.17, 1.0))
BLUE_CUBE = SceneObject("blue_cube", Shape.BOX, (0.045, 0.045, 0.045), (0.10, 0.25, 0.75, 1.0), 0.06)
BLUE_CUP = cup("blue_cup", (0.12, 0.35, 0.80, 1.0))
SPONGE = SceneObject("sponge", Shape.BOX, (0.085, 0.055, 0.035), (0.95, 0.82, 0.20, 1.0), 0.02)
RED_CAN = SceneObject("red_can", Shape.CYLINDER, (0.028, 0.075), (0.75, 0.10, 0.10, 1.0), 0.10)
GREEN_BRICK = SceneObject("green_brick", Shape.BOX, (0.080, 0.040, 0.040), (0.15, 0.55, 0.25, 1.0), 0.08)

ITEMS = (TEDDY_BEAR, BLUE_CUBE, BLUE_CUP, SPONGE)
UNSEEN_ITEMS = (RED_CAN, GREEN_BRICK)

DISTRACTORS = (
    SceneObject("orange_ball", Shape.ELLIPSOID, (0.05, 0.05, 0.05), (0.90, 0.45, 0.10, 1.0), 0.05),
    SceneObject("purple_block", Shape.BOX, (0.03, 0.07, 0.03), (0.45, 0.20, 0.60, 1.0), 0.05),
    SceneObject("grey_can", Shape.CYLINDER, (0.025, 0.06), (0.50, 0.52, 0.55, 1.0), 0.08),
)

WITHIN_REACH = Region(0.40, 0.58, -0.26, 0.26, 0.0)
SLIDES_WITHIN = Region(0.36, 0.62, -0.32, 0.32, 0.0)
AROUND = Region(0.30, 0.66, -0.45, 0.45, 0.0)

SUPPORTS = ("table", "brown_box", "golden_bowl", "black_bowl", "white_plate", "white_basket")


@dataclass(frozen=True, slots=True)
class Pair:
    """A source and a target.

    Attributes:
        source: what the object is taken from.
        target: what it is put into.
        text: instruction with {object}.
        on_source: where on the source the object may stand, in its frame [m].
        radius: of the target: an object whose centre is closer to its middle is on or in it [m].
    """

    source: SceneObject
    target: SceneObject
    text: str
    on_source: Region
    radius: float

    @property
    def name(self) -> str:
        """E.g. "franka_box_to_bowl"."""
        source, target = (one.name.rpartition("_")[2] for one in (self.source, self.target))
        return f"{ROBOT}_{source}_to_{target}"


def _around(reach: float) -> Region:
    return Region(-reach, reach, -reach, reach, 0.0)


PAIRS = (
    Pair(
        BROWN_BOX,
        GOLDEN_BOWL,
        "Pick up the {object} on the brown box and place it in the golden bowl.",
        _around(0.025),
        radius=0.065,
    ),
    Pair(
        BROWN_BOX,
        WHITE_PLATE,
        "Pick up the {object} on the brown box and place it on the white plate.",
        _around(0.025),
        radius=0.09,
    ),
    Pair(
        WHITE_BASKET,
        BLACK_BOWL,
        "Pick up the {object} in the white basket and place it in the black bowl.",
        _around(0.02),
        radius=0.065,
    ),
    Pair(
        WHITE_PLATE,
        WHITE_BASKET,
        "Pick up the {object} on the white plate and place it in the white basket.",
        _around(0.02),
        radius=0.09,
    ),
)


def variant(item: SceneObject) -> Variant:
    """Return the episodes with one object."""
    words = item.name.replace("_", " ")
    return Variant(words, (("object", words),), (item.name,))


def stages(pair: Pair, kind: Variant) -> Stages:
    """Return the stages of a pair: grasped, carried over the target, placed in it and let go."""
    item, target = kind.item, pair.target.name
    return (
        TaskStage("grasped", Held(item, tuple((finger,) for finger in FINGERS), SUPPORTS), hold=0.1),
        TaskStage("carried", Above(item, target, radius=pair.radius, low=0.0)),
        TaskStage(
            "placed",
            All(
                (
                    Above(item, target, radius=pair.radius, low=0.0, high=0.10),
                    Free(item, HAND),
                    AtRest((item,)),
                )
            ),
            hold=0.3,
        ),
    )


def task(pair: Pair) -> Task:
    """Return the task of a pair of source and target, on either side of the robot."""
    return Task(
        name=pair.name,
        robot=ROBOT,
        title=f"{pair.source.name.replace('_', ' ')} to {pair.target.name.replace('_', ' ')}",
        instruction=pair.text,
        objects=(pair.source, pair.target, *ITEMS, *UNSEEN_ITEMS),
        spots=(
            Spot(pair.source.name, WITHIN_REACH, yaw=(-0.4, 0.4)),
            Spot(pair.target.name, WITHIN_REACH, yaw=(-0.4, 0.4)),
            Spot(ITEM, pair.on_source, on=pair.source.name, yaw=(-math.pi, math.pi)),
        ),
        variants=tuple(variant(item) for item in ITEMS),
        unseen=tuple(variant(item) for item in UNSEEN_ITEMS),
        stages=lambda kind: stages(pair, kind),
        time_limit=20.0,
        distractors=DISTRACTORS,
        distractor_region=AROUND,
        sliding=lambda kind: Sliding(pair.target.name, SLIDES_WITHIN),
    )


NEAR = replace(
    task(PAIRS[0]),
    name=f"{PAIRS[0].name}_near",
    title=f"{task(PAIRS[0]).title}: one cube, narrow places",
    objects=(BROWN_BOX, GOLDEN_BOWL, BLUE_CUBE),
    spots=(
        Spot(BROWN_BOX.name, Region(0.45, 0.53, 0.10, 0.20, 0.0), yaw=(-0.2, 0.2)),
        Spot(GOLDEN_BOWL.name, Region(0.45, 0.53, -0.20, -0.10, 0.0), yaw=(-0.4, 0.4)),
        Spot(ITEM, _around(0.02), on=BROWN_BOX.name, yaw=(-0.3, 0.3)),
    ),
    variants=(variant(BLUE_CUBE),),
    unseen=(),
)
"""The first task narrowed, for policies that learn from tens of episodes: places differ by 8 x 10 cm."""

TASKS = (*(task(pair) for pair in PAIRS), NEAR)
