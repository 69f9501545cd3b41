# SPDX-License-Identifier: Apache-2.0
"""An episode without a task, for any robot: four objects on a table, and nothing that could be reached."""

from __future__ import annotations

from wam.sim.scene import tabletop
from wam.sim.tasks.task import Spot, Stages, Task, TaskStage, Variant
from wam.sim.tasks.view import WorldView

FREE = "free"
"""Name of the episode without a task."""


class Never:
    """Holds at no moment."""

    def holds(self, world: WorldView) -> bool:
        """Return False."""
        return False


def free_task(robot: str) -> Task:
    """Return the episode without a task of a robot; it ends at its time limit, with a score of 0.

    Args:
        robot: name of the robot file.
    """
    scene = tabletop()
    return Task(
        name=FREE,
        robot=robot,
        title="no task",
        instruction="Move.",
        objects=scene.objects,
        spots=tuple(Spot(item.name, scene.region) for item in scene.objects),
        variants=(Variant("table top"),),
        stages=_stages,
        time_limit=20.0,
        clearance=scene.clearance,
    )


def _stages(variant: Variant) -> Stages:
    first, second, third = (TaskStage(name, Never()) for name in ("first", "second", "third"))
    return (first, second, third)
