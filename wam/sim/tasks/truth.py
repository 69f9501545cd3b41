# SPDX-License-Identifier: Apache-2.0
"""Ground truth of a task as a vector of named numbers: where its objects are, and which kind of episode it is.

    NAME.x, NAME.y, NAME.z          origin of the object in the robot's world [m]
    NAME.tilt_x, NAME.tilt_y        horizontal part of its z axis: zero while it stands upright
    NAME.turn_cos, NAME.turn_sin    its turn about the vertical, times the order of its symmetry
    NAME.LIMB                       position of a limb's joint [rad or m]
    variant.NAME                    1 in the episodes of this variant, else 0; left out where there is only one

NAME is a fixture's own, or "object" (then "object_2" and so on) for what the variant is about, so that a column means
the same in every episode. No value jumps while an object turns: a cube that is turned by 90 degrees is the same cube,
and the turn of an object that falls over shrinks to zero before it is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from wam.core.contract import PolicyContract
from wam.core.errors import ContractMismatch
from wam.sim.scene import Limb, SceneObject, Shape
from wam.sim.tasks.task import ITEM, Task, Variant
from wam.sim.tasks.view import Pose, WorldView

POSE = ("x", "y", "z", "tilt_x", "tilt_y", "turn_cos", "turn_sin")
ROLE = "object"


def truth_names(task: Task) -> tuple[str, ...]:
    """Return the names of a task's ground truth, in order."""
    names = [
        f"{label}.{part}"
        for label, item in _labelled(task, task.variants[0])
        for part in (*POSE, *_limb_names(item.limbs))
    ]
    if len(task.variants) > 1:
        names += [f"variant.{variant.name.replace(' ', '_')}" for variant in task.variants]
    return tuple(names)


def read_truth(task: Task, variant: Variant, world: WorldView) -> npt.NDArray[np.float64]:
    """Return the ground truth of the running episode, float64 [E], as `truth_names` names it.

    Args:
        task: the task.
        variant: of the episode; one that training does not have gives zeros for all variants.
        world: in which it runs.
    """
    values: list[float] = []
    for _, item in _labelled(task, variant):
        values += pose_values(world.object_pose(item.name), symmetry(item))
        values += [world.limb_position(item.name, limb) for limb in _limb_names(item.limbs)]
    if len(task.variants) > 1:
        values += [float(one.name == variant.name) for one in task.variants]
    return np.array(values)


def require_truth(task: Task, contract: PolicyContract) -> None:
    """Refuse a policy that needs ground truth which a task does not have.

    Raises:
        ContractMismatch: the text names what is missing.
    """
    have = truth_names(task)
    if missing := [name for name in contract.environment if name not in have]:
        raise ContractMismatch(
            f"policy {contract.kind} (contract {contract.contract_hash[:12]}) was trained for another task: "
            f"{task.name} has no {', '.join(missing)}",
            allowed=f"ground truth of {task.name}: {', '.join(have)}",
            where="the task, or a policy that was trained for it",
        )


def symmetry(item: SceneObject) -> int:
    """Return into how many equal parts a full turn of an object falls; 0 where all turns look the same."""
    if item.shape is Shape.COMPOUND:
        return 1
    if item.shape in (Shape.CYLINDER, Shape.CAPSULE):
        return 0
    square = math.isclose(item.size[0], item.size[1])
    if item.shape is Shape.ELLIPSOID:
        return 0 if square else 2
    return 4 if square else 2


def pose_values(pose: Pose, order: int) -> list[float]:
    """Return the numbers `POSE` of a frame.

    Args:
        pose: float64 [4, 4].
        order: of its symmetry about the vertical.
    """
    heading = complex(pose[0, 0], pose[1, 0]) ** order
    return [*pose[:3, 3].tolist(), float(pose[0, 2]), float(pose[1, 2]), heading.real, heading.imag]


def _labelled(task: Task, variant: Variant) -> Iterator[tuple[str, SceneObject]]:
    """Give the label and the object of every pose, what the variant is about first."""
    items = {item.name: item for item in task.objects}
    optional = {ITEM, *task.optional()}
    for number, name in enumerate(variant.objects):
        yield f"{ROLE}_{number + 1}" if number else ROLE, items[name]
    for spot in task.spots:
        if spot.item not in optional:
            yield spot.item, items[spot.item]


def _limb_names(limbs: tuple[Limb, ...]) -> Iterator[str]:
    for limb in limbs:
        yield limb.name
        yield from _limb_names(limb.limbs)
