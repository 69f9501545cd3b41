# SPDX-License-Identifier: Apache-2.0
"""RH56E2 and FTP over a real Modbus-TCP server on the loopback interface."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from wam.devices.errors import DeviceRefused, LinkLost, LinkTimeout
from wam.devices.inspire.modbus_link import ModbusLink
from wam.devices.inspire.registers import ANGLE_ACT, ANGLE_SET, ERROR, FORCE_ACT, KEEP, STATUS, TEMPERATURE

HOST = "127.0.0.1"


def connect(device: Any, **options: Any) -> ModbusLink:
    link = ModbusLink(HOST, port=device.port, **{"timeout": 0.3, **options})
    link.open()
    return link


def test_values_go_to_the_hand_and_come_back(modbus_devices: Any, moment: Any) -> None:
    device = modbus_devices()
    link = connect(device)
    link.write(ANGLE_SET, (0, 200, KEEP, 600, 800, 1000))
    moment.advance(2.0)
    assert link.read(ANGLE_ACT) == (0, 200, 1000, 600, 800, 1000)
    device.hand.memory[FORCE_ACT.name] = [-120, 0, 1, 300, 999, -1]
    assert link.read(FORCE_ACT) == (-120, 0, 1, 300, 999, -1)
    link.close()


def test_bytes_come_two_to_a_register(modbus_devices: Any) -> None:
    device = modbus_devices()
    link = connect(device)
    device.hand.memory[TEMPERATURE.name] = [31, 32, 33, 34, 35, 90]
    device.hand.heat(90, finger=5)
    assert link.read(TEMPERATURE) == (31, 32, 33, 34, 35, 90)
    assert link.read(ERROR) == (0, 0, 0, 0, 0, 2)
    assert link.read(STATUS) == (2,) * 6
    link.close()


def test_two_hands_have_two_addresses(modbus_devices: Any, moment: Any) -> None:
    left, right = modbus_devices(), modbus_devices(unit=1)
    left_link, right_link = connect(left), connect(right, unit=1)
    left_link.write(ANGLE_SET, (0,) * 6)
    moment.advance(2.0)
    assert left_link.read(ANGLE_ACT) == (0,) * 6
    assert right_link.read(ANGLE_ACT) == (1000,) * 6
    left_link.close()
    right_link.close()


def test_a_silent_hand_times_out_and_is_connected_anew(modbus_devices: Any) -> None:
    """A late answer must not be read as the answer to the next question, so the connection is given up."""
    device = modbus_devices()
    link = connect(device)
    device.mute = True
    with pytest.raises(LinkTimeout, match=r"did not answer ANGLE_ACT within 0\.3 s"):
        link.read(ANGLE_ACT)
    device.mute = False
    with pytest.raises(LinkLost, match="is not connected"):
        link.read(ANGLE_ACT)
    link.open()
    assert link.read(ANGLE_ACT) == (1000,) * 6
    link.close()


def test_a_server_that_goes_away_is_a_lost_link_until_it_is_back(modbus_devices: Any) -> None:
    device = modbus_devices()
    link = connect(device)
    assert link.read(ANGLE_ACT) == (1000,) * 6
    device.close()
    with pytest.raises((LinkLost, LinkTimeout)):
        link.read(ANGLE_ACT)
    with pytest.raises(LinkLost, match="cannot be reached"):
        link.open()
    modbus_devices(port=device.port)
    link.open()
    assert link.read(ANGLE_ACT) == (1000,) * 6
    link.close()


def test_nobody_at_the_address_says_what_to_check() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        link = ModbusLink(HOST, port=taken.getsockname()[1], timeout=0.3)
        with pytest.raises(LinkLost, match="both hands leave the factory with the same address"):
            link.open()


def test_a_device_failure_is_named(modbus_devices: Any) -> None:
    device = modbus_devices()
    link = connect(device)
    device.refuse = True
    with pytest.raises(DeviceRefused, match=r"refused ANGLE_ACT \(address 1546\): got 'Modbus exception 4'"):
        link.read(ANGLE_ACT)
    with pytest.raises(DeviceRefused, match="refused ANGLE_SET"):
        link.write(ANGLE_SET, (0,) * 6)
    link.close()


def test_another_unit_is_not_the_hand(modbus_devices: Any) -> None:
    device = modbus_devices(unit=1)
    link = connect(device, unit=255)
    with pytest.raises((DeviceRefused, LinkTimeout), match=r"unit|did not answer"):
        link.read(ANGLE_ACT)
    link.close()


def test_using_it_before_opening_is_refused() -> None:
    with pytest.raises(LinkLost, match=r"open\(\) first"):
        ModbusLink(HOST, port=9).read(ANGLE_ACT)
