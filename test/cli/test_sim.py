# SPDX-License-Identifier: Apache-2.0
"""`wam sim`: tasks are listed, experts are measured, and what there is not is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wam.cli.main import EXIT_COULD_NOT_RUN, EXIT_OK, run
from wam.sim.tasks.registry import TASKS

pytestmark = pytest.mark.sim


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
            "there is no task for this robot: got 'g1_inspire'; allowed: franka",
        ),
        (["tasks", "--robot", "g1_inspire"], "there is no task for this robot: got 'g1_inspire'"),
    ],
)
def test_what_there_is_not_is_refused_by_name(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", *words]) == EXIT_COULD_NOT_RUN
    assert said in capsys.readouterr().err
