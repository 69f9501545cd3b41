# SPDX-License-Identifier: Apache-2.0
"""The Piper driver's twin treats commands as the real driver's source does, unfriendly rules included."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from wam.core.errors import ConfigError, JointError
from wam.devices.loader import load_robot
from wam.devices.piper.twin import PiperDriver
from wam.devices.registry import make_driver
from wam.devices.twin import MeasuredJoints
from wam.robots.joint_mapping import Conversion

REAL = load_robot("piper").group("left")
LEFT = replace(REAL, joints=tuple(replace(joint, conversion=Conversion()) for joint in REAL.joints))
"""An arm whose driver knows what a degree is: what else it does is easier to read."""
NAMES = LEFT.driver_names
HOME = [joint.home for joint in LEFT.joints]


def settled(driver: PiperDriver) -> list[float]:
    return driver.advance(60.0).tolist()


def test_a_new_driver_holds_the_home_position() -> None:
    assert settled(PiperDriver(LEFT)) == HOME


def test_joints_are_found_by_name() -> None:
    driver = PiperDriver(LEFT)
    driver.command(list(reversed(NAMES)), [0.01, 0.6, 0.5, 0.4, -0.3, 0.2, 0.1], [], [])
    assert settled(driver) == [0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.01]


def test_a_joint_that_is_not_named_is_commanded_to_zero() -> None:
    driver = PiperDriver(LEFT)
    driver.command(["joint1"], [0.3], [], [])
    assert settled(driver) == [0.3, 0, 0, 0, 0, 0, 0]


def test_the_driver_s_degrees_are_off_both_ways_and_the_suite_takes_that_out() -> None:
    """Without the same errors in the twin, what is right for a real arm would be 0.05 % wrong for the simulated one."""
    driver = PiperDriver(REAL)
    wanted = np.array([0.5, 1.5, -1.5, 0.4, -0.3, 0.2, 0.01])
    driver.command(NAMES, (wanted * REAL.command_factors).tolist(), [], [])
    reached = driver.advance(60.0)
    np.testing.assert_allclose(reached, wanted, rtol=1e-12)
    told = np.array(driver.feedback(MeasuredJoints(reached, np.zeros(7), np.zeros(7))).positions)
    assert np.abs(told - wanted).max() > 5e-4
    np.testing.assert_allclose(told * REAL.state_factors, wanted, rtol=1e-12)
    np.testing.assert_allclose(np.array(driver.echo().positions) / REAL.command_factors, wanted, rtol=1e-12)


def test_names_of_other_joints_are_ignored() -> None:
    driver = PiperDriver(LEFT)
    driver.command([*NAMES, "wheel"], [*HOME, 9.0], [], [])
    assert settled(driver) == HOME


def test_targets_are_clipped_to_the_ranges_of_the_sdk() -> None:
    driver = PiperDriver(LEFT)
    driver.command(NAMES, [9, 9, 9, 9, 9, 9, 9], [], [])
    assert settled(driver) == [joint.upper for joint in LEFT.joints]


def test_the_set_point_moves_at_three_radians_a_second_at_most() -> None:
    driver = PiperDriver(LEFT)
    driver.command(NAMES, [2.0, *HOME[1:]], [], [])
    assert driver.advance(0.1)[0] == pytest.approx(0.3)
    assert driver.advance(0.1)[0] == pytest.approx(0.6)


@pytest.mark.parametrize(("percent", "reach"), [(50, 0.15), (0.5, 0.003), (1000, 0.3)])
def test_a_seventh_velocity_is_a_speed_in_percent(percent: float, reach: float) -> None:
    driver = PiperDriver(LEFT)
    driver.command(NAMES, [2.0, *HOME[1:]], [0, 0, 0, 0, 0, 0, percent], [])
    assert driver.advance(0.1)[0] == pytest.approx(reach)


@pytest.mark.parametrize(("efforts", "fraction"), [([], 1 / 3), ([0] * 6 + [9.0], 1.0), ([0] * 7, 0.5 / 3)])
def test_a_seventh_effort_is_the_grippers_force(efforts: list[float], fraction: float) -> None:
    driver = PiperDriver(LEFT)
    driver.command(NAMES, HOME, [], efforts)
    assert driver.force_fractions.tolist() == pytest.approx([1] * 6 + [fraction])


@pytest.mark.parametrize(
    ("names", "positions", "velocities"),
    [
        (NAMES, [0.1] * 6, []),
        (NAMES, [math.nan, *HOME[1:]], []),
        (NAMES, HOME, [math.inf] * 7),
    ],
)
def test_a_command_that_cannot_be_read_leaves_the_former_one(
    names: list[str], positions: list[float], velocities: list[float]
) -> None:
    driver = PiperDriver(LEFT)
    with pytest.raises(JointError, match="command of group 'left' \\(topic left/joint_ctrl_single\\)"):
        driver.command(names, positions, velocities, [])
    assert settled(driver) == HOME


def test_a_disabled_arm_ignores_commands_and_holds_where_it_is_when_enabled_again() -> None:
    driver = PiperDriver(LEFT)
    driver.enable(False, measured=np.array(HOME))
    driver.command(NAMES, [0.5, *HOME[1:]], [], [])
    assert driver.echo().positions == tuple(HOME)
    fallen = np.array([0.1, 1.7, -1.0, 0, 1.1, 0, 0.05])
    driver.enable(True, measured=fallen)
    assert driver.setpoint.tolist() == fallen.tolist()
    assert settled(driver) == [*fallen[:6], 0.0], "enabling closes the gripper"


def test_six_velocities_are_reported_for_seven_joints() -> None:
    feedback = PiperDriver(LEFT).feedback(MeasuredJoints(np.arange(7.0), np.arange(7.0), np.arange(7.0)))
    assert (len(feedback.names), len(feedback.positions), len(feedback.velocities)) == (7, 7, 6)


def test_the_echo_is_the_target_in_force() -> None:
    driver = PiperDriver(LEFT)
    driver.command(["joint1"], [9.0], [], [])
    assert driver.echo().positions == (LEFT.joints[0].upper, 0, 0, 0, 0, 0, 0)


def test_an_emergency_stop_holds_the_arm_until_a_reset_which_drops_it() -> None:
    driver = PiperDriver(LEFT)
    driver.command(NAMES, [2.0, *HOME[1:]], [], [])
    stopped_at = driver.advance(0.1)
    assert driver.request("fault", measured=stopped_at).ok
    driver.command(NAMES, HOME, [], [])
    assert settled(driver) == stopped_at.tolist()
    assert driver.modes["arm_status"] == 1
    assert not driver.request("enable", measured=stopped_at).ok
    assert driver.request("reset", measured=stopped_at).ok
    assert (driver.enabled, driver.modes["arm_status"]) == (False, 0)
    assert driver.request("enable", measured=stopped_at).ok
    driver.command(NAMES, HOME, [], [])
    assert settled(driver) == HOME


def test_the_first_command_takes_the_arm_from_standby_to_can() -> None:
    driver = PiperDriver(LEFT)
    assert driver.modes["ctrl_mode"] == 0
    driver.command(NAMES, HOME, [], [])
    assert driver.modes["ctrl_mode"] == 1
    assert not driver.request("dance", measured=np.array(HOME)).ok


def test_another_set_of_joints_is_refused() -> None:
    with pytest.raises(ConfigError, match="group left does not fit a Piper driver"):
        PiperDriver(replace(LEFT, joints=LEFT.joints[:6]))


def test_a_driver_without_a_twin_is_named() -> None:
    with pytest.raises(ConfigError, match="driver without a twin: got 'none'; allowed: piper"):
        make_driver(replace(LEFT, driver="none"))
