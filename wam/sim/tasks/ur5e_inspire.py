# SPDX-License-Identifier: Apache-2.0
"""Tasks of a UR5e with an Inspire hand: the three real-world tasks of the UD-VLA paper (figures 3, 5, 6; appendix D).

Stacking bowls, putting blocks into a box among others, and folding a towel. Colours, sizes and shapes are ours.
"""

from __future__ import annotations

import math
from dataclasses import replace

from wam.sim.look import Texture
from wam.sim.scene import Region, SceneObject, Shape
from wam.sim.shapes import basket, bowl
from wam.sim.tasks.criteria import Above, All, AtRest, Folded, Free, Held, Inside, LimbWithin, Upright
from wam.sim.tasks.slide import Sliding
from wam.sim.tasks.task import ITEM, Spot, Stages, Task, TaskStage, Variant
from wam.sim.tasks.ur5e_objects import Rgba, prism, strips_of, towel

ROBOT = "ur5e_inspire"
THUMB = ("thumb_distal", "thumb_intermediate", "thumb_proximal")
FINGERS = tuple(
    f"{finger}_{link}"
    for finger in ("index", "middle", "ring", "pinky")
    for link in ("intermediate", "proximal")
)
HAND = (*THUMB, *FINGERS, "hand_base_link", "thumb_proximal_base")

BACKGROUNDS = (Texture.OAK, Texture.LINEN, Texture.SLATE)
"""The paper's data have three backgrounds."""

DISTRACTORS = (
    SceneObject("orange_ball", Shape.ELLIPSOID, (0.05, 0.05, 0.05), (0.90, 0.45, 0.10, 1.0), 0.05),
    SceneObject("brown_block", Shape.BOX, (0.03, 0.07, 0.03), (0.42, 0.27, 0.15, 1.0), 0.05),
    SceneObject("grey_can", Shape.CYLINDER, (0.025, 0.06), (0.50, 0.52, 0.55, 1.0), 0.08),
)
AROUND = Region(0.30, 0.64, -0.45, 0.45, 0.0)


def _words(item: SceneObject) -> str:
    return item.name.replace("_", " ")


BOWL_SIDES = 12


def _small(name: str, rgba: Rgba) -> SceneObject:
    """Return a bowl that the open hand spans."""
    return bowl(name, rgba, radius=0.044, height=0.045, mass=0.08, sides=BOWL_SIDES)


def _large(name: str, rgba: Rgba) -> SceneObject:
    """Return a bowl that a small one nests in."""
    return bowl(name, rgba, radius=0.066, height=0.050, mass=0.16, sides=BOWL_SIDES)


RED_BOWL = _small("red_bowl", (0.78, 0.14, 0.12, 1.0))
YELLOW_BOWL = _small("yellow_bowl", (0.92, 0.75, 0.15, 1.0))
PINK_BOWL = _small("pink_bowl", (0.90, 0.50, 0.62, 1.0))
BLUE_BOWL = _large("blue_bowl", (0.12, 0.30, 0.75, 1.0))
GREEN_BOWL = _large("green_bowl", (0.16, 0.55, 0.30, 1.0))
WHITE_BOWL = _large("white_bowl", (0.92, 0.92, 0.90, 1.0))
BOWLS = (RED_BOWL, YELLOW_BOWL, PINK_BOWL, BLUE_BOWL, GREEN_BOWL, WHITE_BOWL)


def _stacking(upper: SceneObject, lower: SceneObject) -> Variant:
    words = (("object", _words(upper)), ("target", _words(lower)))
    return Variant(f"{_words(upper)} on {_words(lower)}", words, (upper.name, lower.name))


def stacking_stages(kind: Variant) -> Stages:
    """Return the stages of stacking bowls: grasped, carried over the other one, stacked."""
    upper, lower = kind.objects
    return (
        TaskStage("grasped", Held(upper, (THUMB, FINGERS), ("table",)), hold=0.1),
        TaskStage("carried", Above(upper, lower, radius=0.04, low=0.04)),
        TaskStage(
            "stacked",
            All(
                (
                    Above(upper, lower, radius=0.025, high=0.06),
                    Upright(upper),
                    Free(upper, HAND),
                    AtRest((upper, lower)),
                )
            ),
            hold=0.3,
        ),
    )


BOWLS_REGION = Region(0.40, 0.56, -0.28, 0.22, 0.0)

STACK_BOWLS = Task(
    name=f"{ROBOT}_stack_bowls",
    robot=ROBOT,
    title="stacking bowls",
    instruction="Lift the {object} and stack it on the {target}.",
    objects=BOWLS,
    spots=(
        Spot(ITEM, BOWLS_REGION),
        *(Spot(item.name, BOWLS_REGION) for item in (BLUE_BOWL, GREEN_BOWL, WHITE_BOWL)),
    ),
    variants=tuple(
        _stacking(upper, lower) for upper in (RED_BOWL, YELLOW_BOWL) for lower in (BLUE_BOWL, GREEN_BOWL)
    ),
    unseen=(_stacking(PINK_BOWL, WHITE_BOWL),),
    stages=stacking_stages,
    time_limit=20.0,
    clearance=0.04,
    distractors=DISTRACTORS,
    distractor_region=AROUND,
    textures=BACKGROUNDS,
    sliding=lambda kind: Sliding(kind.objects[1], BOWLS_REGION),
)

BOX_LENGTH, BOX_WIDTH, BOX_HEIGHT = 0.20, 0.16, 0.06
BOX = basket("box", (0.62, 0.46, 0.30, 1.0), length=BOX_LENGTH, width=BOX_WIDTH, height=BOX_HEIGHT, mass=0.4)
RED_CUBE = SceneObject("red_cube", Shape.BOX, (0.045, 0.045, 0.045), (0.80, 0.12, 0.10, 1.0), 0.06)
BLUE_BRICK = SceneObject("blue_brick", Shape.BOX, (0.065, 0.040, 0.045), (0.10, 0.25, 0.75, 1.0), 0.08)
GREEN_CYLINDER = SceneObject("green_cylinder", Shape.CYLINDER, (0.022, 0.050), (0.13, 0.55, 0.25, 1.0), 0.06)
YELLOW_HEXAGON = prism(
    "yellow_hexagon", (0.93, 0.78, 0.15, 1.0), sides=6, width=0.046, height=0.045, mass=0.06
)
PURPLE_CUBE = SceneObject("purple_cube", Shape.BOX, (0.050, 0.050, 0.050), (0.45, 0.20, 0.60, 1.0), 0.07)
WHITE_BRICK = SceneObject("white_brick", Shape.BOX, (0.070, 0.036, 0.050), (0.92, 0.92, 0.90, 1.0), 0.08)
SEEN_BLOCKS = (RED_CUBE, BLUE_BRICK, GREEN_CYLINDER, YELLOW_HEXAGON)
UNSEEN_BLOCKS = (PURPLE_CUBE, WHITE_BRICK)


def _putting(target: SceneObject, others: tuple[SceneObject, ...]) -> Variant:
    names = (target.name, *(item.name for item in others if item is not target))
    return Variant(_words(target), (("object", _words(target)),), names)


def putting_stages(kind: Variant) -> Stages:
    """Return the stages of putting a block: grasped, carried over the box, put into it."""
    item = kind.item
    corner = (BOX_LENGTH / 2, BOX_WIDTH / 2, BOX_HEIGHT)
    return (
        TaskStage("grasped", Held(item, (THUMB, FINGERS), ("table",)), hold=0.1),
        TaskStage("carried", Above(item, BOX.name, radius=0.08, low=0.05)),
        TaskStage(
            "put",
            All(
                (
                    Inside(item, BOX.name, (-corner[0], -corner[1], 0.0), corner),
                    Free(item, HAND),
                    AtRest((item,)),
                )
            ),
            hold=0.3,
        ),
    )


BLOCKS_REGION = Region(0.40, 0.55, -0.28, 0.22, 0.0)
BRICKS = (BLUE_BRICK, WHITE_BRICK)
ANY_TURN, BRICK_TURN = (-math.pi, math.pi), (-0.7, 0.7)

PUT_BLOCK = Task(
    name=f"{ROBOT}_put_block",
    robot=ROBOT,
    title="putting blocks",
    instruction="Lift the {object} and put it into the box.",
    objects=(BOX, *SEEN_BLOCKS, *UNSEEN_BLOCKS),
    spots=(
        Spot(BOX.name, Region(0.43, 0.53, -0.22, 0.22, 0.0), yaw=(-0.5, 0.5)),
        *(
            Spot(item.name, BLOCKS_REGION, yaw=BRICK_TURN if item in BRICKS else ANY_TURN)
            for item in (*SEEN_BLOCKS, *UNSEEN_BLOCKS)
        ),
    ),
    variants=tuple(_putting(item, SEEN_BLOCKS) for item in SEEN_BLOCKS),
    unseen=tuple(_putting(item, (RED_CUBE, BLUE_BRICK, GREEN_CYLINDER)) for item in UNSEEN_BLOCKS),
    stages=putting_stages,
    time_limit=20.0,
    clearance=0.035,
    distractors=DISTRACTORS,
    distractor_region=AROUND,
    textures=BACKGROUNDS,
    sliding=lambda kind: Sliding(BOX.name, Region(0.40, 0.58, -0.30, 0.26, 0.0)),
)

PUT_BLOCK_NEAR = replace(
    PUT_BLOCK,
    name=f"{PUT_BLOCK.name}_near",
    title="putting blocks: one cube, narrow places",
    objects=(BOX, RED_CUBE),
    spots=(
        Spot(BOX.name, Region(0.44, 0.50, 0.08, 0.16, 0.0), yaw=(-0.2, 0.2)),
        Spot(ITEM, Region(0.42, 0.50, -0.16, -0.06, 0.0), yaw=(-0.3, 0.3)),
    ),
    variants=(_putting(RED_CUBE, ()),),
    unseen=(),
)
"""The task above narrowed, for policies that learn from tens of episodes."""

TOWEL_LENGTH = 0.22
BLUE_TOWEL = towel("blue_towel", (0.25, 0.45, 0.75, 1.0), length=TOWEL_LENGTH)
GREEN_TOWEL = towel("green_towel", (0.40, 0.65, 0.45, 1.0), length=TOWEL_LENGTH)
RED_TOWEL = towel("red_towel", (0.80, 0.35, 0.32, 1.0), length=TOWEL_LENGTH)
TOWELS = (BLUE_TOWEL, GREEN_TOWEL)


def _folding(item: SceneObject) -> Variant:
    return Variant(_words(item), (("object", _words(item)),), (item.name,))


def folding_stages(kind: Variant) -> Stages:
    """Return the stages of folding a towel: grasped, lifted half over, folded and let go."""
    item, strips = kind.item, tuple(strips_of(BLUE_TOWEL))
    return (
        TaskStage("grasped", Held(item, (THUMB, FINGERS), ()), hold=0.1),
        TaskStage("lifted", Folded(item, strips, math.radians(60))),
        TaskStage(
            "folded",
            All(
                (
                    # A towel that is rolled up has its edge turned over as well, but not its crease.
                    LimbWithin(item, strips[0], lower=math.radians(120)),
                    Folded(item, strips, math.radians(160)),
                    Free(item, HAND),
                    AtRest((item,)),
                )
            ),
            hold=0.5,
        ),
    )


FOLD_TOWEL = Task(
    name=f"{ROBOT}_fold_towel",
    robot=ROBOT,
    title="folding towels",
    instruction="Grasp one side of the {object} and move it to the other side, until it is folded.",
    objects=(*TOWELS, RED_TOWEL),
    spots=(Spot(ITEM, Region(0.46, 0.56, -0.15, 0.15, 0.0), yaw=(-0.9, -0.1)),),
    variants=tuple(_folding(item) for item in TOWELS),
    unseen=(_folding(RED_TOWEL),),
    stages=folding_stages,
    time_limit=20.0,
    distractors=DISTRACTORS,
    distractor_region=AROUND,
    textures=BACKGROUNDS,
)

TASKS = (STACK_BOWLS, PUT_BLOCK, PUT_BLOCK_NEAR, FOLD_TOWEL)
