# SPDX-License-Identifier: Apache-2.0
"""`wam eval` and the verbs of `wam sim` that write: exit codes, files, and one line for what cannot be done."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import cv2
import pytest
from PIL import Image

from wam.cli.main import EXIT_COULD_NOT_RUN, EXIT_INTERRUPTED, EXIT_OK, run
from wam.data.lerobot.reader import open_dataset

pytestmark = pytest.mark.sim

EXIT_FAILED = 2
TASK = "franka_box_to_bowl"


def evaluate(report: Path, *words: str, policy: str = "expert", mode: str = "fast") -> int:
    base = ["eval", "--task", TASK, "--policy", policy, "--mode", mode, "--report", str(report)]
    return run([*base, "--no-videos", "--time-limit", "0.5", "--episodes", "1", *words])


def test_a_gate_decides_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {success_rate: {min: 0.5}}", encoding="utf-8")
    report = tmp_path / "report"
    assert evaluate(report, "--gate", str(gate), "--json") == EXIT_FAILED
    shown = json.loads(capsys.readouterr().out)
    assert shown["summary"]["verdict"] == "fail"
    assert shown["summary"]["metrics"]["success_rate"] == 0.0
    assert json.loads((report / "summary.json").read_text(encoding="utf-8")) == shown["summary"]
    assert evaluate(report) == EXIT_OK
    out = capsys.readouterr().out
    assert "0 of 1 (0.00 to 0.79, Wilson 95 %)" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "fly"], "no task of this name: got 'fly'; allowed: franka_box_to_bowl, "),
        (["--setting", "dark"], "no such setting: got 'dark'; allowed: seen, "),
        (["--mode", "slow"], "option --mode: got 'slow'; allowed: nodes or fast"),
        (["--mode", "nodes"], "the policy 'expert' runs without nodes: got 'nodes'; allowed: fast"),
        (["--mode", "nodes", "--policy", "blind"], "the policy 'blind' runs without nodes: got 'nodes'"),
        (
            ["--mode", "nodes", "--policy", "fake", "--processes", "2"],
            "option --processes or --ray: got 'nodes'",
        ),
        (["--policy", "fake", "--sampler", "q: 2"], "sampler: got {'q': 2}"),
        (["--sampler", "q=2"], "sampler: got 'q=2'"),
        (["--gate", "none.yaml"], "gate none.yaml does not exist"),
        (["--planner-latency", "soon"], "option --planner-latency: got 'soon'"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tmp_path / "report", *words) == EXIT_COULD_NOT_RUN
    assert said in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_line_is_printed_for_each_episode_and_a_signal_keeps_those_that_have_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from wam.evaluation.closed_loop.player import EpisodePlayer, Play

    play = EpisodePlayer.play

    def play_and_stop(player: EpisodePlayer, seed: int) -> Play | None:
        if seed == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return play(player, seed)

    monkeypatch.setattr(EpisodePlayer, "play", play_and_stop)
    assert evaluate(tmp_path / "report", "--episodes", "3") == EXIT_INTERRUPTED
    said = capsys.readouterr().err
    assert "[1/3] seed 0: no success, score 0, 0.5 s; the robot moved (" in said
    assert "2 of 3 episodes were not played" in said
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert [one["seed"] for one in summary["episodes"]] == [0]


def test_a_policy_of_another_robot_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wam.devices.loader import load_robot
    from wam.models.robot_layout import RobotLayout
    from wam.policies.bundles import make_tiny_bundle

    make_tiny_bundle(tmp_path / "piper", "aha_wam", robot=RobotLayout.of(load_robot("piper")))
    for mode in ("fast", "nodes"):
        assert evaluate(tmp_path / "report", policy=str(tmp_path / "piper"), mode=mode) == EXIT_COULD_NOT_RUN
        assert "which robot franka does not have" in capsys.readouterr().err


def test_a_task_that_a_policy_was_not_trained_for_is_refused_and_known_seeds_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wam.core.contract import TrainedOn
    from wam.devices.loader import load_robot
    from wam.models.bundle import state_training
    from wam.models.robot_layout import RobotLayout
    from wam.policies.bundles import make_tiny_bundle

    bundle = make_tiny_bundle(tmp_path / "bundle", "aha_wam", robot=RobotLayout.of(load_robot("franka")))
    data = TrainedOn(data_set="bowls", episodes=60, seeds=(0, 63), images="fast")
    bundle = state_training(bundle, task="franka_plate_to_basket", trained_on=data)
    policy, report = str(bundle.directory), tmp_path / "report"
    for mode in ("fast", "nodes"):
        assert evaluate(report, policy=policy, mode=mode) == EXIT_COULD_NOT_RUN
        said = capsys.readouterr().err
        assert (
            "was trained for task franka_plate_to_basket, not for this one: got 'franka_box_to_bowl'" in said
        )
    assert evaluate(report, "--any-task", "--seed", "63", policy=policy) == EXIT_OK
    said = capsys.readouterr().err
    assert "the policy was trained on images of quality fast; change it with --quality fast" in said
    assert "among the training data" not in said
    state_training(bundle, task=TASK, trained_on=data)
    words = ["--quality", "fast", "--seed", "63", "--episodes", "2"]
    assert evaluate(report, *words, policy=policy) == EXIT_OK
    said = capsys.readouterr().err
    assert "1 of 2 seeds may be among the training data (seeds 0 to 63)" in said
    assert "begin with --seed 64" in said
    assert "images of quality" not in said


def test_an_unknown_metric_in_a_gate_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate = tmp_path / "gate.yaml"
    gate.write_text("thresholds: {beauty: {min: 1}}", encoding="utf-8")
    assert evaluate(tmp_path / "report", "--gate", str(gate)) == EXIT_COULD_NOT_RUN
    assert "gate: metric beauty is unknown; allowed: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_data_set_without_cameras_is_recorded_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    words = ["sim", "record", str(out), "--task", TASK, "--episodes", "1", "--processes", "1", "--no-cameras"]
    assert run([*words, "--json"]) == EXIT_OK
    caught = capsys.readouterr()
    shown = json.loads(caught.out)
    assert [one["success"] for one in shown["episodes"]] == [True]
    assert f"LeRobot v3.0 data set: {out} (1 episode, " in caught.err
    dataset = open_dataset(out)
    assert dataset.cameras == ()
    assert [one.length for one in dataset.episodes] == [one["rows"] for one in shown["episodes"]]
    assert run(words) == EXIT_COULD_NOT_RUN
    assert "exists already and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--camera", "head"], "robot franka has no camera of this name: got 'head'; allowed: side, wrist"),
        (["--camera", "side", "--no-cameras"], "--camera with --no-cameras"),
        (["--task", "fly"], "no task of this name: got 'fly'"),
        (["--setting", "dark"], "no such setting: got 'dark'; allowed: seen, "),
    ],
)
def test_a_recording_that_cannot_be_made_is_refused_by_name(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", "record", str(tmp_path / "x"), "--task", TASK, *words]) == EXIT_COULD_NOT_RUN
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.camera
@pytest.mark.slow
def test_a_world_and_its_expert_are_drawn(tmp_path: Path) -> None:
    png, gif = tmp_path / "world.png", tmp_path / "expert.gif"
    assert run(["sim", "picture", "--task", TASK, "--out", str(png), "--width", "96"]) == EXIT_OK
    pixels = cv2.imread(str(png))
    assert pixels.shape == (72, 96, 3)
    assert pixels.std() > 20  # something is to be seen
    assert (
        run(["sim", "gif", "--task", TASK, "--out", str(gif), "--width", "64", "--max-kb", "60"]) == EXIT_OK
    )
    with Image.open(gif) as film:
        assert film.size == (64, 48)
        assert film.n_frames > 20
    assert gif.stat().st_size <= 60_000


def test_many_tasks_do_not_fit_into_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "picture", "--out", str(tmp_path / "all.png")]) == EXIT_COULD_NOT_RUN
    assert "several tasks cannot share one file" in capsys.readouterr().err
