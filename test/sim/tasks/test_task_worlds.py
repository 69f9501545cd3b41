# SPDX-License-Identifier: Apache-2.0
"""Tasks: what their seeds decide, what their settings change, and how a world counts its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from wam.core.errors import ConfigError, ContractMismatch
from wam.devices.loader import load_robot
from wam.sim.scene import Region, SceneObject, Shape
from wam.sim.tasks.arrangement import UNSEEN_TEXTURES, TaskScene
from wam.sim.tasks.registry import TASKS, find_task, tasks_of
from wam.sim.tasks.task import Setting, Spot, Task, TaskStage, Variant
from wam.sim.tasks.world import JUDGED_EVERY, TaskWorld, require_robot

pytestmark = pytest.mark.sim

BOWL = TASKS["franka_box_to_bowl"]


@dataclass
class Flag:
    """A criterion that holds when told to."""

    up: bool = False

    def holds(self, world: object) -> bool:
        return self.up


def judged(world: TaskWorld, times: int = 1) -> int:
    """Let the world look at its criteria and return the progress."""
    for _ in range(times * JUDGED_EVERY):
        world.step()
    return world.progress()


@pytest.fixture(scope="module")
def seen() -> TaskWorld:
    return TaskWorld(BOWL)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_begins_unsolved_with_everything_at_rest(name: str) -> None:
    world = TaskWorld(TASKS[name], seed=1)
    present = [item.name for item in world.scene.objects if world.is_present(item.name)]
    before = {name: world.object_pose(name)[:3, 3] for name in present}
    assert judged(world, 15) == 0
    assert not world.success()
    for item in present:
        np.testing.assert_allclose(world.object_pose(item)[:3, 3], before[item], atol=0.006, err_msg=item)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_room_for_its_objects_under_every_setting(name: str) -> None:
    task = TASKS[name]
    for setting in task.settings:
        scene = TaskScene(task, setting)
        for seed in range(30):
            placed = [
                (item, place)
                for item, place in zip(scene.objects, scene.place(seed), strict=True)
                if place is not None
            ]
            on_others = {spot.item for spot in task.spots if spot.on or spot.overlaps}
            on_others.add(scene.variant(seed).item if "{object}" in on_others else "")
            standing = [one for one in placed if one[0].name not in on_others]
            for i, (item, here) in enumerate(standing):
                for other, there in standing[:i]:
                    apart = np.hypot(here.x - there.x, here.y - there.y)
                    assert apart >= item.footprint + other.footprint


def test_the_seed_decides_places_and_variant_and_the_look_does_not(seen: TaskWorld) -> None:
    places = {}
    for setting in (Setting.SEEN, Setting.UNSEEN_TEXTURE, Setting.UNSEEN_LIGHT):
        scene = TaskScene(BOWL, setting)
        places[setting] = [scene.place(seed) for seed in (3, 3, 4)]
        assert places[setting][0] == places[setting][1] != places[setting][2]
    assert len({tuple(one) for one in places.values()}) == 1
    seen.reset(2)
    assert seen.instruction == "Pick up the blue cup on the brown box and place it in the golden bowl."
    assert {name for name in ("blue_cup", "sponge", "brown_box") if seen.is_present(name)} == {
        "blue_cup",
        "brown_box",
    }


def test_objects_of_other_variants_stay_out_of_the_way(seen: TaskWorld) -> None:
    seen.reset(2)
    judged(seen, 10)
    assert seen.object_pose("sponge")[2, 3] > 5.0
    assert seen.object_speed("sponge") < 1e-3


def test_an_object_stands_on_its_source_wherever_that_is(seen: TaskWorld) -> None:
    for seed in range(8):
        seen.reset(seed)
        source, item = seen.object_pose("brown_box"), seen.object_pose(seen.variant.item)
        inside = source[:3, :3].T @ (item[:3, 3] - source[:3, 3])
        assert np.all(np.abs(inside[:2]) < 0.03)
        assert 0.02 < inside[2] < 0.06


def test_light_and_textures_change_pictures_and_not_physics(seen: TaskWorld) -> None:
    dressed = TaskWorld(BOWL, setting=Setting.UNSEEN_TEXTURE, seed=5)
    lit = TaskWorld(BOWL, setting=Setting.UNSEEN_LIGHT, seed=5)
    seen.reset(5)
    for world in (seen, dressed, lit):
        judged(world, 5)
    qpos = [world.snapshot(0).qpos.tobytes() for world in (seen, dressed, lit)]
    assert qpos[0] == qpos[1] == qpos[2]
    table = int(np.flatnonzero(seen.model.geom_bodyid == seen.model.body("table").id)[0])
    assert seen.model.geom_matid[table] == -1
    shown = dressed.model.material(int(dressed.model.geom_matid[table])).name
    assert shown in [texture.value for texture in UNSEEN_TEXTURES]
    assert not np.array_equal(seen.model.light_dir, lit.model.light_dir)


def sliding_tasks() -> list[str]:
    return [name for name, task in TASKS.items() if Setting.MOVED_TARGET in task.settings]


@pytest.mark.parametrize("name", sliding_tasks())
def test_a_target_has_room_to_slide_by_five_to_eight_centimetres(name: str) -> None:
    scene = TaskScene(TASKS[name], Setting.MOVED_TARGET)
    for seed in range(100):
        slide = scene.slide(seed)
        assert slide is not None
        assert 0.05 <= float(np.linalg.norm(slide.shift)) <= 0.08


@pytest.mark.parametrize("name", ["franka_box_to_bowl", "ur5e_inspire_put_block"])
def test_a_target_slides_once_the_object_is_grasped_and_then_stays(name: str) -> None:
    """A fixture and an object that is free; before the first stage nothing differs from the seen setting."""
    world, seen = (
        TaskWorld(TASKS[name], setting=one, seed=3) for one in (Setting.MOVED_TARGET, Setting.SEEN)
    )
    flag = Flag()
    world._stages = (TaskStage("grasped", flag), *world._stages[1:])
    for each in (world, seen):
        judged(each, 25)
    assert world.snapshot(0).qpos.tobytes() == seen.snapshot(0).qpos.tobytes()
    slide = TaskScene(TASKS[name], Setting.MOVED_TARGET).slide(3)
    assert slide is not None
    start = world.object_pose(slide.item)[:2, 3].copy()
    flag.up = True
    judged(world)
    begin, speeds, before = world.time, [], start
    while world.time < begin + slide.delay + 0.8:
        judged(world)
        now = world.object_pose(slide.item)[:2, 3].copy()
        speeds.append(float(np.linalg.norm(now - before)) / (JUDGED_EVERY * world.timestep))
        before = now
        if world.time < begin + slide.delay - 0.05:
            np.testing.assert_allclose(now, start, atol=1e-3)
    np.testing.assert_allclose(before, start + slide.shift, atol=3e-3)
    assert 0.1 < max(speeds) < 0.4
    assert speeds[-1] < 0.01
    world.reset(3)
    np.testing.assert_allclose(world.object_pose(slide.item)[:2, 3], start, atol=1e-3)


def test_a_look_is_of_its_seed_alone() -> None:
    world = TaskWorld(BOWL, setting=Setting.RANDOMIZED, seed=1)
    first = world.model.geom_matid.copy(), world.model.light_dir.copy()
    world.reset(2)
    assert not np.array_equal(world.model.light_dir, first[1])
    world.reset(1)
    np.testing.assert_array_equal(world.model.geom_matid, first[0])
    np.testing.assert_array_equal(world.model.light_dir, first[1])


def test_distractors_and_unseen_objects_come_with_their_settings() -> None:
    crowded = TaskWorld(BOWL, setting=Setting.DISTRACTORS)
    assert all(crowded.is_present(item.name) for item in BOWL.distractors)
    assert TaskScene(BOWL, Setting.UNSEEN_OBJECTS).variant(0).name == "red can"


def test_stages_count_in_their_order_only() -> None:
    """A cup that is swept into the bowl was never grasped: the last criterion alone is no success."""
    flags = (Flag(), Flag(), Flag())
    stages = tuple(TaskStage(name, flag) for name, flag in zip("abc", flags, strict=True))
    world = TaskWorld(replace(BOWL, stages=lambda variant: stages))
    flags[2].up = flags[1].up = True
    assert judged(world) == 0
    flags[0].up = True
    assert judged(world) == 3
    assert [one.name for one in world.reached] == ["a", "b", "c"]
    flags[0].up = False
    assert judged(world) == 3
    world.reset(0)
    assert world.progress() == 0


def test_a_stage_with_a_hold_wants_it_without_a_break() -> None:
    flag = Flag(up=True)
    stages = (TaskStage("a", flag, hold=0.1), TaskStage("b", Flag()), TaskStage("c", Flag()))
    world = TaskWorld(replace(BOWL, stages=lambda variant: stages))
    assert judged(world, 4) == 0
    flag.up = False
    judged(world)
    flag.up = True
    assert judged(world, 4) == 0
    assert judged(world, 3) == 1


def test_an_unknown_task_is_refused_by_the_names_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"no task of this name: got 'fly'; allowed: franka_box_to_bowl, "):
        find_task("fly")


def test_a_task_is_refused_to_another_robot() -> None:
    with pytest.raises(ContractMismatch, match="franka_box_to_bowl is for another robot: got 'piper'"):
        TaskWorld(BOWL, robot=load_robot("piper"))
    with pytest.raises(ContractMismatch, match="allowed: franka"):
        require_robot(BOWL, "ur5e_inspire")


def test_a_setting_that_a_task_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not have this setting: got 'distractors'; allowed: seen, "):
        TaskWorld(replace(BOWL, distractors=()), setting=Setting.DISTRACTORS)


def test_every_task_is_registered_under_its_robot() -> None:
    for name, task in TASKS.items():
        assert name == task.name
        assert task in tasks_of(task.robot)
        assert load_robot(task.robot).name == task.robot
    with pytest.raises(
        ConfigError, match="there is no task for this robot: got 'g1_inspire'; allowed: franka"
    ):
        tasks_of("g1_inspire")


CUBE = SceneObject("cube", Shape.BOX, (0.04, 0.04, 0.04), (1, 0, 0, 1), 0.05)


def small(**changes: object) -> Task:
    flags = tuple(TaskStage(name, Flag()) for name in "abc")
    fields: dict[str, object] = {
        "name": "small",
        "robot": "franka",
        "title": "small",
        "instruction": "move it",
        "objects": (CUBE,),
        "spots": (Spot("cube", Region(0.4, 0.5, 0.0, 0.1, 0.0)),),
        "variants": (Variant("only", objects=("cube",)),),
        "stages": lambda variant: flags,
        "time_limit": 5.0,
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"objects": (CUBE, CUBE)}, "share a name"),
        ({"variants": ()}, "has a variant"),
        ({"time_limit": 0.0}, "positive time limit"),
        ({"variants": (Variant("x", objects=("ball",)),)}, r"unknown objects \['ball'\]"),
        ({"spots": (Spot("cube", Region(0, 1, 0, 1, 0), on="shelf"),)}, "unknown object 'shelf'"),
        ({"instruction": " "}, "must not be empty"),
        ({"distractors": (replace(CUBE, name="other"),)}, "distractors need a region"),
    ],
)
def test_an_impossible_task_cannot_be_made(changes: dict[str, object], match: str) -> None:
    small()
    with pytest.raises(ValueError, match=match):
        small(**changes)


def test_a_task_without_room_says_which_seed() -> None:
    spot = Spot("cube", Region(0.4, 0.4, 0.0, 0.0, 0.0))
    full = small(objects=(CUBE, replace(CUBE, name="two")), spots=(spot, replace(spot, item="two")))
    with pytest.raises(ValueError, match="task small, seed 7: its spots have no space"):
        TaskScene(full, Setting.SEEN).place(7)
