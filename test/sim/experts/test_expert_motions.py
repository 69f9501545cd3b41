# SPDX-License-Identifier: Apache-2.0
"""Inverse kinematics and timed paths of the experts."""

from __future__ import annotations

import numpy as np
import pytest

from wam.devices.loader import load_robot
from wam.robots.kinematics import RobotModel
from wam.sim.experts.kinematics import FREE_SPIN, InverseKinematics, Unreachable
from wam.sim.experts.motion import SHARE, TimedPath

pytestmark = pytest.mark.sim

TOOLS = {"franka": "fr3_hand_tcp", "piper": "left_tcp", "ur5e_inspire": "tool0"}
FRANKA = load_robot("franka")
LIMITS = FRANKA.limits()


@pytest.fixture(scope="module", params=TOOLS)
def arm(request: pytest.FixtureRequest) -> InverseKinematics:
    return InverseKinematics(RobotModel(load_robot(request.param)), TOOLS[request.param])


def test_the_tool_is_brought_to_poses_that_the_arm_has_been_in(arm: InverseKinematics) -> None:
    robot = arm._model.robot
    home = np.array([joint.home for joint in robot.joints])
    rng = np.random.default_rng(0)
    for _ in range(10):
        wanted = home.copy()
        wanted[arm.columns] += rng.uniform(-0.25, 0.25, len(arm.columns))
        wanted = np.clip(wanted, robot.limits().lower + 0.05, robot.limits().upper - 0.05)
        found = arm.solve(arm.pose(wanted), home)
        np.testing.assert_allclose(arm.pose(found), arm.pose(wanted), atol=4e-3)
        assert np.all(found >= robot.limits().lower)
        assert np.all(found <= robot.limits().upper)
        others = np.setdiff1d(np.arange(len(home)), arm.columns)
        np.testing.assert_array_equal(found[others], home[others])


def test_a_free_turn_about_the_tool_leaves_the_rest_of_the_pose(arm: InverseKinematics) -> None:
    home = np.array([joint.home for joint in arm._model.robot.joints])
    target = arm.pose(home)
    target[:3, :3] = target[:3, :3] @ np.diag([-1.0, -1.0, 1.0])  # half a turn about z
    found = arm.pose(arm.solve(target, home, weights=FREE_SPIN))
    np.testing.assert_allclose(found[:3, 3], target[:3, 3], atol=1e-3)
    np.testing.assert_allclose(found[:3, 2], target[:3, 2], atol=4e-3)


def test_a_pose_out_of_reach_is_told_with_what_remains(arm: InverseKinematics) -> None:
    home = np.array([joint.home for joint in arm._model.robot.joints])
    target = arm.pose(home)
    target[:3, 3] += [3.0, 0.0, 0.0]
    with pytest.raises(Unreachable, match=r"cannot reach \(.* m: .* mm and"):
        arm.solve(target, home, restarts=2)


@pytest.mark.parametrize("seed", range(4))
def test_a_timed_path_keeps_the_limits_and_ends_at_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    home = np.array([joint.home for joint in FRANKA.joints])
    rows = home + np.cumsum(rng.uniform(-0.2, 0.2, (2 + 3 * seed, 8)), axis=0)
    rows[:, 7] = 0.03
    path = TimedPath(np.vstack([[*home[:7], 0.03], rows]), LIMITS)
    dt = 0.005
    samples = np.array([path.at(t)[0] for t in np.arange(0.0, path.duration + 3 * dt, dt)])
    velocity = np.diff(samples, axis=0) / dt
    acceleration = np.diff(velocity, axis=0) / dt
    assert np.all(np.abs(velocity) <= LIMITS.velocity * SHARE * 1.001)
    assert np.all(np.abs(acceleration) <= LIMITS.acceleration * (SHARE + 0.05))
    np.testing.assert_allclose(samples[-1], rows[-1])
    position, speed = path.at(path.duration)
    np.testing.assert_array_equal(position, path.end)
    np.testing.assert_array_equal(speed, 0.0)


def test_velocities_of_a_timed_path_are_its_slopes() -> None:
    home = np.array([joint.home for joint in FRANKA.joints])
    path = TimedPath(np.stack([home, home + 0.01 * np.arange(8)]), LIMITS, speed=0.5)
    t = 0.4 * path.duration
    slope = (path.at(t + 1e-4)[0] - path.at(t - 1e-4)[0]) / 2e-4
    np.testing.assert_allclose(path.at(t)[1], slope, atol=1e-5)


def test_a_path_to_where_one_is_takes_no_time() -> None:
    home = np.array([joint.home for joint in FRANKA.joints])
    path = TimedPath(np.stack([home, home]), LIMITS)
    assert path.duration == 0.0
    np.testing.assert_array_equal(path.at(0.0)[0], home)


@pytest.mark.parametrize(
    ("rows", "speed"), [(np.zeros((1, 8)), 1.0), (np.zeros((2, 8)), 0.0), (np.zeros((2, 8)), 1.5)]
)
def test_an_impossible_path_is_refused(rows: np.ndarray, speed: float) -> None:
    with pytest.raises(ValueError, match=r"needs at least two rows|must be in"):
        TimedPath(rows, LIMITS, speed=speed)
