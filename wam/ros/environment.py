# SPDX-License-Identifier: Apache-2.0
"""Environment of processes that speak ROS 2 on this machine only (standard library only, set before rclpy is used)."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from wam.core.errors import ConfigError

DISCOVERY_RANGE = "LOCALHOST"
MAX_DOMAIN_ID = 101
"""Largest domain whose ports stay below Linux's ephemeral range."""


def private_domain_id(seed: int) -> int:
    """Return a domain in 1..101 that two users or checkouts are unlikely to share.

    Args:
        seed: anything that differs between them, e.g. a process id.
    """
    return seed % MAX_DOMAIN_ID + 1


def isolate(environment: MutableMapping[str, str], *, dds_profile: Path | None) -> int:
    """Give `environment` a domain of its own on this machine, whatever was set, and return it.

    A simulated robot publishes commands under the names of a real one: in the domain of a lab's shell it would move
    that arm.

    Args:
        environment: usually `os.environ`; changed in place.
        dds_profile: as for `confine`.
    """
    taken = {environment.get("ROS_DOMAIN_ID", ""), "0"}
    seed = os.getpid()
    while str(private_domain_id(seed)) in taken:
        seed += 1
    environment["ROS_DOMAIN_ID"] = str(private_domain_id(seed))
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = DISCOVERY_RANGE
    confine(environment, dds_profile=dds_profile)
    return int(environment["ROS_DOMAIN_ID"])


def confine(environment: MutableMapping[str, str], *, dds_profile: Path | None) -> None:
    """Keep ROS traffic of `environment` on this machine; values that the user set are kept.

    Args:
        environment: usually `os.environ`; changed in place.
        dds_profile: Fast DDS profile file with a shared-memory segment that fits images, or None.

    Raises:
        ConfigError: ROS_DOMAIN_ID is not a number in 0..101.
    """
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", DISCOVERY_RANGE)
    environment.setdefault("ROS_DOMAIN_ID", str(private_domain_id(os.getpid())))
    domain = environment["ROS_DOMAIN_ID"]
    if not domain.isdigit() or int(domain) > MAX_DOMAIN_ID:
        raise ConfigError(
            "ROS_DOMAIN_ID",
            value=domain,
            allowed=f"0 .. {MAX_DOMAIN_ID}",
            where="the environment (or leave it unset)",
        )
    if dds_profile is not None and dds_profile.is_file():
        environment.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(dds_profile))
    environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
