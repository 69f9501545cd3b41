# SPDX-License-Identifier: Apache-2.0
"""`wam replay` on the command line: options, exit codes, JSON, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wam.cli.main import run
from wam.data.fakes import fake_robot, write_fake_bag
from wam.devices.loader import load_robot

ROBOT = load_robot("g1_inspire")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "bag"
    write_fake_bag(path, robot=ROBOT, seconds=1.5)
    return path


def replay(bag: Path, report: Path, *options: str) -> int:
    # Most of these tests are about something else than how well the fake policy does.
    judged = () if "--gate" in options else ("--gate", "none")
    words = ["--robot", "g1_inspire", "--policy", "fake", "--report", str(report)]
    return run(["replay", str(bag), *words, *judged, *options])


def test_a_replay_ends_with_a_page_and_exit_code_0(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(bag, tmp_path / "r") == 0
    told = capsys.readouterr()
    assert "not judged" in told.out
    assert str(tmp_path / "r" / "index.html") in told.err
    assert (tmp_path / "r" / "index.html").is_file()


def test_json_goes_to_stdout_alone(tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(bag, tmp_path / "r", "--json", "--planner-latency", "0.2", "--seed", "3") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["settings"]["planner_latency_s"] == 0.2
    assert told["summary"]["settings"]["seed"] == 3
    assert told["timing"]["results"]["realtime_factor"] > 0


def test_a_failed_gate_is_exit_code_2_and_a_broken_one_1(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {action_l1: {max: 0.000001}}")
    assert replay(bag, tmp_path / "r", "--gate", str(gate)) == 2
    assert "FAIL" in capsys.readouterr().out
    gate.write_text("thresholds: {action_l1: {max: 100}}")
    assert replay(bag, tmp_path / "r", "--gate", str(gate)) == 0
    gate.write_text("thresholds: {wishes: {max: 100}}")
    assert replay(bag, tmp_path / "r", "--gate", str(gate)) == 1
    assert "metric wishes is unknown" in capsys.readouterr().err


def test_without_a_gate_the_default_one_decides_and_both_answers_come_first(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fake policy of this bag was "not judged" although most of its chunks would have been refused."""
    words = ["replay", str(bag), "--robot", "g1_inspire", "--policy", "fake", "--report", str(tmp_path / "r")]
    assert run(words) == 2
    told = capsys.readouterr().out
    assert told.splitlines()[0] == "Would this have been safe? No"
    assert "fail by the default gate" in told
    assert run([*words, "--json"]) == 2
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert (summary["verdict"], summary["gate_source"]) == ("fail", "default")
    for answer in summary["answers"].values():
        assert f"{answer['question']} {answer['answer'].capitalize()}" in told
        assert answer["reasons"][0]["text"] in told


def test_a_gate_that_names_no_metric_is_refused_before_the_policy_is_loaded(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gate.yaml").write_text("thresholds: {wishes: {max: 1}}")
    gate = ("--gate", str(tmp_path / "gate.yaml"))
    assert replay(bag, tmp_path / "r", "--policy", "nothing", *gate) == 1
    assert "metric wishes is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--planner-latency", "soon"), "--planner-latency: got 'soon'; allowed: 0 to 60 [s], or measured"),
        (("--executor-latency", "-1"), "--executor-latency"),
        (("--executor-latency", "nan"), "allowed: 0 to 60 [s]"),
        (("--time", "wall"), "allowed: stamps or receive"),
        (("--remap", "a=b"), "allowed: ROBOT_TOPIC:=RECORDED_TOPIC"),
        (("--gate", "/nowhere.yaml"), "gate /nowhere.yaml does not exist"),
        (("--robot", "nobody"), "there is no such robot"),
        (("--policy", "nothing"), "no policy bundle of that name"),
        (("--namespace", "lab"), "has no topic /lab/joint_states"),
        (("--action-topic", "/gone"), "has no topic /gone for the action"),
    ],
)
def test_a_wrong_option_is_one_line_and_writes_nothing(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str], match: str
) -> None:
    assert replay(bag, tmp_path / "r", *options) == 1
    told = capsys.readouterr().err
    assert match in told
    assert told.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_recording_that_is_not_there_is_refused_before_the_policy_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(tmp_path / "gone", tmp_path / "r", "--policy", "nothing") == 1
    assert "gone does not exist" in capsys.readouterr().err


def test_a_report_folder_of_the_users_is_left_alone(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "data.csv").write_text("1,2")
    assert replay(bag, tmp_path / "r") == 1
    assert "data.csv" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "r").iterdir()] == ["data.csv"]


def test_a_bag_of_another_robot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fake_bag(tmp_path / "bag", robot=fake_robot(), seconds=0.5)
    assert replay(tmp_path / "bag", tmp_path / "r") == 1
    assert "is of another robot: got 'fake'; allowed: g1_inspire" in capsys.readouterr().err


def test_two_reports_are_compared_and_a_run_does_not_differ_from_itself(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, latency in (("a", "0.1"), ("b", "0.1"), ("c", "0.3")):
        assert replay(bag, tmp_path / name, "--planner-latency", latency) == 0
    capsys.readouterr()
    assert (
        run(["replay", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json", "--fail-if-worse"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"] > 10
    assert told["unpaired"] == 0
    assert told["settings"] == {}
    assert {d["verdict"] for d in told["differences"].values()} == {"no significant difference"}
    assert run(["replay", "compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 0
    assert "settings.planner_latency_s: 0.1 | 0.3" in capsys.readouterr().out


def test_reports_of_two_recordings_are_not_compared(
    tmp_path: Path, bag: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_bag(tmp_path / "other", robot=ROBOT, seconds=1.0)
    assert replay(bag, tmp_path / "a") == 0
    assert replay(tmp_path / "other", tmp_path / "b") == 0
    assert run(["replay", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "cannot be compared: they are of two recordings (named bag and other)" in capsys.readouterr().err
    assert run(["replay", "compare", str(tmp_path / "a"), str(tmp_path)]) == 1
    assert "is no replay report" in capsys.readouterr().err


def test_the_help_tells_a_newcomer_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", "--help"]) == 0
    told = capsys.readouterr().out
    assert "wam replay g1_ep1 --robot g1_inspire" in told
    assert "Exit codes" in told
