# SPDX-License-Identifier: Apache-2.0
"""Environment of processes that speak ROS 2: which domain, how far discovery reaches, which transport.

One rule: what listens to a robot, records or commands it uses what the shell and ROS say (`GRAPHS`, `join`); what
brings its own robot, simulated or recorded, gets a domain of its own on this machine. Set before rclpy is used. What
each middleware makes of the variables is in SECURITY.md.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import ConfigError
from wam.robots.paths import config_dir

RANGE, DISCOVERY_RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST"
RANGES = ("LOCALHOST", "SUBNET", "SYSTEM_DEFAULT", "OFF")
NETWORK_RANGES = ("SUBNET", "SYSTEM_DEFAULT")
"""Ranges in which nodes on other computers take part."""

ROS_RANGE = "SUBNET"
"""Range of ROS 2 where nothing is said."""

LOCALHOST_ONLY = "ROS_LOCALHOST_ONLY"
"""Set to 1, this older variable overrides the range."""

DOMAIN = "ROS_DOMAIN_ID"
MAX_DOMAIN_ID = 101
"""Largest domain whose ports stay below Linux's ephemeral range."""

OWN_DOMAIN = "WAM_DOMAIN_ID"
"""Domain of demos, tests and benches; without it they choose one."""

ALLOW_DOMAIN_0 = "WAM_ALLOW_DOMAIN_0"
"""Set to 1 or true, this variable lets launch files run on domain 0."""

MIDDLEWARE = "RMW_IMPLEMENTATION"
FAST_DDS = "rmw_fastrtps"
"""Beginning of the names of Fast DDS's middlewares."""

PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
OLD_PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
CYCLONE = "CYCLONEDDS_URI"
CYCLONE_LOOPBACK = (
    '<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>'
    "</General></Domain></CycloneDDS>"
)
"""Cyclone DDS on the loopback interface; without it LOCALHOST still answers a peer that names this computer."""

FOREIGN = (OLD_PROFILE, LOCALHOST_ONLY, "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER", "ROS_SECURITY_ENABLE")
"""Variables of a robot's graph that have no place in one of its own."""


class Graph(enum.Enum):
    """Whose ROS graph a command takes part in."""

    ROBOT = "robot"
    """The one that the shell names, with the robot's drivers."""

    OWN = "own"
    """One of its own on this machine: it publishes under the names of a real robot."""


GRAPHS: Mapping[str, Graph] = {
    "doctor": Graph.ROBOT,
    "record": Graph.ROBOT,
    "demo": Graph.OWN,
    "eval": Graph.OWN,
    "replay": Graph.OWN,
    "soak": Graph.OWN,
    "bench": Graph.OWN,
}
"""Every verb of `wam` that has nodes; the others speak no ROS."""


@dataclass(frozen=True, slots=True)
class Network:
    """What an environment says about ROS traffic, as rcl and the middleware read it.

    Attributes:
        domain: ROS domain, and where it comes from.
        reach: range of discovery, and where it comes from.
        middleware: name, or "" for the default of the installation.
        profile: Fast DDS profile; "" for none.
    """

    domain: tuple[int, str]
    reach: tuple[str, str]
    middleware: str
    profile: str

    @property
    def drops_images(self) -> bool:
        """Whether most camera images are lost: Fast DDS's own shared-memory segment holds no 640x480 image."""
        return not self.profile and (not self.middleware or self.middleware.startswith(FAST_DDS))

    def __str__(self) -> str:
        """Return all of it in one line."""
        parts = [f"ROS domain {self.domain[0]} ({self.domain[1]}), range {self.reach[0]} ({self.reach[1]})"]
        parts += [self.middleware] if self.middleware else []
        parts += [f"Fast DDS profile {self.profile}"] if self.profile else []
        parts += ["no Fast DDS profile"] if self.drops_images else []
        return ", ".join(parts)


def join(verb: str, environment: MutableMapping[str, str]) -> Network:
    """Prepare the environment in which a verb of `wam` has its nodes, and return what it says.

    Args:
        verb: a key of `GRAPHS`.
        environment: usually `os.environ`; a graph of its own changes it in place.

    Raises:
        ConfigError: the domain is not a number in 0..101 (1..101 for a graph of its own), or the range is none.
    """
    if GRAPHS[verb] is Graph.OWN:
        isolate(environment)
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    return network_of(environment)


def network_of(environment: Mapping[str, str]) -> Network:
    """Return what the variables say, with ROS's own defaults where they say nothing.

    Raises:
        ConfigError: the domain is not a number in 0..101, or the range is none.
    """
    text = environment.get(DOMAIN, "")
    domain = _number(text, DOMAIN, "export ROS_DOMAIN_ID=42")
    reach = environment.get(RANGE, "")
    if reach and reach not in RANGES:
        raise ConfigError(RANGE, value=reach, known=RANGES, where="the environment")
    if environment.get(LOCALHOST_ONLY) == "1":
        reached = ("LOCALHOST", LOCALHOST_ONLY)
    else:
        reached = (reach, RANGE) if reach else (ROS_RANGE, "ROS's default")
    return Network(
        (domain, DOMAIN if text else "ROS's default"),
        reached,
        environment.get(MIDDLEWARE, ""),
        environment.get(PROFILE) or environment.get(OLD_PROFILE, ""),
    )


def private_domain_id(seed: int) -> int:
    """Return a domain in 1..101 that two users or checkouts are unlikely to share.

    Args:
        seed: anything that differs between them, e.g. a process id.
    """
    return seed % MAX_DOMAIN_ID + 1


def isolate(environment: MutableMapping[str, str]) -> int:
    """Give `environment` a domain of its own on this machine, whatever was set, and return it.

    A simulated robot publishes commands under the names of a real one: in the domain of a lab's shell it would move
    that arm. WAM_DOMAIN_ID names the domain, and is set, so that the processes started from here meet.

    Args:
        environment: usually `os.environ`; changed in place.

    Raises:
        ConfigError: WAM_DOMAIN_ID is not a number in 1..101.
    """
    if chosen := environment.get(OWN_DOMAIN, ""):
        domain = _number(chosen, OWN_DOMAIN, "export WAM_DOMAIN_ID=7", least=1)
    else:
        seed = os.getpid()
        while str(private_domain_id(seed)) == environment.get(DOMAIN, ""):
            seed += 1
        domain = private_domain_id(seed)
    for name in FOREIGN:
        environment.pop(name, None)
    environment[OWN_DOMAIN] = environment[DOMAIN] = str(domain)
    environment[RANGE], environment[CYCLONE] = DISCOVERY_RANGE, CYCLONE_LOOPBACK
    environment[PROFILE] = str(suite_profile(DISCOVERY_RANGE))
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    return domain


def suite_profile(reach: str) -> Path:
    """Return the suite's Fast DDS profile for a range: shared-memory segments that fit images, and its interfaces."""
    name = "fastdds_subnet.xml" if reach in NETWORK_RANGES else "fastdds_shm.xml"
    return config_dir() / "dds" / name


def types_profile() -> Path:
    """Return the profile that changes nothing but one thing: nobody is asked for types during discovery."""
    return config_dir() / "dds" / "fastdds_types.xml"


def images_remedy(network: Network) -> str:
    """Return what to do where `network` drops images; a profile counts where the images are published."""
    return (
        "Fast DDS without a profile loses most 640x480 images between processes; in the shell that starts the camera "
        f"driver: export {PROFILE}={suite_profile(network.reach[0])}"
    )


def launch_settings(environment: Mapping[str, str], *, allow_domain_0: bool = False) -> dict[str, str]:
    """Return the variables with which only this machine takes part in a launch, unless the user chose otherwise.

    The domain is the user's choice and only checked: vendors' drivers and other tools must be on the same one.

    Args:
        environment: what the user set.
        allow_domain_0: accept domain 0, on which every ROS 2 process starts that was told nothing.

    Raises:
        ConfigError: the domain is not a number in 1..101 (or 0, where it is not allowed), or the range is none.
    """
    network = network_of(environment)
    allowed = allow_domain_0 or environment.get(ALLOW_DOMAIN_0, "").lower() in ("1", "true")
    if network.domain[0] == 0 and not allowed:
        raise ConfigError(
            "ROS domain 0 belongs to every ROS 2 process that was told nothing, which could move the robot: "
            f"{DOMAIN} is {environment.get(DOMAIN) or 'not set'}",
            allowed=f"1 .. {MAX_DOMAIN_ID}, the same for drivers and tools",
            where="the environment, e.g. export ROS_DOMAIN_ID=42; to use domain 0 all the same: "
            f"allow_domain_0:=true for a launch file, {ALLOW_DOMAIN_0}=1 for a command",
        )
    reach = environment.get(RANGE) or DISCOVERY_RANGE
    settings = {RANGE: reach}
    if reach == DISCOVERY_RANGE and not environment.get(CYCLONE):
        settings[CYCLONE] = CYCLONE_LOOPBACK
    return settings


def _number(text: str, name: str, example: str, *, least: int = 0) -> int:
    """Return the number of a domain; empty is ROS's own default, 0."""
    valid = text.isascii() and text.isdigit() and least <= int(text) <= MAX_DOMAIN_ID
    if text and not valid:
        raise ConfigError(
            name,
            value=text,
            allowed=f"{max(least, 1)} .. {MAX_DOMAIN_ID}",
            where=f"the environment, e.g. {example}",
        )
    return int(text or "0")
