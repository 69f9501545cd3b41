# SPDX-License-Identifier: Apache-2.0
"""Stages of the Piper's tasks: what counts and what does not, by a world that says what it is told to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from wam.sim.experts.goals import make_pose, rotation
from wam.sim.tasks.arrangement import TaskScene
from wam.sim.tasks.piper import (
    BASKET,
    DESKTOP,
    DISH,
    LEFT_FINGERS,
    MOVE_LARGE_OBJECT,
    ORGANIZE_DESKTOP,
    PLATFORM,
    RACK,
    RIGHT_FINGERS,
    STAND,
    STORE_PLATE,
    TASKS,
)
from wam.sim.tasks.piper_objects import SLOT_PITCH, seat
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

pytestmark = pytest.mark.sim


@dataclass
class Told:
    """A world view: feet of objects, and who touches whom."""

    feet: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    touching: list[tuple[str, str]] = field(default_factory=list)
    tilted: bool = False
    speed: float = 0.0
    time: float = 0.0

    def object_pose(self, name: str) -> np.ndarray:
        return make_pose(np.array(self.feet[name]), rotation(0.5 if self.tilted else 0.0, 0.0, 0.0))

    def object_centre(self, name: str) -> np.ndarray:
        return np.array(self.feet[name])

    def object_speed(self, name: str) -> float:
        return self.speed

    def limb_position(self, name: str, limb: str) -> float:
        return 0.0

    def link_pose(self, link: str) -> np.ndarray:
        return np.eye(4)

    def positions(self) -> np.ndarray:
        return np.zeros(0)

    def contact_forces(self) -> dict[frozenset[str], float]:
        return {frozenset(pair): 1.0 for pair in self.touching}


def by(item: str, links: Iterable[str]) -> list[tuple[str, str]]:
    return [(item, link) for link in links]


def test_the_tasks_are_those_of_the_paper_with_their_stages_in_order() -> None:
    assert {task.name: task.stage_names for task in TASKS} == {
        "piper_store_plate": ("grasped", "handed_over", "stored"),
        "piper_organize_desktop": ("fruit_on_plate", "tools_in_basket", "roll_in_basket"),
        "piper_move_large_object": ("grasped", "carried", "placed"),
    }
    for task in TASKS:
        # Fruit lies on the dish of the desktop from its first stage on: it cannot slide.
        kept = {Setting.MOVED_TARGET} if task.sliding is None else set()
        assert set(task.settings) == set(Setting) - kept
    assert [task.name for task in TASKS if task.sliding is None] == ["piper_organize_desktop"]


PLATE = STORE_PLATE.variants[0].item


@pytest.mark.parametrize(
    ("touching", "reached"),
    [
        (by(PLATE, LEFT_FINGERS), [True, False]),
        (by(PLATE, RIGHT_FINGERS), [False, True]),
        (by(PLATE, LEFT_FINGERS + RIGHT_FINGERS), [True, False]),
        (by(PLATE, (*LEFT_FINGERS, STAND.name)), [False, False]),
        (by(PLATE, (*RIGHT_FINGERS, RACK.name)), [False, False]),
        (by(PLATE, (*RIGHT_FINGERS, "left_gripper_base")), [False, False]),
        (by(PLATE, RIGHT_FINGERS[:1]), [False, False]),
    ],
)
def test_a_plate_is_handed_over_when_the_right_hand_alone_holds_it(
    touching: list[tuple[str, str]], reached: list[bool]
) -> None:
    grasped, handed_over, _ = STORE_PLATE.stages(STORE_PLATE.variants[0])
    world = Told(touching=touching)
    assert [stage.criterion.holds(world) for stage in (grasped, handed_over)] == reached


STANDING = seat(0.085) + 0.085


@pytest.mark.parametrize(
    ("at", "touching", "speed", "stored"),
    [
        ((0.0, SLOT_PITCH, STANDING), [], 0.0, True),
        ((0.0, 0.0, STANDING), [], 0.0, True),
        ((0.0, 0.12, STANDING), [], 0.0, False),
        ((0.0, SLOT_PITCH, STANDING + 0.04), [], 0.0, False),
        ((0.09, 0.0, 0.02), [], 0.0, False),
        ((0.0, 0.0, STANDING), by(PLATE, RIGHT_FINGERS[:1]), 0.0, False),
        ((0.0, 0.0, STANDING), [], 0.3, False),
    ],
)
def test_a_plate_is_stored_when_it_stands_in_the_rack_and_is_let_go(
    at: tuple[float, float, float], touching: list[tuple[str, str]], speed: float, stored: bool
) -> None:
    stage = STORE_PLATE.stages(STORE_PLATE.variants[0])[2]
    world = Told({RACK.name: (0.0, 0.0, 0.0), PLATE: at}, touching, speed=speed)
    assert stage.criterion.holds(world) is stored
    # Laid over the pegs it is in the same place.
    assert not stage.criterion.holds(replace(world, tilted=True))


def desk(**moved: tuple[float, float, float]) -> Told:
    """Return a desk that is in order but for what is moved."""
    feet = {DISH.name: (0.4, 0.1, 0.0), BASKET.name: (0.4, -0.1, 0.0)}
    for number, name in enumerate(DESKTOP.objects):
        feet[name] = (0.42, 0.12, 0.02) if number < 2 else (0.38, -0.12, 0.02)
    return Told({**feet, **moved})


def test_the_end_of_the_desktop_is_judged_as_a_whole() -> None:
    """A banana that is pushed off the plate while the basket is filled had counted for the first stage already."""
    stages = ORGANIZE_DESKTOP.stages(DESKTOP)
    assert [stage.criterion.holds(desk()) for stage in stages] == [True, True, True]
    swept = desk(banana=(0.4, 0.3, 0.02))
    assert [stage.criterion.holds(swept) for stage in stages] == [False, True, False]
    forgotten = desk(bag_roll=(0.3, -0.4, 0.02))
    assert [stage.criterion.holds(forgotten) for stage in stages] == [True, True, False]
    outside = desk(pen=(0.4, -0.22, 0.02))
    assert [stage.criterion.holds(outside) for stage in stages] == [True, False, False]


TRAY = MOVE_LARGE_OBJECT.variants[0].item
BOTH = by(TRAY, LEFT_FINGERS + RIGHT_FINGERS)


@pytest.mark.parametrize(
    ("world", "reached"),
    [
        (Told({TRAY: (0, 0, 0.06), PLATFORM.name: (0, 0, 0)}, BOTH), [True, True, False]),
        (Told({TRAY: (0, 0, 0.06), PLATFORM.name: (0, 0, 0)}, BOTH[:2]), [False, False, False]),
        (Told({TRAY: (0, 0, 0.06), PLATFORM.name: (0.2, 0, 0)}, BOTH), [True, False, False]),
        (
            Told({TRAY: (0, 0, 0.02), PLATFORM.name: (0, 0, 0)}, [*BOTH, (TRAY, "table")]),
            [True, False, False],
        ),
        (Told({TRAY: (0, 0, 0.02), PLATFORM.name: (0, 0, 0)}), [False, False, True]),
        (Told({TRAY: (0, 0, 0.02), PLATFORM.name: (0, 0, 0)}, tilted=True), [False, False, False]),
        (Told({TRAY: (0, 0, 0.02), PLATFORM.name: (0, 0.2, 0)}), [False, False, False]),
    ],
)
def test_a_large_object_is_moved_by_both_hands_or_not_at_all(world: Told, reached: list[bool]) -> None:
    assert [
        s.criterion.holds(world) for s in MOVE_LARGE_OBJECT.stages(MOVE_LARGE_OBJECT.variants[0])
    ] == reached


def test_unseen_objects_share_nothing_with_training() -> None:
    for task in TASKS:
        seen = {name for variant in task.variants for name in variant.objects}
        unseen = {name for variant in task.unseen for name in variant.objects}
        assert unseen
        assert not seen & unseen
        scene = TaskScene(task, Setting.UNSEEN_OBJECTS)
        present = {
            item.name for item, at in zip(scene.objects, scene.place(0), strict=True) if at is not None
        }
        assert present >= set(scene.variant(0).objects)
        assert not present & seen


def test_a_plate_stands_upright_in_its_stand_while_nobody_touches_it() -> None:
    for setting in (Setting.SEEN, Setting.UNSEEN_OBJECTS):
        world = TaskWorld(STORE_PLATE, setting=setting, seed=5)
        for _ in range(500):
            world.step()
        item = world.variant.item
        axis = world.object_pose(item)[:3, 1]
        assert abs(axis[2]) < 0.1
        assert world.object_speed(item) < 0.01
