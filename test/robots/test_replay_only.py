# SPDX-License-Identifier: Apache-2.0
"""A robot file for replay only may leave open what no recording tells; no robot is moved by it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from robot_file_texts import COMPLETE, DRAFT, without_the_flag

from wam.cli.main import run
from wam.core.errors import ConfigError
from wam.data.fakes import fake_robot, write_fake_bag
from wam.devices.loader import load_robot
from wam.robots.description import UNSTATED, CommandKind
from wam.robots.safety_budget import NO_BUDGET

ROOT = Path(__file__).resolve().parents[2]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "draft.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_for_replay_needs_no_cameras_no_command_and_no_budgets(tmp_path: Path) -> None:
    robot = load_robot(write(tmp_path, DRAFT), moves=False)
    assert (robot.replay_only, robot.cameras, robot.safety) == (True, (), NO_BUDGET)
    assert robot.groups[0].command_kind is CommandKind.NONE
    joint = robot.joints[0]
    assert (joint.lower, joint.upper, joint.velocity) == (-1.0, 1.0, 2.0)
    assert (joint.acceleration, joint.jerk) == (UNSTATED, UNSTATED)
    entry = "groups[0].joints[0]"
    keys = ("lower", "upper", "velocity", "acceleration", "jerk")
    assert robot.unstated == (*(f"{entry}.{key}" for key in keys), "safety")


def test_nothing_is_moved_by_a_file_for_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, DRAFT)
    with pytest.raises(ConfigError, match=r"is for replay only: .* jerk of 1 joint, safety"):
        load_robot(file)
    live = ["replay", str(tmp_path), "--policy", "fake", "--report", str(tmp_path / "r"), "--mode", "live"]
    for words in (["demo", str(file)], [*live, "--robot", str(file)]):
        assert run(words) == 1
        assert "is for replay only" in capsys.readouterr().err


def test_a_complete_file_with_the_flag_moves_nothing_either(tmp_path: Path) -> None:
    text = without_the_flag().replace("title:", "replay_only: true\ntitle:")
    for key in ("lower", "upper", "velocity"):
        text = text.replace(
            f"{key}: {{observed: ", f"{key}: {{unit: rad{'/s' if key == 'velocity' else ''}, value: "
        )
    text = text.replace("TODO", "10")
    file = write(tmp_path, text)
    assert load_robot(file, moves=False).unstated == ()
    with pytest.raises(ConfigError, match="is for replay only"):
        load_robot(file)
    assert load_robot(write(tmp_path, text.replace("replay_only: true\n", ""))).replay_only is False


def test_without_the_flag_everything_that_was_left_out_is_required(tmp_path: Path) -> None:
    bare = DRAFT.replace("replay_only: true\n", "")
    with pytest.raises(ConfigError, match="lacks cameras, safety"):
        load_robot(write(tmp_path, bare))
    with pytest.raises(ConfigError, match=r"groups\[0\] lacks command"):
        load_robot(write(tmp_path, bare + COMPLETE))
    with pytest.raises(ConfigError, match="lacks cameras, safety"):
        load_robot(write(tmp_path, DRAFT.replace("replay_only: true", "replay_only: false")))


def test_without_the_flag_each_open_value_is_refused_by_name(tmp_path: Path) -> None:
    text = without_the_flag()
    stated = {"lower": "-1", "upper": "1", "velocity": "2"}
    for key, value in stated.items():
        with pytest.raises(ConfigError, match=rf"groups\[0\].joints\[0\].{key} is what a recording shows"):
            load_robot(write(tmp_path, text))
        text = text.replace(f"{key}: {{observed: {value}}}", f"{key}: {value}")
    for key in ("acceleration", "jerk"):
        with pytest.raises(ConfigError, match=rf"groups\[0\].joints\[0\].{key} is still TODO"):
            load_robot(write(tmp_path, text))
        text = text.replace(f"{key}: TODO", f"{key}: 10")
    assert load_robot(write(tmp_path, text)).unstated == ()


@pytest.mark.parametrize(
    ("old", "path"),
    [
        ("topic: joint_states", "groups[0].state.topic"),
        ("rate: 30", "groups[0].state.rate"),
        ("kind: revolute", "groups[0].joints[0].kind"),
        ("velocity: {observed: 2}", "groups[0].joints[0].velocity"),
        ("title: A recorded arm", "title"),
    ],
)
def test_a_todo_that_replay_needs_is_refused_by_name_in_a_file_for_replay_too(
    tmp_path: Path, old: str, path: str
) -> None:
    assert DRAFT.count(old) == 1
    text = DRAFT.replace(old, f"{old.partition(':')[0]}: TODO")
    with pytest.raises(ConfigError) as caught:
        load_robot(write(tmp_path, text), moves=False)
    assert f"{path} is still TODO" in str(caught.value)


def test_a_replay_with_such_a_file_says_that_nothing_was_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fake_bag(tmp_path / "bag", robot=fake_robot(joints=1), seconds=1.5, images=False)
    file = write(tmp_path, DRAFT)
    words = ["replay", str(tmp_path / "bag"), "--robot", str(file), "--policy", "fake", "--lenient"]
    assert run([*words, "--gate", "none", "--report", str(tmp_path / "report")]) == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["answers"]["safe"]["answer"] == "cannot be told"
    assert summary["metrics"]["chunks"] > 5
    assert summary["safety"]["source"] == "nobody"
    assert "does not state lower of 1 joint" in summary["safety"]["not_checked"]
    of_limits = ("rows_beyond_limits", "steps_too_fast", "safety_stops", "safety_ok", "safety_refused_rate")
    assert {name: summary["metrics"][name] for name in of_limits} == dict.fromkeys(of_limits)
    assert any("the safety chain judged nothing" in line for line in summary["warnings"])
    assert "Nothing was judged" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_a_gate_on_safety_fails_where_nothing_was_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No STOP in a replay without a safety chain is not a STOP-free replay."""
    write_fake_bag(tmp_path / "bag", robot=fake_robot(joints=1), seconds=1.5, images=False)
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {safety_stops: {max: 0}}", encoding="utf-8")
    words = ["replay", str(tmp_path / "bag"), "--robot", str(write(tmp_path, DRAFT)), "--policy", "fake"]
    assert run([*words, "--lenient", "--report", str(tmp_path / "report"), "--gate", str(gate)]) == 2


def test_info_shows_what_a_file_for_replay_does_not_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, DRAFT)
    assert run(["info", "--robot", str(file)]) == 0
    assert "for replay only; not stated: lower of 1 joint" in capsys.readouterr().out
    assert run(["info", "--robot", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["replay_only"], told["safety"], told["groups"][0]["joints"][0]["jerk"]) == (True, None, None)


MOVE_NOTHING = {
    "examples/policy/example_policy/commands.py",  # a bundle from a table
    "examples/safety_filter/run.py",  # a replay
    "wam/cli/convert.py",
    "wam/cli/convert_bag.py",
    "wam/cli/info.py",
    "wam/api.py",  # offline replay
    "wam/cli/init_robot.py",
    "wam/cli/record.py",  # only listens
    "wam/cli/replay.py",  # offline; live mode moves simulated nodes and asks for a complete file
    "wam/evaluation/replay/job.py",
    "wam/policies/ud_vla/commands.py",  # initial weights
    "wam/policies/unit_options.py",
}


def test_files_for_replay_are_taken_only_by_what_moves_nothing() -> None:
    """Everything that starts a node, a twin or a driver must ask for a complete file, which is the default."""
    places = set()
    for folder in (*ROOT.glob("wam*"), ROOT / "examples", ROOT / "launch"):
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or ast.unparse(node.func) != "load_robot":
                    continue
                if any(word.arg == "moves" for word in node.keywords):
                    places.add(str(file.relative_to(ROOT)))
    assert places == MOVE_NOTHING
