# SPDX-License-Identifier: Apache-2.0
"""The Franka's twin: what trips its reflex and what does not, the way back, and goals of its gripper that block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wam.core.errors import JointError
from wam.devices.franka.arm import FrankaMode
from wam.devices.franka.twin import ACTIVATE, RECOVERY, FrankaDriver, GoalKind, GripperDriver, GripperGoal
from wam.devices.jtc import ControllerOptions, Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.devices.twin import FAULT, MeasuredJoints
from wam.robots.twin_spec import CommandInterface, TwinSpec

MS = 1_000_000
ROBOT = load_robot("franka")
ARM, GRIPPER = ROBOT.group("arm"), ROBOT.group("gripper")
POSITION = replace(ARM, twin=TwinSpec(interface=CommandInterface.POSITION))
HOME = np.array([joint.home for joint in ARM.joints])
REST = [0.0] * 7


def arm(group: object = POSITION) -> FrankaDriver:
    return FrankaDriver(group, ControllerOptions())  # type: ignore[arg-type]


def send(driver: FrankaDriver, *points: TrajectoryPoint) -> None:
    driver.command_trajectory(Trajectory(ARM.driver_names, points), 0)


def run(driver: FrankaDriver, seconds: float) -> np.ndarray:
    """Let time pass with an arm that follows at once."""
    for _ in range(round(seconds * 500)):
        position = driver.advance(0.002)
        driver.observe(MeasuredJoints(position, np.zeros(7), np.zeros(7)))
    return position


def moved(by: float, ms: int, *, smooth: bool = True) -> TrajectoryPoint:
    goal = (HOME + np.eye(7)[0] * by).tolist()
    return TrajectoryPoint(ms * MS, goal, REST if smooth else (), REST if smooth else ())


def test_a_smooth_trajectory_passes_the_position_interface() -> None:
    driver = arm()
    send(driver, moved(0.2, 1000))
    assert run(driver, 1.2)[0] == pytest.approx(HOME[0] + 0.2)
    assert (driver.mode, driver.errors) == (FrankaMode.MOVE, ())


@pytest.mark.parametrize(
    ("point", "error"),
    [
        # Each row breaks the limit that it names and not those before it.
        (moved(2e-5, 0), "joint_motion_generator_velocity_discontinuity"),
        (moved(9e-6, 0), "joint_motion_generator_acceleration_discontinuity"),
        (moved(0.1, 1), "joint_motion_generator_velocity_limits_violation"),
        (moved(9.0, 1), "joint_motion_generator_position_limits_violation"),
        (moved(0.2, 1000, smooth=False), "joint_motion_generator_velocity_discontinuity"),
    ],
)
def test_a_jump_of_the_position_interface_trips_the_reflex(point: TrajectoryPoint, error: str) -> None:
    """franka_ros2 55: a step of 1e-5 rad is enough, and so is a trajectory of positions alone."""
    driver = arm()
    send(driver, point)
    stood = run(driver, 0.1)
    assert (driver.mode, driver.errors) == (FrankaMode.REFLEX, (error,))
    np.testing.assert_allclose(stood, HOME, atol=1e-4)


@pytest.mark.parametrize("point", [moved(2e-5, 0), moved(0.1, 1), moved(0.2, 1000, smooth=False)])
def test_the_effort_interface_does_not_trip(point: TrajectoryPoint) -> None:
    driver = arm(ARM)
    send(driver, point)
    run(driver, 1.1)
    assert (driver.mode, driver.errors) == (FrankaMode.MOVE, ())


def test_after_a_reflex_commands_are_refused_until_recovery_and_activation() -> None:
    driver = arm(ARM)
    send(driver, moved(0.2, 1000))
    run(driver, 0.5)
    driver.request(FAULT, measured=HOME)
    stood = run(driver, 0.1)
    with pytest.raises(JointError, match="inactive after cartesian_reflex"):
        send(driver, moved(0.2, 1000))
    assert not driver.request(ACTIVATE, measured=stood).ok
    assert driver.request(RECOVERY, measured=stood).ok
    assert driver.mode is FrankaMode.IDLE
    with pytest.raises(JointError, match="fr3_arm_controller is inactive"):
        send(driver, moved(0.2, 1000))
    assert driver.request(ACTIVATE, measured=stood).ok
    assert driver.mode is FrankaMode.MOVE
    np.testing.assert_allclose(run(driver, 0.5), stood)
    send(driver, moved(0.3, 1000))
    assert run(driver, 1.1)[0] == pytest.approx(HOME[0] + 0.3)
    assert driver.modes["last_motion_errors"] == "cartesian_reflex"


def hand() -> GripperDriver:
    return GripperDriver(GRIPPER)


def fingers(half: float, speed: float = 0.0) -> MeasuredJoints:
    return MeasuredJoints(np.array([half]), np.array([speed]), np.zeros(1))


def test_a_move_ends_at_its_width_and_moves_at_its_speed() -> None:
    driver = hand()
    assert driver.start(GripperGoal(GoalKind.MOVE, width=0.02, speed=0.02)).ok
    assert driver.advance(0.1)[0] == pytest.approx(0.03 - 0.001)
    assert driver.result(fingers(0.029, 0.01)) is None
    driver.advance(5.0)
    ended = driver.result(fingers(0.01))
    assert ended is not None
    assert ended.ok
    assert not driver.busy


@pytest.mark.parametrize(("half", "ok"), [(0.018, True), (0.0, False)])
def test_a_grasp_succeeds_on_something_of_its_width(half: float, ok: bool) -> None:
    driver = hand()
    driver.start(GripperGoal(GoalKind.GRASP, width=0.036, speed=0.1, force=35.0, inner=0.01, outer=0.01))
    assert driver.force_fractions.tolist() == [0.5]
    driver.advance(2.0)
    ended = driver.result(fingers(half))
    assert ended is not None
    assert ended.ok is ok


def test_a_goal_does_not_end_the_one_that_runs_and_stop_does() -> None:
    driver = hand()
    driver.start(GripperGoal(GoalKind.HOMING))
    assert not driver.start(GripperGoal(GoalKind.MOVE, width=0.0)).ok
    assert driver.request("stop", measured=np.array([0.033])).ok
    assert driver.advance(1.0).tolist() == [0.033]
    assert driver.start(GripperGoal(GoalKind.MOVE, width=0.0)).ok


def test_a_goal_out_of_range_is_refused() -> None:
    assert "width 0.2 m" in hand().start(GripperGoal(GoalKind.MOVE, width=0.2)).text


def test_both_fingers_are_reported_at_half_the_opening_without_velocity() -> None:
    feedback = hand().feedback(fingers(0.02, 0.3))
    assert feedback.names == ("fr3_finger_joint1", "fr3_finger_joint2")
    assert feedback.positions == (0.02, 0.02)
    assert feedback.velocities == feedback.efforts == (0.0, 0.0)
