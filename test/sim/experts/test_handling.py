# SPDX-License-Identifier: Apache-2.0
"""Goals for what is held, and moves of two arms that hold one thing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.robots.kinematics import RobotModel
from wam.sim.experts.expert import ScriptedExpert
from wam.sim.experts.goals import Shifted, Tool, about_z, make_pose, rotation
from wam.sim.experts.handling import Along, Backed, Brought, OnItem, aimed
from wam.sim.experts.piper import ARMS
from wam.sim.experts.script import Barrier, Grip, Move, Pause, Script

pytestmark = pytest.mark.sim

PIPER = load_robot("piper")
MODEL = RobotModel(PIPER)
HOME = np.array([joint.home for joint in PIPER.joints])
PERIOD = 0.02


@dataclass
class Told:
    """A world view whose robot is where it was sent at once."""

    poses: dict[str, np.ndarray] = field(default_factory=dict)
    centres: dict[str, np.ndarray] = field(default_factory=dict)
    joints: np.ndarray = field(default_factory=lambda: HOME.copy())
    time: float = 0.0

    def object_pose(self, name: str) -> np.ndarray:
        return self.poses[name]

    def object_centre(self, name: str) -> np.ndarray:
        return self.centres[name]

    def object_speed(self, name: str) -> float:
        return 0.0

    def limb_position(self, name: str, limb: str) -> float:
        return 0.0

    def link_pose(self, link: str) -> np.ndarray:
        return self.poses[link]

    def positions(self) -> np.ndarray:
        return self.joints

    def contact_forces(self) -> dict[frozenset[str], float]:
        return {}


def turned(x: float, y: float, z: float, *rpy: float) -> np.ndarray:
    return make_pose(np.array([x, y, z]), rotation(*rpy))


TOOL = Tool("hand", turned(0.3, 0.1, 0.2, 2.0, 0.4, -0.3))


@pytest.mark.parametrize(
    ("forward", "across"),
    [
        ((1.0, 0.0, -1.0), (0.0, 1.0, 0.0)),
        ((0.3, -0.5, -0.4), (0.5, 0.0, 0.9)),
        ((0.0, 0.0, -2.0), (1.0, 1.0, 0.0)),
    ],
)
def test_an_aimed_tool_points_forward_and_closes_across(
    forward: tuple[float, float, float], across: tuple[float, float, float]
) -> None:
    matrix = rotation(*aimed(forward, across))
    np.testing.assert_allclose(matrix[:, 2], np.array(forward) / np.linalg.norm(forward), atol=1e-9)
    assert matrix[:, 1] @ np.array(across) > 0.0
    assert matrix[:, 0] @ np.array(across) == pytest.approx(0.0, abs=1e-9)


def test_a_tool_cannot_be_aimed_along_the_line_that_its_fingers_close_on() -> None:
    with pytest.raises(ValueError, match="are parallel"):
        aimed((0.0, 1.0, 0.0), (0.0, -2.0, 0.0))


def test_a_grasp_on_an_item_turns_with_it_in_every_direction() -> None:
    goal = OnItem("plate", (-0.05, 0.0, 0.1), aimed((1.0, 0.0, -1.0), (0.0, 1.0, 0.0)))
    level = goal.pose(Told({"plate": np.eye(4)}), TOOL)
    tilted = turned(0.4, 0.0, 0.3, 0.7, -0.5, 1.1)
    np.testing.assert_allclose(goal.pose(Told({"plate": tilted}), TOOL), tilted @ level, atol=1e-12)


def test_a_tool_backs_along_its_own_axis() -> None:
    moved = Backed(0.08).pose(Told(), TOOL)
    np.testing.assert_allclose(
        np.linalg.inv(TOOL.commanded) @ moved, turned(0.0, 0.0, -0.08, 0, 0, 0), atol=1e-12
    )


@pytest.mark.parametrize("target", [None, "rack"])
def test_what_was_grasped_beside_its_middle_is_brought_to_the_point_all_the_same(target: str | None) -> None:
    hand = turned(0.3, 0.2, 0.25, 2.2, 0.3, 0.1)
    in_hand = np.array([0.012, -0.004, 0.07, 1.0])
    rack = turned(0.42, -0.17, 0.0, 0.0, 0.0, 0.3)
    world = Told({"hand": hand, "rack": rack}, {"plate": (hand @ in_hand)[:3]})
    goal = Brought("plate", (0.0, 0.045, 0.1), aimed((1.0, 0.0, -1.0), (0.0, 1.0, 0.0)), target=target)
    pose = goal.pose(world, TOOL)
    frame = np.eye(4) if target is None else rack
    np.testing.assert_allclose((pose @ in_hand)[:3], (frame @ [0.0, 0.045, 0.1, 1.0])[:3], atol=1e-12)
    # The rotation is meant in the frame of the target too.
    np.testing.assert_allclose(pose[:3, 1], frame[:3, 1], atol=1e-12)


def test_hands_that_carry_one_thing_keep_their_distance_and_bring_it_where_it_belongs() -> None:
    tray = turned(0.25, 0.01, 0.0, 0.0, 0.0, 0.1)
    world = Told({"tray": tray, "platform": turned(0.45, -0.02, 0.015, 0.0, 0.0, -0.2)})
    goal = Along("tray", "platform", (0.0, 0.0, 0.02), yaw=0.05)
    hands = [
        Tool("left", tray @ turned(0.0, 0.28, 0.07, 3.0, 0.4, 3.1)),
        Tool("right", tray @ turned(0, -0.28, 0.07, 3, 0, 3)),
    ]
    left, right = (goal.pose(world, hand) for hand in hands)
    np.testing.assert_allclose(
        np.linalg.inv(left) @ right, np.linalg.inv(hands[0].commanded) @ hands[1].commanded, atol=1e-12
    )
    carried = left @ np.linalg.inv(hands[0].commanded) @ tray
    np.testing.assert_allclose(carried[:3, 3], [0.45, -0.02, 0.035], atol=1e-12)
    np.testing.assert_allclose(carried[:3, :3], about_z(-0.15), atol=1e-12)


def run(script: Script, world: Told, limit: float = 30.0) -> np.ndarray:
    """Play a script in a world that follows at once; return the rows of targets."""
    expert = ScriptedExpert(MODEL, ARMS, script)
    expert.begin(world)
    rows = []
    while not expert.done and world.time < limit:
        world.joints = expert.act(world, due=world.time + PERIOD).positions
        world.time += PERIOD
        rows.append(world.joints)
    assert expert.done
    return np.array(rows)


def test_a_rigid_move_keeps_two_tools_as_they_are_against_each_other() -> None:
    arms = [ScriptedExpert(MODEL, ARMS, {})._arms[name] for name in ("left", "right")]
    world = Told()
    start = np.linalg.inv(arms[0].pose(HOME)) @ arms[1].pose(HOME)

    def bend(rigid: bool) -> float:
        """Return how far the right tool strays from its place beside the left one on the way [m]."""
        world.joints, world.time = HOME.copy(), 0.0
        # A turn of what both hold: the straight ways of the two tools come closer to each other and part again.
        world.poses = {"tray": turned(0.35, 0.0, 0.1, 0, 0, 0), "platform": turned(0.35, 0.0, 0.1, 0, 0, 0.2)}
        goals = {name: Along("tray", "platform", (0.0, 0.0, 0.0)) for name in ("left", "right")}
        rows = run({"both": (Move(goals, straight=True, rigid=rigid),)}, world)
        apart = [np.linalg.inv(arms[0].pose(row)) @ arms[1].pose(row) for row in rows]
        return max(float(np.linalg.norm(one[:3, 3] - start[:3, 3])) for one in apart)

    assert bend(rigid=True) < 2e-3
    assert bend(rigid=False) > 1.3 * bend(rigid=True)


def test_one_grip_moves_the_fingers_of_both_hands() -> None:
    rows = run({"both": (Grip(("left", "right"), 1.0, wait=0.0),)}, Told())
    moved = np.ptp(rows, axis=0) > 0.0
    assert [name for name, here in zip(PIPER.joint_names, moved, strict=True) if here] == [
        "left_gripper",
        "right_gripper",
    ]
    np.testing.assert_allclose(rows[-1][moved], 0.0)


def test_nobody_lets_go_before_the_other_has_taken() -> None:
    """A hand-over is two barriers: the second one holds the giver back while the taker still moves."""
    give: Script = {
        "left": (Barrier("presented"), Barrier("taken"), Grip("left", 1.0, wait=0.0)),
        "right": (
            Pause(0.5),
            Barrier("presented"),
            Move({"right": Shifted((0.0, 0.0, 0.05))}),
            Barrier("taken"),
        ),
    }
    rows = run(give, Told())
    left = rows[:, PIPER.joint_names.index("left_gripper")]
    right = rows[:, PIPER.joint_names.index("right_joint2")]
    lets_go = int(np.flatnonzero(left != HOME[PIPER.joint_names.index("left_gripper")])[0])
    assert lets_go * PERIOD > 0.5
    assert math.isclose(right[lets_go], right[-1])
    assert right[-1] != HOME[PIPER.joint_names.index("right_joint2")]
