# SPDX-License-Identifier: Apache-2.0
"""RH56DFX over a real pseudo-terminal."""

from __future__ import annotations

import os
from typing import Any

import pytest
import serial

from wam.devices.errors import DeviceRefused, FrameError, LinkLost, LinkTimeout
from wam.devices.inspire import frames
from wam.devices.inspire.registers import (
    ANGLE_ACT,
    ANGLE_SET,
    CLEAR_ERROR,
    ERROR,
    FORCE_ACT,
    HAND_ID,
    KEEP,
    SPEED_SET,
    TEMPERATURE,
)
from wam.devices.inspire.serial_link import SerialBus, SerialLink


@pytest.fixture
def bus(serial_device: Any) -> Any:
    bus = SerialBus(serial_device.port, timeout=0.2)
    bus.open()
    yield bus
    bus.close()


def test_the_question_is_what_the_manual_prints() -> None:
    """Manual: reading ANGLE_ACT of hand 1 is EB 90 01 04 11 0A 06 0C 32."""
    assert frames.read_question(1, 1546, 12) == bytes.fromhex("eb 90 01 04 11 0a 06 0c 32")
    expected = bytes.fromhex("eb 90 01 0f 12 ce 05 e8 03") + b"\xff" * 10
    written = frames.write_question(1, 1486, bytes.fromhex("e803") + b"\xff" * 10)
    assert written == expected + bytes([sum(expected[2:]) % 256])


def test_values_go_to_the_hand_and_come_back(serial_device: Any, bus: SerialBus, moment: Any) -> None:
    link = SerialLink(bus, hand_id=1)
    assert link.read(HAND_ID) == (1,)
    link.write(ANGLE_SET, (0, 200, 400, 600, 800, 1000))
    moment.advance(2.0)
    assert link.read(ANGLE_ACT) == (0, 200, 400, 600, 800, 1000)
    serial_device.hands[1].memory[FORCE_ACT.name] = [-120, 0, 1, 300, 999, -1]
    assert link.read(FORCE_ACT) == (-120, 0, 1, 300, 999, -1)
    serial_device.hands[1].heat(81, finger=3)
    assert link.read(TEMPERATURE) == (30, 30, 30, 81, 30, 30)
    assert link.read(ERROR) == (0, 0, 0, 2, 0, 0)


def test_minus_one_leaves_a_finger_as_it_is(serial_device: Any, bus: SerialBus, moment: Any) -> None:
    link = SerialLink(bus)
    link.write(ANGLE_SET, (500, KEEP, KEEP, KEEP, KEEP, KEEP))
    assert serial_device.questions[-1][7:19] == bytes.fromhex("f401") + b"\xff" * 10
    moment.advance(2.0)
    assert link.read(ANGLE_ACT) == (500, 1000, 1000, 1000, 1000, 1000)


def test_two_hands_on_one_bus_do_not_hear_each_other(serial_device: Any, bus: SerialBus, moment: Any) -> None:
    left, right = SerialLink(bus, hand_id=1), SerialLink(bus, hand_id=2)
    left.write(ANGLE_SET, (0,) * 6)
    right.write(ANGLE_SET, (700,) * 6)
    moment.advance(2.0)
    assert left.read(ANGLE_ACT) == (0,) * 6
    assert right.read(ANGLE_ACT) == (700,) * 6
    assert right.read(HAND_ID) == (2,)


def test_a_wrong_checksum_is_named_and_the_next_transaction_works(serial_device: Any, bus: SerialBus) -> None:
    link = SerialLink(bus)
    serial_device.spoil = lambda answer: answer[:-1] + bytes([answer[-1] ^ 0x55])
    with pytest.raises(FrameError, match="checksum of an answer of hand 1 is wrong"):
        link.read(ANGLE_ACT)
    serial_device.spoil = lambda answer: answer
    assert link.read(ANGLE_ACT) == (1000,) * 6


def test_a_silent_hand_times_out(serial_device: Any, bus: SerialBus) -> None:
    with pytest.raises(LinkTimeout, match=r"hand 9 on .* did not answer within 0\.2 s"):
        SerialLink(bus, hand_id=9).read(ANGLE_ACT)


def test_a_stall_right_after_sending_does_not_lose_the_answer(
    serial_device: Any, bus: SerialBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyserial reports a write timeout when all was written and the thread was then not scheduled for a while."""
    written = serial.Serial.write

    def stalled(port: Any, data: bytes) -> int:
        written(port, data)
        raise serial.SerialTimeoutException("Write timeout")

    monkeypatch.setattr(serial.Serial, "write", stalled)
    assert SerialLink(bus).read(HAND_ID) == (1,)


def test_a_line_that_takes_nothing_times_out(
    serial_device: Any, bus: SerialBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(port: Any, data: bytes) -> int:
        raise serial.SerialTimeoutException("Write timeout")

    monkeypatch.setattr(serial.Serial, "write", stuck)
    with pytest.raises(LinkTimeout, match="0 of 4 bytes"):
        SerialLink(bus).read(HAND_ID)


def test_half_an_answer_times_out_and_says_how_much_came(serial_device: Any, bus: SerialBus) -> None:
    serial_device.spoil = lambda answer: answer[:9]
    with pytest.raises(LinkTimeout, match="5 of 16 bytes"):
        SerialLink(bus).read(ANGLE_ACT)


def test_the_rest_of_a_late_answer_is_not_taken_for_the_next_one(serial_device: Any, bus: SerialBus) -> None:
    """A late answer in the input buffer shifts every later answer by one question."""
    link = SerialLink(bus)
    serial_device.spoil = lambda answer: answer + answer
    assert link.read(FORCE_ACT) == (0,) * 6
    serial_device.spoil = lambda answer: answer
    assert link.read(ANGLE_ACT) == (1000,) * 6


def test_bytes_that_begin_no_answer_are_refused(serial_device: Any, bus: SerialBus) -> None:
    serial_device.spoil = lambda answer: b"\x00\xff" + answer
    with pytest.raises(FrameError, match="begins with other bytes"):
        SerialLink(bus).read(ANGLE_ACT)


def test_an_answer_of_another_hand_is_refused(serial_device: Any, bus: SerialBus) -> None:
    def as_hand_two(answer: bytes) -> bytes:
        body = bytes([2]) + answer[3:-1]
        return answer[:2] + body + bytes([sum(body) % 256])

    serial_device.spoil = as_hand_two
    with pytest.raises(FrameError, match="does not fit the question"):
        SerialLink(bus, hand_id=1).read(ANGLE_ACT)


def test_a_write_that_the_hand_declines_is_an_error(serial_device: Any, bus: SerialBus) -> None:
    def declined(answer: bytes) -> bytes:
        body = answer[2:-2] + b"\x00"
        return answer[:2] + body + bytes([sum(body) % 256])

    serial_device.spoil = declined
    with pytest.raises(DeviceRefused, match="refused to write address 1004"):
        SerialLink(bus).write(CLEAR_ERROR, (1,))


def test_an_unplugged_adapter_is_a_lost_link(serial_device: Any, bus: SerialBus) -> None:
    link = SerialLink(bus)
    assert link.read(HAND_ID) == (1,)
    serial_device.unplug()
    with pytest.raises(LinkLost, match="was lost"):
        link.read(HAND_ID)
    with pytest.raises(LinkLost, match="is not open"):
        link.read(HAND_ID)
    with pytest.raises(LinkLost, match="cannot be opened"):
        bus.open()


def test_a_port_that_does_not_exist_says_what_to_check(tmp_path: Any) -> None:
    with pytest.raises(LinkLost, match="dialout"):
        SerialBus(os.fspath(tmp_path / "ttyUSB7")).open()


def test_a_port_in_use_is_refused(serial_device: Any, bus: SerialBus) -> None:
    """Two programs on one port answer each other's questions; both see wrong checksums."""
    with pytest.raises(LinkLost, match="another program"):
        SerialBus(serial_device.port).open()


@pytest.mark.parametrize(
    ("register", "values", "text"),
    [
        (ANGLE_SET, (1001, 0, 0, 0, 0, 0), r"ANGLE_SET\[0\] = 1001"),
        (ANGLE_SET, (-2, 0, 0, 0, 0, 0), r"ANGLE_SET\[0\] = -2"),
        (SPEED_SET, (1, 2, 3), "takes 6 values, got 3"),
        (ANGLE_ACT, (0,) * 6, "read-only"),
    ],
)
def test_illegal_values_never_reach_the_line(
    serial_device: Any, bus: SerialBus, register: Any, values: tuple[int, ...], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        SerialLink(bus).write(register, values)
    assert serial_device.questions == []
