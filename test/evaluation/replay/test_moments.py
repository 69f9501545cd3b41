# SPDX-License-Identifier: Apache-2.0
"""When it was worst: holds with their cause, refused chunks, rows beyond limits, from replays with known faults."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.errors import PolicyFault
from wam.core.fakes import FakeExecutor
from wam.core.policy import RoutedContext
from wam.core.verdict import Finding, Ladder, Verdict
from wam.data.fakes import fake_robot, fake_trajectory, write_fake_bag
from wam.evaluation.metrics.gate import Gate, GateSource
from wam.evaluation.metrics.joints import JointNumbers
from wam.evaluation.metrics.limit_watch import LimitWatch
from wam.evaluation.metrics.unit_errors import unit_errors
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.safety_moments import SafetyMoments
from wam.evaluation.replay.session import ReplayOutcome, replay
from wam.runtime.policy import PolicyRequest, load_fake

MS = 1_000_000
ROBOT = fake_robot()
EPOCH_NS = 1_600_000_000 * 10**9
JUMP = Finding(Verdict.HOLD, "jump", "too far", "j1", 0.4, 0.3)
WORSE = Finding(Verdict.HOLD, "jump", "much too far", "j2", 0.9, 0.3)


class Oracle(FakeExecutor):
    """Knows the recorded action; its rows are off by `error` from chunk `since` on, and `broken` ends it."""

    error = 0.0
    since = 0
    broken = 10**6
    calls = 0

    def act(self, routed: RoutedContext[Any], *, proprio: Any) -> Any:
        """Return the recorded action from the routed image on."""
        self.calls += 1
        if self.calls > self.broken:
            raise PolicyFault("chunk holds a non-finite target for j1 in row 3")
        chunk = super().act(routed, proprio=proprio)
        first = round((chunk.stamp_ns - EPOCH_NS) * 30e-9)
        rows = fake_trajectory(first + 1 + len(chunk.rows), 3)[first + 1 :]
        return replace(chunk, rows=rows + (self.error if self.calls > self.since else 0.0))


def go(folder: Path, *, gate: GateSource = GateSource.DEFAULT, **changes: Any) -> ReplayOutcome:
    if not (folder / "bag").exists():
        write_fake_bag(folder / "bag", robot=ROBOT, seconds=3.0)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    oracle = Oracle(policy.contract)
    for name, value in changes.items():
        setattr(oracle, name, value)
    settings = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)
    options = ReplayOptions(bag=folder / "bag", policy_name="fake", settings=settings, gate=Gate(gate))
    return replay(options, robot=ROBOT, policy=replace(policy, executor=oracle), report=folder / "r")


def test_a_perfect_policy_on_a_robot_without_a_model_is_not_called_safe(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    summary = outcome.summary
    assert summary["answers"]["like"]["answer"] == "yes"
    assert summary["answers"]["safe"]["answer"] == "cannot be told"
    assert summary["answers"]["safe"]["reasons"][0]["text"] == "Collisions cannot be told: fake has no model"
    assert (summary["verdict"], summary["gate_source"]) == ("cannot be told", "default")
    assert outcome.passed
    assert summary["answers"]["safe"]["moments"] == []


def test_chunks_that_begin_away_from_the_arm_hold_it_and_the_worst_moments_say_when_and_why(
    tmp_path: Path,
) -> None:
    outcome = go(tmp_path, error=0.8, since=10)  # max_jump of the robot is 0.5 rad
    summary = outcome.summary
    assert summary["verdict"] == "fail"
    assert not outcome.passed
    safe = summary["answers"]["safe"]
    assert safe["answer"] == "no"
    held = next(one for one in safe["moments"] if one["kind"] == "hold")
    assert 1.0 < held["seconds"] < 1.6
    assert held["value"] == pytest.approx(3.0 - held["seconds"], abs=0.1)
    assert "(jump)" in held["text"]
    refused = next(one for one in safe["moments"] if one["kind"] == "refused")
    assert refused["value"] > 0.5
    assert refused["unit"] == "rad"
    errors = [one for one in summary["answers"]["like"]["moments"] if one["kind"] == "error"]
    assert errors
    assert all(one["value"] == pytest.approx(0.8, abs=1e-6) for one in errors)
    html = unescape(outcome.page.read_text())
    assert html.index("Would this have been safe?") < html.index("Worst moments") < html.index("<h2>Figures")
    assert f'href="#t={held["seconds"]:.2f}"' in html
    assert all(reason["text"] in html for reason in safe["reasons"])


def test_a_run_that_is_held_from_the_first_chunk_on_names_the_cause(tmp_path: Path) -> None:
    """The ladder begins in HOLD: no move into it says why, only the chunk that is refused."""
    safe = go(tmp_path, error=0.8).summary["answers"]["safe"]
    held = next(one for one in safe["moments"] if one["kind"] == "hold")
    assert "(jump)" in held["text"]
    assert held["value"] > 2.0


def test_a_policy_fault_is_not_safe_whatever_the_gate(tmp_path: Path) -> None:
    for source in (GateSource.DEFAULT, GateSource.NONE):
        outcome = go(tmp_path, gate=source, broken=12)
        assert outcome.summary["verdict"] == "fault"
        assert not outcome.passed
        safe, like = outcome.summary["answers"].values()
        assert "non-finite target for j1" in safe["reasons"][0]["text"]
        assert safe["moments"][0]["kind"] == "fault"
        assert like["answer"] == "no"
        assert "none for the rest" in like["reasons"][0]["text"]


def test_a_policy_that_fails_at_once_has_answers_too(tmp_path: Path) -> None:
    answers = go(tmp_path, broken=0).summary["answers"]
    assert answers["safe"]["answer"] == "no"
    assert answers["like"]["answer"] == "cannot be told"
    assert answers["like"]["reasons"][0]["text"].startswith("Nothing was recorded")


def test_without_a_gate_nothing_is_judged_and_the_answers_stand(tmp_path: Path) -> None:
    outcome = go(tmp_path, gate=GateSource.NONE, error=0.8)
    assert (outcome.summary["verdict"], outcome.summary["gate_source"]) == ("not judged", "none")
    assert outcome.passed
    assert outcome.summary["gate"] == []
    assert outcome.summary["answers"]["safe"]["answer"] == "no"


def test_a_hold_has_the_cause_that_led_to_it_and_ends_with_the_next_move() -> None:
    moments = SafetyMoments()
    moments.move(50, Ladder.NOMINAL, JUMP)  # before the first judged chunk
    moments.begin(100)
    moments.move(300, Ladder.HOLD, JUMP)
    moments.refuse(310, WORSE)
    moments.move(500, Ladder.NOMINAL, JUMP)
    moments.move(800, Ladder.STOP, WORSE)
    assert [(one.rung, one.start_ns, one.end_ns, one.finding) for one in moments.stretches(1000)] == [
        (Ladder.HOLD, 300, 500, JUMP),
        (Ladder.STOP, 800, 1000, WORSE),
    ]


def test_the_worst_chunk_of_a_finding_is_kept_and_all_are_counted() -> None:
    moments = SafetyMoments()
    for time_ns, finding in ((1, JUMP), (2, WORSE), (3, JUMP)):
        moments.refuse(time_ns, finding)
    worst = moments.refused["jump"]
    assert (worst.count, worst.time_ns, worst.finding) == (3, 2, WORSE)


def chunk(rows: list[list[float]]) -> ActionChunk:
    return ActionChunk(
        stamp_ns=1000,
        generation=1,
        sequence=1,
        contract_hash="f" * 64,
        context_version=1,
        context_age_ns=0,
        phase_offset_rows=0,
        row_period_ns=100 * MS,
        joint_names=("a", "b"),
        rows=np.array(rows),
    )


def test_the_row_furthest_beyond_a_limit_counts_by_the_joints_range() -> None:
    watch = LimitWatch(np.array([-1.0, 0.0]), np.array([1.0, 0.1]), np.array([5.0, 5.0]))
    watch.take(chunk([[0.0, 0.05], [1.1, 0.05], [0.9, 0.12]]))
    furthest = watch.furthest
    assert furthest is not None
    assert (watch.rows, watch.rows_beyond, furthest.column) == (3, 2, 1)
    assert furthest.time_ns == 1000 + 200 * MS
    assert watch.furthest_share == pytest.approx(0.2)  # 0.02 m of 0.1 m, before 0.1 rad of 2 rad
    assert watch.fastest is not None
    assert (watch.steps_too_fast, watch.fastest.column, watch.fastest.share) == (1, 0, pytest.approx(2.2))


def test_radians_and_metres_of_one_group_are_not_added_up() -> None:
    """The terminal printed one `action_l1` over radians, metres and shares of a range."""
    numbers = {
        name: JointNumbers(0.0, l1, 0.0, 0.1, l1, 0.0, 0.0, 0.0, 0.0)
        for name, l1 in zip(ROBOT.joint_names, (0.3, 0.1, 0.01), strict=True)
    }
    units = dict(zip(ROBOT.joint_names, ("rad", "rad", "m"), strict=True))
    errors = unit_errors(ROBOT, numbers, units)
    assert [(one.unit, one.joints, one.l1) for one in errors] == [
        ("rad", 2, pytest.approx(0.2)),
        ("m", 1, pytest.approx(0.01)),
    ]
