# SPDX-License-Identifier: Apache-2.0
"""The expert of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from wam.core.errors import ConfigError
from wam.robots.description import RobotDescription
from wam.robots.kinematics import RobotModel
from wam.sim.experts import franka, piper, ur5e_inspire
from wam.sim.experts.expert import Expert, ScriptedExpert
from wam.sim.experts.script import Effector, Script
from wam.sim.tasks.task import Variant
from wam.sim.tasks.world import TaskWorld

SCRIPTS: Mapping[str, tuple[tuple[Effector, ...], Callable[[Variant], Script]]] = MappingProxyType(
    {**franka.SCRIPTS, **piper.SCRIPTS, **ur5e_inspire.SCRIPTS}
)
"""Task -> effectors of its robot, and the script of a variant."""


def make_expert(world: TaskWorld) -> Expert:
    """Return the expert of the world's task, for its running episode.

    Raises:
        ConfigError: the task has none.
    """
    known = SCRIPTS.get(world.task.name)
    if known is None:
        raise ConfigError(
            "this task has no expert",
            value=world.task.name,
            known=SCRIPTS,
            where="the requested task",
        )
    effectors, script = known
    return ScriptedExpert(_model(world.robot), effectors, script(world.variant))


@lru_cache(maxsize=4)
def _model(robot: RobotDescription) -> RobotModel:
    """Return the kinematics of a robot; reading its xacro takes longer than making an expert."""
    return RobotModel(robot)
