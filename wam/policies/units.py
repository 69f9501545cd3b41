# SPDX-License-Identifier: Apache-2.0
"""Units of a bundle's columns as a conversion states them: presets of data sets, a YAML file, the robot's ranges.

The file names columns by their joints; those that it does not name keep the preset's units, or SI units:

    left_gripper: {unit: fraction}            # of the gripper's range in the robot file: 0 closed, 1 open
    left_joint3: {sign: -1, offset: 1.57}     # position = unit * (sign * scale * number + offset)
    state: {...}                              # the same, for the state or the action alone
    action: {...}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from wam.core.errors import BundleError, ConfigError
from wam.models.column_units import FACTORS, SI, ColumnUnit
from wam.models.normalisation import FieldStats, PolicyStats
from wam.robots.description import RobotDescription

FRACTION = "fraction"
"""Unit of a statement, beside those of a column: the joint's range in the robot file, 0 at `lower` and 1 at `upper`."""
BOTH, STATE, ACTION = "columns of both", "state", "action"

Statement = Mapping[str, Any]
"""Some of unit, scale, offset and sign of one column."""


@dataclass(frozen=True, slots=True)
class UnitPreset:
    """The convention of a family of data sets.

    Attributes:
        arm: statement of each column of one arm, base to gripper.
        arms: numbers of arms for which the columns may be given, one after the other.
        source: where the convention is stated.
    """

    arm: tuple[Statement, ...]
    arms: tuple[int, ...]
    source: str

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns that a vector of this convention may have."""
        return tuple(arms * len(self.arm) for arms in self.arms)


PRESETS: Mapping[str, UnitPreset] = MappingProxyType(
    {
        # Arms of an ARX-X5 type (yaw, three pitches, yaw, roll), as AgileX's mobile_aloha_sim describes them in
        # arx5_description_isaac.urdf: another arm than a Piper (yaw, two pitches, roll, pitch, roll).
        "robotwin_aloha": UnitPreset(
            arm=({"unit": "rad"},) * 6 + ({"unit": FRACTION},),
            arms=(2,),
            source="RoboTwin-Platform/RoboTwin stable_2.0, envs/robot/robot.py: get_left_arm_jointState (drive targets "
            "of the URDF's joints; the gripper is normalised), set_gripper (0 closed, 1 open)",
        ),
        "piper_metres": UnitPreset(
            arm=({"unit": "rad"},) * 6 + ({"unit": "m"},),
            arms=(1, 2),
            source="agilexrobotics/Piper_ros ros-humble-no-aloha, src/piper/piper/piper_ctrl_single_node.py: joint "
            "states in rad, opening of the gripper in m",
        ),
        "piper_sdk": UnitPreset(
            arm=({"unit": "deg", "scale": 1e-3},) * 6 + ({"unit": "mm", "scale": 1e-3},),
            arms=(1, 2),
            source="agilexrobotics/piper_sdk, asserts/V2/INTERFACE_V2.MD: joints in 0.001 degrees, gripper in "
            "0.001 mm",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class UnitStatements:
    """What a conversion was told of the units of state and action.

    Attributes:
        preset: name in `PRESETS`; "" for none.
        file: YAML of statements, each of which replaces that of the preset; None for none.
        robot: gives the ranges that a `fraction` refers to; None where nothing is one.
    """

    preset: str = ""
    file: Path | None = None
    robot: RobotDescription | None = None

    @property
    def stated(self) -> bool:
        """Whether anything is stated."""
        return bool(self.preset) or self.file is not None

    def apply(
        self, stats: PolicyStats, *, state_joints: tuple[str, ...], action_joints: tuple[str, ...]
    ) -> PolicyStats:
        """Return the statistics with the stated units; as they are where nothing was stated.

        Raises:
            ConfigError: there is no such preset or file, or it is malformed.
            BundleError: a unit, scale, offset or sign is illegal, the preset has another width, the file names a joint
                that the policy does not have, or a fraction is stated without a robot.
        """
        if not self.stated:
            return stats
        stated = _read(self.file) if self.file is not None else {}
        known = {BOTH: {*state_joints, *action_joints}, STATE: {*state_joints}, ACTION: {*action_joints}}
        for side, columns in stated.items():
            if unknown := [name for name in columns if name not in known[side]]:
                raise BundleError(
                    f"{self.file}: {side}",
                    value=unknown,
                    allowed=f"joints of the policy: {', '.join(sorted(known[side]))}",
                    where="--units",
                )
        both = stated.get(BOTH, {})
        return PolicyStats(
            state=self._field(stats.state, STATE, state_joints, {**both, **stated.get(STATE, {})}),
            action=self._field(stats.action, ACTION, action_joints, {**both, **stated.get(ACTION, {})}),
        )

    def _field(
        self, stats: FieldStats, side: str, joints: tuple[str, ...], stated: Mapping[str, Statement]
    ) -> FieldStats:
        columns = _preset(self.preset, side=side, width=len(joints)) if self.preset else ({},) * len(joints)
        units = tuple(
            self._column(stated.get(joint, column), joint=joint, what=f"{side} column {joint}")
            for joint, column in zip(joints, columns, strict=True)
        )
        return replace(stats, units=units)

    def _column(self, statement: Statement, *, joint: str, what: str) -> ColumnUnit:
        """Return the unit that a statement means; a fraction becomes what it is of the joint's range."""
        fraction = isinstance(statement, Mapping) and statement.get("unit") == FRACTION
        try:
            share = ColumnUnit.from_dict({**statement, "unit": SI} if fraction else statement, what=what)
        except BundleError as error:
            raise BundleError(
                error.what,
                value=error.value,
                allowed=f"{error.allowed}, {FRACTION}" if error.what.endswith(": unit") else error.allowed,
                where="--units",
            ) from None
        if not fraction:
            return share
        spec = next((j for j in self.robot.joints if j.name == joint), None) if self.robot else None
        if spec is None:
            raise BundleError(
                f"{what} is stated as a {FRACTION} of the joint's range",
                value=None if self.robot is None else f"robot {self.robot.name} without {joint}",
                allowed="with a robot file that has the joint, or a unit with its scale",
                where="--robot, or --units",
            )
        span = spec.upper - spec.lower
        unit = spec.kind.unit if spec.kind.unit in FACTORS else SI
        return ColumnUnit(unit, span * share.scale, spec.lower + span * share.offset, share.sign)


SI_UNITS = UnitStatements()
"""Nothing is stated: every column is in SI units."""


def _preset(name: str, *, side: str, width: int) -> tuple[Statement, ...]:
    """Return the statement of each column of a preset.

    Raises:
        ConfigError: there is no such preset.
        BundleError: it is for other widths.
    """
    if name not in PRESETS:
        raise ConfigError("embodiment", value=name, known=PRESETS, where="--embodiment")
    preset = PRESETS[name]
    if width not in preset.widths:
        raise BundleError(
            f"the policy has {width} {side} columns, which embodiment {name} does not have",
            allowed=f"{' or '.join(str(one) for one in preset.widths)} columns",
            where="--embodiment, or state each column with --units",
        )
    return preset.arm * (width // len(preset.arm))


def _read(path: Path) -> dict[str, dict[str, Statement]]:
    """Return the statements of a file: those for both vectors, those for the state, those for the action.

    Raises:
        ConfigError: it cannot be read, or is no mapping of joints.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"units file {path} cannot be read: {error}", where="--units") from error
    parts = {BOTH: raw}
    if isinstance(raw, dict):
        parts = {side: raw.pop(side) for side in (STATE, ACTION) if side in raw} | parts
    for side, columns in parts.items():
        if not isinstance(columns, dict):
            raise ConfigError(
                f"units file {path}: {side}",
                value=type(columns).__name__,
                allowed="a mapping of joints to {unit, scale, offset, sign}",
                where="--units",
            )
    return parts
