# SPDX-License-Identifier: Apache-2.0
"""`wam convert lerobot` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_dataset import write_fake_dataset

from wam.cli.main import run


@pytest.fixture
def robot(tmp_path: Path) -> str:
    path = tmp_path / "lab.yaml"
    joints = "\n".join(
        f"      - {{name: j{i}, driver_name: d{i}, kind: revolute, lower: -3, upper: 3, velocity: 2, "
        "acceleration: 10, jerk: 100}"
        for i in range(3)
    )
    path.write_text(
        f"""title: a lab robot
groups:
  - name: body
    state: {{topic: joint_states, rate: 30, max_age: {{value: 200, unit: ms}}}}
    command: {{kind: none}}
    joints:
{joints}
cameras:
  - {{name: cam_high, topic: cam_high/image_raw/compressed, transport: compressed, encoding: jpeg, height: 48,
     width: 64, rate: 30, max_age: {{value: 200, unit: ms}}, frame_id: cam}}
safety:
  chunk_timeout: {{value: 300, unit: ms}}
  max_jump: 0.5
  tracking_error: 0.5
  lead: {{value: 50, unit: ms}}
  blend: {{value: 100, unit: ms}}
"""
    )
    return str(path)


def test_an_episode_is_converted_and_reported_as_json(
    tmp_path: Path, robot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_fake_dataset(tmp_path / "set")
    code = run(
        [
            "convert",
            "lerobot",
            str(source),
            str(tmp_path / "bag"),
            "--robot",
            robot,
            "--episode",
            "1",
            "--json",
        ]
    )
    assert code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["episode"] == 1
    assert told["rows"] == 12
    assert told["topics"]["/joint_states"] == "observation.state"
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


def test_a_refusal_is_one_line_and_exit_code_1(
    tmp_path: Path, robot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_fake_dataset(tmp_path / "set")
    (tmp_path / "bag").mkdir()
    code = run(["convert", "lerobot", str(source), str(tmp_path / "bag"), "--robot", robot])
    told = capsys.readouterr()
    assert code == 1
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "exists already and is not overwritten" in told.err


@pytest.mark.parametrize("value", ["top", "=cam_high", "top="])
def test_a_malformed_camera_option_is_refused(
    tmp_path: Path, robot: str, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    source = write_fake_dataset(tmp_path / "set")
    code = run(
        ["convert", "lerobot", str(source), str(tmp_path / "bag"), "--robot", robot, "--camera", value]
    )
    assert code == 1
    assert "allowed: DATASET_NAME=ROBOT_NAME" in capsys.readouterr().err


def test_the_help_tells_a_newcomer_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "lerobot", "--help"]) == 0
    told = capsys.readouterr().out
    assert "wam convert lerobot ~/g1_pick g1_ep1" in told
    assert "it must not exist" in told


def test_bags_become_a_data_set_and_are_reported_as_json(
    tmp_path: Path, robot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_fake_dataset(tmp_path / "set")
    bags = [str(tmp_path / f"bag{i}") for i in range(2)]
    for i, bag in enumerate(bags):
        assert run(["convert", "lerobot", str(source), bag, "--robot", robot, "--episode", str(i)]) == 0
    capsys.readouterr()
    out = str(tmp_path / "back")
    assert run(["convert", "bag", *bags, out, "--robot", robot, "--version", "v3.0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == [12, 12]
    assert told["tasks"] == ["pick up the cube"] * 2
    assert told["action_names"] == ["j0", "j1", "j2"]
    assert run(["convert", "bag", *bags, out, "--robot", robot]) == 1
    assert "exists already and is not overwritten" in capsys.readouterr().err
