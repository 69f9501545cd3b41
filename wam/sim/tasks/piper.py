# SPDX-License-Identifier: Apache-2.0
"""Tasks of two AgileX Piper arms: "Store Plate" and "Organize Desktop" (AHA-WAM paper, table 6), and a two-arm move.

Stages and their order are the paper's; sizes are ours.
"""

from __future__ import annotations

from wam.sim.scene import Region, SceneObject, Shape
from wam.sim.shapes import basket, pedestal, plate
from wam.sim.tasks.criteria import Above, All, AtRest, Criterion, Free, Held, Inside, Level, Upright
from wam.sim.tasks.piper_objects import (
    HANDLE_Z,
    SLOT_PITCH,
    banana,
    pen,
    plate_rack,
    roll,
    root,
    screwdriver,
    standing_plate,
    two_handled,
)
from wam.sim.tasks.slide import Sliding
from wam.sim.tasks.task import ITEM, Spot, Stages, Task, TaskStage, Variant

ROBOT = "piper"
LEFT_FINGERS = ("left_gripper_link1", "left_gripper_link2")
RIGHT_FINGERS = ("right_gripper_link1", "right_gripper_link2")
LEFT_HAND = (*LEFT_FINGERS, "left_gripper_base")
RIGHT_HAND = (*RIGHT_FINGERS, "right_gripper_base")

WHITE = (0.92, 0.92, 0.90, 1.0)
WOOD = (0.66, 0.47, 0.28, 1.0)

DISTRACTORS = (
    SceneObject("orange_ball", Shape.ELLIPSOID, (0.05, 0.05, 0.05), (0.90, 0.45, 0.10, 1.0), 0.05),
    SceneObject("purple_block", Shape.BOX, (0.03, 0.07, 0.03), (0.45, 0.20, 0.60, 1.0), 0.05),
    SceneObject("grey_can", Shape.CYLINDER, (0.025, 0.06), (0.50, 0.52, 0.55, 1.0), 0.08),
)
AROUND = Region(0.24, 0.66, -0.56, 0.56, 0.0)


def held(item: str, fingers: tuple[str, ...], *clear_of: str) -> Held:
    """Return that both fingers of a hand touch an object and nothing of `clear_of` does."""
    return Held(item, tuple((finger,) for finger in fingers), clear_of)


def words_of(item: str) -> str:
    """Return the name of an object as used in instructions."""
    return item.replace("_", " ")


STAND = plate_rack("plate_stand", WOOD, slots=(0.0,))
RACK = plate_rack(
    "plate_rack",
    (0.30, 0.33, 0.38, 1.0),
    slots=(SLOT_PITCH, 0.0, -SLOT_PITCH),
    stored=((-SLOT_PITCH, (0.80, 0.84, 0.86, 1.0)),),
)
PLATES = (
    standing_plate("white_plate", WHITE, (0.20, 0.36, 0.62, 1.0)),
    standing_plate("green_plate", (0.35, 0.58, 0.42, 1.0), (0.93, 0.91, 0.82, 1.0)),
)
UNSEEN_PLATES = (standing_plate("red_plate", (0.74, 0.16, 0.14, 1.0), (0.95, 0.80, 0.30, 1.0), radius=0.08),)


def _one(item: SceneObject) -> Variant:
    return Variant(words_of(item.name), (("object", words_of(item.name)),), (item.name,))


def store_plate_stages(kind: Variant) -> Stages:
    """Return the stages of the paper: the left hand holds the plate, the right hand does, it stands in the rack."""
    item, half = kind.item, 1.5 * SLOT_PITCH
    return (
        TaskStage("grasped", held(item, LEFT_FINGERS, "table", STAND.name), hold=0.1),
        TaskStage(
            "handed_over",
            All((held(item, RIGHT_FINGERS, "table", STAND.name, RACK.name), Free(item, LEFT_HAND))),
            hold=0.2,
        ),
        TaskStage(
            "stored",
            All(
                (
                    Inside(item, RACK.name, (-0.03, -half, 0.0), (0.03, half, 0.11)),
                    Level(item),
                    Free(item, (*LEFT_HAND, *RIGHT_HAND)),
                    AtRest((item,)),
                )
            ),
            hold=0.3,
        ),
    )


STORE_PLATE = Task(
    name="piper_store_plate",
    robot=ROBOT,
    title="store a plate with a hand-over",
    instruction="Hand the {object} over from the left hand to the right hand and place it in the plate rack.",
    objects=(STAND, RACK, *PLATES, *UNSEEN_PLATES),
    spots=(
        Spot(STAND.name, Region(0.40, 0.46, 0.13, 0.24, 0.0), yaw=(-0.35, 0.10)),
        Spot(RACK.name, Region(0.41, 0.45, -0.20, -0.14, 0.0), yaw=(0.0, 0.35)),
        Spot(ITEM, Region(0.0, 0.0, 0.0, 0.0, 0.001), on=STAND.name, yaw=(0.0, 0.0)),
    ),
    variants=tuple(_one(item) for item in PLATES),
    unseen=tuple(_one(item) for item in UNSEEN_PLATES),
    stages=store_plate_stages,
    time_limit=40.0,
    distractors=DISTRACTORS,
    distractor_region=AROUND,
    sliding=lambda kind: Sliding(RACK.name, Region(0.38, 0.46, -0.26, -0.08, 0.0)),
)


DISH = plate("white_dish", WHITE, radius=0.11, fixed=True)
BASKET = basket("grey_basket", (0.55, 0.57, 0.60, 1.0), length=0.19, width=0.18, height=0.055, fixed=True)

BANANA = banana("banana", (0.93, 0.80, 0.20, 1.0))
CARROT = root("carrot", (0.93, 0.45, 0.12, 1.0), (0.25, 0.55, 0.20, 1.0))
PEN = pen("pen", (0.12, 0.22, 0.60, 1.0), (0.06, 0.08, 0.20, 1.0))
SCREWDRIVER = screwdriver("screwdriver", (0.80, 0.12, 0.10, 1.0))
BAG_ROLL = roll("bag_roll", (0.15, 0.16, 0.18, 1.0))

PARSNIP = root("parsnip", (0.93, 0.88, 0.74, 1.0), (0.35, 0.60, 0.25, 1.0), thick=0.034)
AUBERGINE = banana("aubergine", (0.30, 0.12, 0.32, 1.0))
MARKER = pen("marker", (0.90, 0.90, 0.88, 1.0), (0.80, 0.15, 0.55, 1.0), thick=0.018)
CHISEL = screwdriver("chisel", (0.75, 0.55, 0.25, 1.0), shaft=0.06)
TOWEL_ROLL = roll("towel_roll", (0.85, 0.90, 0.95, 1.0), radius=0.025)


def _desk(*items: SceneObject) -> Variant:
    keys = ("first", "second", "pen", "tool", "roll")
    names = tuple(item.name for item in items)
    words = tuple((key, words_of(name)) for key, name in zip(keys, names, strict=True))
    return Variant(", ".join(words_of(name) for name in names), words, names)


DESKTOP = _desk(BANANA, CARROT, PEN, SCREWDRIVER, BAG_ROLL)
UNSEEN_DESKTOP = _desk(AUBERGINE, PARSNIP, MARKER, CHISEL, TOWEL_ROLL)


def _put_away(items: tuple[str, ...], where: tuple[Criterion, ...]) -> Criterion:
    hands = (*LEFT_HAND, *RIGHT_HAND)
    return All((*where, *(Free(item, hands) for item in items), AtRest(items)))


def organize_desktop_stages(kind: Variant) -> Stages:
    """Return the stages of the paper: fruit on the plate, then pen and tool in the basket, then the roll as well."""
    fruit, things, rolled = kind.objects[:2], kind.objects[2:4], kind.objects[4:]
    x, y = 0.095, 0.09

    def in_basket(item: str) -> Criterion:
        return Inside(item, BASKET.name, (-x, -y, 0.0), (x, y, 0.08))

    on_dish = tuple(Above(item, DISH.name, radius=0.10, low=0.0, high=0.07) for item in fruit)
    two, three = (tuple(in_basket(item) for item in some) for some in (things, (*things, *rolled)))
    return (
        TaskStage("fruit_on_plate", _put_away(fruit, on_dish), hold=0.2),
        TaskStage("tools_in_basket", _put_away(things, two), hold=0.2),
        # The end is checked as a whole: what has been put away must still be there.
        TaskStage("roll_in_basket", _put_away(kind.objects, (*on_dish, *three)), hold=0.3),
    )


def _desk_spots() -> tuple[Spot, ...]:
    # Things point away from the arm that takes them, more or less: its fingers cannot close along its own direction.
    left = (Region(0.22, 0.40, 0.20, 0.40, 0.0), (-0.50, 0.30))
    right = (Region(0.21, 0.40, -0.42, -0.20, 0.0), (-0.30, 0.50))
    spots = [
        Spot(DISH.name, Region(0.42, 0.45, 0.09, 0.13, 0.0), yaw=(-0.2, 0.2)),
        Spot(BASKET.name, Region(0.42, 0.45, -0.14, -0.10, 0.0), yaw=(-0.15, 0.15)),
    ]
    for kind in (DESKTOP, UNSEEN_DESKTOP):
        for number, name in enumerate(kind.objects):
            region, yaw = left if number < 2 else right
            spots.append(Spot(name, region, yaw=yaw))
    return tuple(spots)


ORGANIZE_DESKTOP = Task(
    name="piper_organize_desktop",
    robot=ROBOT,
    title="organize a desktop",
    instruction="Clear the desktop: put the {first} and the {second} on the plate, "
    "and the {pen}, the {tool} and the {roll} in the basket.",
    objects=(
        DISH,
        BASKET,
        *(BANANA, CARROT, PEN, SCREWDRIVER, BAG_ROLL),
        *(AUBERGINE, PARSNIP, MARKER, CHISEL, TOWEL_ROLL),
    ),
    spots=_desk_spots(),
    variants=(DESKTOP,),
    unseen=(UNSEEN_DESKTOP,),
    stages=organize_desktop_stages,
    time_limit=75.0,
    clearance=0.0,
    distractors=DISTRACTORS,
    distractor_region=Region(0.50, 0.66, -0.56, 0.56, 0.0),
)


PLATFORM = pedestal("grey_platform", (0.50, 0.53, 0.57, 1.0), length=0.12, width=0.48, height=0.03)
CARRIED = (
    two_handled("wooden_tray", WOOD, (0.30, 0.20, 0.12, 1.0)),
    two_handled("blue_crate", (0.16, 0.36, 0.62, 1.0), (0.88, 0.88, 0.86, 1.0), wall=0.06, mass=0.45),
)
UNSEEN_CARRIED = (
    two_handled("red_toolbox", (0.72, 0.14, 0.12, 1.0), (0.15, 0.15, 0.16, 1.0), depth=0.12, wall=0.05),
)


def move_large_object_stages(kind: Variant) -> Stages:
    """Return the stages: both hands hold it, it is carried over the platform, it stands there and is let go."""
    item = kind.item
    hands = (*LEFT_HAND, *RIGHT_HAND)

    def both(*clear_of: str) -> tuple[Criterion, ...]:
        return tuple(held(item, fingers, *clear_of) for fingers in (LEFT_FINGERS, RIGHT_FINGERS))

    return (
        TaskStage("grasped", All(both()), hold=0.1),
        TaskStage("carried", All((*both("table", PLATFORM.name), Above(item, PLATFORM.name, radius=0.06)))),
        TaskStage(
            "placed",
            All(
                (
                    Inside(item, PLATFORM.name, (-0.05, -0.05, 0.0), (0.05, 0.05, 0.02 + HANDLE_Z)),
                    Upright(item, tilt=0.1),
                    Free(item, hands),
                    AtRest((item,)),
                )
            ),
            hold=0.3,
        ),
    )


MOVE_LARGE_OBJECT = Task(
    name="piper_move_large_object",
    robot=ROBOT,
    title="move a large object with both arms",
    instruction="Grasp the {object} by its handles with both hands and carry it onto the grey platform.",
    objects=(PLATFORM, *CARRIED, *UNSEEN_CARRIED),
    spots=(
        Spot(PLATFORM.name, Region(0.43, 0.455, -0.02, 0.02, 0.0), yaw=(-0.06, 0.06), overlaps=True),
        Spot(ITEM, Region(0.245, 0.265, -0.02, 0.02, 0.0), yaw=(-0.08, 0.08), overlaps=True),
    ),
    variants=tuple(_one(item) for item in CARRIED),
    unseen=tuple(_one(item) for item in UNSEEN_CARRIED),
    stages=move_large_object_stages,
    time_limit=30.0,
    distractors=DISTRACTORS,
    distractor_region=Region(0.56, 0.66, -0.56, 0.56, 0.0),
    sliding=lambda kind: Sliding(PLATFORM.name, Region(0.42, 0.46, -0.09, 0.09, 0.0)),
)

TASKS = (STORE_PLATE, ORGANIZE_DESKTOP, MOVE_LARGE_OBJECT)
