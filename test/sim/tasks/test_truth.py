# SPDX-License-Identifier: Apache-2.0
"""Ground truth of tasks: named alike in every episode, without jumps, and refused where a policy needs another."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from wam.core.errors import ContractMismatch
from wam.core.fakes import fake_contract
from wam.sim.scene import SceneObject, Shape
from wam.sim.tasks.registry import TASKS, find_task
from wam.sim.tasks.truth import POSE, pose_values, require_truth, symmetry, truth_names
from wam.sim.tasks.world import TaskWorld


def turned(yaw: float, tilt: float = 0.0) -> np.ndarray:
    """The frame of an object that is turned about the vertical, then tilted about its own x axis."""
    c, s, ct, st = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
    pose = np.eye(4)
    pose[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, ct, -st], [0, st, ct]]
    )
    return pose


def item(shape: Shape, *size: float) -> SceneObject:
    return SceneObject("thing", shape, size, (1, 0, 0, 1), 0.1)


@pytest.mark.parametrize("name", TASKS)
def test_the_columns_of_a_task_are_those_of_every_variant(name: str) -> None:
    task = TASKS[name]
    names = truth_names(task)
    assert len(set(names)) == len(names)
    assert names[: len(POSE)] == tuple(f"object.{part}" for part in POSE)
    ours = [name for name in names if name.startswith("variant.")]
    assert len(ours) == (len(task.variants) if len(task.variants) > 1 else 0)


@pytest.mark.sim
def test_the_object_is_the_one_that_the_instruction_is_about() -> None:
    world = TaskWorld(find_task("ur5e_inspire_put_block"))
    for seed in (0, 1):
        world.reset(seed)
        truth = world.truth(7)
        place = truth.select(("object.x", "object.y", "object.z"))
        np.testing.assert_array_equal(place, world.object_pose(world.variant.item)[:3, 3])
        kinds = [name for name in truth.names if name.startswith("variant.")]
        said = dict(zip(kinds, truth.select(tuple(kinds)), strict=True))
        assert said.pop(f"variant.{world.variant.name.replace(' ', '_')}") == 1
        assert not any(said.values())
        assert truth.stamp_ns == 7
    towel = TaskWorld(find_task("ur5e_inspire_fold_towel")).truth(7)
    assert any(name.startswith("object.strip") for name in towel.names)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_no_value_jumps_while_an_object_turns_and_falls(order: int) -> None:
    steps = np.linspace(0, 2 * math.pi, 721)
    rows = np.array([pose_values(turned(3 * step, step), order) for step in steps])
    assert np.abs(np.diff(rows, axis=0)).max() < 3 * (order + 1) * np.diff(steps)[0]


@pytest.mark.parametrize(
    ("thing", "order"),
    [
        (item(Shape.BOX, 0.04, 0.04, 0.04), 4),
        (item(Shape.BOX, 0.08, 0.04, 0.04), 2),
        (item(Shape.ELLIPSOID, 0.08, 0.04, 0.04), 2),
        (item(Shape.CYLINDER, 0.02, 0.05), 0),
    ],
    ids=["cube", "brick", "egg", "can"],
)
def test_turns_that_look_the_same_have_the_same_values(thing: SceneObject, order: int) -> None:
    assert symmetry(thing) == order
    same = 2 * math.pi / order if order else 0.7
    np.testing.assert_allclose(
        pose_values(turned(0.2), order), pose_values(turned(0.2 + same), order), atol=1e-12
    )


def test_a_policy_of_another_task_is_refused_with_what_is_missing() -> None:
    contract = fake_contract(joint_names=("a",), cameras=(), control_period_ns=1)
    near = find_task("franka_box_to_bowl_near")
    known = SimpleNamespace(kind="state", contract_hash="0" * 64, environment=("object.x", "golden_bowl.x"))
    require_truth(near, known)
    require_truth(near, contract)
    with pytest.raises(
        ContractMismatch, match=r"another task: piper_move_large_object has no golden_bowl\.x"
    ):
        require_truth(find_task("piper_move_large_object"), known)
