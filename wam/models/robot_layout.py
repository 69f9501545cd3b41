# SPDX-License-Identifier: Apache-2.0
"""A robot as a policy sees it: cameras, joints, rates, and the range in which the joints move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wam.core.clock import NS_PER_S
from wam.models.normalisation import FieldStats, PolicyStats
from wam.robots.description import RobotDescription

ARM_JOINTS = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper")
PIPER_JOINTS = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ARM_JOINTS)
PIPER_CENTRE = (0.0, 1.0, -1.0, 0.0, 0.3, 0.0, 0.03) * 2
PIPER_SPREAD = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.01) * 2

MAX_CAMERAS = 3
SPREAD_OF_RANGE = 0.05
SPREAD_LIMITS = (1e-3, 0.2)


@dataclass(frozen=True, slots=True)
class RobotLayout:
    """A robot as a policy sees it.

    Attributes:
        cameras: names, in the order of the policy's input.
        state_joints: joints of the proprioception.
        action_joints: joints of the action rows.
        centre: middle of the motion of each action joint [rad or m]; also of the state joint of that name.
        spread: standard deviation about it [rad or m].
        control_period_ns: time between two rows [ns].
        instruction: task text used when nobody sets another.
    """

    cameras: tuple[str, ...] = ("head", "left_wrist", "right_wrist")
    state_joints: tuple[str, ...] = PIPER_JOINTS
    action_joints: tuple[str, ...] = PIPER_JOINTS
    centre: tuple[float, ...] = PIPER_CENTRE
    spread: tuple[float, ...] = PIPER_SPREAD
    control_period_ns: int = NS_PER_S // 30
    instruction: str = "fold the towel"

    def __post_init__(self) -> None:
        for label, values in (("centre", self.centre), ("spread", self.spread)):
            if len(values) != len(self.action_joints):
                raise ValueError(
                    f"{label} has {len(values)} numbers for {len(self.action_joints)} action joints"
                )
        if min(self.spread) <= 0:
            raise ValueError(f"spread must be positive: {self.spread}")

    @staticmethod
    def of(robot: RobotDescription) -> RobotLayout:
        """Return the layout of a robot: its first three cameras, all joints, motion about the start-up pose."""
        return RobotLayout(
            cameras=tuple(camera.name for camera in robot.cameras[:MAX_CAMERAS]),
            state_joints=robot.joint_names,
            action_joints=robot.joint_names,
            centre=tuple(joint.home for joint in robot.joints),
            spread=tuple(
                float(np.clip(SPREAD_OF_RANGE * (j.upper - j.lower), *SPREAD_LIMITS)) for j in robot.joints
            ),
        )

    def stats(self) -> PolicyStats:
        """Return statistics as a data set of this robot would have them."""
        action = {
            name: (c, s) for name, c, s in zip(self.action_joints, self.centre, self.spread, strict=True)
        }
        state = [action.get(name, (0.0, 1.0)) for name in self.state_joints]

        def fields(pairs: list[tuple[float, float]]) -> FieldStats:
            mean, std = np.array(pairs, dtype=np.float64).T
            return FieldStats({"mean": mean, "std": std, "min": mean - 3 * std, "max": mean + 3 * std})

        return PolicyStats(state=fields(state), action=fields(list(action.values())))
