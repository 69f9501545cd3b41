# SPDX-License-Identifier: Apache-2.0
"""Units are guessed from ranges, as people do, and never from one joint alone."""

from __future__ import annotations

import pytest

from wam.data.columns import UNITS
from wam.data.survey.units import ColumnRange, guess_units


def guess(*ranges: tuple[str, float, float], integral: bool = False) -> list[str]:
    return [one.unit for one in guess_units([ColumnRange(*r, integral) for r in ranges])]


@pytest.mark.parametrize(
    ("ranges", "units"),
    [
        ((("a", -1.2, 3.1), ("b", 0.0, 0.2)), ["rad", "rad"]),
        ((("a", -170.0, 160.0), ("b", -2.0, 2.0)), ["deg", "deg"]),
        (
            (("pan", -99.0, 98.0), ("lift", -100.0, 40.0), ("gripper", 0.0, 80.0)),
            ["percent", "percent", "0..100"],
        ),
        ((("a", -1.2, 3.1), ("finger", 0.0, 0.04)), ["rad", "m"]),
        ((("a", -1.2, 3.1), ("gripper", 0.0, 1.0)), ["rad", "share"]),
        ((("a", -1.2, 3.1), ("gripper", -0.2, 1.7)), ["rad", "rad"]),
        ((("a", -1e6, 1e6),), [""]),
        ((("a", float("nan"), float("nan")), ("b", -2.0, 2.0)), ["", "rad"]),
    ],
)
def test_the_widest_joint_tells_for_all_and_a_gripper_for_itself(
    ranges: tuple[tuple[str, float, float], ...], units: list[str]
) -> None:
    assert guess(*ranges) == units


def test_whole_numbers_up_to_4095_are_ticks() -> None:
    assert guess(("a", 0.0, 2048.0), ("gripper", 100.0, 3000.0), integral=True) == ["ticks", "ticks"]


def test_a_guess_names_what_else_it_may_be_and_why() -> None:
    (found,) = guess_units([ColumnRange("a", -60.0, 20.0, False)])
    assert (found.unit, found.others, found.text) == ("deg", ("percent",), "deg or percent?")
    assert "60" in found.reason


def test_every_guess_is_a_unit_that_can_be_stated() -> None:
    reaches = (0.0, 0.05, 0.9, 3.0, 9.0, 60.0, 99.0, 200.0, 3000.0, 1e9)
    for name in ("joint", "gripper"):
        for reach in reaches:
            for integral in (False, True):
                (found,) = guess_units([ColumnRange(name, -0.0, reach, integral)])
                assert {found.unit, *found.others} <= {*UNITS, "0..100", ""}
