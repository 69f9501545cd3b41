# SPDX-License-Identifier: Apache-2.0
"""The attacks do what they say: an arm without a check goes beyond the wall, and a case follows from its number."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.bench.attack import campaign, contacts, streams, walls
from wam.bench.attack.arm import DrivenArm, Target
from wam.bench.attack.campaign import AttackCount, Fault
from wam.bench.attack.streams import Sensing, StartPose
from wam.core.chunk.splice import Strategy
from wam.core.clock import NS_PER_MS
from wam.core.errors import ConfigError
from wam.core.verdict import Ladder


@functools.cache
def target(name: str = "piper") -> Target:
    return Target(name)


def wall_case(number: int) -> walls.WallCase:
    return walls.wall_case(target(), np.random.default_rng(number))


def test_a_free_run_goes_where_a_wall_is_then_placed() -> None:
    """If the free run did not reach the wall, no overrun could ever be seen."""
    travels = [walls.run_wall(target(), wall_case(number)).travel for number in range(12)]
    assert sum(travel > walls.LEAST_TRAVEL for travel in travels) > 6


def test_a_wall_changes_where_the_arm_ends() -> None:
    case = replace(
        wall_case(0), slept=0, strategy=Strategy.LATEST, profile=walls.Profile.CONSTANT, ats=(10, 20)
    )
    case = replace(case, phases_ns=(0, 0), speed=0.5, delay_ns=60 * NS_PER_MS)
    free = walls.run_wall(target(), case)
    sign = float(walls.direction(target())[case.joint])
    limit = float(target().home[case.joint]) + sign * 0.3 * free.travel
    stopped = walls.run_wall(target(), case, wall=walls.HalfSpace(case.joint, limit, sign))
    assert stopped.travel < 0.9 * free.travel
    assert stopped.overrun < 0.0


def test_the_half_space_reports_what_is_in_it_and_lets_out_what_began_in_it() -> None:
    rows = np.zeros((4, 14))
    rows[:, 2] = [0.0, -0.1, -0.3, 0.0]
    wall = walls.HalfSpace(2, -0.2, -1.0)
    found = wall.check_path(rows)
    assert found is not None
    assert found.index == 2
    assert found.distance == pytest.approx(-0.1)
    assert wall.check_path(rows[2:]) is None
    assert wall.check(rows[:2]) is None


def test_walls_lie_around_the_end_of_the_free_run_and_never_at_its_start() -> None:
    rng = np.random.default_rng(0)
    for travel in (0.02, 0.05, 1.0):
        places = walls.offsets_for(travel, rng)
        assert len(places) == len(walls.OFFSETS)
        assert all(travel + one > 0.0 for one in places)


def test_the_ideal_arm_goes_to_the_last_row_of_a_lone_chunk() -> None:
    case = replace(
        wall_case(1), profile=walls.Profile.CONSTANT, ats=(10,), phases_ns=(0,), speed=0.3, joint=0
    )
    there = 0.3 * (walls.ROWS - 1) * walls.PERIOD_NS * 1e-9
    assert walls.ideal_travel(target(), case) == pytest.approx(there)


def test_what_drivers_report_lags_the_commands_and_a_lost_driver_reports_nothing() -> None:
    arm = DrivenArm(target(), lag=4)
    rows = np.linspace(target().home, target().home + 0.1 * target().arm, 16)
    for tick in range(60):
        arm.step(arm.chunk(rows, delay_ns=50 * NS_PER_MS, period_ns=33_333_333) if tick == 10 else None)
    np.testing.assert_array_equal(arm.reported, arm.commands[-1 - 5])
    for _ in range(30):
        arm.step(states=False)
    assert arm.rungs[-1] is Ladder.HOLD


def test_the_first_draw_of_a_free_run_counts_for_travel_however_far_it_gets() -> None:
    """Draws that travelled too little were drawn again before they counted: what one layer kept, another threw away."""
    for number in range(50):
        case = walls.wall_case(target(), np.random.default_rng([15, 0, number]))
        first = walls.run_wall(target(), case)
        if first.travel < walls.LEAST_TRAVEL:
            break
    count = campaign.attack_walls(target(), 15, number, 0)
    assert first.travel < walls.LEAST_TRAVEL
    assert (count.travel, count.ideal) == (first.travel, walls.ideal_travel(target(), case))


def test_two_sleeps_in_a_row_are_one_long_one() -> None:
    """The controller of the bench played its trajectory from the beginning again: 233 times the acceleration limit."""
    rows = np.linspace(target("franka").home, target("franka").home + 0.1 * target("franka").arm, 16)

    def asleep(*naps: int) -> DrivenArm:
        arm = DrivenArm(target("franka"))
        for tick in range(30):
            arm.step(arm.chunk(rows, delay_ns=50 * NS_PER_MS, period_ns=33_333_333) if tick == 10 else None)
        for nap in naps:
            arm.sleep(nap)
        for _ in range(30):
            arm.step()
        return arm

    twice = asleep(8, 10)
    np.testing.assert_array_equal(twice.commands, asleep(18).commands)
    assert twice.judge.violations == []


def test_a_step_that_raises_stops_the_arm_and_is_counted() -> None:
    """A cycle that failed in the bench would end the campaign, and the node goes on after it with STOP."""
    arm = DrivenArm(target())
    for _ in range(5):
        arm.step()

    def broken(_now_ns: int, _emit: object = None) -> None:
        raise RuntimeError("planted")

    step, arm.cycle.step = arm.cycle.step, broken  # type: ignore[method-assign, assignment]
    arm.step()
    arm.cycle.step = step  # type: ignore[method-assign]
    arm.step()
    assert arm.failures == ["RuntimeError: planted"]
    assert arm.rungs[-1] is Ladder.STOP


def test_a_stream_case_follows_from_its_number_and_runs_the_same_twice() -> None:
    one, two = (streams.stream_case(target(), np.random.default_rng([3, 2, 17])) for _ in range(2))
    assert one == two
    assert streams.run_stream(target(), one) == streams.run_stream(target(), two)


def test_a_stream_that_begins_in_a_wall_overruns_it_only_by_going_further_in() -> None:
    """A stream was seeded where a wrong measurement put the arm, in the wall: no motion brought it there."""
    assert streams.farthest(np.array([-0.1, 0.2, 0.1]), [0]) == pytest.approx(0.2)
    assert streams.farthest(np.array([-0.1, 0.2, 0.1]), [0, 1]) == 0.0
    assert streams.farthest(np.array([-0.1, 0.2, 0.25]), [0, 1]) == pytest.approx(0.05)
    assert streams.farthest(np.zeros(0), []) == 0.0


@pytest.mark.parametrize("start", list(StartPose))
def test_start_poses_lie_where_their_names_say(start: StartPose) -> None:
    judged = target().judged
    pose = streams.start_pose(target(), start, np.random.default_rng(5))
    outside = np.maximum(judged.lower - pose, pose - judged.upper) / (judged.upper - judged.lower)
    most = {StartPose.OUTSIDE: (1e-6, 0.05), StartPose.FAR_OUTSIDE: (0.29, 0.31)}.get(start, (-1.0, 1e-12))
    assert most[0] <= outside.max() <= most[1]


@pytest.mark.parametrize("sensing", list(Sensing))
def test_every_way_of_sensing_is_true_at_first(sensing: Sensing) -> None:
    case = replace(
        streams.stream_case(target(), np.random.default_rng(0)), sensing=sensing, sense_from=30, troubles=()
    )
    case = replace(case, start=StartPose.HOME, chunks=case.chunks[:1], wall=None)
    run = streams.run_stream(target(), case)
    assert run.commands > 40


def test_a_contact_case_begins_free_and_aims_at_a_collision() -> None:
    pytest.importorskip("pinocchio")
    geometry = contacts.geometry_of(target())
    cases = [contacts.contact_case(target(), np.random.default_rng(number)) for number in range(6)]
    assert not any(geometry.touching(np.array(case.start)) for case in cases)
    assert sum(geometry.touching(np.array(case.goal)) for case in cases) > 3


def test_counts_of_batches_add_up_and_keep_the_worst_cases() -> None:
    parts = [
        AttackCount(
            wall_runs=2, worst_overrun=0.1 * number, faults=(Fault("overrun", 0.1 * number, str(number)),)
        )
        for number in range(8)
    ]
    total = sum(parts, AttackCount())
    assert (total.wall_runs, total.worst_overrun) == (16, pytest.approx(0.7))
    assert [one.text for one in total.faults] == ["7", "6", "5", "4", "3"]


def test_the_summary_has_every_figure_and_fails_on_any_fault() -> None:
    clean = AttackCount(wall_runs=9, streams=80, geometry_runs=9, travel=1.0, ideal=1.0)
    result = campaign.summary(clean, robot="piper")
    assert result.ok
    for bad in (
        AttackCount(overruns=1),
        AttackCount(stream_overruns=1),
        AttackCount(violations=1),
        AttackCount(contacts=1),
        AttackCount(failures=1),
        AttackCount(ideal=10.0),
    ):
        assert not campaign.summary(clean + bad, robot="piper").ok
    named = "wall_runs overruns worst_mrad streams limit_violations geometry_runs contacts worst_depth_mm travel_share"
    assert {f"attack_{one}" for one in named.split()} <= set(result.results)


def test_a_campaign_counts_its_cases_whatever_the_number_of_jobs() -> None:
    pytest.importorskip("pinocchio")
    told: list[str] = []
    result = campaign.run(told.append, robot="franka", cases=2, seed=4, jobs=1).results
    assert result["attack_wall_runs"] == 2
    assert result["attack_geometry_runs"] == 2
    assert result["attack_streams"] >= 2 + 1 + 2 + 2 * campaign.STREAMS
    assert told


def test_the_number_of_runs_of_each_kind_can_be_asked_for() -> None:
    mix = campaign.counts_of(target(), cases=20, walls=None, streams=None, geometry=None)
    assert mix == {"walls": 20, "geometry": 20, "streams": 20 * campaign.STREAMS}
    usual = campaign.counts_of(target(), cases=None, walls=None, streams=None, geometry=None)
    assert usual["walls"] == campaign.CASES
    asked = campaign.counts_of(target(), cases=None, walls=30, streams=100, geometry=None)
    assert asked == {"walls": 30, "geometry": 0, "streams": 100}
    batches = campaign.batches_of(asked)
    assert {kind: sum(one.runs for one in batches if one.kind == kind) for kind in asked} == asked
    assert len({str(one) for one in batches}) == len(batches)


def test_a_campaign_that_is_taken_up_again_finds_the_same_as_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of floats depend on their order, and batches are finished in any order."""
    monkeypatch.setattr(campaign, "BATCHES", {"walls": 9, "geometry": 1, "streams": 1})
    counts: dict[str, Any] = {"robot": "franka", "walls": 1, "streams": 3, "seed": 4, "jobs": 2}
    whole = campaign.run(print, **counts)
    file = tmp_path / "campaign.jsonl"

    class Interrupted(Exception):
        pass

    def interrupt(_text: str) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        campaign.run(interrupt, **counts, resume=file)
    finished = len(file.read_text(encoding="utf-8").splitlines())
    assert 0 < finished < 4
    told: list[str] = []
    again = campaign.run(told.append, **counts, resume=file)
    assert (again.results, again.notes) == (whole.results, whole.notes)
    assert len(told) == 4 - finished
    assert campaign.run(told.append, **counts, resume=file).results == whole.results
    assert len(told) == 4 - finished, "nothing is run again"
    with pytest.raises(ConfigError, match=r"another campaign \(seed\)"):
        campaign.run(print, **{**counts, "seed": 5}, resume=file)


def test_an_unknown_robot_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="no such robot"):
        campaign.run(print, robot="nobody", cases=1)
