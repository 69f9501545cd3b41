# SPDX-License-Identifier: Apache-2.0
"""Launch arguments of a hand behind the suite's own driver node."""

from __future__ import annotations

from collections.abc import Mapping

from wam.core.errors import ConfigError


def hand_devices(arguments: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return the address of each of `count` hands.

    Raises:
        ConfigError: `hand_device` names another number of hands and they are not mocked.
    """
    if arguments["use_mock_hardware"] == "true":
        return ("mock",) * count
    devices = tuple(arguments["hand_device"].replace(",", " ").split())
    if len(devices) != count:
        raise ConfigError(
            "hand_device",
            value=arguments["hand_device"],
            allowed=f"{count} of serial:PORT#ID, modbus:HOST:PORT#UNIT or jtc, or use_mock_hardware:=true",
            where="the launch command",
        )
    return devices
