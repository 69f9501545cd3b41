# SPDX-License-Identifier: Apache-2.0
"""Makes the cycles of Inspire hands from their addresses and the parameters of the driver node."""

from __future__ import annotations

from collections.abc import Sequence

from wam.core.errors import ConfigError
from wam.devices.adapter import AdapterSettings, AddressedAdapter, DeviceCycle
from wam.devices.inspire.launch import hand_devices
from wam.robots.description import CommandKind, JointGroup

COOLING = 10
"""A hand closes again once it is cooler than its limit by this [K]."""


def make_hands(
    groups: Sequence[JointGroup], addresses: Sequence[str], settings: AdapterSettings
) -> list[DeviceCycle]:
    """Return the hands that the driver node drives; those behind a trajectory controller are left out.

    Args:
        groups: joint groups of the hands.
        addresses: where each is.
        settings: of the driver node.

    Raises:
        ConfigError: an address is malformed or used twice, the rate is more than the bus carries, or a hand behind a
            trajectory controller is commanded otherwise.
    """
    # The links need serial and Modbus libraries, which nothing else of a robot file does.
    from wam.devices.inspire.address import CONTROLLER, highest_rate, make_links, parse_address
    from wam.devices.inspire.cycle import HandCycle
    from wam.devices.inspire.hand import HandSettings, InspireHand

    places = [parse_address(text) for text in addresses]
    for group, place in zip(groups, places, strict=True):
        if place.kind == CONTROLLER and group.command_kind is not CommandKind.JOINT_TRAJECTORY:
            raise ConfigError(
                f"hand {group.name} is said to be behind a trajectory controller",
                value=group.command_kind.value,
                allowed="command: {kind: joint_trajectory, topic: CONTROLLER/joint_trajectory, ...}",
                where=f"the parameter `devices` of {settings.where}, or the robot file",
            )
    driven = [pair for pair in zip(groups, places, strict=True) if pair[1].kind != CONTROLLER]
    highest = highest_rate([place for _, place in driven])
    if settings.rate > highest:
        raise ConfigError(
            "parameter rate is more than the hands' bus carries",
            value=f"{settings.rate:g} Hz",
            allowed=f"at most {highest:g} Hz for {', '.join(addresses)}",
            where=f"the parameter `rate` of {settings.where}",
        )
    hand = HandSettings(
        write_enabled=settings.write_enabled,
        speed=settings.speed,
        force=settings.force,
        temperature_limit=settings.temperature_limit,
        temperature_resume=settings.temperature_limit - COOLING,
        dead_band=settings.dead_band,
    )
    links = make_links([place for _, place in driven])
    return [
        HandCycle(group, InspireHand(link, hand, name=group.name))
        for (group, _), link in zip(driven, links, strict=True)
    ]


ADAPTER = AddressedAdapter(addresses=hand_devices, make=make_hands)
