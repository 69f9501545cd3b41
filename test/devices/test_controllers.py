# SPDX-License-Identifier: Apache-2.0
"""Simulated Franka and UR5e with hand: arms follow trajectories, gripper and hand follow streams."""

from __future__ import annotations

import numpy as np
import pytest

from wam.core.errors import JointError
from wam.devices.controllers import DelayLine, StreamDriver, TrajectoryDriver
from wam.devices.jtc import Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.devices.registry import make_driver
from wam.sim.cycle import Command, SimCycle
from wam.sim.world import SimWorld

NS = 1_000_000_000
ROBOTS = ["franka", "ur5e_inspire"]


def run(cycle: SimCycle, begin_ns: int, seconds: float) -> int:
    """Run the cycle at 100 Hz and return the time at its end [ns]."""
    for step in range(1, round(seconds * 100) + 1):
        cycle.step(begin_ns + step * NS // 100)
    return begin_ns + round(seconds * NS)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_robot_stands_still_at_home(robot: str) -> None:
    description = load_robot(robot)
    world = SimWorld(description)
    cycle = SimCycle(description, world)
    cycle.step(NS)
    run(cycle, NS, 1.0)
    for group in description.groups:
        home = [joint.home for joint in group.joints]
        np.testing.assert_allclose(world.measured(group.name).positions, home, atol=2e-3)


@pytest.mark.parametrize("robot", ROBOTS)
def test_an_arm_follows_a_trajectory_to_its_end(robot: str) -> None:
    description = load_robot(robot)
    world = SimWorld(description)
    cycle, arm = SimCycle(description, world), description.group("arm")
    goal = np.array([joint.home for joint in arm.joints]) + 0.2
    cycle.step(NS)
    point = TrajectoryPoint(NS, goal.tolist(), [0.0] * len(goal), [0.0] * len(goal))
    cycle.offer_command("arm", Trajectory(arm.driver_names, [point]))
    run(cycle, NS, 1.5)
    np.testing.assert_allclose(world.measured("arm").positions, goal, atol=0.01)


@pytest.mark.parametrize(("robot", "group"), [("franka", "gripper"), ("ur5e_inspire", "hand")])
def test_fingers_close_at_the_devices_speed(robot: str, group: str) -> None:
    description = load_robot(robot)
    world = SimWorld(description)
    cycle, spec = SimCycle(description, world), description.group(group)
    cycle.step(NS)
    cycle.offer_command(group, Command(spec.driver_names, [joint.lower for joint in spec.joints], [], []))
    middle = run(cycle, NS, 0.2)
    part = world.measured(group).positions
    assert np.all(part > [joint.lower + 0.1 * (joint.upper - joint.lower) for joint in spec.joints])
    run(cycle, middle, 1.5)
    span = np.array([joint.upper - joint.lower for joint in spec.joints])
    assert np.all(world.measured(group).positions < 0.15 * span)


def test_joint_states_of_an_arm_come_in_another_order_than_its_joints() -> None:
    arm = load_robot("ur5e_inspire").group("arm")
    world = SimWorld(load_robot("ur5e_inspire"))
    feedback = TrajectoryDriver(arm).feedback(world.measured("arm"))
    assert feedback.names[0] == "elbow_joint"
    assert dict(zip(feedback.names, feedback.positions, strict=True)) == pytest.approx(
        {joint.driver_name: joint.home for joint in arm.joints}, abs=1e-9
    )


def test_a_joint_state_is_no_trajectory() -> None:
    arm = load_robot("franka").group("arm")
    with pytest.raises(JointError, match="allowed: trajectory_msgs/JointTrajectory"):
        TrajectoryDriver(arm).command(arm.driver_names, [0.0] * 7, [], [])


@pytest.mark.parametrize(
    ("names", "positions"),
    [(["fr3_finger_joint1"], [float("nan")]), ([], []), (["fr3_finger_joint1"], []), (["finger"], [0.01])],
)
def test_a_target_that_is_not_complete_leaves_the_gripper_where_it_is(
    names: list[str], positions: list[float]
) -> None:
    driver = StreamDriver(load_robot("franka").group("gripper"))
    with pytest.raises(JointError, match="a finite position for each of fr3_finger_joint1"):
        driver.command(names, positions, [], [])
    assert driver.advance(10.0).tolist() == [0.03]


def test_the_hand_begins_to_move_66_ms_after_its_command() -> None:
    hand = load_robot("ur5e_inspire").group("hand")
    driver = StreamDriver(hand)
    driver.command(hand.driver_names, [0.0] * 6, [], [])
    positions = [driver.advance(0.002)[0] for _ in range(50)]
    first = next(i for i, position in enumerate(positions) if position < 0.9)
    assert (first + 1) * 2 == 66


def test_a_delay_line_returns_what_is_due_and_forgets_when_asked() -> None:
    line = DelayLine(10, "before")
    line.put(0, "a")
    line.put(5, "b")
    assert [line.get(now) for now in (9, 10, 14, 15)] == ["before", "a", "a", "b"]
    line.put(20, "c")
    line.reset("still")
    assert line.get(100) == "still"
    with pytest.raises(ValueError, match="must not be negative"):
        DelayLine(-1, "x")


@pytest.mark.parametrize("robot", ROBOTS)
def test_an_arm_follows_at_its_operating_speed_within_its_controllers_tolerance(robot: str) -> None:
    """Servos that damped all motion lagged by 0.1 s (Franka) and 0.2 s (UR): controllers gave up below their limits."""
    description = load_robot(robot)
    cycle, arm = SimCycle(description, SimWorld(description)), description.group("arm")
    home = np.array([joint.home for joint in arm.joints])
    speed = 0.9 * arm.joints[0].velocity * np.eye(len(home))[0]
    cycle.step(NS)
    # Up to speed within 0.4 s, 0.4 s of it, and to rest.
    points = [
        TrajectoryPoint(at, (home + way * speed).tolist(), (v * speed).tolist(), [0.0] * len(home))
        for at, way, v in ((NS * 2 // 5, 0.2, 1.0), (NS * 4 // 5, 0.6, 1.0), (NS * 6 // 5, 0.8, 0.0))
    ]
    cycle.offer_command("arm", Trajectory(arm.driver_names, points))
    now, worst = NS, 0.0
    for _ in range(125):
        now = run(cycle, now, 0.01)
        with cycle.exclusive():
            state = cycle.driver("arm").controller.state  # type: ignore[attr-defined]
        worst = max(worst, float(np.abs(state.reference - state.feedback).max()))
    np.testing.assert_allclose(state.feedback, home + 0.8 * speed, atol=0.02)
    assert worst < 0.1


@pytest.mark.parametrize("robot", ROBOTS)
def test_an_arm_that_is_switched_on_again_holds_where_it_is(robot: str) -> None:
    for group in load_robot(robot).groups:
        driver = make_driver(group)
        measured = np.array([0.5 * (joint.lower + joint.upper) for joint in group.joints])
        driver.enable(False, measured=measured)
        driver.enable(True, measured=measured)
        assert driver.setpoint.tolist() == pytest.approx(measured.tolist())
