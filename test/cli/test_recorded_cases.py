# SPDX-License-Identifier: Apache-2.0
"""Recordings and data sets as labs have them come out as the README beside each says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded_cases import FOLDER, needs_cases

from wam.cli.main import run
from wam.data.bag.reading import Recording
from wam.robots.images import decode_image

pytestmark = [pytest.mark.recorded, needs_cases]

ALL_FAKE_CHUNKS = 39
"""Chunks of the fake policy over 4 s."""


def replay(case: str, out: Path, *more: str, bag: str = "bag") -> tuple[int, dict[str, Any]]:
    folder = FOLDER / case
    words = [
        "replay",
        str(folder / bag),
        "--robot",
        str(folder / "robot.yaml"),
        "--policy",
        "fake",
        "--gate",
        "none",
    ]
    code = run([*words, "--report", str(out / "report"), *more])
    path = out / "report" / "summary.json"
    return code, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def convert(case: str, out: Path, *more: str, episode: int = 0) -> tuple[int, dict[str, list[Any]]]:
    folder = FOLDER / case
    words = [
        "convert",
        "lerobot",
        str(folder / "data"),
        str(out / "bag"),
        "--robot",
        str(folder / "robot.yaml"),
    ]
    code = run([*words, "--episode", str(episode), *more])
    return code, read(out / "bag") if (out / "bag").is_dir() else {}


def read(bag: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with Recording(bag) as recording:
        for message in recording.messages([topic.name for topic in recording.topics]):
            found.setdefault(message.topic, []).append(message.message)
    return found


def warned(summary: dict[str, Any], text: str) -> bool:
    return any(text in line for line in summary["warnings"])


@pytest.mark.parametrize(
    "case", ["enc_yuv422_yuy2", "enc_bayer_rggb8", "comp_format_empty", "video_ffmpeg_packet"]
)
def test_what_a_camera_sends_is_decoded_to_the_right_colours(case: str, tmp_path: Path) -> None:
    topics = ("/cam/image_raw", "/cam/image_raw/compressed", "/cam/image_raw/ffmpeg")
    with Recording(FOLDER / case / "bag") as recording:
        images = [message.message for message in recording.messages(topics)]
    assert len(images) == 60
    card = decode_image(images[3], camera="cam", size=(48, 64)).astype(int)
    for column, much, little in ((10, 0, 2), (54, 2, 0)):  # red on the left, blue on the right
        assert card[24, column, much] > 150 > 100 > card[24, column, little]
    remap = ["--remap", "cam/image_raw/compressed:=/cam/image_raw/ffmpeg"] if case.startswith("video") else []
    code, summary = replay(case, tmp_path, *remap)
    assert (code, summary["metrics"]["chunks"], summary["refusals"]) == (
        0,
        ALL_FAKE_CHUNKS,
        summary["refusals"],
    )
    assert summary["metrics"]["refused_messages"] == 0


def test_an_array_of_commands_is_the_action_in_the_order_of_the_groups_joints(tmp_path: Path) -> None:
    topic = "/forward_position_controller/commands"
    code, summary = replay("action_float64multiarray", tmp_path, "--action-topic", topic)
    assert (code, summary["settings"]["reference"]) == (0, "recorded action")
    assert all(joint["l1"] is not None for joint in summary["per_joint"].values())


def test_commands_of_two_arms_that_take_turns_are_compared_with_the_joints_they_name(tmp_path: Path) -> None:
    code, summary = replay("action_two_publishers_same_width", tmp_path)
    assert code == 0
    # Left moves about 0 and right about 1 rad: taken for each other, standing still would be wrong by 1 rad.
    assert summary["metrics"]["hold_l1"] < 0.1


def test_a_clock_that_is_set_forward_is_named_and_the_replay_goes_on(tmp_path: Path) -> None:
    code, summary = replay("clock_ntp_step", tmp_path)
    assert (code, len(summary["recording"]["gaps"])) == (0, 1)
    assert warned(summary, "the clock was set forward")
    assert summary["recording"]["duration_s"] < 10.0
    assert summary["metrics"]["chunks"] > 30


def test_what_a_killed_recorder_left_in_its_log_is_read(tmp_path: Path) -> None:
    code, summary = replay("db3_wal", tmp_path)
    assert (code, summary["metrics"]["chunks"]) == (0, ALL_FAKE_CHUNKS)
    assert warned(summary, "bag_0.db3-wal")


def test_openings_of_a_gripper_that_rotates_are_counted(tmp_path: Path) -> None:
    # The README says 8: it opens at 1, 3, 5 and 7 s and closes at 2, 4 and 6 s, and the recording ends before 8 s.
    code, summary = replay("gripper_revolute", tmp_path)
    assert (code, summary["metrics"]["gripper_switches"]) == (0, 7.0)


def test_images_that_were_written_late_are_put_in_their_place(tmp_path: Path) -> None:
    code, summary = replay("image_late_2s", tmp_path)
    assert code == 0
    assert all(report["late"] == 0 for report in summary["stamps"].values())
    assert warned(summary, "2.50 s later")


def test_degrees_are_named_with_what_the_robot_file_would_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = replay("js_degrees", tmp_path)
    error = capsys.readouterr().err.replace("\n", " ")
    assert (code, "degrees are likely" in error, "conversion: {state: 0.017453}" in error) == (1, True, True)


def test_arm_and_gripper_of_two_nodes_on_one_topic_are_merged(tmp_path: Path) -> None:
    code, summary = replay("js_two_publishers", tmp_path)
    assert (code, summary["metrics"]["chunks"], len(summary["per_joint"])) == (0, ALL_FAKE_CHUNKS, 7)
    assert summary["metrics"]["refused_messages"] == 0


def test_messages_that_are_not_ros_are_named_with_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = replay("mcap_json_protobuf", tmp_path, bag="run.mcap")
    error = capsys.readouterr().err.replace("\n", " ")
    assert (code, "json, and not ROS" in error, "mcap-ros2-support" in error) == (1, True, True)


def test_an_action_under_other_names_is_refused_with_a_map_and_taken_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = "lr_action_other_names"
    assert convert(case, tmp_path)[0] == 1
    assert "--action-name COLUMN=" in capsys.readouterr().err.replace("\n", " ")
    code, found = convert(case, tmp_path / "lenient", "--lenient")
    assert (code, "/action" in found) == (0, False)
    assert "the bag has no action" in capsys.readouterr().err.replace("\n", " ")
    leader = [
        f"{name}.pos" for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
    ]
    maps = [f"--action-name={name}=joint{i}" for i, name in enumerate([*leader, "gripper"], start=1)]
    code, found = convert(case, tmp_path / "mapped", *maps)
    assert (code, len(found["/action"])) == (0, 45)
    assert found["/action"][0].name == [f"joint{i}" for i in range(1, 7)]


def test_a_camera_that_the_robot_does_not_use_may_be_missing(tmp_path: Path) -> None:
    code, found = convert("lr_dead_columns", tmp_path)
    assert (code, len(found["/cam/image_raw/compressed"])) == (0, 45)


def test_degrees_are_refused_with_the_option_that_converts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("lr_degrees", tmp_path)[0] == 1
    assert "--unit deg --unit gripper=mm" in capsys.readouterr().err.replace("\n", " ")
    code, found = convert("lr_degrees", tmp_path / "stated", "--unit", "deg", "--unit", "gripper=mm")
    assert code == 0
    for topic in ("/joint_states", "/action"):
        assert max(np.abs(message.position).max() for message in found[topic]) < 3.1


def test_a_git_lfs_pointer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("lr_lfs_pointer_table", tmp_path)[0] == 1
    error = capsys.readouterr().err.replace("\n", " ")
    assert ("Git LFS pointer, not the file" in error, "git lfs pull" in error) == (True, True)


def test_stamps_that_start_late_do_not_move_the_images(tmp_path: Path) -> None:
    code, found = convert("lr_start_stamp_offset", tmp_path)
    images = found["/cam/image_raw/compressed"]
    assert (code, len(images), len(found["/joint_states"])) == (0, 45, 45)
    assert [image.header.stamp for image in images] == [
        state.header.stamp for state in found["/joint_states"]
    ]
    assert cv2.imdecode(images[0].data, cv2.IMREAD_COLOR).shape == (48, 64, 3)


def test_columns_without_names_are_taken_in_order_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("lr_unnamed_columns", tmp_path)[0] == 1
    error = capsys.readouterr().err.replace("\n", " ")
    assert ("--in-order" in error, "features[" in error) == (True, False)
    code, found = convert("lr_unnamed_columns", tmp_path / "ordered", "--in-order")
    assert (code, len(found["/joint_states"]), len(found["/action"])) == (0, 45, 45)


def test_an_episode_that_lies_in_another_file_than_meta_says_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = convert("lr_v30_stale_file_index", tmp_path, episode=1)
    assert (code, len(found["/joint_states"])) == (0, 45)
    assert "converter" in capsys.readouterr().err.replace("\n", " ")


def test_no_case_is_without_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [case.name for case in sorted(FOLDER.iterdir()) if f'"{case.name}"' not in text] == []
