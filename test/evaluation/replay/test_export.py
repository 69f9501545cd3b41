# SPDX-License-Identifier: Apache-2.0
"""A report's tables hold what was recorded, executed and commanded; they are made of the report alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wam.cli.main import run
from wam.core.errors import ConfigError, RecordingError
from wam.data.fakes import fake_robot, fake_trajectory, write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.export import chunk_table, export_report, motion_table
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

ROBOT = fake_robot()
SETTINGS = ReplaySettings(planner_latency_ns=100_000_000, executor_latency_ns=50_000_000)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    write_fake_bag(folder / "bag", robot=ROBOT, seconds=2.0)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    options = ReplayOptions(bag=folder / "bag", policy_name="fake", settings=SETTINGS)
    replay(options, robot=ROBOT, policy=policy, report=folder / "report")
    return folder / "report"


def test_the_motion_has_a_row_per_time_and_joint_with_the_recorded_command(report: Path) -> None:
    table = motion_table(report)
    assert table.column_names == [
        "time_ns",
        "time_s",
        "joint",
        "unit",
        "recorded",
        "executed",
        "commanded",
        "error",
        "rung",
    ]
    rows = table.to_pylist()
    assert [row["joint"] for row in rows[:4]] == ["j0", "j1", "j2", "j0"]
    assert {row["unit"] for row in rows} == {"rad"}
    truth = fake_trajectory(61, 3)[1:]  # /action is the state of the next row
    first_ns = 1_600_000_000 * 10**9
    assert sum(row["recorded"] is not None for row in rows) > 100
    for row in rows:
        place = (row["time_ns"] - first_ns) * 30 / 1e9
        if row["recorded"] is not None:
            known = np.interp(place, np.arange(len(truth)), truth[:, int(row["joint"][1])])
            assert row["recorded"] == pytest.approx(known, abs=2e-6)
        if row["recorded"] is not None and row["executed"] is not None:
            assert row["error"] == pytest.approx(row["executed"] - row["recorded"], abs=1e-6)
    assert {row["rung"] for row in rows} <= {"NOMINAL", "LATE", "SLOW", "HOLD", "STOP"}
    assert sum(row["commanded"] is not None for row in rows) > 0.8 * len(rows)


def test_the_means_of_the_table_are_those_of_the_summary(report: Path) -> None:
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    errors = np.array(motion_table(report).column("error").to_numpy(zero_copy_only=False), dtype=float)
    assert float(np.nanmean(np.abs(errors))) == pytest.approx(summary["metrics"]["executed_l1"], rel=1e-4)


def test_the_chunks_have_a_row_per_row_with_units_in_names_and_metadata(report: Path) -> None:
    table = chunk_table(report)
    chunks = list(read_events(report / "events.jsonl", "chunk"))
    assert table.num_rows == sum(len(chunk["rows"]) for chunk in chunks)
    last = table.to_pylist()[-1]
    assert [last[f"j{i} [rad]"] for i in range(3)] == chunks[-1]["rows"][-1]
    assert (
        last["time_ns"]
        == chunks[-1]["stamp_ns"] + (len(chunks[-1]["rows"]) - 1) * chunks[-1]["row_period_ns"]
    )
    assert table.schema.field("j0 [rad]").metadata == {b"unit": b"rad"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_csv_and_parquet_hold_the_same(tmp_path: Path, report: Path, suffix: str) -> None:
    motion, chunks = export_report(report, tmp_path / f"out{suffix}")
    assert (motion.name, chunks.name) == (f"out{suffix}", f"out.chunks{suffix}")
    if suffix == ".parquet":
        assert pq.read_table(motion).equals(motion_table(report))
        return
    with motion.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, known in zip(rows, motion_table(report).to_pylist(), strict=True):
        assert int(row["time_ns"]) == known["time_ns"]
        assert (float(row["executed"]) if row["executed"] else None) == known["executed"]


def test_an_export_of_another_suffix_or_to_nowhere_is_refused(tmp_path: Path, report: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed: \.csv or \.parquet"):
        export_report(report, tmp_path / "out.xlsx")
    with pytest.raises(ConfigError, match="cannot be written"):
        export_report(report, tmp_path / "nowhere" / "out.csv")


def test_a_report_without_a_timeline_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="replay again"):
        motion_table(tmp_path)
    (tmp_path / "timeline.parquet").write_bytes(b"not parquet")
    with pytest.raises(RecordingError, match="cannot be read"):
        motion_table(tmp_path)


def test_the_command_writes_all_files_while_it_replays_and_from_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=1.5)
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {coverage: {min: 0.1}}", encoding="utf-8")
    words = [
        "replay",
        str(tmp_path / "bag"),
        "--robot",
        "g1_inspire",
        "--policy",
        "fake",
        "--gate",
        str(gate),
    ]
    report = tmp_path / "report"
    files = {"--export": "a.csv", "--junit": "a.xml", "--markdown": "a.md"}
    options = [word for option, name in files.items() for word in (option, str(tmp_path / name))]
    assert run([*words, "--report", str(report), *options]) == 0
    again = [str(tmp_path / f"b.{suffix}") for suffix in ("csv", "xml", "md")]
    assert run(["replay", "export", str(report), *again]) == 0
    for name in ("csv", "chunks.csv", "xml", "md"):
        assert (tmp_path / f"a.{name}").read_bytes() == (tmp_path / f"b.{name}").read_bytes()
    capsys.readouterr()
    assert run(["replay", "export", str(report), str(tmp_path / "c.txt")]) == 1
    assert run(["replay", "export", str(tmp_path), str(tmp_path / "c.csv")]) == 1
    assert run([*words, "--report", str(tmp_path / "r2"), "--export", "c.doc"]) == 1
    assert not (tmp_path / "r2").exists()
    lines = capsys.readouterr().err.strip().splitlines()
    assert (len(lines), all(line.startswith("error:") for line in lines)) == (3, True)
