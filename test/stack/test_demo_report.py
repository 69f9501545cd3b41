# SPDX-License-Identifier: Apache-2.0
"""The demo report: headline, numbers, page and folder."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.errors import ConfigError
from wam.core.observation import CameraFrame
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
from wam.evaluation.happened import MeasuredMotion
from wam.evaluation.records import ChunkRecord, ContextRecord, SafetyRecord, TopicSeries
from wam.report.imagined import ImaginedPairs, ImaginedRecord, side_by_side
from wam.report.machine import machine_info
from wam.stack.demo_page import build_demo_report, demo_summary
from wam.stack.demo_recording import DemoRecording, DemoSignals
from wam.stack.demo_sections import ladder_spans

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


def signals() -> DemoSignals:
    header = ContextHeader(S, 1, 1, "a" * 64, "wave", 64, 33 * MS, plan_ns=80 * MS)
    return DemoSignals(
        start_ns=S,
        end_ns=4 * S,
        measured=(series("left", rate=200.0),),
        commanded=(series("left", rate=100.0, late_ns=3 * MS),),
        chunks=tuple(ChunkRecord(S + i * 100 * MS + 30 * MS, chunk(i)) for i in range(1, 20)),
        contexts=(ContextRecord(S, header),),
    )


def event(
    at: float, before: Ladder, after: Ladder, code: str, text: str = "", verdict: Verdict = Verdict.HOLD
) -> SafetyRecord:
    return SafetyRecord(round(at * S), before, after, verdict, code, text or code)


def recording(**of_episode: Any) -> DemoRecording:
    episode = EpisodeRecord(
        seed=1000,
        variant="wooden tray",
        instruction="carry <slowly> & well",
        success=False,
        score=0,
        stages=(),
        time=3.0,
        max_contact_force=2.0,
        safety=(
            event(1.0, Ladder.NOMINAL, Ladder.LATE, "context_late", verdict=Verdict.OK),
            event(2.0, Ladder.LATE, Ladder.NOMINAL, "context_fresh", verdict=Verdict.OK),
        ),
    )
    evaluation = Evaluation(
        task="piper_move_large_object",
        title="move a large object",
        stage_names=("grasped", "carried", "placed"),
        setting="seen",
        robot="piper",
        policy="aha_wam/mine",
        contract_hash="a" * 64,
        mode="nodes",
        episodes=(replace(episode, **of_episode),),
        videos={"seed 1000": b"the film"},
        settings={"time limit": "30 s"},
        backends={"denoise": "onnxruntime", "route": "eager (not onnxruntime: it has not been exported)"},
        machine=machine_info(),
    )
    return DemoRecording("Two Piper arms", evaluation, signals(), trained=True)


def test_one_late_command_shows_in_the_jitter_and_not_in_the_median(tmp_path: Path) -> None:
    build_demo_report(recording(), tmp_path / "report")
    results = json.loads((tmp_path / "report" / "summary.json").read_text())["results"]
    assert results["command_jitter_left_p50_ms"] == pytest.approx(0.0, abs=1e-6)
    assert results["command_jitter_left_max_ms"] == pytest.approx(3.0)
    assert results["chunk_inference_p99_ms"] == pytest.approx(20.0)
    assert results["context_age_max_ms"] == pytest.approx(190.0)


def test_summary_and_page_name_what_ran_each_stage(tmp_path: Path) -> None:
    html = build_demo_report(recording(), tmp_path / "report").read_text()
    told = json.loads((tmp_path / "report" / "summary.json").read_text())["backends"]
    assert told == {
        "denoise": "onnxruntime",
        "route": "eager (not onnxruntime: it has not been exported)",
    }
    assert "stage route" in html
    assert "eager (not onnxruntime: it has not been exported)" in html


def test_the_page_is_self_contained_opens_with_the_film_and_escapes_the_instruction(tmp_path: Path) -> None:
    html = build_demo_report(recording(), tmp_path / "report").read_text()
    assert "<strong>not done: never grasped, in 3.0 s</strong>" in html
    assert "carry &lt;slowly&gt; &amp; well" in html
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#|logs/)""", html)
    assert not re.search(r"url\((?!#|&#34;#|'#|\"#)", html)
    assert html.count("<svg") >= 2 + 4 + 1  # two joints, four or more histograms, the ladder
    film = base64.b64encode(b"the film").decode()
    assert html.index(f"data:video/mp4;base64,{film}") < html.index("<h2>Stages</h2>") < html.index("<svg")
    assert "NOMINAL → LATE" in html


@pytest.mark.parametrize(
    ("episode", "said"),
    [
        ({}, "not done: never grasped, in 3.0 s"),
        (
            {
                "score": 2,
                "stages": (("grasped", 0.5), ("carried", 1.5)),
                "held": {"chunk_timeout": 0.6, "jump": 0.3},
            },
            "not done: carried, but never placed, in 3.0 s; the robot was held 30 % of the time "
            "(no valid chunk in time 20 %, beginning too far from where the arm is 10 %)",
        ),
        (
            {
                "motion": MeasuredMotion("left_joint2", 0.0, 0.0, "rad"),
                "refused": 71,
                "held": {"jump": 3.0},
                "slow": "this machine was too slow: simulated time passed at 0.40 of real time",
            },
            "not done: never grasped, in 3.0 s; the robot did not move (most: left_joint2 by 0 rad, 0 % of its range); "
            "the robot was held 100 % of the time (beginning too far from where the arm is 100 %); "
            "71 of 71 chunks were refused; "
            "this machine was too slow: simulated time passed at 0.40 of real time",
        ),
        (
            {"success": True, "score": 3, "stages": (("grasped", 0.5), ("carried", 1.5), ("placed", 3.0))},
            "done: move a large object, in 3.0 s",
        ),
        (
            {"safety": (event(2.0, Ladder.NOMINAL, Ladder.STOP, "collision", verdict=Verdict.STOP),)},
            "not done: never grasped, in 3.0 s; the safety node stopped the robot at 2.0 s",
        ),
    ],
)
def test_the_headline_says_how_far_the_task_came_and_what_held_the_robot(
    episode: dict[str, Any], said: str
) -> None:
    run = recording(**episode)
    assert run.headline == said
    summary = demo_summary(run)
    assert (summary["headline"], summary["success"], summary["score"], summary["seed"]) == (
        said,
        run.episode.success,
        run.episode.score,
        1000,
    )
    share = sum(episode["held"].values()) / 3.0 if "held" in episode else None
    assert summary["held_share"] == (None if share is None else pytest.approx(share))
    assert list(summary["held_causes"]) == list(episode.get("held", {}))


def test_a_demo_without_a_task_does_not_claim_that_the_robot_moved(tmp_path: Path) -> None:
    run = recording()
    run = replace(run, evaluation=replace(run.evaluation, task="free"), trained=False)
    assert run.headline == "there is no task: the policy ran for 3.0 s"
    assert "<h2>Stages</h2>" not in build_demo_report(run, tmp_path / "report").read_text()


def test_only_a_policy_that_was_trained_for_the_task_has_to_do_it() -> None:
    assert not recording().is_well
    assert recording(success=True, score=3).is_well
    random = replace(recording(), trained=False, notes=("random weights",))
    assert random.is_well
    assert random.headline.endswith("; random weights")
    assert not replace(random, problems=("wam_sim died",)).is_well


def test_a_robot_that_never_moved_is_not_well_whatever_its_policy() -> None:
    """A run held for all of its time was told as "the robot moved", with exit code 0."""
    still = recording(motion=MeasuredMotion("left_joint2", 1e-20, 0.0, "rad"))
    assert not replace(still, trained=False).is_well
    assert replace(recording(motion=MeasuredMotion("left_joint2", 0.5, 0.2, "rad")), trained=False).is_well


def test_an_interrupted_demo_says_so_first() -> None:
    run = replace(recording(), stopped=True)
    assert run.headline.startswith("stopped after 3.0 s; not done")
    assert demo_summary(run)["stopped"] is True


def test_problems_head_the_page(tmp_path: Path) -> None:
    html = build_demo_report(replace(recording(), problems=("wam_sim died",)), tmp_path / "r").read_text()
    assert 'class="verdict bad"' in html
    assert html.index("wam_sim died") < html.index("<h2>")


def test_a_cause_that_held_many_times_is_told_once(tmp_path: Path) -> None:
    """Its sentences differ by their numbers, and each stood in the banner."""
    safety = tuple(
        event(at / 10, before, after, "chunk_timeout", f"no chunk for 0.{at}00 s")
        for at in range(2, 8, 2)
        for before, after in ((Ladder.NOMINAL, Ladder.HOLD), (Ladder.HOLD, Ladder.NOMINAL))
    )
    html = build_demo_report(
        recording(safety=safety, held={"chunk_timeout": 0.9}), tmp_path / "r"
    ).read_text()
    banner = html.partition('<div class="verdict')[2].partition("</div>")[0]
    assert banner.count("no valid chunk in time") == 1
    assert "no chunk" not in banner


def test_an_episode_without_anything_published_still_gets_a_page(tmp_path: Path) -> None:
    empty = replace(signals(), chunks=(), contexts=(), commanded=(), measured=())
    run = replace(recording(safety=(), time=0.0), signals=empty, problems=("policy ended with code 1",))
    html = build_demo_report(run, tmp_path / "report").read_text()
    assert 'class="verdict bad"' in html
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["results"]["chunk_inference_p50_ms"] is None
    assert summary["held_share"] is None


def test_an_earlier_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    build_demo_report(recording(), tmp_path / "report")
    build_demo_report(recording(seed=7), tmp_path / "report")
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["seed"] == 7
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
    spans = ladder_spans(recording().episode.safety, start_ns=0, end_ns=3 * S)
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
    imagined = (ImaginedRecord(frame(2 * S, 50), seen), ImaginedRecord(frame(4 * S, 60), None))
    run = replace(recording(), signals=replace(signals(), imagined=imagined))
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
