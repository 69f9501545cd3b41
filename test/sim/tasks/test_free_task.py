# SPDX-License-Identifier: Apache-2.0
"""The episode without a task."""

from __future__ import annotations

import pytest

from wam.core.errors import ConfigError
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

pytestmark = pytest.mark.sim


def test_an_episode_without_a_task_is_for_any_robot_and_reaches_nothing() -> None:
    task = find_task("free", robot="franka")
    world = TaskWorld(task, seed=1000, setting=Setting.SEEN)
    for _ in range(50):
        world.step()
    assert (world.robot.name, world.progress(), world.success()) == ("franka", 0, False)
    assert len(task.objects) == 4


def test_without_a_robot_there_is_no_such_task() -> None:
    with pytest.raises(ConfigError, match="no task of this name: got 'free'"):
        find_task("free")
