# SPDX-License-Identifier: Apache-2.0
"""Guesses of the units of recorded columns, from their ranges and names. A guess is a proposal, never applied.

The columns of one topic or table come from one driver: the widest tells for all that are no grippers. A column of a
gripper is looked at alone, since grippers have units of their own in most of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GRIPPER_WORDS = ("gripper", "finger", "jaw", "claw", "knuckle", "hand", "thumb", "pinky")

MAX_RADIANS = 4.0 * math.pi
"""No joint of an arm that is in radians goes further; continuous wrists turn twice either way."""

SURE_RADIANS = 2.2 * math.pi
MAX_DEGREES = 720.0
MAX_PERCENT = 100.5
MAX_TICKS = 4096
FULL = 95.0
"""A column in -100..100 comes near one end of it in most recordings."""

FINGER_M = 0.13
"""Fingers open by no more [m]."""


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What is known of a column.

    Attributes:
        name: as recorded.
        low: smallest value; NaN for none.
        high: largest value; NaN for none.
        integral: all values are whole numbers.
    """

    name: str
    low: float
    high: float
    integral: bool

    @property
    def reach(self) -> float:
        """Largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_gripper(self) -> bool:
        """Whether its name says that it is a gripper."""
        return any(word in self.name.lower() for word in GRIPPER_WORDS)


@dataclass(frozen=True, slots=True)
class UnitGuess:
    """The likely unit of a column.

    Attributes:
        unit: a key of `wam.data.columns.UNITS`, "0..100", or "" where none is likely.
        others: units that would fit as well.
        reason: for people.
    """

    unit: str
    others: tuple[str, ...] = ()
    reason: str = ""

    @property
    def text(self) -> str:
        """In few words, e.g. "rad?", "deg or percent?"."""
        return f"{' or '.join((self.unit, *self.others))}?" if self.unit else "?"


def guess_units(columns: Sequence[ColumnRange]) -> tuple[UnitGuess, ...]:
    """Return a guess for each column of one topic or table."""
    arms = [column for column in columns if not column.is_gripper and not math.isnan(column.low)]
    arm = _arm(arms)
    return tuple(_gripper(column, arm) if column.is_gripper else _own(column, arm) for column in columns)


def _own(column: ColumnRange, arm: UnitGuess) -> UnitGuess:
    if math.isnan(column.low):
        return UnitGuess("", reason="no finite value was seen")
    return arm


def _arm(columns: Sequence[ColumnRange]) -> UnitGuess:
    """Guess the unit of joints that belong together."""
    if not columns:
        return UnitGuess("", reason="no finite value was seen")
    reach = max(column.reach for column in columns)
    lowest = min(column.low for column in columns)
    if reach == 0.0:
        return UnitGuess("rad", reason="all stand at 0, which is 0 in any unit")
    whole = all(column.integral for column in columns)
    if whole and reach > 360.0 and lowest >= 0.0 and reach <= MAX_TICKS:
        return UnitGuess("ticks", reason=f"whole numbers up to {reach:g}")
    if (
        lowest >= -0.01
        and reach <= 1.01
        and max(column.high for column in columns) > 0.5
        and len(columns) > 1
    ):
        return UnitGuess("rad", ("share",), "all lie in 0..1")
    if reach <= SURE_RADIANS:
        return UnitGuess("rad", reason=f"all lie within {reach:.3g}")
    full = sum(FULL <= column.reach <= MAX_PERCENT for column in columns)
    if reach <= MAX_PERCENT and full >= 2:
        return UnitGuess("percent", ("deg",), f"{full} columns end near -100 or 100, none goes further")
    if reach <= MAX_RADIANS:
        return UnitGuess("rad", ("deg",), f"the widest reaches {reach:.3g}")
    if reach <= MAX_PERCENT:
        return UnitGuess("deg", ("percent",), f"the widest reaches {reach:.3g}")
    if reach <= MAX_DEGREES:
        return UnitGuess("deg", reason=f"the widest reaches {reach:.3g}")
    return UnitGuess("", reason=f"the widest reaches {reach:.3g}, which no unit in use does")


def _gripper(column: ColumnRange, arm: UnitGuess) -> UnitGuess:
    """Guess the unit of a gripper, beside an arm of a unit."""
    if math.isnan(column.low):
        return UnitGuess("", reason="no finite value was seen")
    reach = column.reach
    if reach == 0.0:
        return UnitGuess(arm.unit, reason="stands at 0, which is 0 in any unit")
    if arm.unit == "ticks" and column.integral and column.low >= 0.0 and reach <= MAX_TICKS:
        return UnitGuess("ticks", reason="whole numbers, as the arm's")
    if reach <= FINGER_M:
        return UnitGuess("m", ("rad", "share"), f"reaches {reach:.3g}")
    if column.low >= -0.02 and reach <= 1.02:
        return UnitGuess("share", ("rad",), f"lies in 0..{reach:.3g}")
    if reach <= SURE_RADIANS and arm.unit in ("rad", ""):
        return UnitGuess("rad", reason=f"reaches {reach:.3g}")
    if column.low >= -1.0 and reach <= MAX_PERCENT:
        return UnitGuess("0..100", ("deg", "mm"), f"lies in {column.low:.3g}..{column.high:.3g}")
    if reach <= MAX_DEGREES:
        return UnitGuess("deg", ("mm",), f"reaches {reach:.3g}")
    return UnitGuess("", reason=f"reaches {reach:.3g}, which no unit in use does")
