# SPDX-License-Identifier: Apache-2.0
"""Goals that bring a grasp of the hand, not its tool, to an object."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from wam.sim.experts.goals import InWorld, Tool, about_z, make_pose, rotation
from wam.sim.experts.hand import ByGrasp, Facing, Grasp, Swung

GRASP = Grasp((0.0,) * 6, (0.5,) * 6, centre=(-0.03, 0.0, 0.01), tilt=0.9)
HERE = Tool("tool", make_pose(np.array([0.3, 0.1, 0.4]), rotation(math.pi, 0.2, 0.5)))


@dataclass
class Told:
    """A world of poses."""

    poses: dict[str, np.ndarray] = field(default_factory=dict)

    def object_pose(self, name: str) -> np.ndarray:
        return self.poses[name]

    def link_pose(self, link: str) -> np.ndarray:
        return self.poses[link]


def at(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    return make_pose(np.array([x, y, z]), about_z(yaw))


def heading(pose: np.ndarray) -> float:
    return math.atan2(pose[1, 0], pose[0, 0])


def test_the_frame_of_the_grasp_and_not_the_tool_comes_to_the_goal() -> None:
    goal = InWorld((0.5, -0.1, 0.02), rotation=(math.pi, 0.0, -1.5))
    tool = ByGrasp(GRASP, goal).pose(Told(), HERE)
    wanted = make_pose(np.array([0.5, -0.1, 0.02]), rotation(math.pi, 0.0, -1.5))
    np.testing.assert_allclose(tool @ GRASP.frame, wanted, atol=1e-12)


def test_a_goal_that_keeps_the_rotation_keeps_that_of_the_tool() -> None:
    tool = ByGrasp(GRASP, InWorld((0.5, -0.1, 0.02), rotation=None)).pose(Told(), HERE)
    np.testing.assert_allclose(tool[:3, :3], HERE.commanded[:3, :3], atol=1e-12)


@pytest.mark.parametrize("yaw", [-3.0, -1.0, 0.0, 0.7, 2.5])
@pytest.mark.parametrize(("symmetry", "turn"), [(1, 0.0), (2, math.pi / 2), (4, 0.0), (12, 0.1)])
def test_of_the_equal_turns_the_one_next_to_the_heading_is_faced(
    yaw: float, symmetry: int, turn: float
) -> None:
    world = Told({"block": at(0.4, -0.2, 0.03, yaw)})
    pose = Facing("block", heading=-1.9, symmetry=symmetry, turn=turn).pose(world, HERE)
    np.testing.assert_allclose(pose[:3, 3], [0.4, -0.2, 0.03])
    np.testing.assert_allclose(pose[:3, 2], [0.0, 0.0, -1.0], atol=1e-12)
    step = 2 * math.pi / symmetry
    turns = (heading(pose) - yaw - turn) / step
    assert turns == pytest.approx(round(turns), abs=1e-9)
    away = heading(pose) - (math.atan2(-0.2, 0.4) - 1.9)
    assert abs(math.remainder(away, 2 * math.pi)) <= step / 2 + 1e-9


def test_the_offset_is_meant_in_the_axes_of_the_object() -> None:
    world = Told({"towel": at(0.5, 0.0, 0.0, math.pi / 2)})
    pose = Facing("towel", heading=0.0, offset=(-0.1, 0.0, 0.01)).pose(world, HERE)
    np.testing.assert_allclose(pose[:3, 3], [0.5, -0.1, 0.01], atol=1e-12)


def test_a_held_object_swings_with_the_line_from_the_base_and_comes_over_the_target() -> None:
    world = Told({"block": at(0.4, 0.0, 0.2), "box": at(0.0, 0.4, 0.0), "tool": at(0.3, 0.1, 0.4)})
    pose = Swung("block", "box", (0.0, 0.0, 0.1)).pose(world, HERE)
    quarter = about_z(math.pi / 2)
    np.testing.assert_allclose(pose[:3, :3], quarter @ HERE.commanded[:3, :3], atol=1e-12)
    in_hand = np.array([0.1, -0.1, -0.2])
    np.testing.assert_allclose(pose[:3, 3] + quarter @ in_hand, [0.0, 0.4, 0.1], atol=1e-12)
