# SPDX-License-Identifier: Apache-2.0
"""The UR's edge: modes, the program, speed scaling of either range, and the dashboard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from wam.devices.loader import load_robot
from wam.devices.registry import make_watch
from wam.devices.state import DriverState, Readiness, worst
from wam.devices.ur import arm as ur
from wam.devices.ur.arm import SafetyMode, ScalingRange, SpeedScaling, UrMode, UrSample
from wam.devices.watch import Seen

RUNNING = UrSample(True, UrMode.RUNNING, SafetyMode.NORMAL, True, 1.0)


def test_a_running_robot_is_ready() -> None:
    assert ur.assess(RUNNING).readiness is Readiness.READY


def test_percent_is_known_at_once() -> None:
    scaling = SpeedScaling()
    assert scaling.read(100.0) == 1.0
    assert scaling.range is ScalingRange.PERCENT
    assert scaling.read(50.0) == 0.5
    assert scaling.read(0.4) == pytest.approx(0.004), "slow, not nearly full speed"


def test_a_fraction_is_known_after_half_a_second() -> None:
    """Read as percent, 1.0 is a robot that stands; read as a fraction, 100 is one that is a hundred times too fast."""
    scaling = SpeedScaling()
    assert [scaling.read(1.0) for _ in range(SpeedScaling.PROOF - 1)] == [None] * (SpeedScaling.PROOF - 1)
    assert scaling.read(1.0) == 1.0
    assert scaling.range is ScalingRange.FRACTION
    assert scaling.read(0.3) == 0.3


def test_a_ramp_from_zero_in_percent_is_not_taken_for_a_fraction() -> None:
    scaling = SpeedScaling()
    values = [scaling.read(0.4 * i) for i in range(60)]
    assert scaling.range is ScalingRange.PERCENT
    assert all(value is None or value <= 0.24 for value in values)


def test_a_standing_robot_proves_nothing() -> None:
    scaling = SpeedScaling()
    assert [scaling.read(0.0) for _ in range(200)] == [0.0] * 200
    assert scaling.range is ScalingRange.UNKNOWN


def test_a_proven_fraction_is_given_up_for_a_larger_value() -> None:
    scaling = SpeedScaling()
    for _ in range(SpeedScaling.PROOF):
        scaling.read(0.9)
    assert scaling.read(80.0) == 0.8
    assert scaling.range is ScalingRange.PERCENT


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1000.0])
def test_nonsense_is_no_scaling(value: float) -> None:
    assert SpeedScaling().read(value) is None


@pytest.mark.parametrize("mode", [mode for mode in SafetyMode if mode > SafetyMode.REDUCED])
def test_every_safety_mode_blocks_and_says_what_to_do(mode: SafetyMode) -> None:
    state = ur.assess(replace(RUNNING, safety_mode=int(mode)))
    assert state.readiness is Readiness.BLOCKED
    assert state.code == mode.name.lower()
    assert state.steps


def test_an_unknown_safety_mode_blocks() -> None:
    assert ur.assess(replace(RUNNING, safety_mode=42)).readiness is Readiness.BLOCKED


def test_after_a_protective_stop_the_program_is_stopped_and_played_not_resumed() -> None:
    """Resuming goes on with the motion from before the stop, which by then starts somewhere else."""
    steps = ur.assess(replace(RUNNING, safety_mode=3)).steps
    names = [step.name.removeprefix("dashboard_client/") for step in steps if step.name]
    assert names == ["close_safety_popup", "unlock_protective_stop", "stop", "play", "wam_safety/clear_fault"]
    assert "5 s" in steps[1].text


@pytest.mark.parametrize("mode", [mode for mode in UrMode if mode is not UrMode.RUNNING])
def test_no_other_robot_mode_is_commandable(mode: UrMode) -> None:
    assert not ur.assess(replace(RUNNING, robot_mode=int(mode))).commandable


def test_power_comes_before_brakes_and_brakes_before_the_program() -> None:
    steps = ur.assess(replace(RUNNING, robot_mode=int(UrMode.POWER_OFF))).steps
    assert [step.name.removeprefix("dashboard_client/") for step in steps if step.name] == [
        "power_on",
        "brake_release",
        "play",
    ]
    idle = ur.assess(replace(RUNNING, robot_mode=int(UrMode.IDLE))).steps
    assert next(step.name for step in idle if step.name) == "dashboard_client/brake_release"


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        (replace(RUNNING, joint_states=False), "driver_silent"),
        (replace(RUNNING, program_running=False), "program_not_running"),
        (replace(RUNNING, scaling=0.0), "paused"),
        (replace(RUNNING, scaling=None), "scaling_unknown"),
        (replace(RUNNING, robot_mode=99), "no_controller"),
    ],
)
def test_what_keeps_a_running_robot_from_moving_is_named(sample: UrSample, code: str) -> None:
    state = ur.assess(sample)
    assert state.code == code
    assert not state.commandable
    assert state.steps


def test_reduced_mode_and_unseen_modes_degrade() -> None:
    assert ur.assess(replace(RUNNING, safety_mode=2)).readiness is Readiness.DEGRADED
    state = ur.assess(replace(RUNNING, robot_mode=None, safety_mode=None))
    assert (state.readiness, state.code) == (Readiness.DEGRADED, "modes_unseen")
    assert (
        "nothing arrives on io_and_status_controller/robot_mode, io_and_status_controller/safety"
        in state.text
    )
    assert state.unseen


@pytest.mark.parametrize("scaling", [0.0, 1.0])
def test_a_program_that_stands_for_an_unseen_reason_is_stopped_before_it_is_played(scaling: float) -> None:
    """It was played: after a protective stop that somebody had unlocked, it went on with the old motion."""
    sample = UrSample(True, program_running=False, scaling=scaling, lacking="ur_dashboard_msgs")
    state = ur.assess(sample)
    assert (state.readiness, state.code) == (Readiness.BLOCKED, "program_not_running")
    assert [step.name.rpartition("/")[2] for step in state.steps] == [
        "",
        "stop",
        "play",
        "resend_robot_program",
    ]
    assert "unlock_protective_stop" in state.steps[0].text
    assert "ur_dashboard_msgs is not installed" in state.unseen


def test_a_safety_stop_is_told_before_its_consequences() -> None:
    """After a protective stop the program has stopped as well; "play" alone would go on with the old motion."""
    assert ur.assess(UrSample(True, 5, 3, False, 0.0)).code == "protective_stop"


def test_several_states_combine_to_the_worst() -> None:
    states = [DriverState(Readiness.READY, "a", ""), DriverState(Readiness.BLOCKED, "b", "")]
    assert worst([*states, DriverState(Readiness.BLOCKED, "c", "")]).code == "b"
    with pytest.raises(ValueError, match="no states"):
        worst([])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, ""),
        ({"program_running": True, "robot_mode": 7}, ""),
        ({"program_running": False}, "External Control does not run"),
        ({"program_running": True, "robot_mode": 3}, "robot mode 3 is not running"),
        ({"program_running": True, "scaling": 0.0}, ""),
    ],
)
def test_an_arm_without_its_program_or_power_does_not_follow(values: dict[str, Any], why: str) -> None:
    """The safety node never heard of it: after stop and play the arm went on by itself. A pause is only slow."""
    watch = make_watch(load_robot("ur5e_inspire").group("arm"))
    text = watch.deaf(Seen(0, values))
    assert text.startswith(why)
    assert bool(text) == bool(why)
