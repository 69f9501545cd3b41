# SPDX-License-Identifier: Apache-2.0
"""What protects a hand, on the mock and over a real pseudo-terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.core.errors import ConfigError, JointError
from wam.devices.channel import TrajectoryChannel
from wam.devices.inspire.hand import HandSettings, InspireHand, Phase, force_newton
from wam.devices.inspire.joints import HandJoints, finger_of
from wam.devices.inspire.link import MockHand
from wam.devices.inspire.registers import (
    ANGLE_SET,
    ERROR,
    KEEP,
    SPEED_SET,
    TEMPERATURE,
    ErrorBits,
    Finger,
    FingerStatus,
    finger_status,
)
from wam.devices.inspire.serial_link import SerialBus, SerialLink
from wam.devices.state import Readiness
from wam.robots.description import JointKind, JointSpec

CLOSED, OPEN = (0,) * 6, (1000,) * 6
ON = HandSettings(write_enabled=True)


class CountingHand(MockHand):
    """A mock that remembers what was written."""

    def __init__(self, now: Any) -> None:
        super().__init__(now)
        self.written: list[tuple[str, tuple[int, ...]]] = []

    def write(self, register: Any, values: tuple[int, ...]) -> None:
        super().write(register, values)
        self.written.append((register.name, values))

    def targets(self) -> list[tuple[int, ...]]:
        return [values for name, values in self.written if name == ANGLE_SET.name]


@pytest.fixture
def device(moment: Any) -> CountingHand:
    return CountingHand(moment.seconds)


def test_nothing_is_written_until_writing_is_allowed(device: CountingHand, moment: Any) -> None:
    hand = InspireHand(device)
    reading = hand.step(CLOSED, moment.ns)
    assert reading is not None
    assert reading.angles == OPEN
    assert device.written == []
    assert hand.state().code == "hand_write_disabled"
    hand.write_enabled = True
    hand.step(CLOSED, moment.ns)
    assert device.targets() == [CLOSED]
    assert hand.state().readiness is Readiness.READY


def test_speed_and_force_limits_are_written_before_the_first_target(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, HandSettings(write_enabled=True, speed=200, force=300))
    hand.step(CLOSED, moment.ns)
    assert [name for name, _ in device.written] == ["SPEED_SET", "FORCE_SET", "ANGLE_SET"]
    assert device.memory[SPEED_SET.name] == [200] * 6


def test_a_change_within_the_dead_band_is_not_written_but_the_ends_are(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, ON)
    hand.step((500,) * 6, moment.ns)
    hand.step((503, 497, 500, 504, 496, 500), moment.ns)
    hand.step((500, 500, 500, 504, 496, 998), moment.ns)
    hand.step((500, 500, 500, 504, 496, 1000), moment.ns)
    k = KEEP
    assert device.targets() == [
        (500,) * 6,
        (k, k, k, 504, 496, k),
        (k, k, k, k, k, 998),
        (k, k, k, k, k, 1000),
    ]


def test_a_slow_drift_within_the_dead_band_does_not_get_lost(device: CountingHand, moment: Any) -> None:
    """Compared with the last target asked for instead of the last one sent, a slow closing never arrives."""
    hand = InspireHand(device, ON)
    for raw in range(500, 480, -1):
        hand.step((raw,) * 6, moment.ns)
    assert device.memory[ANGLE_SET.name][0] <= 484


def test_a_finger_without_a_target_is_left_as_it_is(device: CountingHand, moment: Any) -> None:
    hand = InspireHand(device, ON)
    hand.step((KEEP, 300, KEEP, KEEP, KEEP, KEEP), moment.ns)
    assert device.targets() == [(KEEP, 300, KEEP, KEEP, KEEP, KEEP)]
    assert device.memory[ANGLE_SET.name] == [1000, 300, 1000, 1000, 1000, 1000]


def test_over_temperature_stops_the_closing_where_the_fingers_are_and_lets_them_open(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, ON)
    hand.step(CLOSED, moment.ns)
    device.memory[TEMPERATURE.name] = [30, 30, 71, 30, 30, 30]
    for _ in range(4):  # the temperature is one of four blocks read in turn
        reading = hand.step(CLOSED, moment.advance(0.05))
    assert hand.phase is Phase.PROTECTING
    assert "middle is at 71 degC, limit 70 degC" in hand.state().text
    assert reading is not None
    stopped = device.memory[ANGLE_SET.name]
    assert min(stopped) >= 700, "closing went on after the temperature was known"
    hand.step(CLOSED, moment.advance(0.5))
    assert device.memory[ANGLE_SET.name] == stopped
    hand.step(OPEN, moment.advance(0.5))
    assert device.memory[ANGLE_SET.name] == [1000] * 6


def test_protection_is_cleared_only_by_a_call_and_only_when_cool(device: CountingHand, moment: Any) -> None:
    hand = InspireHand(device, ON)
    device.heat(80, finger=0)
    hand.step(CLOSED, moment.ns)
    device.memory[TEMPERATURE.name] = [65] * 6
    for _ in range(8):
        hand.step(CLOSED, moment.advance(0.1))
    assert hand.phase is Phase.PROTECTING
    assert hand.clear().code == "hand_protecting"
    assert "65 degC; clearing needs 60 degC or less" in hand.state().text
    device.memory[TEMPERATURE.name] = [45] * 6
    assert hand.clear().code == "hand_ready"
    assert device.memory[ERROR.name] == [0] * 6
    hand.step(CLOSED, moment.advance(0.1))
    assert device.memory[ANGLE_SET.name] == [0] * 6


@pytest.mark.parametrize("bit", [ErrorBits.OVER_CURRENT, ErrorBits.MOTOR, ErrorBits.COMMUNICATION])
def test_a_grave_error_protects(device: CountingHand, moment: Any, bit: ErrorBits) -> None:
    hand = InspireHand(device, ON)
    device.memory[ERROR.name][3] = int(bit)
    hand.step(CLOSED, moment.ns)
    state = hand.state()
    assert state.readiness is Readiness.BLOCKED
    assert "index reports" in state.text
    assert [step.name for step in state.steps][-1] == "~/clear_errors"


def test_a_stall_is_what_a_grasp_looks_like(device: CountingHand, moment: Any) -> None:
    hand = InspireHand(device, ON)
    device.grasp(400, finger=Finger.INDEX)
    reading = hand.step(CLOSED, moment.ns)
    assert reading is not None
    assert reading.errors[Finger.INDEX] is ErrorBits.STALL
    assert reading.forces[Finger.INDEX] == 400
    assert hand.state().readiness is Readiness.READY


def test_a_lost_hand_is_retried_once_a_second_and_gets_its_limits_and_target_anew(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, ON)
    hand.step(CLOSED, moment.ns)
    device.lost = True
    assert hand.step(CLOSED, moment.ns) is None
    assert hand.state().readiness is Readiness.ABSENT
    device.lost = False
    failures = hand.failures
    assert hand.step(CLOSED, moment.advance(0.5)) is None
    assert hand.failures == failures, "tried before the second was over"
    device.written.clear()
    assert hand.step((200,) * 6, moment.advance(0.6)) is not None
    assert [name for name, _ in device.written] == ["SPEED_SET", "FORCE_SET", "ANGLE_SET"]


def test_a_clock_that_goes_back_does_not_keep_a_hand_lost(device: CountingHand, moment: Any) -> None:
    hand = InspireHand(device, ON)
    device.lost = True
    hand.step(CLOSED, moment.ns)
    device.lost = False
    assert hand.step(CLOSED, moment.ns - 3600 * 10**9) is not None


def test_protection_outlives_a_loss_of_the_link(device: CountingHand, moment: Any) -> None:
    """A hot hand that was unplugged for a second went on closing."""
    hand = InspireHand(device, ON)
    device.heat(90)
    hand.step(OPEN, moment.ns)
    device.lost = True
    hand.step(CLOSED, moment.ns)
    device.lost = False
    hand.step(CLOSED, moment.advance(1.1))
    assert hand.phase is Phase.PROTECTING
    assert device.memory[ANGLE_SET.name] == [1000] * 6


def test_single_bad_frames_degrade_and_five_in_a_row_lose_the_hand(serial_device: Any, moment: Any) -> None:
    hand = InspireHand(SerialLink(SerialBus(serial_device.port, timeout=0.1)), ON)
    assert hand.step(OPEN, moment.ns) is not None
    good = serial_device.spoil
    serial_device.spoil = lambda answer: answer[:-1] + bytes([answer[-1] ^ 1])
    assert hand.step(OPEN, moment.advance(0.025)) is None
    state = hand.state()
    assert (state.readiness, state.code) == (Readiness.DEGRADED, "hand_link_faulty")
    assert "checksum" in state.text
    serial_device.spoil = good
    assert hand.step(OPEN, moment.advance(0.025)) is not None
    assert hand.state().readiness is Readiness.READY
    serial_device.spoil = lambda answer: b""
    for _ in range(5):
        hand.step(OPEN, moment.advance(0.025))
    assert hand.state().code == "hand_lost"
    serial_device.spoil = good
    assert hand.step(OPEN, moment.advance(1.1)) is not None
    hand.close()


def test_a_lost_hand_may_miss_answers_while_it_is_taken_up_again(serial_device: Any, moment: Any) -> None:
    """One missed answer after the port was opened anew cost another second, and a loaded machine never got through."""
    hand = InspireHand(SerialLink(SerialBus(serial_device.port, timeout=0.1)), ON)
    good, missed = serial_device.spoil, lambda answer: b""
    hand.step(CLOSED, moment.ns)
    serial_device.spoil = missed
    for _ in range(5):
        hand.step(CLOSED, moment.advance(0.025))
    assert hand.step(CLOSED, moment.advance(1.1)) is None
    assert hand.state().readiness is Readiness.ABSENT, "an open port is no hand"
    serial_device.spoil = good
    assert hand.step(CLOSED, moment.advance(0.025)) is not None
    assert hand.state().readiness is Readiness.READY
    hand.close()


def test_a_target_whose_write_failed_is_sent_again(serial_device: Any, moment: Any) -> None:
    """The dead-band compared with a target that never arrived, and the finger stayed where it was."""
    hand = InspireHand(SerialLink(SerialBus(serial_device.port, timeout=0.1)), ON)
    hand.step((800,) * 6, moment.ns)
    serial_device.spoil = lambda answer: b""
    before = serial_device.hands[1].write
    serial_device.hands[1].write = lambda register, values: None
    hand.step((300,) * 6, moment.advance(0.025))
    serial_device.hands[1].write = before
    serial_device.spoil = lambda answer: answer
    hand.step((300,) * 6, moment.advance(0.025))
    assert serial_device.hands[1].memory[ANGLE_SET.name] == [300] * 6
    hand.close()


def test_a_cycle_is_three_transactions_so_that_the_bus_keeps_forty_hertz(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, ON)
    hand.step((0,) * 6, moment.ns)
    before = hand.transactions
    for raw in range(100, 900, 100):
        hand.step((raw,) * 6, moment.advance(0.025))
    assert hand.transactions - before == 3 * 8
    assert 3 * 0.006 < 1 / 40


def test_force_calibration_wants_an_open_hand_and_writes_nothing_meanwhile(
    device: CountingHand, moment: Any
) -> None:
    hand = InspireHand(device, ON)
    hand.step(CLOSED, moment.ns)
    hand.step(CLOSED, moment.advance(2.0))
    assert "not open" in hand.calibrate_force(moment.ns)
    hand.step(OPEN, moment.ns)
    hand.step(OPEN, moment.advance(2.0))
    assert hand.calibrate_force(moment.ns) == ""
    device.written.clear()
    hand.step(CLOSED, moment.advance(14.0))
    assert device.written == []
    assert hand.state().code == "hand_calibrating"
    hand.step(CLOSED, moment.advance(1.1))
    assert device.targets() == [CLOSED]


def test_raw_values_run_against_the_angle(hand_joints: tuple[JointSpec, ...]) -> None:
    joints = HandJoints(hand_joints)
    assert joints.fingers[0] is Finger.THUMB_ROTATION
    assert joints.to_raw([0.0] * 6) == OPEN
    assert joints.to_raw([1.308, 0.6, 1.47, 1.47, 1.47, 1.47]) == CLOSED
    assert joints.to_raw([0.0, 0.0, 0.735, 0.0, 0.0, 1.47]) == (0, 1000, 1000, 500, 1000, 1000)
    assert joints.to_positions(CLOSED) == pytest.approx([1.308, 0.6, 1.47, 1.47, 1.47, 1.47])


def test_a_ratio_is_open_at_one() -> None:
    joints = HandJoints([JointSpec("i", "kLeftHandIndex", JointKind.RATIO, 0.0, 1.0, 1.25, 20, 1000)])
    assert joints.to_raw([0.25]) == (KEEP, KEEP, KEEP, 250, KEEP, KEEP)
    assert joints.to_positions((0, 0, 0, 250, 0, 0)) == (0.25,)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=6, max_size=6))
def test_whatever_is_asked_for_the_raw_value_is_legal(positions: list[float]) -> None:
    names = ("thumb_yaw", "thumb_pitch", "index", "middle", "ring", "pinky")
    joints = HandJoints([JointSpec(n, n, JointKind.REVOLUTE, 0.0, 1.47, 1, 1, 1) for n in names])
    raw = joints.to_raw(positions)
    assert all(value == KEEP or 0 <= value <= 1000 for value in raw)
    kept = [raw[finger] == KEEP for finger in joints.fingers]
    assert kept == [not np.isfinite(position) for position in positions]


@given(st.integers(0, 1000))
def test_raw_to_position_and_back_is_the_same(raw: int) -> None:
    joints = HandJoints([JointSpec("index", "index", JointKind.REVOLUTE, 0.0, 1.47, 1, 1, 1)])
    assert joints.to_raw(joints.to_positions((raw,) * 6))[Finger.INDEX] == raw


def test_a_joint_that_is_no_finger_or_a_finger_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="joint is no finger"):
        finger_of("wrist_1_joint")
    pair = [
        JointSpec(n, n, JointKind.REVOLUTE, 0.0, 1.0, 1, 1, 1) for n in ("index_proximal", "R_index_proximal")
    ]
    with pytest.raises(ConfigError, match="same finger"):
        HandJoints(pair)
    with pytest.raises(ConfigError, match="cannot be a finger"):
        HandJoints([JointSpec("index", "index", JointKind.PRISMATIC, 0.0, 0.08, 1, 1, 1)])


def test_statuses_and_forces_are_read_by_the_manual() -> None:
    assert finger_status(3) is FingerStatus.FORCE_REACHED
    assert finger_status(4) is FingerStatus.UNKNOWN
    assert force_newton(Finger.INDEX, 1000) == pytest.approx(7.064)
    assert force_newton(Finger.PINKY, 100) == pytest.approx(0.980665)


def test_the_target_is_that_of_now() -> None:
    channel = TrajectoryChannel(("a", "b"))
    assert channel.target(0) is None
    channel.offer(("b", "x", "a"), [0, 10**8, 2 * 10**8], [[0, 9, 0], [1, 9, 10], [2, 9, 20]], start_ns=10**9)
    target = channel.target(10**9 + 66_000_000)
    assert target is not None
    np.testing.assert_allclose(target, [6.6, 0.66])
    np.testing.assert_allclose(
        channel.target(10**9 + 10**10), [20, 2], err_msg="after its end it stays at the end"
    )
    channel.hold()
    assert channel.target(10**9) is None


@pytest.mark.parametrize(
    ("names", "times", "rows", "text"),
    [
        (("a",), [0], [[1.0]], "lacks b"),
        (("a", "b", "a"), [0], [[1.0, 1.0, 1.0]], "repeats a joint"),
        (("a", "b"), [], [], "strictly increase"),
        (("a", "b"), [0, 0], [[1.0, 1.0]] * 2, "strictly increase"),
        (("a", "b"), [0, 1], [[1.0, 1.0]], "wrong number or width of rows"),
        (("a", "b"), [0], [[1.0]], "wrong number or width of rows"),
        (("a", "b"), [0], [[1.0, float("nan")]], "not finite"),
    ],
)
def test_a_trajectory_that_does_not_fit_leaves_the_former_one(
    names: tuple[str, ...], times: list[int], rows: list[list[float]], text: str
) -> None:
    channel = TrajectoryChannel(("a", "b"))
    channel.offer(("a", "b"), [0], [[5.0, 6.0]], start_ns=0)
    with pytest.raises(JointError, match=text):
        channel.offer(names, times, rows, start_ns=0)
    np.testing.assert_allclose(channel.target(0), [5.0, 6.0])
