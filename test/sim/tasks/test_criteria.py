# SPDX-License-Identifier: Apache-2.0
"""Criteria against a world that says what it is told to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from wam.sim.experts.goals import about_z, make_pose, rotation
from wam.sim.tasks.criteria import (
    Above,
    All,
    AtRest,
    Criterion,
    Folded,
    Free,
    Held,
    Inside,
    LimbWithin,
    Upright,
)


@dataclass
class Told:
    """A world view; poses by object, forces by pair."""

    poses: dict[str, np.ndarray] = field(default_factory=dict)
    forces: dict[frozenset[str], float] = field(default_factory=dict)
    speeds: dict[str, float] = field(default_factory=dict)
    limb: float = 0.0
    time: float = 0.0

    def object_pose(self, name: str) -> np.ndarray:
        return self.poses[name]

    def object_centre(self, name: str) -> np.ndarray:
        return self.poses[name][:3, 3]

    def object_speed(self, name: str) -> float:
        return self.speeds.get(name, 0.0)

    def limb_position(self, name: str, limb: str) -> float:
        return self.limb

    def link_pose(self, link: str) -> np.ndarray:
        return self.poses[link]

    def positions(self) -> np.ndarray:
        return np.zeros(0)

    def contact_forces(self) -> dict[frozenset[str], float]:
        return self.forces


def at(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    return make_pose(np.array([x, y, z]), about_z(yaw))


def press(*pairs: tuple[str, str]) -> dict[frozenset[str], float]:
    return {frozenset(pair): 1.0 for pair in pairs}


HELD = Held("cup", (("left",), ("right", "thumb")))


@pytest.mark.parametrize(
    ("pairs", "holds"),
    [
        ([("cup", "left"), ("right", "cup")], True),
        ([("cup", "left"), ("thumb", "cup")], True),
        ([("cup", "left")], False),
        ([("cup", "left"), ("cup", "right"), ("cup", "table")], False),
        ([], False),
    ],
)
def test_held_wants_every_finger_and_no_support(pairs: list[tuple[str, str]], holds: bool) -> None:
    assert HELD.holds(Told(forces=press(*pairs))) is holds


@pytest.mark.parametrize(
    ("criterion", "world", "holds"),
    [
        (Free("cup", ("left",)), Told(forces=press(("cup", "table"))), True),
        (Free("cup", ("left",)), Told(forces=press(("cup", "left"))), False),
        (AtRest(("cup",)), Told(speeds={"cup": 0.01}), True),
        (AtRest(("cup",)), Told(speeds={"cup": 0.5}), False),
        (Above("cup", "bowl", 0.05), Told({"cup": at(0.03, 0.03, 0.2), "bowl": at(0, 0, 0)}), True),
        (Above("cup", "bowl", 0.05), Told({"cup": at(0.04, 0.04, 0.2), "bowl": at(0, 0, 0)}), False),
        (Above("cup", "bowl", 0.05, high=0.1), Told({"cup": at(0, 0, 0.2), "bowl": at(0, 0, 0)}), False),
        (Above("cup", "bowl", 0.05, low=0.1), Told({"cup": at(0, 0, 0.05), "bowl": at(0, 0, 0)}), False),
        (LimbWithin("sheet", "leaf", lower=2.0), Told(limb=2.5), True),
        (LimbWithin("sheet", "leaf", lower=2.0), Told(limb=1.5), False),
        (Folded("sheet", ("a", "b"), 3.0), Told(limb=1.6), True),
        (Folded("sheet", ("a", "b"), 3.0), Told(limb=1.4), False),
        (Upright("cup"), Told({"cup": make_pose(np.zeros(3), rotation(0.1, 0, 1))}), True),
        (Upright("cup"), Told({"cup": make_pose(np.zeros(3), rotation(1.0, 0, 0))}), False),
        (All((AtRest(("cup",)), LimbWithin("a", "b", lower=1.0))), Told(limb=0.5), False),
    ],
)
def test_a_criterion_holds_as_it_says(criterion: Criterion, world: Told, holds: bool) -> None:
    assert criterion.holds(world) is holds


def test_inside_is_meant_in_the_frame_of_the_target() -> None:
    inside = Inside("block", "box", (-0.10, -0.02, 0.0), (0.10, 0.02, 0.1))
    along = {"block": at(0.08, 0.0, 0.05)}
    assert inside.holds(Told({**along, "box": at(0, 0, 0)}))
    assert not inside.holds(Told({**along, "box": at(0, 0, 0, math.pi / 2)}))
