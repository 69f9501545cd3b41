# SPDX-License-Identifier: Apache-2.0
"""The judge of the attacks finds what is planted, and finds nothing in a clean stream."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from wam.bench.attack.judge import StreamJudge
from wam.bench.attack.robot_file import JudgedRobot, read_judged_robot
from wam.devices.loader import load_robot

ROBOTS = ("piper", "franka", "ur5e_inspire", "g1_arms")
PERIOD = 0.01
ROBOT = load_robot("piper")
JUDGED = read_judged_robot(ROBOT.source)
HOME = np.array([joint.home for joint in ROBOT.joints])
JOINT = 3
Vector = npt.NDArray[np.float64]


def trapezoid(peak: float, *, ticks: int = 200) -> Vector:
    """Positions of one joint, float64 [ticks]: from rest to `peak` of its velocity limit and back, jerk-limited."""
    rise = 0.5 - 0.5 * np.cos(np.linspace(0.0, 2.0 * np.pi, ticks))
    return np.cumsum(rise * peak * JUDGED.velocity[JOINT] * PERIOD)


def stream(values: Vector) -> list[Vector]:
    rows = []
    for value in values:
        row = HOME.copy()
        row[JOINT] += value
        rows.append(row)
    return rows


def judge(rows: list[Vector], *, stopped_from: int = 10**6, robot: JudgedRobot = JUDGED) -> StreamJudge:
    judged = StreamJudge(robot, period=PERIOD)
    for tick, row in enumerate(rows):
        judged.command(row, measured=rows[0], stopped=tick >= stopped_from)
    return judged


def kinds(judged: StreamJudge) -> set[str]:
    return {one.kind for one in judged.violations}


@pytest.mark.parametrize("name", ROBOTS)
def test_the_judge_reads_the_limits_that_the_loader_reads(name: str) -> None:
    robot = load_robot(name)
    judged, limits = read_judged_robot(robot.source), robot.limits()
    assert judged.names == robot.joint_names
    for one in ("lower", "upper", "velocity", "acceleration", "jerk"):
        np.testing.assert_allclose(getattr(judged, one), getattr(limits, one), rtol=1e-12)
    if limits.velocity_envelope is not None:
        for row, one in zip(judged.envelope, fields(limits.velocity_envelope), strict=True):
            np.testing.assert_array_equal(row, getattr(limits.velocity_envelope, one.name))


def test_a_smooth_motion_and_a_rest_are_clean() -> None:
    rows = stream(np.concatenate([trapezoid(0.9), np.full(50, trapezoid(0.9)[-1])]))
    judged = judge(rows)
    assert judged.violations == []
    assert 0.8 < judged.worst_share <= 1.0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("velocity", trapezoid(1.02, ticks=400)),
        ("acceleration", trapezoid(0.9, ticks=80)),
        ("jerk", np.concatenate([trapezoid(0.9)[:100], trapezoid(0.9)[100:] + 6e-5])),
        ("position", trapezoid(0.9, ticks=400)),
        ("not_finite", np.array([0.0, 0.0, np.nan, 0.0])),
    ],
)
def test_a_planted_violation_is_found(kind: str, values: Vector) -> None:
    assert kind in kinds(judge(stream(values)))


def test_a_step_of_one_tick_counts_in_the_tick_in_which_it_happens() -> None:
    rows = [*stream(np.zeros(5)), *stream(np.full(5, 0.1))]
    first = judge(rows).violations[0]
    assert (first.kind, first.tick, first.joint) == ("velocity", 5, JUDGED.names[JOINT])


def test_the_velocity_limit_near_the_end_of_a_range_depends_on_the_position() -> None:
    robot = load_robot("franka")
    judged = read_judged_robot(robot.source)
    end = 0.7 * judged.velocity[0] * 0.5 * 0.5
    home = np.array([joint.home for joint in robot.joints])
    home[0] = judged.upper[0] - end
    rise = 0.5 - 0.5 * np.cos(np.linspace(0.0, 2.0 * np.pi, 100))
    rows = []
    for value in np.cumsum(rise * 0.7 * judged.velocity[0] * PERIOD):
        rows.append(home.copy())
        rows[-1][0] += min(value, end)
    found = judge(rows, robot=judged)
    assert "envelope" in kinds(found)


def test_a_joint_outside_its_range_may_come_back_and_not_go_further() -> None:
    outside = HOME.copy()
    outside[JOINT] = JUDGED.upper[JOINT] + 0.02
    inwards, outwards = [], []
    for value in trapezoid(0.3):
        inwards.append(outside.copy())
        inwards[-1][JOINT] -= value
        outwards.append(outside.copy())
        outwards[-1][JOINT] += value
    assert judge(inwards).violations == []
    assert "position" in kinds(judge(outwards))
    assert "position" in kinds(judge([*inwards, *reversed(inwards[20:])]))


def test_after_a_silence_a_stream_goes_on_where_it_was_with_its_motion_or_from_rest() -> None:
    rows = stream(trapezoid(0.9))
    for later in (rows[100:], [rows[99]] * 10):
        judged = StreamJudge(JUDGED, period=PERIOD)
        for row in rows[:100]:
            judged.command(row, measured=rows[0], stopped=False)
        judged.silence()
        for row in later:
            judged.command(row, measured=rows[0], stopped=False)
        assert judged.violations == []


@pytest.mark.parametrize("away", [False, True])
def test_only_a_driver_that_was_away_lets_a_stream_begin_where_the_arm_is_measured(away: bool) -> None:
    """A stream that was silent began anew at the measured position: 0.44 rad in one tick."""
    moved = HOME + 0.1
    judged = StreamJudge(JUDGED, period=PERIOD)
    for row in stream(np.zeros(5)):
        judged.command(row, measured=HOME, stopped=False)
    judged.silence()
    if away:
        judged.away()
    for _ in range(5):
        judged.command(moved, measured=moved, stopped=False)
    assert kinds(judged) == (set() if away else {"restart"})


def test_a_driver_that_was_away_in_motion_lets_the_stream_begin_at_rest_where_it_ended() -> None:
    """The judge took the motion of before as the only one to go on from, and found an acceleration that was none."""
    rows = stream(trapezoid(0.9))[:100]
    judged = StreamJudge(JUDGED, period=PERIOD)
    for row in rows:
        judged.command(row, measured=row, stopped=False)
    judged.away()
    judged.silence()
    for _ in range(5):
        judged.command(rows[-1], measured=rows[-1], stopped=False)
    assert judged.violations == []


def test_a_stream_that_begins_anew_a_little_nearer_to_its_end_did_not_move_there() -> None:
    """14 µrad at the end of a range counted as a motion towards it, where no speed is allowed."""
    robot = load_robot("franka")
    judged = StreamJudge(read_judged_robot(robot.source), period=PERIOD)
    end = np.array([joint.home for joint in robot.joints])
    end[3] = robot.joints[3].upper
    before = end.copy()
    before[3] -= 1.4e-5
    for _ in range(5):
        judged.command(before, measured=end, stopped=False)
    judged.away()
    judged.silence()
    for _ in range(5):
        judged.command(end, measured=end, stopped=False)
    assert judged.violations == []


def test_a_stream_that_begins_away_from_the_arm_is_found() -> None:
    judged = StreamJudge(JUDGED, period=PERIOD)
    judged.command(HOME, measured=HOME + 0.05, stopped=False)
    assert kinds(judged) == {"start"}


def test_coming_to_rest_under_stop_is_right_and_moving_on_is_not() -> None:
    values = trapezoid(0.6, ticks=140)
    still = np.full(150, values[-1])
    assert judge(stream(np.concatenate([values, still])), stopped_from=40).violations == []
    again = np.concatenate([values, still[:50], values[-1] - trapezoid(0.3), still - trapezoid(0.3)[-1]])
    assert kinds(judge(stream(again), stopped_from=40)) == {"moves_under_stop"}


def test_a_stop_that_never_rests_is_found() -> None:
    faster = trapezoid(0.05)[:100]
    on = faster[-1] + 0.05 * JUDGED.velocity[JOINT] * PERIOD * np.arange(1, 200)
    assert kinds(judge(stream(np.concatenate([faster, on])), stopped_from=100)) == {"late_rest"}


def test_the_planted_motions_are_continuous() -> None:
    """Otherwise a test above would find a step instead of what it plants."""
    values = trapezoid(1.02, ticks=400)
    assert max(abs(b - a) for a, b in pairwise(values)) < 0.02


@pytest.mark.parametrize("seed", range(6))
def test_many_commands_at_once_are_judged_as_one_after_another(seed: int) -> None:
    """In streams that break every rule: silences, drivers away, steps, values that are not finite, STOP."""
    rng = np.random.default_rng(seed)
    at_once, one_by_one = StreamJudge(JUDGED, period=PERIOD), StreamJudge(JUDGED, period=PERIOD)
    position = HOME.copy()
    for tick in range(240):
        position = position + JUDGED.velocity * PERIOD * np.sin(0.04 * tick) * (tick < 180) * (seed % 3)
        if rng.random() < 0.02:
            position = position + rng.normal(0.0, 0.01, len(HOME))
        sent = np.where(np.arange(len(HOME)) == JOINT, np.nan, position) if rng.random() < 0.01 else position
        silent, away, stopped = rng.random() < 0.03, rng.random() < 0.01, bool(seed % 2) and tick > 100
        for judged in (at_once, one_by_one):
            if silent:
                judged.silence()
            if away:
                judged.away()
            judged.command(sent, measured=position, stopped=stopped)
        assert one_by_one.ticks <= tick + 1
    assert at_once.violations == one_by_one.violations
    assert at_once.violations
    assert (at_once.worst_share, at_once.begins) == (one_by_one.worst_share, one_by_one.begins)
