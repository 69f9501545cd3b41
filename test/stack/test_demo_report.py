# SPDX-License-Identifier: Apache-2.0
"""The demo report: numbers, page and folder."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.errors import ConfigError
from wam.core.observation import CameraFrame
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.records import ChunkRecord, ContextRecord, DemoRecording, SafetyRecord, TopicSeries
from wam.report.imagined import ImaginedPairs, ImaginedRecord, side_by_side
from wam.report.machine import machine_info
from wam.stack.demo_page import build_demo_report, ladder_spans

S = 1_000_000_000
MS = 1_000_000
JOINTS = ("left_joint1", "left_joint2")


def series(name: str, *, rate: float, late_ns: int = 0) -> TopicSeries:
    stamps = (S + np.arange(0, 3 * S, int(S / rate))).astype(np.int64)
    stamps[len(stamps) // 2] += late_ns
    t = stamps / S
    return TopicSeries(name, JOINTS, stamps, stamps + MS, np.stack([np.sin(t), np.cos(t)], axis=1), rate)


def chunk(sequence: int) -> ActionChunk:
    return ActionChunk(
        stamp_ns=S + sequence * 100 * MS,
        generation=1,
        sequence=sequence,
        contract_hash="a" * 64,
        context_version=sequence,
        context_age_ns=sequence * 10 * MS,
        phase_offset_rows=sequence % 4,
        row_period_ns=33 * MS,
        joint_names=JOINTS,
        rows=np.zeros((16, 2)) + 0.1 * sequence,
        inference_ns=20 * MS,
    )


def recording() -> DemoRecording:
    header = ContextHeader(S, 1, 1, "a" * 64, "wave", 64, 33 * MS, plan_ns=80 * MS)
    image = np.zeros((48, 64, 3), dtype=np.uint8)
    return DemoRecording(
        robot="piper",
        robot_title="Two Piper arms",
        policy="fake",
        contract_hash="a" * 64,
        instruction="wave <slowly> & well",
        start_ns=S,
        end_ns=4 * S,
        measured=(series("left", rate=200.0),),
        commanded=(series("left", rate=100.0, late_ns=3 * MS),),
        chunks=tuple(ChunkRecord(S + i * 100 * MS + 30 * MS, chunk(i)) for i in range(1, 20)),
        contexts=(ContextRecord(S, header),),
        safety=(
            SafetyRecord(2 * S, Ladder.NOMINAL, Ladder.LATE, Verdict.OK, "context_late", "context is late"),
            SafetyRecord(3 * S, Ladder.LATE, Ladder.NOMINAL, Verdict.OK, "context_fresh", "context is back"),
        ),
        frames=(CameraFrame("head", S, image), CameraFrame("head", 3 * S, image.copy())),
        machine=machine_info(),
        settings={"transport": "IN_PROCESS"},
    )


def test_one_late_command_shows_in_the_jitter_and_not_in_the_median(tmp_path: Path) -> None:
    build_demo_report(recording(), tmp_path / "report")
    results = json.loads((tmp_path / "report" / "summary.json").read_text())["results"]
    assert results["command_jitter_left_p50_ms"] == pytest.approx(0.0, abs=1e-6)
    assert results["command_jitter_left_max_ms"] == pytest.approx(3.0)
    assert results["chunk_inference_p99_ms"] == pytest.approx(20.0)
    assert results["image_to_chunk_p50_ms"] == pytest.approx(30.0)
    assert results["context_age_max_ms"] == pytest.approx(190.0)


def test_the_page_is_self_contained_and_escapes_the_instruction(tmp_path: Path) -> None:
    html = build_demo_report(recording(), tmp_path / "report").read_text()
    assert "wave &lt;slowly&gt; &amp; well" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", html)
    assert not re.search(r"url\((?!#|&#34;#|'#|\"#)", html)
    assert html.count("<svg") >= 2 + 5 + 1  # two joints, five or more histograms, the ladder
    assert "NOMINAL → LATE" in html


def test_a_run_without_chunks_is_called_bad_and_still_gets_a_page(tmp_path: Path) -> None:
    empty = replace(recording(), chunks=(), contexts=(), frames=(), safety=(), commanded=(), measured=())
    html = build_demo_report(empty, tmp_path / "report").read_text()
    assert 'class="verdict bad"' in html
    assert "No action chunk arrived" in html
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["results"]["chunk_inference_p50_ms"] is None


def test_problems_head_the_page(tmp_path: Path) -> None:
    html = build_demo_report(replace(recording(), problems=("wam_sim died",)), tmp_path / "r").read_text()
    assert 'class="verdict bad"' in html
    assert "wam_sim died" in html


def test_the_hold_before_the_first_chunk_is_not_held_against_a_run(tmp_path: Path) -> None:
    """Every run begins in HOLD; a verdict given there made the page say that the robot was brought to HOLD."""
    begin = (
        SafetyRecord(0, Ladder.HOLD, Ladder.HOLD, Verdict.SCALED, "velocity_limit", "all joints are slowed"),
        SafetyRecord(1, Ladder.HOLD, Ladder.NOMINAL, Verdict.OK, "recovered", "nominal again"),
    )
    page = build_demo_report(replace(recording(), safety=begin), tmp_path / "well").read_text()
    assert "The robot followed the policy throughout" in page
    held = (*begin, SafetyRecord(2, Ladder.NOMINAL, Ladder.HOLD, Verdict.HOLD, "chunk_timeout", "no chunk"))
    page = build_demo_report(replace(recording(), safety=held), tmp_path / "held").read_text()
    assert "was brought to HOLD on the way" in page


def test_an_earlier_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    build_demo_report(recording(), tmp_path / "report")
    build_demo_report(replace(recording(), policy="other"), tmp_path / "report")
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["policy"] == "other"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


@pytest.mark.parametrize("name", ["notes.txt", "summary.json"])
def test_a_folder_with_anything_of_the_users_is_left_alone(tmp_path: Path, name: str) -> None:
    target = tmp_path / "report"
    target.mkdir()
    (target / name).write_text('{"mine": 1}')
    with pytest.raises(ConfigError, match="would be overwritten"):
        build_demo_report(recording(), target)
    assert (target / name).read_text() == '{"mine": 1}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report"]


def test_a_note_added_to_a_report_is_not_thrown_away(tmp_path: Path) -> None:
    build_demo_report(recording(), tmp_path / "report")
    (tmp_path / "report" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        build_demo_report(recording(), tmp_path / "report")
    assert (tmp_path / "report" / "notes.txt").read_text() == "keep"


def test_ladder_spans_cover_the_run_without_gaps() -> None:
    spans = ladder_spans(recording().safety, start_ns=S, end_ns=4 * S)
    assert [rung for _, _, rung in spans] == [Ladder.NOMINAL, Ladder.LATE, Ladder.NOMINAL]
    assert spans[0][0] == 0.0
    assert spans[-1][1] == 3.0
    assert all(a[1] == b[0] for a, b in pairwise(spans))


def test_logs_written_before_the_report_stay_in_it(tmp_path: Path) -> None:
    """The demo writes its nodes' logs into the report folder while it runs; the report once threw them away."""
    logs = tmp_path / "report" / "logs"
    logs.mkdir(parents=True)
    (logs / "planner.log").write_text("hello")
    for _ in range(2):
        build_demo_report(recording(), tmp_path / "report")
    assert (logs / "planner.log").read_text() == "hello"
    assert sorted(p.name for p in (tmp_path / "report").iterdir()) == ["index.html", "logs", "summary.json"]


def frame(stamp_ns: int, value: int, *, size: tuple[int, int] = (8, 8)) -> CameraFrame:
    return CameraFrame("head", stamp_ns, np.full((*size, 3), value, dtype=np.uint8))


def test_what_was_imagined_stands_beside_what_was_seen(tmp_path: Path) -> None:
    seen = frame(2 * S + 30 * MS, 200, size=(48, 64))
    run = replace(
        recording(),
        imagined=(ImaginedRecord(frame(2 * S, 50), seen), ImaginedRecord(frame(4 * S, 60), None)),
    )
    html = build_demo_report(run, tmp_path / "report").read_text()
    assert "Imagined images" in html
    assert "for 1.00 s, seen at 1.03 s" in html
    assert "for 3.00 s" not in html
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["counts"]["imagined_images"] == 2
    joined = side_by_side(frame(0, 50).rgb, seen.rgb)
    assert joined.shape == (48, 64 + 6 + 64, 3)
    assert (joined[:, :64] == 50).all()
    assert (joined[:, 64:70] == 255).all()
    assert (joined[:, 70:] == 200).all()


def test_a_report_without_imagined_images_has_no_section_for_them(tmp_path: Path) -> None:
    assert "Imagined images" not in build_demo_report(recording(), tmp_path / "report").read_text()


def test_an_expected_image_waits_for_the_first_image_from_its_time_on() -> None:
    pairs = ImaginedPairs(period_ns=S)
    pairs.expect(frame(2 * S, 1))
    assert not pairs.wants("head", 2 * S + 500 * MS)
    assert pairs.wants("head", 3 * S)
    assert pairs.wants("wrist", 2 * S)
    decoded: list[int] = []

    def seen(camera: str, stamp_ns: int) -> None:
        pairs.see(camera, stamp_ns, lambda: decoded.append(stamp_ns) or frame(0, 9).rgb)

    seen("head", 2 * S - 1)
    seen("wrist", 3 * S)
    seen("head", 2 * S + 10 * MS)
    seen("head", 2 * S + 20 * MS)
    assert decoded == [2 * S + 10 * MS]
    (record,) = pairs.records()
    assert record.observed is not None
    assert record.observed.stamp_ns == 2 * S + 10 * MS
