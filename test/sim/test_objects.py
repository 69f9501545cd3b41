# SPDX-License-Identifier: Apache-2.0
"""Compound objects, limbs and fixtures in a simulated world, and what touches what."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.sim.scene import Limb, LimbMotion, Part, Placement, Region, Scene, SceneObject, Shape
from wam.sim.shapes import basket, bowl, cup, pedestal, plate, teddy_bear
from wam.sim.world import SimWorld

pytestmark = pytest.mark.sim

RED = (0.8, 0.1, 0.1, 1.0)
FRANKA = load_robot("franka")
NOWHERE = Region(0.0, 1.0, -1.0, 1.0, 0.0)
LEAF = (Part(Shape.BOX, (0.10, 0.10, 0.006), position=(0.05, 0.0, 0.0)),)


def hinge(name: str, *, home: float = 0.0, limbs: tuple[Limb, ...] = ()) -> Limb:
    return Limb(
        name,
        LEAF,
        0.02,
        LimbMotion.HINGE,
        axis=(0.0, -1.0, 0.0),
        position=(0.10, 0.0, 0.0) if name == "second" else (0.05, 0.0, 0.003),
        lower=-0.1,
        upper=math.pi,
        home=home,
        limbs=limbs,
    )


def sheet(*, home: float = 0.0) -> SceneObject:
    return SceneObject(
        "sheet",
        Shape.COMPOUND,
        (0.26, 0.006),
        RED,
        0.1,
        parts=(Part(Shape.BOX, (0.10, 0.10, 0.006), position=(0.0, 0.0, 0.003)),),
        limbs=(hinge("first", home=home, limbs=(hinge("second"),)),),
    )


class Fixed(Scene):
    """Objects at given places; None leaves one out."""

    def __init__(self, *items: tuple[SceneObject, Placement | None]) -> None:
        super().__init__(tuple(item for item, _ in items), NOWHERE)
        object.__setattr__(self, "places", tuple(place for _, place in items))

    def place(self, seed: int) -> tuple[Placement | None, ...]:
        return self.places


def run(world: SimWorld, seconds: float) -> None:
    for _ in range(round(seconds / world.timestep)):
        world.step()


@pytest.mark.parametrize(
    "item",
    [
        bowl("it", RED),
        plate("it", RED),
        basket("it", RED),
        cup("it", RED),
        teddy_bear("it", RED),
        pedestal("it", RED, length=0.1, width=0.1, height=0.05, fixed=False),
    ],
    ids=["bowl", "plate", "basket", "cup", "teddy_bear", "pedestal"],
)
def test_an_object_stands_still_on_its_foot(item: SceneObject) -> None:
    world = SimWorld(FRANKA, scene=Fixed((item, Placement(0.5, 0.1, 0.0, 0.7))))
    before = world.object_pose("it")
    run(world, 0.5)
    np.testing.assert_allclose(world.object_pose("it"), before, atol=3e-3)
    assert world.object_speed("it") < 5e-3
    weight = 9.81 * item.mass
    assert world.contact_forces()[frozenset(("it", "table"))] == pytest.approx(weight, rel=0.05)
    assert float(world.model.body_subtreemass[world.model.body("it").id]) == pytest.approx(item.mass)


@pytest.mark.parametrize("holder", [bowl("holder", RED), basket("holder", RED)], ids=["bowl", "basket"])
def test_what_falls_into_a_hollow_stays_in_it(holder: SceneObject) -> None:
    cube = SceneObject("cube", Shape.BOX, (0.03, 0.03, 0.03), RED, 0.03)
    scene = Fixed((holder, Placement(0.5, 0.0, 0.0, 0.0)), (cube, Placement(0.53, 0.02, 0.06, 0.3)))
    world = SimWorld(FRANKA, scene=scene)
    run(world, 1.0)
    away = world.object_centre("cube") - world.object_pose("holder")[:3, 3]
    assert np.hypot(away[0], away[1]) < 0.06
    assert 0.01 < away[2] < 0.035
    assert frozenset(("cube", "table")) not in world.contact_forces()


def test_a_fixture_stands_fast_where_each_seed_puts_it() -> None:
    class Moving(Fixed):
        def place(self, seed: int) -> tuple[Placement | None, ...]:
            return (Placement(0.4 + 0.1 * seed, 0.0, 0.0, 0.5 * seed),)

    block = pedestal("block", RED, length=0.1, width=0.1, height=0.05)
    world = SimWorld(FRANKA, scene=Moving((block, None)), seed=0)
    for seed in (0, 1):
        world.reset(seed)
        run(world, 0.05)
        pose = world.object_pose("block")
        np.testing.assert_allclose(pose[:3, 3], [0.4 + 0.1 * seed, 0.0, 0.025], atol=1e-12)
        assert math.atan2(pose[1, 0], pose[0, 0]) == pytest.approx(0.5 * seed)
        assert world.object_speed("block") == 0.0


def test_limbs_begin_at_home_and_fall_by_their_weight() -> None:
    world = SimWorld(FRANKA, scene=Fixed((sheet(home=1.0), Placement(0.4, 0.0, 0.0, 0.0))))
    assert world.limb_position("sheet", "first") == 1.0
    run(world, 1.0)
    assert abs(world.limb_position("sheet", "first")) < 0.1
    assert abs(world.limb_position("sheet", "second")) < 0.1
    world.reset(0)
    assert world.limb_position("sheet", "first") == 1.0
    assert world.object_centre("sheet")[0] > 0.42  # the leaves' own mass counts


def test_an_object_that_is_left_out_hangs_still_and_comes_back() -> None:
    class Sometimes(Fixed):
        def place(self, seed: int) -> tuple[Placement | None, ...]:
            return (Placement(0.4, 0.0, 0.02, 0.0) if seed else None,)

    cube = SceneObject("cube", Shape.BOX, (0.03, 0.03, 0.03), RED, 0.03)
    world = SimWorld(FRANKA, scene=Sometimes((cube, None)), seed=0)
    assert not world.is_present("cube")
    run(world, 0.3)
    assert world.object_pose("cube")[2, 3] > 5.0
    assert world.object_speed("cube") < 1e-6
    world.reset(1)
    assert world.is_present("cube")
    run(world, 0.5)
    assert world.object_pose("cube")[2, 3] == pytest.approx(0.015, abs=1e-3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Part(Shape.COMPOUND, (0.1, 0.1)), "cannot be a compound"),
        (lambda: SceneObject("a", Shape.COMPOUND, (0.1, 0.1), RED, 0.1), "parts belong to a compound"),
        (lambda: SceneObject("a", Shape.BOX, (0.1,) * 3, RED, 0.1, parts=LEAF), "parts belong to a compound"),
    ],
)
def test_an_impossible_object_cannot_be_made(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()  # type: ignore[operator]
