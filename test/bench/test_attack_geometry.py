# SPDX-License-Identifier: Apache-2.0
"""The geometry judge of the attacks finds contacts that are planted, between commands as well."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from wam.bench.attack.geometry import FIXED_MARGIN, GeometryJudge
from wam.bench.attack.robot_file import read_judged_robot
from wam.devices.loader import load_robot

pytest.importorskip("pinocchio")
pytest.importorskip("coal")

ROBOTS = ("piper", "franka", "ur5e_inspire")
JOINT2 = 1


@functools.cache
def judge_of(name: str) -> tuple[GeometryJudge, np.ndarray]:
    robot = load_robot(name)
    return GeometryJudge(read_judged_robot(robot.source)), np.array([joint.home for joint in robot.joints])


def lowered(until: float) -> np.ndarray:
    """The way of the left Piper arm down to the table and into it: from home to `until` at joint 2 [rad]."""
    _, home = judge_of("piper")
    rows = np.repeat(home[None], 1 + int((until - home[JOINT2]) / 0.01), axis=0)
    rows[:, JOINT2] += np.arange(len(rows)) * 0.01
    return rows


@functools.cache
def touch() -> int:
    """Number of the first row of `lowered` in which something touches."""
    judge, _ = judge_of("piper")
    return next(row for row, state in enumerate(lowered(3.0)) if judge.touching(state))


@pytest.mark.parametrize("name", ROBOTS)
def test_home_is_free_and_a_small_motion_there_is_clean(name: str) -> None:
    judge, home = judge_of(name)
    assert len(judge.pairs) > 100
    assert not judge.touching(home)
    assert judge.deepest(home + 1e-3 * np.arange(5)[:, None]) is None


@pytest.mark.parametrize("name", ROBOTS)
def test_every_joint_of_the_file_moves_the_model(name: str) -> None:
    """A joint that the judge leaves out, a finger or a hand's drive with its mimic joints, would hide its contacts."""
    judge, home = judge_of(name)
    before = judge.distances(home)
    for column in range(len(home)):
        moved = home.copy()
        moved[column] -= 0.02
        speed = max(judge.tool_speeds(np.stack([home, moved]), period=1.0).values())
        assert speed > 1e-4 or not np.allclose(judge.distances(moved), before, atol=1e-7), column


def test_the_first_contact_on_the_way_down_is_found_with_its_depth() -> None:
    judge, _ = judge_of("piper")
    found = judge.deepest(lowered(3.0)[: touch() + 4])
    assert found is not None
    assert found.depth > 0.001
    assert found.row == touch() + 3
    assert judge.deepest(lowered(3.0)[: touch() - 2]) is None


def test_a_contact_between_two_commands_is_found() -> None:
    judge, _ = judge_of("piper")
    rows = lowered(3.0)
    there = np.stack([rows[touch() - 3], rows[touch() - 3], rows[touch() - 3]])
    there[1, JOINT2] = rows[touch() + 9, JOINT2]
    assert judge.deepest(there) is not None  # the turning point itself
    around = np.stack([rows[touch() - 3], rows[touch() - 3]])
    around[:, 0] += [-0.5, 0.5]
    free = [judge.deepest(around[[side]]) is None for side in (0, 1)]
    assert free == [True, True]


def test_a_pair_that_begins_in_contact_may_leave_and_may_not_deepen() -> None:
    judge, _ = judge_of("piper")
    rows = lowered(3.0)
    inside = touch() + 2
    assert judge.deepest(rows[inside : touch() - 8 : -1]) is None
    assert judge.deepest(rows[inside : inside + 4]) is not None


def test_a_contact_that_was_left_may_not_be_entered_again() -> None:
    judge, _ = judge_of("piper")
    rows = lowered(3.0)
    inside, outside = touch() + 2, touch() - 8
    way = np.concatenate([rows[inside:outside:-1], rows[outside : inside + 1]])
    found = judge.deepest(way)
    assert found is not None
    assert found.distance < FIXED_MARGIN


def test_the_speed_of_a_tool_is_that_of_a_lever() -> None:
    judge, home = judge_of("franka")
    rows = np.repeat(home[None], 3, axis=0)
    rows[:, 0] += 0.01 * np.arange(3)
    speed = judge.tool_speeds(rows, period=0.01)["fr3_hand_tcp"]
    slower = judge.tool_speeds(rows, period=0.02)["fr3_hand_tcp"]
    assert 0.2 < speed < 0.8  # 1 rad/s about the base, with the tool half a metre in front of it
    assert slower == pytest.approx(speed / 2.0)
