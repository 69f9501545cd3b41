# SPDX-License-Identifier: Apache-2.0
"""Objects of the UR5e's tasks, and what counts as a folded towel."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from wam.sim.model import limb_name
from wam.sim.tasks.task import TaskStage
from wam.sim.tasks.ur5e_inspire import BLUE_TOWEL, FOLD_TOWEL
from wam.sim.tasks.ur5e_objects import prism, strips_of
from wam.sim.tasks.world import TaskWorld

pytestmark = pytest.mark.sim

STRIPS = tuple(strips_of(BLUE_TOWEL))


@pytest.fixture(scope="module")
def world() -> TaskWorld:
    return TaskWorld(FOLD_TOWEL)


def bend(world: TaskWorld, *angles: float) -> None:
    """Turn the strips of the blue towel, the one at the crease first."""
    world.reset(0)
    for strip, angle in zip(STRIPS, angles, strict=True):
        world._data.joint(limb_name(BLUE_TOWEL.name, strip)).qpos[0] = angle
    mujoco.mj_forward(world.model, world._data)


def folded(world: TaskWorld) -> TaskStage:
    return FOLD_TOWEL.stages(world.variant)[2]


def test_a_towel_that_is_turned_over_its_crease_lies_folded_and_stays_so(world: TaskWorld) -> None:
    bend(world, math.radians(150), 0.0, 0.0, 0.0)
    for _ in range(500):
        world.step()
    assert folded(world).criterion.holds(world)
    edge = world.link_pose(limb_name(BLUE_TOWEL.name, STRIPS[-1]))
    towel = world.object_pose(BLUE_TOWEL.name)
    along = towel[:3, 0] @ (edge[:3, 3] - towel[:3, 3])
    assert along == pytest.approx(0.11 * 3 / 4, abs=0.01)
    assert edge[2, 3] < 0.03


def test_a_towel_that_is_lifted_a_little_falls_back(world: TaskWorld) -> None:
    bend(world, math.radians(60), 0.0, 0.0, 0.0)
    for _ in range(500):
        world.step()
    assert not folded(world).criterion.holds(world)
    assert abs(world.limb_position(BLUE_TOWEL.name, STRIPS[0])) < 0.1


def test_a_towel_whose_edge_is_rolled_up_is_not_folded(world: TaskWorld) -> None:
    """Its last strip lies upside down as well, but on its neighbours."""
    bend(world, math.radians(60), 0.8, 0.8, 0.8)
    assert sum(world.limb_position(BLUE_TOWEL.name, strip) for strip in STRIPS) > math.radians(160)
    assert not folded(world).criterion.holds(world)


def test_the_strips_of_a_towel_are_told_from_the_crease_outwards() -> None:
    assert STRIPS == ("strip0", "strip1", "strip2", "strip3")


@pytest.mark.parametrize("sides", [4, 6, 8])
def test_a_prism_is_as_wide_as_asked_across_its_sides(sides: int) -> None:
    made = prism("block", (1, 0, 0, 1), sides=sides, width=0.05, height=0.04, mass=0.1)
    assert {part.size[0] for part in made.parts} == {0.05}
    perimeter = len(made.parts) * 2 * made.parts[0].size[1]
    assert perimeter == pytest.approx(sides * 0.05 * math.tan(math.pi / sides))
    assert np.hypot(*made.parts[0].size[:2]) / 2 == pytest.approx(made.footprint)


@pytest.mark.parametrize("sides", [2, 3, 5])
def test_a_prism_without_opposite_sides_is_refused(sides: int) -> None:
    with pytest.raises(ValueError, match=f"even number of sides, 4 at least; got {sides}"):
        prism("block", (1, 0, 0, 1), sides=sides, width=0.05, height=0.04, mass=0.1)
