# SPDX-License-Identifier: Apache-2.0
"""What a launch is asked for, checked before anything starts: ROS itself takes any argument, and a node looks late."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wam.core.errors import ConfigError
from wam.core.suggest import nearest
from wam.policies.names import built_in_kind, no_such_policy
from wam.policies.shipped import bundle_directory
from wam.runtime.policy import FAKE_POLICY
from wam_bringup.launch_schema import POLICY_PARTS, ROBOT_PARTS

COMMAND = "the launch command"
OF_LAUNCH_ROS = "ros_"
"""How the names begin under which launch_ros keeps its own, such as the namespace of a group."""
MISSPELT = 0.8
"""Share of letters in common with an argument, of 0..1, from which another one is taken for it misspelt."""


def require_known(given: Mapping[str, str], known: Iterable[str]) -> None:
    """Refuse a misspelt argument. One that is like none may belong to a launch file that includes this one.

    Args:
        given: every argument of the launch, with its value.
        known: names that its files declare.

    Raises:
        ConfigError: an argument is not declared, and like one that is.
    """
    names = set(known)
    for name in sorted(set(given) - names):
        if name.startswith(OF_LAUNCH_ROS):
            continue
        if meant := nearest(name, names, alike=MISSPELT):
            raise ConfigError(
                f"this launch has no argument {name}",
                value=f"{name}:={given[name]}",
                allowed=f"{meant[0]}:=..., if that is meant",
                where=COMMAND,
            )


def require_policy(policy: str, *, moves: bool) -> str:
    """Return the policy to load: the one that was named, which has to be there; without one the fake policy.

    Args:
        policy: the argument of that name.
        moves: whether what it sends reaches a real arm.

    Raises:
        BundleError: there is no such bundle.
        ConfigError: no policy is named, and the fake one would move an arm.
    """
    if not policy and moves:
        raise ConfigError(
            "policy",
            value="",
            allowed="a policy bundle where commands are sent; policy:=fake waves the arms about",
            where=COMMAND,
        )
    if policy in ("", FAKE_POLICY):
        return FAKE_POLICY
    if bundle_directory(policy) is None and built_in_kind(policy) is None:
        raise no_such_policy(policy, where=f"{COMMAND}: policy:=DIRECTORY")
    return policy


def summary(values: Mapping[str, str], *, dry_run: bool) -> str:
    """Return what this launch starts, in a line of the log: a default that was meant to be changed shows there."""
    parts = values["parts"]
    policy = [] if parts == ROBOT_PARTS else [f"policy {values['policy']}"]
    sends = "dry run, nothing is sent" if dry_run else "commands are sent"
    safety = [] if parts == POLICY_PARTS else [f"safety profile {values['safety_profile']}", sends]
    return ", ".join([*policy, *safety])
