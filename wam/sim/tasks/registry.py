# SPDX-License-Identifier: Apache-2.0
"""Every task by its name."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from types import MappingProxyType

from wam.core.errors import ConfigError
from wam.sim.tasks import franka, piper, ur5e_inspire
from wam.sim.tasks.free import FREE, free_task
from wam.sim.tasks.task import Setting, Task

TASKS: Mapping[str, Task] = MappingProxyType(
    {task.name: task for task in (*franka.TASKS, *piper.TASKS, *ur5e_inspire.TASKS)}
)


def find_task(name: str, *, robot: str = "") -> Task:
    """Return the task called `name`.

    Args:
        name: of the task.
        robot: name of a robot file, for which "free" (no task) is found as well.

    Raises:
        ConfigError: there is none; the text names those that are.
    """
    if name == FREE and robot:
        return free_task(robot)
    task = TASKS.get(name)
    if task is None:
        raise ConfigError("there is no task of this name", value=name, known=TASKS, where="the option --task")
    return task


def tasks_of(robot: str) -> tuple[Task, ...]:
    """Return the tasks of a robot.

    Raises:
        ConfigError: there are none; the text names the robots that have some.
    """
    found = tuple(task for task in TASKS.values() if task.robot == robot)
    if not found:
        robots = ", ".join(dict.fromkeys(task.robot for task in TASKS.values()))
        raise ConfigError(
            "there is no task for this robot", value=robot, allowed=robots, where="the option --robot"
        )
    return found


def find_setting(task: Task, name: str) -> Setting:
    """Return the setting called `name`.

    Raises:
        ConfigError: there is none, or the task does not have the setting; the text names those that are.
    """
    for setting in task.settings:
        if setting.value == name:
            return setting
    known = any(setting.value == name for setting in Setting)
    raise ConfigError(
        f"task {task.name} does not have this setting" if known else "there is no such setting",
        value=name,
        known=[setting.value for setting in task.settings],
        where="the option --setting",
    )


def _reduced(task: Task) -> tuple[Callable[[str], Task], tuple[str]]:
    """Return how another process finds a task: by name, since the functions of its stages cannot be sent.

    Raises:
        ConfigError: the task is a changed copy, which the other process would not find.
    """
    if task.name == FREE:
        return free_task, (task.robot,)
    if TASKS.get(task.name) is not task:
        raise ConfigError(
            "this task is not one of the registry's, and other processes find tasks by name",
            value=task.name,
            where="one process (--processes 1)",
        )
    return find_task, (task.name,)


copyreg.pickle(Task, _reduced)
