# SPDX-License-Identifier: Apache-2.0
"""Names of joints in recordings: the policy's, or the driver's where they are unambiguous."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wam.robots.description import RobotDescription

Index = npt.NDArray[np.intp]


def driver_aliases(robot: RobotDescription, *, group: str = "") -> dict[str, str]:
    """Return driver name -> policy-side name.

    Args:
        robot: whose joints.
        group: look at this joint group alone; within one, driver names are unique. "" takes all groups and leaves
            out driver names that several joints have.
    """
    joints = [joint for g in robot.groups if group in ("", g.name) for joint in g.joints]
    drivers = [joint.driver_name for joint in joints]
    return {joint.driver_name: joint.name for joint in joints if drivers.count(joint.driver_name) == 1}


def si_factors(
    names: Sequence[str], robot: RobotDescription, *, group: str, commanded: bool
) -> npt.NDArray[np.float64]:
    """Return what the positions of a message are multiplied with to be in SI units, float64 [len(names)].

    Args:
        names: names in the message.
        robot: whose joints.
        group: the joint group whose driver sent or took the message; "" for a message in the policy's names and units.
        commanded: the message is a command, not a state.
    """
    if not group:
        return np.ones(len(names))
    joints = {joint.driver_name: joint.conversion for joint in robot.group(group).joints}
    factors = {name: 1.0 / one.command if commanded else one.state for name, one in joints.items()}
    return np.array([factors.get(name, 1.0) for name in names])


def columns_of(
    names: Sequence[str], *, aliases: dict[str, str], wanted: tuple[str, ...]
) -> tuple[Index, Index]:
    """Return which of the `wanted` joints a message with columns `names` has, and in which columns.

    Args:
        names: names in the message, the policy's or the driver's.
        aliases: driver name -> policy-side name.
        wanted: policy-side names.

    Returns:
        Indices into `wanted` and, of the same length, indices into `names`.
    """
    place = {aliases.get(name, name): column for column, name in enumerate(names)}
    found = [i for i, name in enumerate(wanted) if name in place]
    return (
        np.array(found, dtype=np.intp),
        np.array([place[wanted[i]] for i in found], dtype=np.intp),
    )
