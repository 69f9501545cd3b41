# SPDX-License-Identifier: Apache-2.0
"""`wam replay scenario`: many recordings, a sweep, one gate."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from wam.cli.main import run
from wam.core.errors import RecordingError
from wam.data.fakes import write_fake_bag
from wam.devices.loader import load_robot

ROBOT = load_robot("g1_inspire")


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    for name, seconds in (("ep1", 1.0), ("ep2", 1.2)):
        write_fake_bag(tmp_path / "bags" / name, robot=ROBOT, seconds=seconds)
    return tmp_path / "bags"


def write(folder: Path, **changes: Any) -> Path:
    content = {
        "robot": "g1_inspire",
        "policy": "fake",
        "recordings": ["ep1", "ep2"],
        "sweep": {"planner_latency": [0.05, 0.2]},
        "gate": "none",
        **changes,
    }
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def test_every_variant_is_replayed_on_every_recording_and_summed_up(
    tmp_path: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(bags, gate={"thresholds": {"coverage": {"min": 0.9}}})
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["verdict"] == "pass"
    assert [(r["variant"], r["recording"]) for r in told["summary"]["runs"]] == [
        ("planner_latency=0.05", "ep1"),
        ("planner_latency=0.05", "ep2"),
        ("planner_latency=0.2", "ep1"),
        ("planner_latency=0.2", "ep2"),
    ]
    early, late = told["summary"]["variants"].values()
    assert early["metrics"]["context_age_p50_s"]["value"] < late["metrics"]["context_age_p50_s"]["value"]
    assert early["metrics"]["action_l1"]["count"] == 2
    for entry in told["summary"]["runs"]:
        assert (tmp_path / "r" / entry["folder"] / "index.html").is_file()
    assert told["timing"]["results"]["planner_latency=0.05: l_chunk_mean_ms"] > 0
    html = (tmp_path / "r" / "index.html").read_text()
    assert "Gate passed" in html
    links = re.findall(r'href="([^"]+)"', html)
    assert len(set(links)) == 4
    assert all((tmp_path / "r" / unquote(link)).is_file() for link in links)


def test_without_a_gate_the_default_one_judges_every_run_and_the_page_says_so(
    tmp_path: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(bags, sweep=None, recordings=["ep1"], gate=None)
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 2
    assert "Would this have been safe? no 1" in capsys.readouterr().out
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["verdict"], summary["gate_source"]) == ("fail", "default")
    assert summary["runs"][0]["verdict"] == "fail"
    assert summary["runs"][0]["answers"]["safe"] == "no"
    html = (tmp_path / "r" / "index.html").read_text()
    assert "Failed by the default gate: 0 of 1 runs passed" in html
    assert "the worst run decides" in html


def test_the_rows_of_a_scenario_with_a_gate_are_judged_by_it(tmp_path: Path, bags: Path) -> None:
    """Its rows said "not judged" although a gate existed."""
    file = write(bags, sweep=None, recordings=["ep1"], gate={"thresholds": {"coverage": {"min": 0.9}}})
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 0
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["verdict"], summary["runs"][0]["verdict"]) == ("pass", "pass")


def test_processes_at_a_time_do_not_change_the_summary(tmp_path: Path, bags: Path) -> None:
    file = write(bags, sweep=None)
    for name, jobs in (("a", "1"), ("b", "2")):
        assert run(["replay", "scenario", str(file), "--report", str(tmp_path / name), "--jobs", jobs]) == 0
    assert (tmp_path / "a" / "summary.json").read_bytes() == (tmp_path / "b" / "summary.json").read_bytes()


def test_a_failed_gate_is_exit_code_2_and_a_missing_recording_1(
    tmp_path: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(bags, sweep=None, recordings=["ep1"], gate={"thresholds": {"skill": {"min": 2}}})
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 2
    file = write(bags, sweep=None, recordings=["ep1", "gone"])
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 1
    assert "gone does not exist" in capsys.readouterr().err
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["verdict"] == "could not run"
    assert summary["variants"]["all"]["recordings"] == 1


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"robots": "g1"}, "unknown keys: got ['robots']"),
        ({"recordings": []}, "recordings: got '[]'"),
        ({"recordings": ["ep1", "x/ep1"]}, "folders of distinct names"),
        ({"robot": None}, "robot: got 'None'"),
        ({"robot": "nobody"}, "there is no such robot"),
        ({"policy": None}, "policy: got 'None'"),
        ({"settings": {"speed": 2}}, "settings: got ['speed']"),
        ({"settings": {"planner_latency": 0.1}}, "planner_latency is both fixed and swept"),
        ({"sweep": {"seed": 1}}, "sweep.seed: got '1'; allowed: a list of values"),
        ({"sweep": {"seed": [1.5]}}, "seed: got '1.5'; allowed: a whole number"),
        ({"sweep": {"seed": [1, 1]}}, "distinct values"),
        ({"sweep": {"executor_period": [0.0001]}}, "at least 0.005"),
        ({"sweep": {"executor_latency": ["soon"]}}, "executor_latency: got 'soon'"),
        ({"gate": {"limits": {}}}, "gate: keys: got ['limits']"),
        ({"gate": {"thresholds": {"wishes": {"min": 1}}}}, "metric wishes is unknown"),
    ],
)
def test_a_malformed_scenario_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], match: str
) -> None:
    (tmp_path / "bags").mkdir()
    file = write(tmp_path / "bags", **changes)
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 1
    told = capsys.readouterr().err
    assert match in told
    assert told.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_file_put_into_the_report_of_a_run_keeps_the_scenario_from_being_replaced(
    tmp_path: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(bags, sweep=None, recordings=["ep1"])
    arguments = ["replay", "scenario", str(file), "--report", str(tmp_path / "r")]
    assert run(arguments) == 0
    assert run(arguments) == 0
    note = next((tmp_path / "r" / "runs").iterdir()) / "note.txt"
    note.write_text("look at this")
    assert run(arguments) == 1
    assert "note.txt" in capsys.readouterr().err
    assert note.read_text() == "look at this"


def refuse(*arguments: Any, **options: Any) -> None:
    """Fail as code does that meets a folder which it may not read."""
    cause = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/ep1")
    raise RecordingError("recording /data/ep1 cannot be read (Permission denied)") from cause


def test_a_fault_of_the_machine_during_a_run_is_exit_code_3_and_no_result(
    tmp_path: Path, bags: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was booked as a recording that could not run, with exit code 1 and a report."""
    monkeypatch.setattr("wam.evaluation.replay.job.replay", refuse)
    assert run(["replay", "scenario", str(write(bags)), "--report", str(tmp_path / "r")]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: recording /data/ep1 cannot be read")
    assert not (tmp_path / "r").exists()


def test_a_fault_of_the_machine_while_episodes_are_converted_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every episode was refused one after another, as if the data set were at fault."""
    monkeypatch.setattr("wam.evaluation.replay.dataset_source.convert_lerobot", refuse)
    monkeypatch.setattr("wam.evaluation.replay.dataset_source._numbers", lambda source: (0, 1))
    file = write(tmp_path, recordings=None, dataset="data")
    assert run(["replay", "scenario", str(file), "--report", str(tmp_path / "r")]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: recording /data/ep1 cannot be read")
    assert not (tmp_path / "r").exists()
