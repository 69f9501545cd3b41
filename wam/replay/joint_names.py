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
