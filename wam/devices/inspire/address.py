# SPDX-License-Identifier: Apache-2.0
"""Where a hand is, as one word, and the links for several hands at once.

mock                                a hand made of memory
jtc                                 behind a joint_trajectory_controller, which takes the trajectories by itself
serial:/dev/ttyUSB0#1               RH56DFX: port and hand id (1 when left out)
modbus:192.168.11.210:6000#255      RH56E2, FTP: address, TCP port (6000) and unit (255)
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wam.core.errors import ConfigError
from wam.devices.inspire.hand import MAX_MODBUS_RATE, MAX_SERIAL_RATE
from wam.devices.inspire.link import HandLink, MockHand
from wam.devices.inspire.modbus_link import DEFAULT_PORT, DEFAULT_UNIT, ModbusLink
from wam.devices.inspire.serial_link import SerialBus, SerialLink

FORMS = "mock, jtc, serial:PORT#ID or modbus:HOST:PORT#UNIT"
CONTROLLER = "jtc"
_FORM = re.compile(r"(?P<kind>serial|modbus):(?P<place>[^#\s]+)(#(?P<number>\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class HandAddress:
    """Where one hand is.

    Attributes:
        kind: "mock", "jtc", "serial" or "modbus".
        place: serial port or host; "" for the others.
        port: TCP port; 0 where there is none.
        number: hand id or Modbus unit.
    """

    kind: str
    place: str = ""
    port: int = 0
    number: int = 1


def parse_address(text: str) -> HandAddress:
    """Return the address that `text` stands for.

    Raises:
        ConfigError: it stands for none.
    """
    if text in ("mock", CONTROLLER):
        return HandAddress(text)
    match = _FORM.fullmatch(text)
    if match is None:
        raise _error(text)
    number = int(match["number"] or (1 if match["kind"] == "serial" else DEFAULT_UNIT))
    if match["kind"] == "serial":
        if not 1 <= number <= 254:
            raise _error(text)
        return HandAddress("serial", match["place"], 0, number)
    host, _, port = match["place"].rpartition(":") if ":" in match["place"] else (match["place"], "", "")
    if not host or number > 255 or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise _error(text)
    return HandAddress("modbus", host, int(port or DEFAULT_PORT), number)


def make_links(addresses: Sequence[HandAddress], *, timeout: float | None = None) -> list[HandLink]:
    """Return one link per address; hands on one serial port share its bus.

    Args:
        addresses: where the hands are; none of them behind a controller.
        timeout: longest wait for an answer [s]; None takes each kind's own.

    Raises:
        ConfigError: two hands have the same address.
    """
    real = [address for address in addresses if address.kind != "mock"]
    for address in real:
        if real.count(address) > 1:
            raise ConfigError(
                "two hands have the same address",
                value=f"{address.kind}:{address.place}#{address.number}",
                allowed="another id on one bus, or another host: both hands leave the factory with the same",
                where="the parameter `devices` of wam_driver, and the hand itself",
            )
    waits: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    buses = {a.place: SerialBus(a.place, **waits) for a in addresses if a.kind == "serial"}
    links: list[HandLink] = []
    for address in addresses:
        if address.kind == "serial":
            links.append(SerialLink(buses[address.place], hand_id=address.number))
        elif address.kind == "modbus":
            links.append(ModbusLink(address.place, port=address.port, unit=address.number, **waits))
        else:
            links.append(MockHand(time.monotonic))
    return links


def highest_rate(addresses: Sequence[HandAddress]) -> float:
    """Return the highest rate [Hz] at which all hands can be served: those on one serial bus take turns."""
    rates = [MAX_MODBUS_RATE]
    for address in addresses:
        if address.kind == "serial":
            sharing = sum(a.kind == "serial" and a.place == address.place for a in addresses)
            rates.append(MAX_SERIAL_RATE / sharing)
    return min(rates)


def _error(text: str) -> ConfigError:
    return ConfigError(
        "address of a hand", value=text, allowed=FORMS, where="the parameter `devices` of wam_driver"
    )
