# SPDX-License-Identifier: Apache-2.0
"""`wam sim`: tasks are listed, experts are measured, and what there is not is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from wam.cli.main import EXIT_COULD_NOT_RUN, EXIT_OK, run
from wam.evaluation.closed_loop.experts import as_markdown, rates
from wam.sim.rollout import EpisodeResult, Traces
from wam.sim.tasks.registry import TASKS
from wam.sim.tasks.task import Setting

pytestmark = pytest.mark.sim

NOTHING = Traces(np.zeros(0), np.zeros((0, 8)), np.zeros((0, 8)))


def result(seed: int, *, success: bool, setting: Setting = Setting.SEEN) -> EpisodeResult:
    return EpisodeResult(
        task="franka_box_to_bowl",
        setting=setting,
        seed=seed,
        variant="sponge",
        instruction="Pick up the sponge",
        success=success,
        progress=3 if success else 1,
        reached=(),
        time=8.0 + seed,
        max_contact_force=10.0 + seed,
        error="",
        traces=NOTHING,
    )


def test_tasks_are_listed_with_all_that_a_caller_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "tasks", "--json"]) == EXIT_OK
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(TASKS)
    assert listed["franka_box_to_bowl"]["stages"] == ["grasped", "carried", "placed"]
    assert "distractors" in listed["franka_box_to_bowl"]["settings"]
    assert run(["sim", "tasks", "--robot", "franka"]) == EXIT_OK
    assert "franka_plate_to_basket" in capsys.readouterr().out


@pytest.mark.slow
def test_an_expert_is_measured_and_its_page_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "experts.md"
    words = ["sim", "experts", "--task", "franka_box_to_bowl", "--seeds", "1", "--processes", "1", "--json"]
    assert run([*words, "--table", str(page)]) == EXIT_OK
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["task"], row["episodes"], row["successes"]) == ("franka_box_to_bowl", 1, 1)
    assert "| `franka_box_to_bowl` |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experts", "--task", "fly"], "no task of this name: got 'fly'; allowed: franka_box_to_bowl, "),
        (["experts", "--setting", "dark"], "no such setting: got 'dark'; allowed: seen, unseen_texture"),
        (
            ["experts", "--robot", "g1_inspire"],
            "no task is for this robot: got 'g1_inspire'; allowed: franka",
        ),
        (["tasks", "--robot", "g1_inspire"], "no task is for this robot: got 'g1_inspire'"),
    ],
)
def test_what_there_is_not_is_refused_by_name(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", *words]) == EXIT_COULD_NOT_RUN
    assert said in capsys.readouterr().err


def test_rates_are_of_each_task_and_setting() -> None:
    episodes = [result(seed, success=seed != 2) for seed in range(4)]
    episodes += [result(0, success=False, setting=Setting.DISTRACTORS)]
    seen, crowded = rates(episodes)
    assert (seen.successes, seen.episodes, seen.failed_seeds) == (3, 4, (2,))
    assert seen.rate.low == pytest.approx(0.3006, abs=1e-4)
    assert seen.mean_time == pytest.approx((8 + 9 + 11) / 3)
    assert seen.mean_score == 2.5
    assert seen.max_force == 13.0
    assert (crowded.setting, crowded.successes) == ("distractors", 0)
    assert math.isnan(crowded.mean_time)
    assert crowded.as_json()["mean_time_s"] is None
    page = as_markdown([seen, crowded])
    assert "| seen | 3/4 | 0.30 .. 0.95 | 2.50 | 9.3 s | 13 N |" in page
    assert "| distractors | 0/1 |" in page
