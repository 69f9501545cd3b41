# SPDX-License-Identifier: Apache-2.0
"""A LeRobot episode becomes a bag of the robot's own topics, or is refused with a text that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_dataset import write_fake_dataset
from rosbags.highlevel import AnyReader

from wam.core.errors import RecordingError
from wam.data.bag.topics import EPOCH_NS
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_image, fake_robot, fake_trajectory
from wam.data.to_bag import convert_lerobot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

ROBOT = fake_robot()


def messages(bag: Path) -> dict[str, list[Any]]:
    with AnyReader([bag]) as reader:
        found: dict[str, list[Any]] = {}
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
        return found


@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
@pytest.mark.parametrize("stored", [False, True])
def test_every_row_of_every_version_becomes_state_action_and_image(
    tmp_path: Path, version: str, stored: bool
) -> None:
    source = write_fake_dataset(tmp_path / "set", version=version, stored_images=stored)
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, episode=1)
    found = messages(tmp_path / "bag")
    assert {topic: len(content) for topic, content in found.items()} == {
        "/joint_states": 12,
        "/action": 12,
        "/cam_high/image_raw/compressed": 12,
        "/instruction": 1,
    }
    expected = fake_trajectory(13, 3)
    state = np.array([message.position for message in found["/joint_states"]])
    action = np.array([message.position for message in found["/action"]])
    np.testing.assert_allclose(state, expected[:12], atol=1e-6)
    np.testing.assert_allclose(action, expected[1:], atol=1e-6)
    assert found["/joint_states"][0].name == ["d0", "d1", "d2"]
    assert found["/instruction"][0].data == "pick up the cube"
    for row in (0, 11):  # episode 1 starts at image 12: a packed video must be entered at the right place
        message = found["/cam_high/image_raw/compressed"][row]
        rgb = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[..., ::-1]
        assert abs(float(rgb.mean()) - float(fake_image(12 + row, height=48, width=64).mean())) < 3.0


def test_stamps_come_from_the_data_set_and_state_precedes_its_image(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, storage=Storage.SQLITE3)
    with AnyReader([tmp_path / "bag"]) as reader:
        rows = [(connection.topic, stamp) for connection, stamp, _ in reader.messages()]
        header = messages(tmp_path / "bag")["/joint_states"][3].header.stamp
    assert rows[:4] == [
        ("/instruction", EPOCH_NS),
        ("/joint_states", EPOCH_NS),
        ("/action", EPOCH_NS),
        ("/cam_high/image_raw/compressed", EPOCH_NS),
    ]
    assert header.sec * 10**9 + header.nanosec == pytest.approx(EPOCH_NS + 0.1e9, abs=100)


def test_two_conversions_give_the_same_bytes(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    for name in ("a/bag", "b/bag"):
        convert_lerobot(source, tmp_path / name, robot=ROBOT)
    for name in ("bag.mcap", "metadata.yaml"):
        assert (tmp_path / "a/bag" / name).read_bytes() == (tmp_path / "b/bag" / name).read_bytes()


def test_an_existing_bag_is_not_overwritten(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    (tmp_path / "bag").mkdir()
    with pytest.raises(RecordingError, match="exists already"):
        convert_lerobot(source, tmp_path / "bag", robot=ROBOT)
    assert list((tmp_path / "bag").iterdir()) == []


def refused(tmp_path: Path, source: Path, match: str, **options: Any) -> None:
    with pytest.raises(RecordingError, match=match):
        convert_lerobot(source, tmp_path / "bag", robot=options.pop("robot", ROBOT), **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"], "something half-made was left"


def edit_info(source: Path, **changes: Any) -> None:
    path = source / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_video_shorter_than_the_table_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", video_frames=9)
    refused(tmp_path, source, "shorter than the table of episode 0: got '9 images'; allowed: 12 images")


def test_lenient_keeps_the_rows_that_have_an_image(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", video_frames=9)
    (warning,) = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True).warnings
    assert "is shorter than the table of episode 0: got '9 images'" in warning
    found = messages(tmp_path / "bag")
    assert len(found["/cam_high/image_raw/compressed"]) == 9
    assert len(found["/joint_states"]) == 12


def test_a_frame_rate_that_the_stamps_deny_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_info(source, fps=50)
    refused(tmp_path, source, "fps 50, stamps at 30.00 Hz")
    result = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True)
    assert any("another frame rate" in warning for warning in result.warnings)


def test_a_video_of_another_rate_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", video_fps=15)
    refused(tmp_path, source, r"another frame rate than meta/info.json declares: got '15.00 Hz'")
    warnings = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True).warnings
    assert any("another frame rate than meta/info.json declares: got '15.00 Hz'" in one for one in warnings)


def test_what_was_let_pass_is_in_the_report_of_a_replay_of_the_bag(tmp_path: Path) -> None:
    """Only the converter told it, and whoever was given the bag could not know."""
    source = write_fake_dataset(tmp_path / "set", rows=40, video_frames=36)
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True)
    settings = ReplaySettings(planner_latency_ns=50_000_000, executor_latency_ns=20_000_000)
    options = ReplayOptions(bag=tmp_path / "bag", policy_name="fake", settings=settings)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=ROBOT)
    summary = replay(options, robot=ROBOT, policy=policy, report=tmp_path / "report").summary
    assert any(
        text.startswith("when the bag was made: video") and "got '36 images'" in text
        for text in summary["warnings"]
    )


def test_a_missing_joint_is_named(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    refused(tmp_path, source, "lacks j3 of robot fake", robot=fake_robot(joints=4))


def test_action_and_state_of_other_widths_are_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set", action_joints=2)
    refused(tmp_path, source, "action of .* does not hold the joints of robot fake: got .2 columns")
    result = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True)
    assert any("does not hold" in warning for warning in result.warnings)
    assert messages(tmp_path / "bag")["/action"][0].name == ["j0", "j1"]


def test_names_that_do_not_match_the_width_are_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    features = json.loads((source / "meta" / "info.json").read_text())["features"]
    features["observation.state"]["names"] = [["d0", "d1"]]
    edit_info(source, features=features)
    refused(tmp_path, source, "3 columns, 2 names")


def test_a_data_set_without_names_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    features = json.loads((source / "meta" / "info.json").read_text())["features"]
    features["observation.state"]["names"] = None
    edit_info(source, features=features)
    refused(tmp_path, source, "names no columns for observation.state")


def test_another_image_size_than_the_robots_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    refused(tmp_path, source, "got '64x48'; allowed: 128x96", robot=fake_robot(height=96, width=128))


def test_a_camera_of_another_name_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    features = json.loads((source / "meta" / "info.json").read_text())["features"]
    features["observation.images.top"] = features.pop("observation.images.cam_high")
    edit_info(source, features=features)
    videos = source / "videos" / "chunk-000"
    (videos / "observation.images.cam_high").rename(videos / "observation.images.top")
    refused(tmp_path, source, "--camera DATASET_NAME=cam_high")
    convert_lerobot(source, tmp_path / "bag", robot=ROBOT, cameras={"top": "cam_high"})
    assert len(messages(tmp_path / "bag")["/cam_high/image_raw/compressed"]) == 12


def test_a_missing_episode_lists_the_others(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    refused(tmp_path, source, "has no episode 7; allowed: 0, 1; change it in --episode", episode=7)


def test_a_missing_video_file_is_named(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    next((source / "videos").rglob("episode_000000.mp4")).unlink()
    refused(tmp_path, source, r"episode_000000\.mp4 of the data set is missing")


@pytest.mark.parametrize(("where", "what"), [("data", "has no end"), ("videos", "cannot be")])
def test_damaged_files_are_named(tmp_path: Path, where: str, what: str) -> None:
    source = write_fake_dataset(tmp_path / "set")
    path = next(path for path in (source / where).rglob("episode_000000.*"))
    path.write_bytes(path.read_bytes()[:200])
    refused(tmp_path, source, f"{path.name} {what}")


def test_a_template_that_leads_out_of_the_data_set_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_info(source, data_path="../../etc/{episode_index}.parquet")
    refused(tmp_path, source, "a path inside the data set")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("info.json", "[]"),
        ("info.json", '{"codebase_version": "v2.1", "fps": 30, "features": [], "data_path": "x"}'),
        ("info.json", '{"codebase_version": "v2.1", "fps": 30, "features": null, "data_path": "x"}'),
        ("episodes.jsonl", "[1]\n"),
        ("episodes.jsonl", "{\n"),
        ("tasks.jsonl", "{}\n"),
    ],
)
def test_damaged_metadata_are_named_without_a_traceback(tmp_path: Path, file: str, text: str) -> None:
    """Lists in the place of objects ended in a TypeError."""
    source = write_fake_dataset(tmp_path / "set")
    (source / "meta" / file).write_text(text)
    refused(tmp_path, source, r"lacks codebase_version|damaged or incomplete|cannot be read")


def test_a_chunk_of_no_episodes_is_damage(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_info(source, chunks_size=0)
    refused(tmp_path, source, "damaged or incomplete .ZeroDivisionError")


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    edit_info(source, codebase_version="v1.6")
    refused(tmp_path, source, "got 'v1.6'; allowed: v2.0, v2.1 or v3.0")


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    refused(tmp_path, tmp_path / "set", "is not a LeRobot data set")


def test_degrees_are_doubted_aloud_where_they_are_let_pass(tmp_path: Path) -> None:
    source = write_fake_dataset(tmp_path / "set")
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = next((source / "data").rglob("episode_000000.parquet"))
    table = pq.read_table(path).to_pydict()
    table["observation.state"] = [[57.3 * x for x in row] for row in table["observation.state"]]
    pq.write_table(pa.table(table), path)
    result = convert_lerobot(source, tmp_path / "bag", robot=ROBOT, lenient=True)
    assert any("--unit deg" in warning for warning in result.warnings)
