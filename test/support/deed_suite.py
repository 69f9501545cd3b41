# SPDX-License-Identifier: Apache-2.0
"""What the suite makes of a robot for sequences of deeds: filters, checkers, limits of effort."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from deeds import EFFORT, TORQUE
from motion import target

from wam.core.safety.collision import CollisionFilter
from wam.robots.description import RobotDescription
from wam.runtime.safety.filters import ChainOptions, FilterInputs


class Suite:
    """What the suite makes of a robot once: a run takes it, one at a time."""

    def __init__(self, name: str) -> None:
        self.target = target(name)
        robot = self.target.robot
        self.robot, self.effort_joint, self.torque_joint = guarded(robot)
        self.inputs, speed_inputs, look_inputs = (FilterInputs(robot, ChainOptions()) for _ in range(3))
        self.filters = [one for one in self.target.modelled if one.name != "workspace"]
        self.checker = next(one.checker for one in self.filters if isinstance(one, CollisionFilter))
        self.margins = self.checker.margins.copy()
        assert self.inputs.points is not None
        assert speed_inputs.points is not None
        assert look_inputs.checker is not None
        self.points, self.speed_inputs, self.look_checker = (
            self.inputs.points,
            speed_inputs,
            look_inputs.checker,
        )


def guarded(robot: RobotDescription) -> tuple[RobotDescription, int, int]:
    """Return the robot with a limit of effort on the second joint and of external torque on the fourth one."""
    names = robot.joint_names[1], robot.joint_names[3]

    def joints(group: Any) -> Any:
        return tuple(
            replace(one, effort=EFFORT)
            if one.name == names[0]
            else (replace(one, external_torque=TORQUE) if one.name == names[1] else one)
            for one in group.joints
        )

    groups = tuple(replace(group, joints=joints(group)) for group in robot.groups)
    return replace(robot, groups=groups), 1, 3


@functools.cache
def suite_of(name: str) -> Suite:
    """Return what is made once per process."""
    return Suite(name)
