# SPDX-License-Identifier: Apache-2.0
"""Two reports of one recording: what makes it one, where runs part, and the page of both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from wam.cli.main import run
from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.content_hash import combined
from wam.data.bag.writing import Storage
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.compare import compare_reports, seconds_of, stretches
from wam.evaluation.replay.compare_charts import rolling_mean
from wam.evaluation.replay.compare_page import verdict_sentence, write_compare_page
from wam.evaluation.replay.page_pictures import pictures_of
from wam.report.folder import SUMMARY

ROBOT = load_robot("g1_inspire")


def replayed(bag: Path, report: Path, *options: str) -> Path:
    """Replay a bag with the fake policy; return the report."""
    command = ["replay", str(bag), "--robot", "g1_inspire", "--policy", "fake", "--report", str(report)]
    assert run([*command, "--gate", "none", *options]) == 0
    return report


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Reports of one recording: with the usual latency, and with one that makes chunks late."""
    folder = tmp_path_factory.mktemp("compared")
    write_fake_bag(folder / "bag", robot=ROBOT, seconds=3.0)
    return (
        replayed(folder / "bag", folder / "quick"),
        replayed(folder / "bag", folder / "slow", "--planner-latency", "0.3"),
    )


def change(report: Path, out: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a report with another summary."""
    out.mkdir()
    for path in report.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    summary = json.loads((report / SUMMARY).read_text())
    edit(summary["recording"])
    (out / SUMMARY).write_text(json.dumps(summary))
    return out


def test_two_recordings_of_one_name_and_start_are_told_apart_by_what_they_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Converted episodes start at one fixed date, and folders called `ep` are common: both were taken for one."""
    for name, seconds in (("a", 1.0), ("b", 1.2)):
        write_fake_bag(tmp_path / name / "ep", robot=ROBOT, seconds=seconds)
        replayed(tmp_path / name / "ep", tmp_path / f"report_{name}")
    told = [json.loads((tmp_path / f"report_{n}" / SUMMARY).read_text())["recording"] for n in "ab"]
    assert (told[0]["name"], told[0]["start_ns"]) == (told[1]["name"], told[1]["start_ns"])
    capsys.readouterr()
    assert run(["replay", "compare", str(tmp_path / "report_a"), str(tmp_path / "report_b")]) == 1
    error = capsys.readouterr().err
    assert "they are of two recordings" in error
    assert all(one["content_hash"][:16] in error for one in told)
    assert "replay ep with both policies" in error


def test_a_recording_that_was_renamed_and_stored_otherwise_is_still_the_same(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "ep", robot=ROBOT, seconds=1.0)
    write_fake_bag(tmp_path / "moved", robot=ROBOT, seconds=1.0, storage=Storage.SQLITE3)
    first, second = (replayed(tmp_path / name, tmp_path / f"r_{name}") for name in ("ep", "moved"))
    result = compare_reports(first, second)
    assert result.warnings == ()
    assert result.pairs > 5


def test_reports_of_before_there_was_a_hash_are_compared_with_a_warning(
    tmp_path: Path, reports: tuple[Path, Path]
) -> None:
    old = change(reports[0], tmp_path / "old", lambda recording: recording.pop("content_hash"))
    (warning,) = compare_reports(old, reports[1]).warnings
    assert "by its name and start alone" in warning
    other = change(
        reports[0],
        tmp_path / "other",
        lambda recording: [recording.pop("content_hash"), recording.update(name="x")],
    )
    with pytest.raises(RecordingError, match="they have another recording: got 'x and bag'"):
        compare_reports(other, reports[1])


def test_a_camera_that_one_policy_alone_looked_at_does_not_make_it_another_recording(
    tmp_path: Path, reports: tuple[Path, Path]
) -> None:
    def one_camera_less(recording: dict[str, Any]) -> None:
        (camera,) = (t for t, told in recording["topics"].items() if told["role"] == "camera")
        del recording["topics"][camera]
        recording["content_hash"] = combined(
            {topic: told["content_hash"] for topic, told in recording["topics"].items()}
        )

    blind = change(reports[1], tmp_path / "blind", one_camera_less)
    (note,) = compare_reports(reports[0], blind).warnings
    assert note.startswith("only A read /cam_high/image_raw/compressed;")


def test_runs_part_where_their_errors_differ_and_near_stretches_are_one() -> None:
    seconds = np.arange(40) * 0.1
    first = np.full(40, 0.1)
    second = first.copy()
    second[[10, 11, 14]] = 0.2
    second[30] = 0.4
    found = stretches(seconds, first, second, merge=5)
    assert [(round(s.start_s, 3), round(s.end_s, 3), round(s.peak_s, 3)) for s in found] == [
        (1.0, 1.4, 1.0),
        (3.0, 3.0, 3.0),
    ]
    assert found[1].second == 0.4
    assert stretches(seconds, first, first, merge=5) == ()
    assert stretches(seconds, first, np.full(40, np.nan), merge=5) == ()


def test_times_leave_gaps_out_and_means_leave_unknown_errors_out() -> None:
    recording = {
        "start_ns": 1_000,
        "gaps": [{"after_s": 2.0, "length_s": 100.0}, {"after_s": 3.0, "length_s": 50.0}],
    }
    stamps = np.array([0, 2, 102, 103, 154], dtype=np.int64) * 1_000_000_000 + 1_000
    np.testing.assert_allclose(seconds_of(stamps, recording), [0, 2, 2, 3, 4])
    smooth = rolling_mean(np.array([1.0, np.nan, 3.0, 5.0]), 3)
    np.testing.assert_allclose(smooth, [1.0, 2.0, 4.0, 4.0])


def test_the_page_says_which_is_better_and_leads_to_both_reports(
    tmp_path: Path, reports: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "pages" / "both.html"
    assert run(["replay", "compare", *map(str, reports), "--page", str(page)]) == 0
    told = capsys.readouterr()
    assert "not significant" in told.out or "is better" in told.out
    assert str(page) in told.err
    html = page.read_text()
    assert verdict_sentence(compare_reports(*reports)) in html.replace("&#39;", "'")
    assert "settings.planner_latency_s" in html
    links = re.findall(r'<a href="([^"]+)"', html)
    assert [(page.parent / unquote(link)).resolve() for link in links] == [
        (report / "index.html").resolve() for report in reports
    ]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", html)
    for joint in ROBOT.joint_names:
        assert joint in html


def test_a_page_replaces_its_earlier_self_and_nothing_else(
    tmp_path: Path, reports: tuple[Path, Path]
) -> None:
    result = compare_reports(*reports)
    page = tmp_path / "both.html"
    write_compare_page(page, reports, result)
    write_compare_page(page, reports, result)
    page.write_text("<p>mine</p>")
    with pytest.raises(ConfigError, match="no page of this command"):
        write_compare_page(page, reports, result)
    assert page.read_text() == "<p>mine</p>"
    with pytest.raises(ConfigError, match="cannot be written"):
        write_compare_page(tmp_path, reports, result)


def test_pictures_of_a_report_are_found_with_camera_and_time(
    tmp_path: Path, reports: tuple[Path, Path]
) -> None:
    kept = pictures_of(reports[0] / "index.html")
    assert {picture.camera for picture in kept} == {"cam_high"}
    assert [picture.seconds for picture in kept] == sorted(picture.seconds for picture in kept)
    assert all(picture.source.startswith("data:image/jpeg;base64,") for picture in kept)
    assert pictures_of(tmp_path / "nothing.html") == ()


def test_a_picture_from_elsewhere_is_not_taken_from_a_page(tmp_path: Path) -> None:
    page = tmp_path / "x.html"
    page.write_text(
        '<h2>Cameras</h2><p class="note">cam, over the recording</p>'
        '<img alt="1.00 s" src="https://example.org/x.png"><img alt="2.00 s · L1 0.1" src="data:image/png;base64,AA">'
    )
    assert [(p.seconds, p.source) for p in pictures_of(page)] == [(2.0, "data:image/png;base64,AA")]


def test_errors_whose_joints_have_several_units_are_compared_by_range_alone(
    reports: tuple[Path, Path],
) -> None:
    """Radians and shares of a range were added up, and the sums compared."""
    names = {one.name for one in compare_reports(*reports).differences}
    assert names == {"normalised_mse", "normalised_l1"}
