# SPDX-License-Identifier: Apache-2.0
"""Addresses of hands."""

from __future__ import annotations

import pytest

from wam.core.errors import ConfigError
from wam.devices.inspire.address import HandAddress, highest_rate, make_links, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("mock", HandAddress("mock")),
        ("serial:/dev/ttyUSB0", HandAddress("serial", "/dev/ttyUSB0", 0, 1)),
        (
            "serial:/dev/serial/by-id/usb-1a86:x#2",
            HandAddress("serial", "/dev/serial/by-id/usb-1a86:x", 0, 2),
        ),
        ("modbus:192.168.11.210", HandAddress("modbus", "192.168.11.210", 6000, 255)),
        ("modbus:10.0.0.5:6001#1", HandAddress("modbus", "10.0.0.5", 6001, 1)),
    ],
)
def test_an_address_is_one_word(text: str, address: HandAddress) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "serial",
        "serial:",
        "serial:/dev/x#0",
        "serial:/dev/x#255",
        "modbus::6000",
        "modbus:h:0",
        "modbus:h#256",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="serial:PORT#ID"):
        parse_address(text)


def test_two_hands_with_one_address_are_refused() -> None:
    """Left and right leave the factory with the same address, and one of them answers for both."""
    with pytest.raises(ConfigError, match="leave the factory with the same"):
        make_links([parse_address("modbus:192.168.11.210")] * 2)
    assert len(make_links([parse_address("mock")] * 2)) == 2


def test_hands_on_one_bus_share_its_rate() -> None:
    pair = [parse_address("serial:/dev/a#1"), parse_address("serial:/dev/a#2")]
    assert highest_rate(pair) == 25.0
    assert highest_rate([pair[0], parse_address("serial:/dev/b#2")]) == 50.0
    assert highest_rate([parse_address("modbus:h")]) == 100.0
