# SPDX-License-Identifier: Apache-2.0
"""What the columns of a foreign table are to a robot: which joint, and in which unit.

A data set says little about either. What a person states is applied; what is not stated is taken as the robot's own
names and SI units, and refused where it cannot be right, with what would fit. Nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.joint_names import driver_aliases
from wam.robots.description import JointKind, JointSpec, RobotDescription

Table = npt.NDArray[np.float64]

RANGE_SLACK = 0.25
"""Share of a joint's range by which values may exceed it before their unit is wrong."""

Scale = Callable[[JointSpec], tuple[float, float]]
"""From a joint to factor and offset: SI value = column x factor + offset."""


def _of_limits(low: float, high: float) -> Scale:
    """Return the scale of values that run from `low` to `high` between a joint's limits."""

    def scale(joint: JointSpec) -> tuple[float, float]:
        factor = (joint.upper - joint.lower) / (high - low)
        return factor, joint.lower - low * factor

    return scale


TICKS_PER_TURN = 4096

UNITS: Mapping[str, Scale] = {
    "rad": lambda joint: (1.0, 0.0),
    "m": lambda joint: (1.0, 0.0),
    "deg": lambda joint: (np.pi / 180.0, 0.0),
    "mm": lambda joint: (1e-3, 0.0),
    "percent": _of_limits(-100.0, 100.0),
    "share": _of_limits(0.0, 1.0),
    "ticks": lambda joint: (2.0 * np.pi / TICKS_PER_TURN, -np.pi),
}
"""Unit -> its scale: `percent` is -100..100 and `share` 0..1 from one limit to the other, `ticks` are 4096 a turn with
2048 in the middle (Feetech, Dynamixel)."""

_OF_KIND = {
    "rad": (JointKind.REVOLUTE,),
    "deg": (JointKind.REVOLUTE,),
    "ticks": (JointKind.REVOLUTE,),
    "m": (JointKind.PRISMATIC,),
    "mm": (JointKind.PRISMATIC,),
}
"""Units that are stated for all joints go for these kinds alone."""


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """What a person states of the columns of one table.

    Attributes:
        names: column -> joint, by its policy-side or its driver's name, where they differ.
        units: joint -> unit of its column, a key of `UNITS` or a factor; "" for all joints.
        in_order: columns are those of the robot file, in its order, whatever they are called.
        key: feature of the data set; "" for LeRobot's own.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    in_order: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class JointColumns:
    """Columns of a table that are joints of a robot.

    Attributes:
        joints: the joints, in the order of the robot file.
        columns: intp [K], where they are.
        values: float64 [T, K], in SI units.
    """

    joints: tuple[JointSpec, ...]
    columns: npt.NDArray[np.intp]
    values: Table


def joint_table(
    table: Table,
    names: tuple[str, ...],
    robot: RobotDescription,
    options: ColumnOptions,
    *,
    what: str,
    option: str,
) -> JointColumns:
    """Return the joints of a table in SI units; joints that it lacks are left out.

    Args:
        table: float64 [T, N].
        names: of its columns; empty where there are none.
        robot: whose joints.
        options: what is stated of the columns.
        what: the table, for texts.
        option: the command-line option that names columns.

    Raises:
        RecordingError: the columns have no names, or not as many as the robot has joints.
        ConfigError: an option names a column, joint or unit that does not exist.
    """
    if options.in_order:
        found = _in_order(table, robot, what=what)
    elif not names:
        raise RecordingError(
            f"meta/info.json names no columns for {what}",
            value=f"{table.shape[1]} columns",
            allowed=f"the {len(robot.joints)} joint names of {robot.name}, in order",
            where="--in-order takes the columns in the order of the robot file",
        )
    else:
        place = _places(names, robot, options, what=what, option=option)
        found = [(joint, place[joint.name]) for joint in robot.joints if joint.name in place]
    joints = tuple(joint for joint, _ in found)
    columns = np.array([column for _, column in found], dtype=np.intp)
    _check_units(options.units, robot)
    scales = [_scale(joint, options.units, robot) for joint in joints]
    factors, offsets = np.array(scales).reshape(-1, 2).T
    return JointColumns(joints, columns, table[:, columns] * factors + offsets)


def _in_order(table: Table, robot: RobotDescription, *, what: str) -> list[tuple[JointSpec, int]]:
    if table.shape[1] != len(robot.joints):
        raise RecordingError(
            f"{what} does not have a column for every joint of robot {robot.name}",
            value=f"{table.shape[1]} columns",
            allowed=f"{len(robot.joints)}: {list(robot.joint_names)}",
            where="another --robot, or without --in-order",
        )
    return [(joint, column) for column, joint in enumerate(robot.joints)]


def _places(
    names: tuple[str, ...], robot: RobotDescription, options: ColumnOptions, *, what: str, option: str
) -> dict[str, int]:
    """Return policy-side joint name -> column."""
    aliases = driver_aliases(robot)
    for column, joint in options.names.items():
        if column not in names:
            raise ConfigError(f"{what} has no column {column}", allowed=", ".join(names), where=option)
        if aliases.get(joint, joint) not in robot.joint_names:
            raise ConfigError(
                f"robot {robot.name} has no joint {joint}", allowed=", ".join(robot.joint_names), where=option
            )
    told = [options.names.get(name, name) for name in names]
    return {aliases.get(name, name): column for column, name in enumerate(told)}


def _scale(joint: JointSpec, units: Mapping[str, str], robot: RobotDescription) -> tuple[float, float]:
    unit = next((units[name] for name in (joint.name, joint.driver_name) if name in units), None)
    if unit is None:
        unit = units.get("", "")
        if joint.kind not in _OF_KIND.get(unit, tuple(JointKind)):
            return 1.0, 0.0
    if not unit:
        return 1.0, 0.0
    if unit in UNITS:
        return UNITS[unit](joint)
    try:
        return float(unit), 0.0
    except ValueError as error:
        raise ConfigError(
            f"unit of joint {joint.name} of robot {robot.name}",
            value=unit,
            allowed=f"{', '.join(UNITS)}, or a factor to rad or m",
            where="--unit",
        ) from error


def _check_units(units: Mapping[str, str], robot: RobotDescription) -> None:
    """Refuse units of joints that the robot does not have.

    Raises:
        ConfigError: so it is.
    """
    known = {"", *robot.joint_names, *(joint.driver_name for joint in robot.joints)}
    for name in units:
        if name not in known:
            raise ConfigError(
                f"robot {robot.name} has no joint {name}",
                allowed=", ".join(robot.joint_names),
                where="--unit",
            )


def range_fault(found: JointColumns, raw: Table, *, what: str, option: str) -> RecordingError | None:
    """Return why values cannot be right, with units in which they would fit; None where they may be.

    Args:
        found: the joints of a table.
        raw: float64 [T, N], the table as it is stored.
        what: the table, for texts.
        option: the command-line option that states units.
    """
    outside = [i for i, joint in enumerate(found.joints) if not _fits(found.values[:, i], joint)]
    if not outside:
        return None
    worst = max(outside, key=lambda i: float(np.nanmax(np.abs(found.values[:, i]))))
    joint, column = found.joints[worst], found.values[:, worst]
    proposals = _proposals(found, raw, outside, option)
    anything = f"{option} UNIT or {option} JOINT=UNIT ({', '.join(UNITS)}, or a factor)"
    return RecordingError(
        f"{what}: {len(outside)} joints leave their range by more than {100 * RANGE_SLACK:.0f} %, for example "
        f"{joint.name}",
        value=f"{float(column[np.nanargmax(np.abs(column))]):.4g}",
        allowed=f"{joint.lower:g} .. {joint.upper:g} {joint.kind.unit}, SI units",
        where=f"{', or '.join(proposals)} (which would fit), or another unit" if proposals else anything,
    )


def _fits(values: Table, joint: JointSpec) -> bool:
    slack = RANGE_SLACK * (joint.upper - joint.lower)
    known = values[np.isfinite(values)]
    return bool(np.all((known >= joint.lower - slack) & (known <= joint.upper + slack)))


_STORED: Mapping[str, tuple[float, float]] = {"percent": (-105.0, 105.0), "ticks": (0.0, 4096.0)}
"""Values that a column of a unit can hold."""


def _may_be(unit: str, raw: Table, joint: JointSpec) -> bool:
    low, high = _STORED.get(unit, (-np.inf, np.inf))
    known = raw[np.isfinite(raw)]
    factor, offset = UNITS[unit](joint)
    return bool(np.all((known >= low) & (known <= high))) and _fits(raw * factor + offset, joint)


def _proposals(found: JointColumns, raw: Table, outside: Sequence[int], option: str) -> list[str]:
    """Return the options under which all joints that are out of range would be in it."""
    made = []
    for revolute, prismatic in (
        ("deg", "mm"),
        ("deg", "percent"),
        ("percent", "percent"),
        ("ticks", "percent"),
    ):
        units = {}
        for i in outside:
            joint = found.joints[i]
            unit = revolute if joint.kind is JointKind.REVOLUTE else prismatic
            if not _may_be(unit, raw[:, found.columns[i]], joint):
                break
            units[joint] = unit
        else:
            made.append(_as_options(units, found.joints, option))
    return list(dict.fromkeys(made))


def _as_options(units: Mapping[JointSpec, str], joints: Sequence[JointSpec], option: str) -> str:
    """Return how the units are stated: for all where they go for all joints of their kind."""
    words: list[str] = []
    for unit in dict.fromkeys(units.values()):
        having = [joint for joint, one in units.items() if one == unit]
        kinds = _OF_KIND.get(unit, tuple(JointKind))
        whole = [joint for joint in joints if joint.kind in kinds]
        # Only one unit can be stated for all.
        if len(having) == len(whole) and not words:
            words.append(f"{option} {unit}")
        else:
            words += [f"{option} {joint.driver_name}={unit}" for joint in having]
    return " ".join(words)
