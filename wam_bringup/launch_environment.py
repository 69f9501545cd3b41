# SPDX-License-Identifier: Apache-2.0
"""Environment of the processes of a launch: domain, range, Fast DDS profile and keys."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.actions import LogInfo, SetEnvironmentVariable

from wam.core.errors import ConfigError
from wam.ros.environment import (
    PROFILE,
    RANGE,
    images_remedy,
    launch_settings,
    network_of,
    suite_profile,
    types_profile,
)
from wam.ros.security.settings import OVERRIDE, enclave_of, security_settings
from wam.ros.security.suite import VENDOR

EXECUTOR = "wam_executor"
SAFETY, POLICY = "wam_safety", ("wam_planner", EXECUTOR)
SIMULATION = "wam_sim"
ROBOT_NAME = "robot_name"
"""Key under which the values of a launch hold the name of the robot."""
SUITE_PROFILE = "suite"
"""Value of `dds_profile` that takes the suite's profile for the discovery range."""


def network_actions(values: dict[str, str], *, cameras: bool) -> list[Any]:
    """Return what gives every process domain and range of this launch, and says which they are.

    The Fast DDS profile is noted in `values` for the suite's own processes. Those of a vendor keep what the shell says,
    and so do the suite's where the robot is a real one: the profile has to suit drivers on other computers as well.
    Where the shell says nothing, the suite's get one that only keeps a killed node from leaving others unmatched.

    Args:
        values: of the arguments.
        cameras: whether images come from a process that this launch does not start.

    Raises:
        ConfigError: ROS_DOMAIN_ID is missing or 0 and not allowed, a variable has no legal value, or there is no such
            profile.
    """
    settings = launch_settings(os.environ, allow_domain_0=values["allow_domain_0"] == "true")
    given = values["dds_profile"]
    # A simulated robot or a recording is on this computer, and its images need the large segments.
    if not given and values.get("simulate", "true") == "true" and not os.environ.get(PROFILE):
        given = SUITE_PROFILE
    profile = suite_profile(settings[RANGE]) if given == SUITE_PROFILE else Path(given).expanduser().resolve()
    if given and not profile.is_file():
        raise ConfigError(
            "dds_profile",
            value=given,
            allowed=f"an existing Fast DDS profile, or {SUITE_PROFILE}",
            where="the launch command",
        )
    values[PROFILE] = str(profile) if given else ""
    network = network_of({**os.environ, **settings, **suite_environment(values)})
    told = [f"{network}"]
    if network.drops_images:
        values[PROFILE] = str(types_profile())
    if cameras and network.drops_images:
        told.append(f"{images_remedy(network)} (dds_profile:={SUITE_PROFILE}: for the suite's nodes)")
    return [
        *(SetEnvironmentVariable(name, value) for name, value in settings.items()),
        *(LogInfo(msg=line) for line in told),
    ]


def suite_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that gives the suite's own processes the profile of this launch; nothing for the shell's."""
    return {PROFILE: values[PROFILE]} if values[PROFILE] else {}


def security_actions(values: Mapping[str, str]) -> list[SetEnvironmentVariable]:
    """Return what makes every process refuse to run without its key, once all of the keys have been found usable.

    Raises:
        ConfigError: there is no keystore, or it does not fit this robot, domain and moment.
    """
    if values["secure"] != "true":
        return []
    if not values["keystore"]:
        raise ConfigError(
            "secure:=true needs the keys of the robot",
            allowed="the folder that `wam secure ROBOT --out DIR` wrote",
            where="the launch command: keystore:=DIR",
        )
    policy = ("wam_bringup",) if values["composed"] == "true" else POLICY
    drivers = ("wam_sim",) if values["simulate"] == "true" else ("wam_driver", VENDOR)
    viewers = ("wam_view", VENDOR) if values["rviz"] == "true" else ()
    names = dict.fromkeys((SAFETY, "wam_gate", *policy, *drivers, *viewers))
    settings = security_settings(
        Path(values["keystore"]).expanduser(),
        [enclave_of(values[ROBOT_NAME], name) for name in names],
        environment=os.environ,
    )
    return [SetEnvironmentVariable(name, value) for name, value in settings.items()]


def vendor_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that gives processes of others their key; nothing without security."""
    secure = values.get("secure") == "true"
    return {OVERRIDE: enclave_of(values[ROBOT_NAME], VENDOR)} if secure else {}
