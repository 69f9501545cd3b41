# SPDX-License-Identifier: Apache-2.0
"""The simulated robot with a task: how the episode stands on a topic, and a service that starts another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wam.sim.tasks.registry import find_task
from wam.sim.tasks.world import TaskWorld
from wam.sim.world import WorldDiverged

pytestmark = [pytest.mark.ros, pytest.mark.sim]

TASK = "franka_box_to_bowl"
WORDS = {"robot": "franka", "task": TASK, "cameras": False, "clock": "publish"}


def start_episode(stage: Any, seed: int) -> Any:
    from wam_msgs.srv import StartEpisode

    return stage.call(StartEpisode, "wam_sim/start_episode", StartEpisode.Request(seed=seed))


def listen(stage: Any) -> list[Any]:
    from wam.ros.qos import STATUS
    from wam_msgs.msg import TaskStatus

    return stage.listen(TaskStatus, "wam_sim/task", STATUS)


def test_an_episode_begins_where_its_seed_puts_everything(stage: Any) -> None:
    heard = listen(stage)
    sim = stage.run(**WORDS, seed=2)
    stage.until(lambda: bool(heard), "the task")
    assert (heard[0].task, heard[0].setting, heard[0].seed, heard[0].progress) == (TASK, "seen", 2, 0)
    answer = start_episode(stage, 7)
    assert (answer.success, answer.message) == (True, "")
    stage.until(lambda: heard[-1].seed == 7, "the new episode")
    first = next(one for one in heard if one.seed == 7)
    assert first.time < 5.0
    assert (first.header.stamp.sec, first.header.stamp.nanosec) >= (answer.stamp.sec, answer.stamp.nanosec)
    task = find_task(TASK)
    expected = TaskWorld(task, seed=7)
    assert (answer.variant, answer.instruction) == (expected.variant.name, expected.instruction)
    sim.trigger_deactivate()
    world = sim.cycle._world
    assert world.object_positions().keys() == expected.object_positions().keys()
    for name, position in expected.object_positions().items():
        np.testing.assert_allclose(world.object_positions()[name], position, atol=0.02, err_msg=name)


def test_the_ground_truth_of_the_running_episode_is_published_with_its_names(stage: Any) -> None:
    from sensor_msgs.msg import JointState

    from wam.ros.qos import JOINT_STATE

    heard = stage.listen(JointState, "wam_sim/truth", JOINT_STATE)
    stage.run(**WORDS, seed=2)
    stage.until(lambda: len(heard) >= 3, "ground truth")
    expected = TaskWorld(find_task(TASK), seed=2).truth(1)
    assert tuple(heard[0].name) == expected.names
    np.testing.assert_allclose(heard[0].position, expected.values, atol=0.02)
    stamps = [one.header.stamp.sec * 10**9 + one.header.stamp.nanosec for one in heard]
    assert np.diff(stamps).min() > 0


def test_a_start_brings_drivers_and_joints_home(stage: Any) -> None:
    """A driver that kept its last target would pull the arm back to where the episode before had ended."""
    from wam.sim.cycle import Command

    sim = stage.run(**WORDS)
    home = [joint.home for joint in sim.cycle._robot.group("gripper").joints]
    sim.cycle.offer_command("gripper", Command(("fr3_finger_joint1",), (0.0,), (), ()))
    measured = lambda: sim.cycle.measured("gripper").positions  # noqa: E731
    stage.until(lambda: measured()[0] < 0.01, "closed fingers")
    assert start_episode(stage, 1).success
    seen = sim.cycle.steps
    stage.until(lambda: sim.cycle.steps > seen + 200, "some physics")
    np.testing.assert_allclose(measured(), home, atol=2e-3)


def test_physics_that_diverge_end_the_episode_and_the_next_one_begins(stage: Any) -> None:
    heard = listen(stage)
    sim = stage.run(**WORDS)
    stage.until(lambda: bool(heard), "the task")
    world, step = sim.cycle._world, sim.cycle._world.step

    def diverge() -> None:
        world.step = step
        raise WorldDiverged("simulated world of franka diverged near t = 0.100 s")

    world.step = diverge
    stage.until(lambda: bool(heard[-1].error), "the error")
    assert "physics: simulated world of franka diverged near t = 0.100 s" in heard[-1].error
    assert start_episode(stage, 4).success
    stage.until(lambda: heard[-1].seed == 4 and heard[-1].time > 0.1, "physics that go on")
    assert heard[-1].error == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"task": "fly"}, "there is no task of this name: got 'fly'"),
        ({"setting": "dark"}, "setting"),
        ({"robot": "piper"}, "task franka_box_to_bowl is for another robot: got 'piper'"),
    ],
)
def test_a_task_that_cannot_be_set_is_refused(words: dict[str, str], said: str, stage: Any) -> None:
    sim = stage.sim(**{**WORDS, **words})
    sim.trigger_configure()
    assert said in str(sim.last_error)
