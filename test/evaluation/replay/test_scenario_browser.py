# SPDX-License-Identifier: Apache-2.0
"""The episodes of a scenario as a table: pictures, figures, the error over time, and the way through the reports."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import yaml
from fake_dataset import write_fake_dataset

from wam.cli.main import run
from wam.evaluation.metrics.gate import Gate
from wam.evaluation.metrics.metric import Shown
from wam.evaluation.metrics.table import shown
from wam.evaluation.replay.page_pictures import PagePicture
from wam.evaluation.replay.scenario import FEWEST_FOR_INTERVAL, Run, Scenario, ScenarioVariant, sum_up
from wam.evaluation.replay.scenario_browser import SPARK_HEIGHT, SPARK_WIDTH, browse, spark, thumbnails
from wam.evaluation.replay.scenario_page import TONES


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario over three episodes of a data set, of which one is damaged."""
    folder = tmp_path_factory.mktemp("scenario")
    path = write_fake_dataset(folder / "set", episodes=3, rows=30, joints=26, height=480, width=640)
    (video,) = path.rglob("episode_000001.mp4")
    video.write_bytes(b"")
    content = {
        "robot": "g1_inspire",
        "policy": "fake",
        "dataset": "set",
        "convert": {"in_order": True, "lenient": True},
        "gate": {"thresholds": {"skill": {"min": 2}}},
    }
    (folder / "lab.yaml").write_text(yaml.safe_dump(content))
    assert run(["replay", "scenario", str(folder / "lab.yaml"), "--report", str(folder / "out")]) == 1
    assert not list(folder.glob(".wam-*"))
    return folder / "out"


def test_every_episode_is_a_row_with_pictures_figures_and_its_report(report: Path) -> None:
    html = (report / "index.html").read_text()
    body = html[html.index('<table class="episodes">') :]
    rows = re.findall(r"<tr.*?</tr>", body[body.index("<tbody>") : body.index("</tbody>")], re.S)
    assert len(rows) == 3
    good, damaged, _ = rows
    assert good.count("<img ") == 2
    assert "<polyline " in good
    assert re.search(r'<td class="words bad">\s*fail', good)
    assert "pick up the cube" in good
    link = re.search(r'<a href="([^"]+)">episode_000000</a>', good)
    assert link is not None
    assert (report / unquote(link.group(1))).is_file()
    assert "could not run" in damaged
    assert "cannot be converted" in damaged
    assert "<a " not in damaged
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)


def test_reports_lead_to_the_one_before_and_after_and_back(report: Path) -> None:
    pages = sorted((report / "runs").glob("*/index.html"))
    assert len(pages) == 2
    first, second = (page.read_text() for page in pages)
    assert 'rel="prev"' not in first
    assert 'rel="next"' not in second
    for page, html, rel, other in ((pages[0], first, "next", pages[1]), (pages[1], second, "prev", pages[0])):
        link = re.search(f'rel="{rel}" href="([^"]+)"', html)
        assert link is not None
        assert (page.parent / unquote(link.group(1))).resolve() == other.resolve()
        assert html.count("<nav ") == 1
        assert (page.parent / "../../index.html").resolve() == (report / "index.html").resolve()
    assert "2 of 2" in second


def test_the_summary_names_the_episodes_and_why_one_could_not_run(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text())
    assert [entry["recording"] for entry in summary["runs"]] == [f"episode_{i:06d}" for i in range(3)]
    assert [bool(entry["error"]) for entry in summary["runs"]] == [False, True, False]
    assert summary["variants"]["all"]["recordings"] == 2


def fake_run(number: int, value: float, verdict: str = "not judged") -> Run:
    summary = {
        "verdict": verdict,
        "answers": {"safe": {"answer": "yes"}, "like": {"answer": "cannot be told"}},
        "faults": [],
        "metrics": dict.fromkeys((metric.name for metric in shown(Shown.RUNS)), value),
        "settings": {"instruction": "<b>bold</b>"},
        "recording": {"duration_s": 1.0},
    }
    return Run("all", f"ep{number}", f"runs/{number}", summary, {})


@pytest.mark.parametrize("count", [2, FEWEST_FOR_INTERVAL - 1, FEWEST_FOR_INTERVAL])
def test_a_mean_over_few_recordings_has_no_interval(count: int) -> None:
    """With two recordings the interval was their range, titled 95 %."""
    variant = ScenarioVariant("all", "fake", {})
    scenario = Scenario("s", "r", (), (variant,), Gate())
    summary, _ = sum_up(scenario, [fake_run(i, float(i)) for i in range(count)])
    mean = summary["variants"]["all"]["metrics"]["skill"]
    assert mean["value"] == (count - 1) / 2
    assert mean["count"] == count
    assert (mean["low"] is None, mean["high"] is None) == (count < FEWEST_FOR_INTERVAL,) * 2


def test_a_row_shows_the_verdict_of_its_run_and_both_answers(tmp_path: Path) -> None:
    """Rows of a scenario with a gate said "not judged"."""
    bad, good = browse([fake_run(0, 0.1, "fail"), fake_run(1, 0.9, "pass")], tmp_path, tones=TONES)
    assert (bad.verdict, bad.tone, bad.answers) == ("fail", "bad", ("yes", "cannot be told"))
    assert (good.verdict, good.tone) == ("pass", "good")
    assert browse([fake_run(0, 0.1)], tmp_path, tones=TONES)[0].tone == "plain"


def test_a_spark_fits_its_box_and_leaves_unknown_errors_out() -> None:
    times = np.arange(200, dtype=np.float64)
    values = np.where(times % 7 == 0, math.nan, times / 200)
    points = [tuple(map(float, pair.split(","))) for pair in spark(times, values, top=1.0).split()]
    assert 30 < len(points) < 120
    assert all(0 <= x <= SPARK_WIDTH and 0 <= y <= SPARK_HEIGHT for x, y in points)
    assert points[0][1] > points[-1][1]
    assert spark(times, np.full(200, math.nan), top=1.0) == ""
    assert spark(times, values, top=0.0) == ""


def test_thumbnails_are_small_and_of_the_first_camera_alone() -> None:
    done, data = cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))
    assert done
    source = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    pictures = [PagePicture("a", 0.0, source), PagePicture("b", 0.5, source), PagePicture("a", 1.0, source)]
    first, last = thumbnails(pictures)
    assert first == last
    small = cv2.imdecode(np.frombuffer(base64.b64decode(first.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (84, 112, 3)
    assert thumbnails([PagePicture("a", 0.0, "data:image/jpeg;base64,!")]) == ()
    assert thumbnails([]) == ()
