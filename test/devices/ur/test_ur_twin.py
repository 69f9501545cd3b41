# SPDX-License-Identifier: Apache-2.0
"""The UR's twin: speed scaling, the program behind a protective stop, steps that are ignored, its delay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wam.core.errors import JointError
from wam.devices.jtc import ControllerOptions, Trajectory, TrajectoryPoint
from wam.devices.loader import load_robot
from wam.devices.twin import FAULT, MeasuredJoints
from wam.devices.ur.twin import DASHBOARD, LOSE, REGAIN, UrDriver
from wam.robots.twin_spec import TwinSpec

MS = 1_000_000
ARM = load_robot("ur5e_inspire").group("arm")
PROMPT = replace(ARM, twin=TwinSpec())
HOME = np.array([joint.home for joint in ARM.joints])
REST = [0.0] * 6


class Arm:
    """A driver and an arm that follows it at once."""

    def __init__(self, group: object = PROMPT) -> None:
        self.driver = UrDriver(group, ControllerOptions())  # type: ignore[arg-type]
        self.at = HOME.copy()

    def go(self, by: float, ms: int, *, smooth: bool = True) -> None:
        goal = (HOME + np.eye(6)[0] * by).tolist()
        rest = REST if smooth else ()
        self.driver.command_trajectory(
            Trajectory(ARM.driver_names, [TrajectoryPoint(ms * MS, goal, rest, rest)]), 0
        )

    def run(self, seconds: float) -> float:
        for _ in range(round(seconds * 500)):
            self.at = self.driver.advance(0.002)
            self.driver.observe(MeasuredJoints(self.at, np.zeros(6), np.zeros(6)))
        return float(self.at[0])

    def ask(self, name: str) -> bool:
        return self.driver.request(name, measured=self.at).ok


def test_the_slider_stretches_a_trajectory_and_is_told_in_percent() -> None:
    arm = Arm()
    arm.go(0.2, 1000)
    assert arm.driver.set_slider(0.5).ok
    half = arm.run(1.0)
    assert half == pytest.approx(0.1, abs=2e-3)
    assert arm.driver.modes["speed_scaling"] == 50.0
    assert arm.run(1.0) == pytest.approx(0.2)
    assert not arm.driver.set_slider(0.0).ok


def test_a_paused_program_freezes_the_trajectory_and_goes_on_with_it() -> None:
    arm = Arm()
    arm.go(0.2, 1000)
    arm.run(0.5)
    assert arm.ask("pause")
    assert arm.driver.modes["speed_scaling"] == 0.0
    frozen = arm.run(1.0)
    assert frozen == pytest.approx(0.1, abs=2e-3)
    assert arm.ask("play")
    arm.run(0.02)
    assert arm.driver.modes["speed_scaling"] == pytest.approx(10.0), "it rises by 1 % per cycle"
    assert arm.run(0.7) == pytest.approx(0.2)


def test_a_lost_reverse_interface_ends_the_motion_and_keeps_the_scaling() -> None:
    """The twin reported a scaling of 0 where nothing followed; the driver reports the slider's."""
    arm = Arm()
    arm.go(0.2, 1000)
    arm.driver.set_slider(0.5)
    arm.run(1.0)
    assert arm.ask(LOSE)
    assert (arm.driver.modes["program_running"], arm.driver.modes["speed_scaling"]) == (0, 50.0)
    with pytest.raises(JointError, match="reverse interface lost"):
        arm.go(0.3, 1000)
    lost = arm.run(0.3)
    assert arm.ask(REGAIN)
    assert arm.run(0.5) == pytest.approx(lost), "the controller begins anew where the arm is"
    arm.go(0.1, 500)
    assert arm.run(1.2) == pytest.approx(0.1)


def test_a_stopped_arm_can_be_jogged_and_stays_there_when_the_program_plays() -> None:
    arm = Arm()
    assert not arm.driver.jog(np.full(6, 0.1)).ok, "the program runs"
    assert arm.ask("stop")
    assert arm.driver.modes["speed_scaling"] == 100.0
    assert arm.driver.jog(np.full(6, 0.1)).ok
    assert arm.run(0.2) == pytest.approx(0.05)
    assert arm.run(0.5) == pytest.approx(0.1)
    assert arm.ask("play")
    assert arm.run(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(("stop_first", "ends"), [(False, 0.2), (True, 0.1)])
def test_after_a_protective_stop_play_goes_on_with_the_old_motion_unless_the_program_was_stopped(
    stop_first: bool, ends: float
) -> None:
    arm = Arm()
    arm.go(0.2, 1000)
    arm.run(0.5)
    assert arm.ask(FAULT)
    assert (arm.driver.modes["safety_mode"], arm.driver.modes["program_running"]) == (3, 0)
    arm.run(1.0)
    with pytest.raises(JointError, match="the program does not run"):
        arm.go(0.3, 1000)
    assert not arm.ask("play")
    assert not arm.ask("unlock_protective_stop"), "earlier than five seconds"
    arm.run(4.1)
    assert arm.ask("close_safety_popup")
    assert arm.ask("unlock_protective_stop")
    assert not stop_first or arm.ask("stop")
    assert arm.ask("play")
    assert arm.run(1.0) == pytest.approx(ends, abs=2e-3)
    arm.go(0.3, 500)
    assert arm.run(0.6) == pytest.approx(0.3)


def test_an_arm_that_is_switched_off_needs_power_brakes_and_the_program() -> None:
    arm = Arm()
    assert arm.ask("power_off")
    assert not arm.ask("brake_release")
    assert arm.ask("power_on")
    assert not arm.ask("play")
    assert arm.ask("brake_release")
    assert arm.ask("play")
    arm.go(0.1, 500)
    assert arm.run(0.6) == pytest.approx(0.1)


def test_a_target_that_would_need_twenty_radians_a_second_is_ignored() -> None:
    arm = Arm()
    arm.go(0.05, 0, smooth=False)
    assert arm.run(0.1) == 0.0
    assert arm.driver.ignored > 0
    arm.go(0.03, 0, smooth=False)
    assert arm.run(0.1) == pytest.approx(0.03)


def test_the_arm_follows_thirty_milliseconds_late() -> None:
    late, prompt = Arm(ARM), Arm()
    for arm in (late, prompt):
        arm.go(0.2, 400)
    before = prompt.run(0.1)
    assert late.run(0.13) == pytest.approx(before)


def test_an_unknown_service_is_refused() -> None:
    assert not Arm().ask("dance")


@pytest.mark.parametrize("name", DASHBOARD)
def test_every_service_of_the_dashboard_is_answered(name: str) -> None:
    answer = UrDriver(ARM).request(name, measured=np.array([joint.home for joint in ARM.joints]))
    assert "has no" not in answer.text
