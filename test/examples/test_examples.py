# SPDX-License-Identifier: Apache-2.0
"""The scripts of examples/ run from top to bottom, with small numbers. The notebook has its test in test/api."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.safety.filters import ChainStage
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Verdict
from wam.devices.loader import load_robot
from wam.runtime.safety.filters import ChainOptions, FilterInputs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILTER = EXAMPLES / "safety_filter"


@pytest.fixture
def example_filter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FILTER)
    import example_filter

    yield example_filter
    sys.modules.pop("example_filter", None)


def test_the_page_of_the_examples_names_every_one() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    here = {path.name for path in EXAMPLES.iterdir() if path.name[0] not in "._"} - {"README.md"}
    assert not {name for name in here if f"]({name})" not in page}


def test_a_replay_shows_what_the_filter_of_another_package_refuses(
    tmp_path: Path, example_filter: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(FILTER / "run.py"))["main"]
    found = main(["--out", str(tmp_path)])
    assert "travel_margin" not in found["without"]["findings"]
    refused = found["with"]["findings"]["travel_margin"]
    assert refused["chunks"] > 0
    assert "joint2 would reach" in refused["example"]
    assert "HOLD: travel_margin" in found["with"]["ladder"]
    assert "travel_margin: " in capsys.readouterr().out


def test_the_filter_lets_a_joint_leave_the_end_of_its_travel_and_not_enter_it(example_filter: Any) -> None:
    robot = load_robot(str(FILTER / "robot.yaml"), moves=False)
    made = example_filter.make_margin(FilterInputs(robot, ChainOptions()))
    assert made.stages == {ChainStage.TRAJECTORY}

    def judged(first: float, last: float) -> Any:
        rows = np.zeros((5, 3))
        rows[:, 1] = np.linspace(first, last, 5)
        motion = Motion(start_ns=0, period_ns=10_000_000, rows=rows, settled=1)
        return made.apply(motion, measured=rows[0].copy())

    assert judged(0.0, 0.4).finding is None
    assert judged(0.7, 0.4).finding is None
    entering = judged(0.0, 0.6)
    assert (entering.finding.verdict, entering.finding.joint) == (Verdict.HOLD, "joint2")
    assert entering.finding.value == pytest.approx(0.6)
    assert entering.finding.limit == pytest.approx(0.48)
    assert judged(-0.6, -0.7).finding.limit == pytest.approx(-0.6)


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_policy_is_trained_from_an_expert_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = runpy.run_path(str(EXAMPLES / "train_and_evaluate.py"))["main"]
    small = ["--record", "2", "--steps", "20", "--evaluate", "1", "--time-limit", "1", "--out", str(tmp_path)]
    done = main(small)
    (episode,) = done.episodes
    assert (episode.seed, episode.error, done.mode) == (1000, "", "fast")
    assert (tmp_path / "run" / "bundle" / "policy.yaml").is_file()
    assert "95 % interval" in capsys.readouterr().out
