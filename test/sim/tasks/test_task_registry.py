# SPDX-License-Identifier: Apache-2.0
"""Tasks on their way to another process. `copy` reduces and finds them as a process does that is sent one."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from wam.core.errors import ConfigError
from wam.sim.tasks.free import free_task
from wam.sim.tasks.registry import TASKS, find_task


@pytest.mark.parametrize("name", TASKS)
def test_another_process_finds_a_task_by_its_name(name: str) -> None:
    assert copy.copy(find_task(name)) is TASKS[name]


def test_an_episode_without_a_task_arrives_with_its_robot() -> None:
    arrived = copy.copy(free_task("desk"))
    assert (arrived.name, arrived.robot, arrived.spots) == ("free", "desk", free_task("desk").spots)


def test_a_changed_copy_of_a_task_is_not_taken_for_the_task() -> None:
    """A shorter time limit was lost on the way: the other process played the task of that name."""
    with pytest.raises(ConfigError, match="other processes find tasks by name"):
        copy.copy(replace(find_task("franka_box_to_bowl"), time_limit=0.5))
