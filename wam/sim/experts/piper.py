# SPDX-License-Identifier: Apache-2.0
"""Experts of the tasks for two Piper arms.

The wrist (joint5 within 70 degrees) cannot point the gripper straight down above the table: tools lean forward, and
where only the fingers' direction counts the inverse kinematics may choose how far.
"""

from __future__ import annotations

import math

from wam.sim.experts.goals import AtItem, InWorld, Shifted, Xyz
from wam.sim.experts.handling import Along, Backed, Brought, OnItem, aimed
from wam.sim.experts.script import Barrier, Effector, Grip, Move, Retry, Script, Step
from wam.sim.scene import SceneObject
from wam.sim.tasks.criteria import All
from wam.sim.tasks.piper import (
    BASKET,
    CHISEL,
    DISH,
    LEFT_FINGERS,
    MOVE_LARGE_OBJECT,
    ORGANIZE_DESKTOP,
    PLATFORM,
    RACK,
    RIGHT_FINGERS,
    SCREWDRIVER,
    STORE_PLATE,
    held,
)
from wam.sim.tasks.piper_objects import GRIP_X, HANDLE_Y, HANDLE_Z, SLOT_PITCH
from wam.sim.tasks.task import Variant

OPENING = 0.07
"""[m]"""

ARMS = tuple(
    Effector(side, f"{side}_tcp", (f"{side}_gripper",), open=(OPENING,), closed=(0.0,))
    for side in ("left", "right")
)
HALF_DISTANCE = 0.30
"""Of the two bases [m]."""


def leaning(pitch: float, azimuth: float = 0.0) -> Xyz:
    """Return roll, pitch, yaw of a tool that points `pitch` below the horizon, its fingers level [rad]."""
    flat = math.cos(pitch)
    forward = (flat * math.cos(azimuth), flat * math.sin(azimuth), -math.sin(pitch))
    return aimed(forward, (-math.sin(azimuth), math.cos(azimuth), 0.0))


HOME_PITCH = 1.0
"""Of the tool at the arms' home [rad]."""

ANYHOW = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
"""The place alone: the wrist goes towards where it is at home."""

ANY_PITCH = (1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
"""All but the turn about the tool's y, along which its fingers close."""


def home(side: str) -> Move:
    """Return the move back to where the arm starts."""
    y = HALF_DISTANCE if side == "left" else -HALF_DISTANCE
    return Move({side: InWorld((0.35, y, 0.20), leaning(HOME_PITCH))}, weights=ANY_PITCH)


def opened(width: float) -> float:
    """Return how far a gripper is closed that is `width` open [m]."""
    return 1.0 - width / OPENING


# Store plate. Every grasp is on the rim, with the tool's z towards the plate's centre and its y along the plate's axis.

PICK_PITCH = math.radians(50)
HELD_AT = 0.010
"""Distance of the tool from the edge of a plate, inwards [m]."""

MEETING = (0.40, 0.0, 0.26)
"""Where the centre of the plate is when it changes hands [m]."""

TILT = math.radians(30)
"""Of the plate's plane about y, from level."""

APART = math.radians(60)
"""Angle between the two tools, in the plane of the plate."""

PRESENT = 0.08
"""How far a tool stands back before it grasps and after it has let go [m]."""


def _in_plane(angle: float) -> Xyz:
    """Return a direction in the plane of the plate at the meeting: forward and down, turned by `angle` to the left."""
    ahead = math.cos(angle)
    return (ahead * math.cos(TILT), math.sin(angle), -ahead * math.sin(TILT))


def _meeting(side: int) -> Xyz:
    """Return roll, pitch, yaw of a tool at the meeting; `side` is -1 for the left arm, 1 for the right one."""
    # The wrists are turned as in a mirror: y of the left tool points up, that of the right one down.
    across = (-side * math.sin(TILT), 0.0, -side * math.cos(TILT))
    return aimed(_in_plane(side * APART / 2), across)


def _on_rim(item: str, radius: float, pitch: float, back: float = 0.0, *, across: float = 1.0) -> OnItem:
    """Return a grasp of a plate in its own frame; `pitch`: place on the rim, `across`: side of the wrist."""
    reach = radius - HELD_AT + back
    z = (math.cos(pitch), 0.0, -math.sin(pitch))
    return OnItem(item, (-reach * z[0], 0.0, radius - reach * z[2]), aimed(z, (0.0, across, 0.0)))


def store_plate(variant: Variant) -> Script:
    """Return the script: the left arm takes the plate and presents it, the right one takes it over and stores it."""
    item = variant.item
    plate = next(one for one in STORE_PLATE.objects if one.name == item)
    radius = plate.size[0]
    meet_left, meet_right = _meeting(-1), _meeting(1)
    # The right tool is turned by APART against the left one, about the axis of the plate.
    theirs = PICK_PITCH + APART
    seated = (RACK.deck or 0.0) + radius
    lift = 0.10
    return {
        "left": (
            Grip("left", opened(0.05), wait=0.0),
            Move({"left": _on_rim(item, radius, PICK_PITCH, PRESENT)}),
            Move({"left": _on_rim(item, radius, PICK_PITCH)}, straight=True, speed=0.6),
            Grip("left", 1.0),
            Move({"left": Shifted((0.0, 0.0, lift))}, straight=True, speed=0.6),
            Retry(held(item, LEFT_FINGERS, "table"), back=4),
            Move({"left": Brought(item, MEETING, meet_left)}, speed=0.7),
            Barrier("presented"),
            Barrier("taken"),
            Grip("left", opened(0.05)),
            Move({"left": Backed(PRESENT)}, straight=True, speed=0.6),
            Barrier("given"),
            home("left"),
        ),
        "right": (
            Grip("right", opened(0.06), wait=0.0),
            Move({"right": InWorld(_before_meeting(radius), meet_right)}, speed=0.7),
            Barrier("presented"),
            Move({"right": _on_rim(item, radius, theirs, PRESENT, across=-1.0)}),
            Move({"right": _on_rim(item, radius, theirs, across=-1.0)}, straight=True, speed=0.5),
            Grip("right", 1.0),
            Barrier("taken"),
            Barrier("given"),
            Move(
                {
                    "right": Brought(
                        item, (0.0, SLOT_PITCH, seated + lift), leaning(PICK_PITCH), target=RACK.name
                    )
                },
                speed=0.7,
            ),
            Move(
                {
                    "right": Brought(
                        item, (0.0, SLOT_PITCH, seated + 0.003), leaning(PICK_PITCH), target=RACK.name
                    )
                },
                straight=True,
                speed=0.4,
            ),
            Grip("right", opened(0.035)),
            Move({"right": Backed(PRESENT)}, straight=True, speed=0.6),
            home("right"),
        ),
    }


def _before_meeting(radius: float) -> Xyz:
    """Return where the right tool waits for the plate: beside the place from which it will grasp it [m]."""
    away, z = radius - HELD_AT + PRESENT, _in_plane(APART / 2)
    return (MEETING[0] - away * z[0], MEETING[1] - away * z[1] - 0.06, MEETING[2] - away * z[2])


# Organize desktop.

ABOVE = 0.07
"""Height over a grasp from which the tool goes straight down [m]."""

CARRY_HEIGHT = 0.12
"""Height of the tool over the table while it carries [m]."""

LOWEST = 0.023
"""Height of the tool at which its fingertips just clear the table [m]."""

DISH_PLACES = ((0.0, 0.035), (0.0, -0.035))
BASKET_PLACES = ((0.0, 0.045), (0.0, -0.045), (0.0, 0.0))
INWARDS = math.radians(20)
"""How far tools are turned towards the middle when they put something down."""


def _fetch(side: str, item: SceneObject, fingers: tuple[str, ...]) -> tuple[Step, ...]:
    """Return approach, grasp and lift of an object that lies along the x of its frame."""
    height = max(LOWEST, 0.5 * item.height)
    grip_x = GRIP_X if item in (SCREWDRIVER, CHISEL) else 0.0

    def over(offset: float) -> AtItem:
        return AtItem(item.name, (grip_x, 0.0, offset), rotation=leaning(HOME_PITCH), symmetry=2)

    return (
        home(side),
        Grip(side, _around(item), wait=0.0),
        Move({side: over(height + ABOVE)}, weights=ANY_PITCH),
        Move({side: over(height)}, straight=True, speed=0.8, weights=ANY_PITCH),
        Grip(side, 1.0),
        Move({side: Shifted(height=CARRY_HEIGHT)}, straight=True, speed=0.8, weights=ANYHOW),
        Retry(held(item.name, fingers, "table"), back=5),
    )


def _around(item: SceneObject) -> float:
    """Return how far a gripper is closed that has room for an object; all are as wide as they are high."""
    return opened(min(OPENING, item.height + 0.026))


def _put(
    side: str, item: SceneObject, target: SceneObject, place: tuple[float, float], height: float
) -> tuple[Step, ...]:
    turn = leaning(HOME_PITCH, -INWARDS if side == "left" else INWARDS)

    def over(z: float) -> AtItem:
        return AtItem(target.name, (*place, z), rotation=turn)

    return (
        Move({side: over(CARRY_HEIGHT)}, speed=1.0, weights=ANY_PITCH),
        Move({side: over(height)}, straight=True, speed=0.8, weights=ANY_PITCH),
        Grip(side, _around(item)),
        Move({side: Shifted(height=CARRY_HEIGHT)}, straight=True, speed=1.0, weights=ANYHOW),
    )


def organize_desktop(variant: Variant) -> Script:
    """Return the script: the left arm puts its two objects on the plate, then the right arm its three in the basket."""
    items = {one.name: one for one in ORGANIZE_DESKTOP.objects}
    chosen = [items[name] for name in variant.objects]
    left: list[Step] = []
    for item, place in zip(chosen[:2], DISH_PLACES, strict=True):
        left += [*_fetch("left", item, LEFT_FINGERS), *_put("left", item, DISH, place, 0.045)]
    right: list[Step] = []
    for number, (item, place) in enumerate(zip(chosen[2:], BASKET_PLACES, strict=True)):
        # The right arm waits with its first object in the hand.
        wait = () if number else (Barrier("plate filled"),)
        right += [*_fetch("right", item, RIGHT_FINGERS), *wait, *_put("right", item, BASKET, place, 0.07)]
    return {
        "left": (*left, Barrier("plate filled"), home("left")),
        "right": (*right, home("right")),
    }


# Move a large object.

CARRY_PITCH = math.radians(68)


def move_large_object(variant: Variant) -> Script:
    """Return the script: both arms take a handle each and move as one until the object stands."""
    item = variant.item
    sides = (("left", HANDLE_Y), ("right", -HANDLE_Y))
    tool = leaning(CARRY_PITCH)
    deck = PLATFORM.height / 2  # a box's frame is at its centre

    def over(height: float) -> dict[str, AtItem]:
        return {side: AtItem(item, (0.0, y, HANDLE_Z + height), rotation=tool) for side, y in sides}

    def along(height: float) -> dict[str, Along]:
        return {side: Along(item, PLATFORM.name, (0.0, 0.0, deck + height)) for side, _ in sides}

    hands = ("left", "right")
    return {
        "both": (
            Grip(hands, opened(0.05), wait=0.0),
            Move(over(0.07)),
            Move(over(0.0), straight=True, speed=0.6),
            Grip(hands, 1.0),
            Retry(All((held(item, LEFT_FINGERS), held(item, RIGHT_FINGERS))), back=4),
            Move(
                {side: Shifted((0.0, 0.0, 0.06)) for side, _ in sides}, straight=True, rigid=True, speed=0.4
            ),
            Move(along(0.025), straight=True, rigid=True, speed=0.5),
            Move(along(0.004), straight=True, rigid=True, speed=0.4),
            Grip(hands, opened(0.05)),
            Move({side: Backed(0.05) for side, _ in sides}, straight=True, speed=0.6),
            Move({**home("left").goals, **home("right").goals}, weights=ANY_PITCH),
        )
    }


SCRIPTS = {
    STORE_PLATE.name: (ARMS, store_plate),
    ORGANIZE_DESKTOP.name: (ARMS, organize_desktop),
    MOVE_LARGE_OBJECT.name: (ARMS, move_large_object),
}
