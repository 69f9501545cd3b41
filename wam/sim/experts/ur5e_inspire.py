# SPDX-License-Identifier: Apache-2.0
"""Experts of the UR5e with an Inspire hand: stacking bowls, putting blocks, folding towels.

Every grasp opposes the thumb to the fingers from above, the palm turned half or nearly all the way down.
"""

from __future__ import annotations

import math
from dataclasses import replace

from wam.sim.experts.goals import Carried, Shifted
from wam.sim.experts.hand import ByGrasp, Facing, Grasp, Shares, Swung
from wam.sim.experts.script import Barrier, Effector, Grip, Move, Retry, Script, Step
from wam.sim.tasks.criteria import Held
from wam.sim.tasks.task import Variant
from wam.sim.tasks.ur5e_inspire import (
    BLUE_BRICK,
    BOWL_SIDES,
    BOX,
    FINGERS,
    FOLD_TOWEL,
    GREEN_CYLINDER,
    PURPLE_CUBE,
    PUT_BLOCK,
    PUT_BLOCK_NEAR,
    RED_CUBE,
    SEEN_BLOCKS,
    STACK_BOWLS,
    THUMB,
    TOWEL_LENGTH,
    UNSEEN_BLOCKS,
    WHITE_BRICK,
    YELLOW_HEXAGON,
)
from wam.sim.tasks.ur5e_objects import TASSEL

DRIVES = ("hand_pinky", "hand_ring", "hand_middle", "hand_index", "hand_thumb_bend", "hand_thumb_rotation")
ARM = Effector("arm", "hand_tcp", DRIVES, open=(1.0,) * 6, closed=(0.0,) * 6)

HEADING = math.radians(-108)
"""Turn of thumb-to-fingers against the line from the robot's base: the hand comes in from the side."""

ABOVE = 0.12
"""Height over a grasp from which the hand goes straight down, and to which it retreats [m]."""

LIFT = 0.15
"""Way straight up after a grasp [m]."""

TURNS: dict[str, tuple[int, float]] = {
    RED_CUBE.name: (4, 0.0),
    BLUE_BRICK.name: (2, math.pi / 2),
    GREEN_CYLINDER.name: (24, 0.0),
    YELLOW_HEXAGON.name: (6, 0.0),
    PURPLE_CUBE.name: (4, 0.0),
    WHITE_BRICK.name: (2, math.pi / 2),
}
"""Block -> turns that grasp it in the same way, and the first of them against its x [rad]."""


def shares(*, fingers: float, thumb: float, others: float | None = None) -> Shares:
    """Return how far the drives are closed, with the thumb turned to face the fingers.

    Args:
        fingers: of the middle finger, and of the others unless `others` says how far those are.
        thumb: its bend.
        others: of all fingers but the middle one.
    """
    others = fingers if others is None else others
    return (others, others, fingers, others, thumb, 1.0)


BOWL_GRASP = Grasp(
    shares(fingers=0.08, thumb=0.0),
    shares(fingers=0.24, thumb=0.16),
    centre=(-0.033, -0.001, 0.008),
    tilt=math.radians(49),
)
BLOCK_GRASP = Grasp(
    shares(fingers=0.17, thumb=0.10),
    shares(fingers=0.34, thumb=0.37),
    centre=(-0.0315, -0.001, 0.007),
    tilt=math.radians(55),
)
TASSEL_GRASP = Grasp(
    shares(fingers=0.25, thumb=0.08, others=0.05),
    shares(fingers=0.48, thumb=0.38, others=0.05),
    centre=(-0.0373, -0.001, -0.003),
    tilt=math.radians(53),
)


def stack_bowls(variant: Variant) -> Script:
    """Return approach, grasp around the outside, lift, carry, let go within the other bowl and retreat."""
    upper, lower = variant.objects
    over = Facing(upper, HEADING, (0.0, 0.0, 0.030), symmetry=BOWL_SIDES)
    return _transfer(upper, lower, BOWL_GRASP, over, drop=0.032)


def put_block(variant: Variant) -> Script:
    """Return approach, pinch at half height, lift, carry, let go within the box and retreat."""
    item = variant.item
    block = next(one for one in (*SEEN_BLOCKS, *UNSEEN_BLOCKS) if one.name == item)
    symmetry, turn = TURNS[item]
    over = Facing(item, HEADING, (0.0, 0.0, block.height / 2 - block.origin_height), symmetry, turn)
    return _transfer(item, BOX.name, BLOCK_GRASP, over, drop=0.045 + block.origin_height)


def _transfer(item: str, target: str, grasp: Grasp, grasped: Facing, *, drop: float) -> Script:
    """Return the script that takes an object and lets it go in another one.

    Args:
        item: what is taken.
        target: what it is let go in.
        grasp: how.
        grasped: where the grasp's frame is then.
        drop: height of the object's frame over the target's when it is let go [m].
    """
    x, y, z = grasped.offset
    above = ByGrasp(grasp, replace(grasped, offset=(x, y, z + ABOVE)))
    return {
        "hand": _opening(grasp),
        "arm": (
            Move({"arm": above}),
            Barrier("opened"),
            Grip("arm", grasp.opened, wait=0.0),
            Move({"arm": above}),
            Move({"arm": ByGrasp(grasp, grasped)}, straight=True, speed=0.6),
            Grip("arm", grasp.closed, wait=0.35),
            Move({"arm": Shifted((0.0, 0.0, LIFT))}, straight=True, speed=0.6),
            Retry(Held(item, (THUMB, FINGERS)), back=5),
            Move({"arm": Swung(item, target, (0.0, 0.0, drop + 0.08))}, speed=0.7),
            Move({"arm": Carried(item, target, (0.0, 0.0, drop))}, straight=True, speed=0.5),
            Grip("arm", grasp.opened),
            Move({"arm": Shifted((0.0, 0.0, ABOVE))}, straight=True, speed=0.6),
        ),
    }


def _opening(grasp: Grasp) -> tuple[Step, ...]:
    """Return the steps of the hand while the arm approaches."""
    return (Grip("arm", grasp.opened, wait=0.0), Barrier("opened"))


def fold_towel(variant: Variant) -> Script:
    """Return approach, pinch of the tassel, an arc over the crease, release and retreat."""
    item, grasp = variant.item, TASSEL_GRASP
    reach = TOWEL_LENGTH / 2 + TASSEL / 2
    pivot = TASSEL / 2 + 0.002  # fingertips that open sweep a little lower than where they meet

    def at(x: float, z: float) -> ByGrasp:
        return ByGrasp(grasp, Facing(item, HEADING, (x, 0.0, z), symmetry=2, turn=math.pi / 2))

    def along(angle: float) -> ByGrasp:
        radius, turn = 0.95 * reach, math.radians(angle)
        return at(-radius * math.cos(turn), pivot + radius * math.sin(turn))

    return {
        "hand": _opening(grasp),
        "arm": (
            Move({"arm": at(-reach, pivot + ABOVE)}),
            Barrier("opened"),
            Grip("arm", grasp.opened, wait=0.0),
            Move({"arm": at(-reach, pivot + ABOVE)}),
            Move({"arm": at(-reach, pivot)}, straight=True, speed=0.6),
            Grip("arm", grasp.closed, wait=0.35),
            Move({"arm": along(40)}, straight=True, speed=0.5),
            Retry(Held(item, (THUMB, FINGERS), ()), back=5),
            Move({"arm": along(90)}, straight=True, speed=0.6),
            Move({"arm": along(140)}, straight=True, speed=0.6),
            Move({"arm": at(0.97 * reach, pivot + 0.004)}, straight=True, speed=0.5),
            Grip("arm", grasp.opened),
            Move({"arm": Shifted((0.0, 0.0, ABOVE))}, straight=True, speed=0.6),
        ),
    }


SCRIPTS = {
    STACK_BOWLS.name: ((ARM,), stack_bowls),
    PUT_BLOCK.name: ((ARM,), put_block),
    PUT_BLOCK_NEAR.name: ((ARM,), put_block),
    FOLD_TOWEL.name: ((ARM,), fold_towel),
}
