# SPDX-License-Identifier: Apache-2.0
"""Positions of the model's joints from what the drivers report."""

from __future__ import annotations

from typing import Any

import numpy as np

from wam.core.errors import ConfigError
from wam.robots.description import RobotDescription
from wam.robots.joint_reader import JointReader


class ModelState:
    """Positions of the model's joints from what the drivers report, in the order of the robot file.

    A driver's joint may move several joints of the model (fingers), and two drivers may use the same names.

    Args:
        robot: a robot with a model.
    """

    def __init__(self, robot: RobotDescription) -> None:
        if robot.urdf is None:
            raise ConfigError(f"robot {robot.name} has no model to show", where=str(robot.source))
        self._readers = {group.name: JointReader(group) for group in robot.groups}
        self._groups = {group.name: group for group in robot.groups}
        self._positions: dict[str, float] = {}

    def offer(self, group: str, message: Any) -> None:
        """Take a driver's sensor_msgs/JointState.

        Raises:
            InputError: it does not fit the group.
        """
        index, positions, _ = self._readers[group].read_part(message)
        joints = self._groups[group].joints
        for i, position in zip(index.tolist(), np.asarray(positions).tolist(), strict=True):
            for coupled in joints[i].model_joints:
                self._positions[coupled.name] = coupled.ratio * position + coupled.offset

    def read(self) -> dict[str, float]:
        """Return model joint -> position [rad or m] for every joint that has been reported."""
        return dict(self._positions)
