# SPDX-License-Identifier: Apache-2.0
"""The report of closed-loop episodes: figures from known episodes, gate, files, a page that needs nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.closed_loop.page import build_evaluation_report
from wam.evaluation.closed_loop.scores import EpisodeRecord, EpisodeTimes, Evaluation
from wam.evaluation.closed_loop.table import compute_evaluation
from wam.evaluation.metrics.gate import Threshold
from wam.evaluation.records import SafetyRecord
from wam.report.statistics import wilson


def event(at: float, before: Ladder, after: Ladder, code: str) -> SafetyRecord:
    return SafetyRecord(round(at * NS_PER_S), before, after, Verdict.OK, code, f"{code} happened")


START = event(0.2, Ladder.HOLD, Ladder.NOMINAL, "recovered")
GOOD = EpisodeRecord(
    seed=0,
    variant="blue cube",
    instruction="Pick up the <blue> cube",
    success=True,
    score=3,
    stages=(("grasped", 2.0), ("carried", 3.0), ("placed", 6.0)),
    time=6.0,
    max_contact_force=20.0,
    times=EpisodeTimes(np.array([10.0, 20.0]), np.array([100.0]), np.array([50.0, 60.0])),
    safety=(START, event(1.0, Ladder.NOMINAL, Ladder.LATE, "chunk_late")),
)
FAILED = replace(
    GOOD,
    seed=1,
    success=False,
    score=1,
    stages=(("grasped", 4.0),),
    time=30.0,
    max_contact_force=40.0,
    safety=(START, event(5.0, Ladder.NOMINAL, Ladder.HOLD, "jump")),
)
RUN = Evaluation(
    task="franka_box_to_bowl",
    title="brown box to golden bowl",
    stage_names=("grasped", "carried", "placed"),
    setting="seen",
    robot="franka",
    policy="bundle",
    contract_hash="ab" * 32,
    mode="fast",
    episodes=(GOOD, FAILED),
    videos={"worst: seed 1": b"mp4"},
    wall=18.0,
    backends={"evaluate_joint": "cuda_graph"},
)


def test_figures_of_known_episodes() -> None:
    metrics = compute_evaluation(RUN).scores.metrics
    interval = wilson(1, 2)
    assert (metrics["success_rate"], metrics["success_low"]) == (0.5, interval.low)
    assert metrics["mean_score"] == 2.0
    assert metrics["mean_time_to_success_s"] == 6.0
    assert (metrics["mean_contact_force_n"], metrics["max_contact_force_n"]) == (30.0, 40.0)
    # That the robot holds until it is first asked for something is no event.
    assert metrics["safety_events"] == 2.0
    assert (metrics["safety_hold_episodes"], metrics["safety_stop_episodes"]) == (1.0, 0.0)
    times = compute_evaluation(RUN).times.metrics
    assert (times["chunk_p50_ms"], times["prefill_p99_ms"], times["realtime_factor"]) == (15.0, 100.0, 2.0)


def test_what_there_is_not_is_none_and_not_nan() -> None:
    figures = compute_evaluation(replace(RUN, episodes=(FAILED,)))
    assert figures.scores.metrics["mean_time_to_success_s"] is None
    figures = compute_evaluation(replace(RUN, episodes=(replace(FAILED, times=EpisodeTimes()),)))
    assert figures.times.metrics["chunk_p50_ms"] is None


@pytest.mark.parametrize(
    ("gate", "error", "said"),
    [
        ((), "", "done"),
        ((Threshold("success_rate", 0.4, None),), "", "pass"),
        ((Threshold("success_rate", 0.9, None),), "", "fail"),
        ((Threshold("success_rate", 0.4, None),), "the world diverged", "fault"),
    ],
)
def test_the_verdict_is_the_worst_of_all(gate: tuple[Threshold, ...], error: str, said: str) -> None:
    run = replace(RUN, episodes=(GOOD, replace(FAILED, error=error)))
    assert compute_evaluation(run, gate).verdict == said


def test_summary_and_page_name_what_ran_each_stage(tmp_path: Path) -> None:
    page = build_evaluation_report(RUN, compute_evaluation(RUN), tmp_path / "report").read_text()
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert told["backends"] == {"evaluate_joint": "cuda_graph"}
    assert "stage evaluate_joint" in page


def test_a_report_holds_everything_in_one_page_and_in_three_files(tmp_path: Path) -> None:
    figures = compute_evaluation(RUN, (Threshold("success_rate", 0.9, None),))
    page = build_evaluation_report(RUN, figures, tmp_path / "out").read_text(encoding="utf-8")
    assert "1 of 2 episodes succeeded; the gate failed" in page
    assert "data:video/mp4;base64,bXA0" in page
    assert "&lt;blue&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["schema"] == "wam/eval-report/1"
    assert summary["verdict"] == "fail"
    assert summary["gate"] == [
        {"metric": "success_rate", "allowed": "at least 0.9", "value": 0.5, "passed": False}
    ]
    assert [one["seed"] for one in summary["episodes"]] == [0, 1]
    assert summary["episodes"][1]["worst_rung"] == "HOLD"
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    first = [(one["event"], one["time_s"]) for one in events if one["seed"] == 0]
    assert first == [
        ("start", 0.0),
        ("safety", 0.2),
        ("safety", 1.0),
        ("stage", 2.0),
        ("stage", 3.0),
        ("stage", 6.0),
        ("end", 6.0),
    ]
    build_evaluation_report(RUN, compute_evaluation(RUN), tmp_path / "out")  # an earlier report is replaced
