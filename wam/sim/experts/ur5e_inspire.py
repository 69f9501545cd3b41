# SPDX-License-Identifier: Apache-2.0
"""Experts of the UR5e with an Inspire hand: stacking bowls, putting blocks, folding towels.

Every grasp opposes the thumb to the fingers from above, the palm turned half or nearly all the way down.
"""

from __future__ import annotations

import math

from wam.sim.experts.goals import Carried, Shifted
from wam.sim.experts.hand import ByGrasp, Facing, Grasp, Shares, Swung
from wam.sim.experts.script import Barrier, Effector, Grip, Move, Retry, Script, Step
from wam.sim.tasks.criteria import Held
from wam.sim.tasks.task import Variant
from wam.sim.tasks.ur5e_inspire import (
    BLUE_BRICK,
    BOX,
    FINGERS,
    FOLD_TOWEL,
    GREEN_CYLINDER,
    PURPLE_CUBE,
    PUT_BLOCK,
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

SYMMETRY = {
    RED_CUBE.name: 4,
    BLUE_BRICK.name: 2,
    GREEN_CYLINDER.name: 24,
    YELLOW_HEXAGON.name: 6,
    PURPLE_CUBE.name: 4,
    WHITE_BRICK.name: 2,
}
"""Block -> turns that grasp it in the same way."""


def shares(*, fingers: float, thumb: float, others: float | None = None) -> Shares:
    """Return how far the drives are closed, with the thumb turned to face the fingers.

    Args:
        fingers: middle finger, and with it ring and index unless `others` says how far they are.
        thumb: bend of the thumb.
        others: all fingers but the middle one.
    """
    others = fingers if others is None else others
    pinky = others
    return (pinky, others, fingers, others, thumb, 1.0)


def _grasp(opened: Shares, closed: Shares, x: float, z: float, tilt: float) -> Grasp:
    """Return a grasp by its centre in the flange's frame [m] and its tilt [deg]."""
    return Grasp(opened, closed, (x + 0.035, -0.0008, z - 0.162), math.radians(tilt))


BOWL_GRASP = _grasp(shares(fingers=0.08, thumb=0.0), shares(fingers=0.24, thumb=0.16), -0.068, 0.170, 49)
BLOCK_GRASP = _grasp(shares(fingers=0.17, thumb=0.10), shares(fingers=0.34, thumb=0.37), -0.0665, 0.169, 55)
TASSEL_GRASP = _grasp(
    shares(fingers=0.25, thumb=0.08, others=0.05),
    shares(fingers=0.48, thumb=0.38, others=0.05),
    -0.0723,
    0.159,
    53,
)


def _over(grasp: Grasp, item: str, height: float, symmetry: int) -> ByGrasp:
    return ByGrasp(grasp, Facing(item, HEADING, (0.0, 0.0, height), symmetry))


def stack_bowls(variant: Variant) -> Script:
    """Return approach, grasp around the outside, lift, carry, let go within the other bowl and retreat."""
    upper, lower = variant.objects
    return _transfer(upper, lower, BOWL_GRASP, height=0.030, symmetry=12, lift=0.14, drop=0.032)


def put_block(variant: Variant) -> Script:
    """Return approach, pinch, lift, carry, let go within the box and retreat."""
    item = variant.item
    block = next(one for one in (*SEEN_BLOCKS, *UNSEEN_BLOCKS) if one.name == item)
    middle = block.origin_height
    height = block.height / 2 - middle
    return _transfer(
        item, BOX.name, BLOCK_GRASP, height=height, symmetry=SYMMETRY[item], lift=0.15, drop=0.045 + middle
    )


def _transfer(
    item: str, target: str, grasp: Grasp, *, height: float, symmetry: int, lift: float, drop: float
) -> Script:
    """Return the script that takes an object and lets it go in another one.

    Args:
        item: what is taken.
        target: what it is let go in.
        grasp: how.
        height: of the fingertips over the object's frame [m].
        symmetry: equal turns of the object.
        lift: way up [m].
        drop: height of the object's frame over the target's when it is let go [m].
    """
    return {
        "hand": _opening(grasp),
        "arm": (
            Move({"arm": _over(grasp, item, height + 0.12, symmetry)}),
            Barrier("opened"),
            Grip("arm", grasp.opened, wait=0.0),
            Move({"arm": _over(grasp, item, height + 0.12, symmetry)}),
            Move({"arm": _over(grasp, item, height, symmetry)}, straight=True, speed=0.6),
            Grip("arm", grasp.closed, wait=0.35),
            Move({"arm": Shifted((0.0, 0.0, lift))}, straight=True, speed=0.6),
            Retry(Held(item, (THUMB, FINGERS)), back=5),
            Move({"arm": Swung(item, target, (0.0, 0.0, drop + 0.08))}, speed=0.7),
            Move({"arm": Carried(item, target, (0.0, 0.0, drop))}, straight=True, speed=0.5),
            Grip("arm", grasp.opened),
            Move({"arm": Shifted((0.0, 0.0, 0.12))}, straight=True, speed=0.6),
        ),
    }


def _opening(grasp: Grasp) -> tuple[Step, ...]:
    """Return the steps of the hand while the arm approaches."""
    return (Grip("arm", grasp.opened, wait=0.0), Barrier("opened"))


def fold_towel(variant: Variant) -> Script:
    """Return approach, pinch of the tassel, an arc over the crease, release and retreat."""
    item, grasp = variant.item, TASSEL_GRASP
    reach, pivot = TOWEL_LENGTH / 2 + TASSEL / 2, TASSEL / 2 + 0.002

    def at(x: float, z: float) -> ByGrasp:
        return ByGrasp(grasp, Facing(item, HEADING, (x, 0.0, z), symmetry=2, turn=math.pi / 2))

    def along(angle: float) -> ByGrasp:
        radius, turn = 0.95 * reach, math.radians(angle)
        return at(-radius * math.cos(turn), pivot + radius * math.sin(turn))

    return {
        "hand": _opening(grasp),
        "arm": (
            Move({"arm": at(-reach, pivot + 0.12)}),
            Barrier("opened"),
            Grip("arm", grasp.opened, wait=0.0),
            Move({"arm": at(-reach, pivot + 0.12)}),
            Move({"arm": at(-reach, pivot)}, straight=True, speed=0.6),
            Grip("arm", grasp.closed, wait=0.35),
            Move({"arm": along(40)}, straight=True, speed=0.5),
            Retry(Held(item, (THUMB, FINGERS), ()), back=5),
            Move({"arm": along(90)}, straight=True, speed=0.6),
            Move({"arm": along(140)}, straight=True, speed=0.6),
            Move({"arm": at(0.97 * reach, pivot + 0.004)}, straight=True, speed=0.5),
            Grip("arm", grasp.opened),
            Move({"arm": Shifted((0.0, 0.0, 0.12))}, straight=True, speed=0.6),
        ),
    }


SCRIPTS = {
    STACK_BOWLS.name: ((ARM,), stack_bowls),
    PUT_BLOCK.name: ((ARM,), put_block),
    FOLD_TOWEL.name: ((ARM,), fold_towel),
}
