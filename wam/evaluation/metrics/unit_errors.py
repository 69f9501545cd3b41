# SPDX-License-Identifier: Apache-2.0
"""Errors of a replay by joint group and unit: radians, metres and shares of a range are never added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wam.evaluation.metrics.joints import JointNumbers
from wam.report.numbers import distribution
from wam.robots.description import RobotDescription


@dataclass(frozen=True, slots=True)
class UnitErrors:
    """Means over the joints of one group that have one unit; NaN where unknown.

    Attributes:
        group: name of the group.
        unit: rad, m, or 1 for a share of the range.
        joints: number of joints.
        l1: mean absolute error of all rows [unit].
        l1_normalised: the same with every joint divided by its range.
        executed_l1: mean absolute error of the executed trajectory [unit].
        seam_jump_max: largest jump where chunks meet [unit].
    """

    group: str
    unit: str
    joints: int
    l1: float
    l1_normalised: float
    executed_l1: float
    seam_jump_max: float


def unit_errors(
    robot: RobotDescription, joints: Mapping[str, JointNumbers], units: Mapping[str, str]
) -> tuple[UnitErrors, ...]:
    """Return the errors of every group, unit by unit, in the robot's order.

    Args:
        robot: its groups.
        joints: joint of the policy's action -> its figures.
        units: joint -> its unit.
    """
    found = []
    for group in robot.groups:
        members = [name for name in group.joint_names if name in joints]
        for unit in dict.fromkeys(units[name] for name in members):
            found.append(_errors(group.name, unit, [joints[name] for name in members if units[name] == unit]))
    return tuple(found)


def _errors(group: str, unit: str, joints: Sequence[JointNumbers]) -> UnitErrors:
    return UnitErrors(
        group,
        unit,
        len(joints),
        l1=distribution([one.l1 for one in joints]).mean,
        l1_normalised=distribution([one.l1_normalised for one in joints]).mean,
        executed_l1=distribution([one.executed_l1 for one in joints]).mean,
        seam_jump_max=distribution([one.seam_jump_max for one in joints]).maximum,
    )
