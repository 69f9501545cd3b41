# SPDX-License-Identifier: Apache-2.0
"""Figures of single joints and of joint groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from wam.evaluation.metrics.chunks import Table, jerk, root_mean_square
from wam.evaluation.replay.data import ReplayData
from wam.report.numbers import distribution


@dataclass(frozen=True, slots=True)
class JointNumbers:
    """Figures of one joint, in its unit (and that per second cubed for jerk); NaN where unknown."""

    mse: float
    l1: float
    mse_normalised: float
    l1_normalised: float
    executed_l1: float
    jerk_rms: float
    reference_jerk_rms: float
    commanded_jerk_rms: float
    seam_jump_max: float


@dataclass(frozen=True, slots=True)
class GroupNumbers:
    """Means over the joints of one group; those in units are comparable only where all joints share a unit."""

    mse: float
    l1: float
    mse_normalised: float
    l1_normalised: float
    executed_l1: float


def joint_numbers(data: ReplayData, jumps: Table) -> dict[str, JointNumbers]:
    """Return the figures of every joint of the policy's action.

    Args:
        data: the replay.
        jumps: magnitudes of all seams, float64 [S, N]; see `seam_jumps`.
    """
    collector = data.collector
    mse, l1 = collector.errors.per_joint()
    span = collector.errors.joint_range
    _, targets, truth = collector.trajectory()
    period = data.contract.control_period_ns
    highest = np.where(np.isnan(jumps).all(0), np.nan, np.nanmax(np.nan_to_num(jumps), axis=0, initial=0.0))
    columns = (
        mse,
        l1,
        mse / span**2,
        l1 / span,
        _column_means(np.abs(targets - truth)),
        root_mean_square(jerk(targets, period)),
        root_mean_square(jerk(truth, period)),
        collector.safety.jerk_rms()[collector.columns],
        highest,
    )
    table = np.stack(columns, axis=1)
    return {
        name: JointNumbers(*(float(value) for value in row))
        for name, row in zip(data.contract.action_joints, table, strict=True)
    }


def group_numbers(data: ReplayData, joints: Mapping[str, JointNumbers]) -> dict[str, GroupNumbers]:
    """Return the means over `joints` of every joint group that has a joint of the policy's action."""
    groups = {}
    for group in data.robot.groups:
        members = [joints[name] for name in group.joint_names if name in joints]
        if members:
            groups[group.name] = GroupNumbers(
                *(
                    distribution([getattr(one, field.name) for one in members]).mean
                    for field in fields(GroupNumbers)
                )
            )
    return groups


def joint_units(data: ReplayData) -> dict[str, str]:
    """Return the unit of every joint of the policy's action."""
    units = {joint.name: joint.kind.unit for joint in data.robot.joints}
    return {name: units[name] for name in data.contract.action_joints}


def seam_jumps(data: ReplayData) -> Table:
    """Return the magnitudes of the jumps where chunks meet, float64 [S, N]; NaN where the old chunk had ended."""
    seams = data.collector.execution.seams
    if not seams:
        return np.empty((0, len(data.contract.action_joints)))
    return np.abs(np.stack([seam.jump for seam in seams]))


def _column_means(table: Table) -> Table:
    known = ~np.isnan(table)
    count = known.sum(0)
    total = np.where(known, table, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
