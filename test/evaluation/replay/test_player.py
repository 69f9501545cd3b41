# SPDX-License-Identifier: Apache-2.0
"""The interactive view of a replay: what is in the page is what was replayed, within a budget of bytes."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.errors import PolicyFault
from wam.core.fakes import FakeExecutor
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.core.policy import RoutedContext
from wam.core.verdict import Event as LadderMove
from wam.core.verdict import Finding, Ladder, Verdict
from wam.data.bag.joint_samples import JointSamples
from wam.data.fakes import fake_robot, fake_trajectory, write_fake_bag
from wam.evaluation.replay import film, player, player_page
from wam.evaluation.replay.engine import ChunkEvent, RefusalEvent, ReplayOptions, ReplaySettings
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.film import FilmedCamera
from wam.evaluation.replay.player import MarkKind, PlayerRecord, Thinned, TimelineMark
from wam.evaluation.replay.safety_events import LadderEvent
from wam.evaluation.replay.session import replay
from wam.runtime.executor import STILL_EXECUTING
from wam.runtime.policy import PolicyRequest, load_fake

MS = 1_000_000
ROBOT = fake_robot()
SETTINGS = ReplaySettings(planner_latency_ns=100 * MS, executor_latency_ns=50 * MS, planner_period_ns=0)
SECONDS = 3.0
PAGE_BYTES = 15_000_000


def loaded() -> Any:
    return load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)


def go(bag: Path, report: Path, policy: Any = None, **options: Any) -> str:
    chosen = ReplayOptions(bag=bag, policy_name="fake", settings=SETTINGS, **options)
    return replay(chosen, robot=ROBOT, policy=policy or loaded(), report=report).page.read_text(
        encoding="utf-8"
    )


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'class="player-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def films_of(page: str) -> list[bytes]:
    return [base64.b64decode(film) for film in re.findall(r'class="player-film"[^>]*>(.*?)</script>', page)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player")
    write_fake_bag(folder / "bag", robot=ROBOT, seconds=SECONDS)
    go(folder / "bag", folder / "report")
    return folder / "report"


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def positions(data: dict[str, Any], numbers: list[Any], joint: int) -> Any:
    return (
        np.array([np.nan if number is None else number for number in numbers]) * data["joints"][joint]["step"]
    )


def test_the_fan_of_the_page_is_every_chunk_of_the_replay(page: str, report: Path) -> None:
    data = data_of(page)
    chunks = list(read_events(report / "events.jsonl", "chunk"))
    start_ns = json.loads((report / "summary.json").read_text())["recording"]["start_ns"]
    assert [one["n"] for one in data["chunks"]] == [chunk["sequence"] for chunk in chunks]
    joints = len(data["joints"])
    for drawn, chunk in zip(data["chunks"], chunks, strict=True):
        assert drawn["s"] == pytest.approx((chunk["stamp_ns"] - start_ns) / MS, abs=0.51)
        assert drawn["r"] == pytest.approx((chunk["ready_ns"] - start_ns) / MS, abs=0.51)
        assert drawn["a"] == pytest.approx(chunk["context_age_ns"] / MS, abs=0.51)
        offsets = np.array(data["offsets"][drawn["o"]])
        assert offsets == pytest.approx(np.arange(len(chunk["rows"])) * chunk["row_period_ns"] / MS, abs=0.51)
        rows = np.array(drawn["v"]).reshape(-1, joints) * [joint["step"] for joint in data["joints"]]
        assert rows == pytest.approx(np.array(chunk["rows"]), abs=1e-4)


def test_the_recorded_line_is_the_recorded_action(page: str) -> None:
    data = data_of(page)
    recorded = data["lines"][0]
    assert recorded["name"] == "recorded action"
    times = np.array(recorded["t"]) / 1e3
    assert times[0] < 0.1
    assert times[-1] > SECONDS - 0.2
    truth = fake_trajectory(round(SECONDS * 30) + 1, 3)
    for joint in range(3):
        known = np.interp(times, np.arange(len(truth)) / 30.0 - 1 / 30.0, truth[:, joint])
        assert positions(data, recorded["v"][joint], joint) == pytest.approx(known, abs=2e-3)


def test_executed_and_commanded_lines_are_there_with_their_joints(page: str) -> None:
    data = data_of(page)
    assert [line["name"] for line in data["lines"]] == [
        "recorded action",
        "executed: newest chunk",
        "commanded",
    ]
    for line in data["lines"]:
        assert len(line["v"]) == 3
        assert all(len(numbers) == len(line["t"]) for numbers in line["v"])
        assert line["t"] == sorted(line["t"])
    assert [joint["name"] for joint in data["joints"]] == ["j0", "j1", "j2"]
    assert {joint["group"] for joint in data["joints"]} == {"body"}
    assert sorted(data["shown"]) == [0, 1, 2]


def test_the_video_lasts_as_long_as_the_recording_and_names_its_images(page: str) -> None:
    data = data_of(page)
    (mp4,) = films_of(page)
    with av.open(io.BytesIO(mp4)) as container:
        video = container.streams.video[0]
        assert video.codec_context.name == "h264"
        assert video.codec_context.pix_fmt == "yuv420p"
        times = [round(1e3 * float(frame.time or 0.0)) for frame in container.decode(video)]
    images = data["films"][0]["images"]
    assert set(images) <= set(times)
    assert times[0] == 0
    assert times[-1] == data["end"]
    assert len(images) > 8 * SECONDS


def test_events_stand_on_the_timeline(page: str) -> None:
    data = data_of(page)
    kinds = {event["k"] for event in data["events"]}
    assert {"context", "instruction"} <= kinds
    assert kinds <= {kind["kind"] for kind in data["kinds"]}
    assert [event["t"] for event in data["events"]] == sorted(event["t"] for event in data["events"])
    assert data["rungs"][0] == {"t": 0, "name": "HOLD"}
    assert {rung["name"] for rung in data["rungs"]} <= set(data["colors"])


def test_the_address_can_name_a_time(page: str) -> None:
    assert 'id="player"' in page
    assert "hashchange" in page


class Faulty(FakeExecutor):
    """Gives up after one second."""

    def act(self, routed: RoutedContext[Any], *, proprio: Any) -> Any:
        """Return a chunk, or raise."""
        chunk = super().act(routed, proprio=proprio)
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 10:
            raise PolicyFault("rows are not finite", value="nan")
        return chunk


def test_after_a_fault_the_video_and_the_recorded_line_go_on(report: Path, tmp_path: Path) -> None:
    policy = loaded()
    text = go(report.parent / "bag", tmp_path / "out", replace(policy, executor=Faulty(policy.contract)))
    data = data_of(text)
    (fault,) = [event for event in data["events"] if event["k"] == "fault"]
    assert "rows are not finite" in fault["x"]
    assert fault["t"] < 2000
    images = data["films"][0]["images"]
    assert images[-1] > 1e3 * (SECONDS - 0.5)
    assert max(np.diff(images)) < 400
    assert data["lines"][0]["t"][-1] > 1e3 * (SECONDS - 0.2)


def test_a_video_that_cannot_be_encoded_leaves_the_page_and_says_why(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        film.VideoEncoder, "encode", lambda *_, **__: (_ for _ in ()).throw(ValueError("no x264"))
    )
    text = go(report.parent / "bag", tmp_path / "out")
    assert films_of(text) == []
    assert "it could not be filmed: no x264" in text
    assert (tmp_path / "out" / "summary.json").read_bytes() == (report / "summary.json").read_bytes()


def test_without_plotly_the_page_is_made_and_says_so(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_page, "plotly_script", lambda: "")
    text = go(report.parent / "bag", tmp_path / "out")
    assert "pip install wam_deploy" in text
    assert "player-data" not in text
    assert "Joints: recorded against predicted" in text


def test_a_thinned_list_is_bounded_and_keeps_even_steps() -> None:
    thinned: Thinned[int] = Thinned(10)
    for i in range(1000):
        thinned.add(i)
    assert 10 <= len(thinned.entries) < 20
    assert thinned.entries == list(range(0, 1000, thinned.every))[: len(thinned.entries)]
    assert thinned.entries[-1] > 1000 - 2 * thinned.every


def record(joints: int = 30, cameras: int = 2) -> PlayerRecord:
    contract = replace(
        loaded().contract,
        action_joints=tuple(f"j{i}" for i in range(joints)),
        chunk_rows=64,
        horizon_rows=64,
    )
    return PlayerRecord(
        contract, expected={f"cam{i}": 36_000 for i in range(cameras)}, seconds=lambda time_ns: time_ns / 1e9
    )


def chunk_event(number: int, rows: Any) -> ChunkEvent:
    stamp_ns = number * 100 * MS
    names = tuple(f"j{i}" for i in range(rows.shape[1]))
    state = RobotState(stamp_ns, names, rows[0].copy(), np.zeros(rows.shape[1]))
    image = np.random.default_rng(number % 7).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    observation = Observation(stamp_ns, {"cam0": CameraFrame("cam0", stamp_ns, image)}, state)
    chunk = replace(loaded_chunk(), stamp_ns=stamp_ns, joint_names=names, rows=rows, sequence=number)
    return ChunkEvent(stamp_ns, stamp_ns + 50 * MS, chunk, observation, 0)


def loaded_chunk() -> ActionChunk:
    return ActionChunk(
        stamp_ns=1,
        contract_hash="0" * 64,
        context_version=1,
        context_age_ns=MS,
        phase_offset_rows=0,
        row_period_ns=33 * MS,
        joint_names=("j0",),
        rows=np.zeros((1, 1)),
        inference_ns=1,
        generation=1,
        sequence=1,
    )


def test_an_hour_of_wide_long_chunks_is_kept_within_a_bound() -> None:
    kept = record()
    rows = np.random.default_rng(0).normal(0.0, 2.0, (64, 30))
    for number in range(2500):
        kept.take(chunk_event(number, rows))
    numbers = sum(chunk.rows.size for chunk in kept.fan.entries)
    assert numbers <= 2 * player.FAN_NUMBERS
    assert numbers >= player.FAN_NUMBERS / 2
    assert kept.fan.entries[0].rows[-1] == pytest.approx(rows[-1], rel=1e-6)


def test_the_reference_goes_on_after_a_gap_of_years_and_after_a_clock_that_went_back() -> None:
    kept = record(joints=1)
    samples = JointSamples(("j0",), max_gap_ns=100 * MS)
    year_ns = 365 * 86_400 * 10**9
    for base_ns in (10**9, year_ns, 10**9 + 50 * MS):
        for i in range(30):
            samples.add("t", base_ns + i * 33 * MS, np.array([0]), [float(i)])
            kept.take_reference(samples)
    times, table = kept.reference()
    assert 60 <= len(times) <= 120
    assert (times > year_ns - 1).sum() >= 25
    assert np.isfinite(table).mean() > 0.8


def test_marks_tell_holds_with_their_cause_and_not_every_repetition() -> None:
    kept = record()
    finding = Finding(Verdict.HOLD, "chunk_late", "no valid chunk for 0.3 s")
    kept.take(LadderEvent(5, LadderMove(finding, Ladder.NOMINAL, Ladder.HOLD)))
    kept.take(LadderEvent(6, LadderMove(finding, Ladder.HOLD, Ladder.HOLD)))
    for i in range(50):
        kept.take(RefusalEvent(10 + i, "executor", f"image of camera is stale: got {i} s; allowed 1 s"))
        kept.take(RefusalEvent(10 + i, "planner", STILL_EXECUTING))
    assert kept.marks() == (
        TimelineMark(5, MarkKind.LADDER, "HOLD: no valid chunk for 0.3 s"),
        TimelineMark(10, MarkKind.SILENT, "executor silent: image of camera is stale: got 0 s; allowed 1 s"),
    )


def test_many_marks_are_thinned_by_kind_and_the_page_says_so() -> None:
    kept = record()
    finding = Finding(Verdict.STOP, "fault", "x" * 1000)
    for i in range(5000):
        kept.take(LadderEvent(i, LadderMove(finding, Ladder.NOMINAL, Ladder.STOP)))
    assert len(kept.marks()) < 2 * player.MARKS
    assert max(len(mark.text) for mark in kept.marks()) <= player.TEXT_CHARS
    assert kept.left_out() == {MarkKind.LADDER: 16}


def test_a_page_with_everything_at_its_limit_stays_below_its_budget(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty joints, long chunks, two cameras whose videos are full: what an hour leaves."""
    full = tuple(
        FilmedCamera(
            f"cam{i}",
            320,
            240,
            np.random.default_rng(i).bytes(film.MP4_BYTES // 2),
            tuple(range(0, 10**6, 100)),
        )
        for i in range(2)
    )
    rows = np.random.default_rng(0).normal(0.0, 2e4, (64, 3))
    finish = PlayerRecord.finish

    def fill(self: PlayerRecord, end: float) -> None:
        finish(self, end)
        self.filmed = full
        self.fan = Thinned(player.FAN_NUMBERS // (3 * player.FAN_ROWS))
        for number in range(6000):
            self._take_chunk(chunk_event(number, rows))

    monkeypatch.setattr(PlayerRecord, "finish", fill)
    text = go(report.parent / "bag", tmp_path / "out")
    found = re.search(r'class="player-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    assert len(found[1]) <= player_page.DATA_BYTES
    assert len(data_of(text)["chunks"]) > 1000
    assert len(text.encode()) < PAGE_BYTES
