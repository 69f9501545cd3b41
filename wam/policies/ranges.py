# SPDX-License-Identifier: Apache-2.0
"""Whether the positions that a policy was trained on are positions of the robot: told before anything moves.

A bundle in other units than its statistics state (a gripper in 0..1 taken for metres, degrees for radians, another
arm's zero or direction) commands a limit of the joint, or the wrong way.
"""

from __future__ import annotations

from wam.core.errors import ContractMismatch
from wam.models.bundle import Bundle
from wam.models.column_units import SI_OF, ColumnUnit
from wam.models.normalisation import FieldStats
from wam.robots.description import JointSpec, RobotDescription

BEYOND = 0.2
"""Share of a joint's travel by which data may lie beyond its limits: other limits than the vendor's, a calibration."""

STILL = 0.001
"""Share of a joint's travel below which its data is that of a joint at rest."""

MOST_NAMED = 6
SI_COLUMN = ColumnUnit()


def range_faults(bundle: Bundle, robot: RobotDescription) -> list[str]:
    """Return what does not fit, a text per column with both ranges; joints that the robot lacks are left out."""
    joints = {joint.name: joint for joint in robot.joints}
    sides = [("state", bundle.contract.state_joints, bundle.stats.state)]
    if not bundle.contract.relative_actions:  # distances from the state may have any sign
        sides.append(("action", bundle.contract.action_joints, bundle.stats.action))
    return [
        fault
        for side, names, stats in sides
        for column, name in enumerate(names)
        if name in joints and (fault := _fault(f"{side} column {name}", stats, column, joints[name]))
    ]


def require_ranges(bundle: Bundle, robot: RobotDescription) -> None:
    """Refuse a bundle whose statistics cannot be positions of the robot.

    Raises:
        ContractMismatch: the text names each column, both ranges and the flags of the conversion that state units.
    """
    if faults := range_faults(bundle, robot):
        contract = bundle.contract
        raise ContractMismatch(
            f"policy {contract.kind} (contract {contract.contract_hash[:12]}) does not fit the limits of robot "
            f"{robot.name} in {len(faults)} columns: {'; '.join(faults[:MOST_NAMED])}"
            + ("; all: wam info --policy" if len(faults) > MOST_NAMED else ""),
            allowed=f"data within the limits, or {BEYOND:.0%} of a joint's travel beyond them",
            where="the units of its columns: `wam convert units BUNDLE OUT --units FILE` (or --embodiment NAME), see "
            "docs/how-to/convert-a-checkpoint.md; or choose a policy made for this robot",
        )


def still_joints(bundle: Bundle, robot: RobotDescription) -> list[str]:
    """Return the joints of the robot that next to never move in the data of the state, by name.

    A hand that was not used is one; all joints are where the robot stood still as the data was recorded, or where the
    statistics are in larger units than they state.
    """
    joints = {joint.name: joint for joint in robot.joints}
    low, high = bundle.stats.state.range_si()
    return [
        name
        for name, span in zip(bundle.contract.state_joints, high - low, strict=True)
        if name in joints and span < STILL * (joints[name].upper - joints[name].lower)
    ]


def _fault(what: str, stats: FieldStats, column: int, joint: JointSpec) -> str:
    unit = stats.units[column] if stats.units else SI_COLUMN
    if SI_OF.get(unit.unit, joint.kind.unit) != joint.kind.unit:
        return f"{what} is stated in {unit.unit}, but the joint moves in {joint.kind.unit}"
    low, high = (float(ends[column]) for ends in stats.range_si())
    slack = BEYOND * (joint.upper - joint.lower)
    # Comparisons with NaN, a column without known statistics, are false.
    if low < joint.lower - slack or high > joint.upper + slack:
        return (
            f"{what} has data in {low:.4g} .. {high:.4g} {joint.kind.unit}, the joint's limits are "
            f"{joint.lower:.4g} .. {joint.upper:.4g} {joint.kind.unit}"
        )
    return ""
