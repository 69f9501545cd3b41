# SPDX-License-Identifier: Apache-2.0
"""The public conformance bags and the recorded robots, where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wam.core.errors import RecordingError
from wam.data.bag.reading import Recording
from wam.data.to_bag import convert_lerobot
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

ROOT = Path(os.environ.get("WAM_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
ROSBAG2 = ROOT / "rosbag2_conformance"
MCAP = ROOT / "mcap_conformance"

pytestmark = [
    pytest.mark.recorded,
    pytest.mark.skipif(not ROOT.is_dir(), reason=f"recorded data not found in {ROOT} (WAM_TEST_DATA)"),
]

OPENED = {
    # folder: messages in the files, of which can be read
    "ros2bag/test/resources/empty_bag": (0, 0),
    "rosbag2_py/test/resources/{storage}/reindex_test_bags/multiple_files": (3177, 3177),
    "rosbag2_py/test/resources/{storage}/talker": (20, 20),
    "rosbag2_py/test/resources/{storage}/wbag": (6074, 6074),
    "rosbag2_tests/resources/{storage}/cdr_test": (7, 7),
    "rosbag2_tests/resources/{storage}/bag_with_topics_and_service_events": (10, 2),
    "rosbag2_py/test/resources/mcap/convert_a": (150, 50),
    "rosbag2_py/test/resources/mcap/convert_b": (75, 50),
    "rosbag2_py/test/resources/sqlite3/convert_a": (150, 0),
    "rosbag2_py/test/resources/sqlite3/convert_b": (75, 0),
    "rosbag2_transport/test/resources/mcap/rewriter_a": (150, 50),
    "rosbag2_transport/test/resources/mcap/rewriter_b": (75, 50),
    "rosbag2_transport/test/resources/sqlite3/rewriter_a": (150, 0),
    "rosbag2_transport/test/resources/sqlite3/rewriter_b": (75, 0),
    "rosbag2_transport/test/resources/mcap/test_bag_for_seek": (5, 5),
    "rosbag2_transport/test/resources/sqlite3/test_bag_for_seek": (5, 0),
    "rosbag2_cpp/test/rosbag2_cpp/bags/only_services.mcap": (12, 0),
    "rosbag2_cpp/test/rosbag2_cpp/bags/only_topics.mcap": (7, 7),
    "rosbag2_cpp/test/rosbag2_cpp/bags/topics_and_services.mcap": (13, 7),
    "rosbag2_cpp/test/rosbag2_cpp/bags/topics_and_services.db3": (13, 7),
}

REFUSED = {
    "rosbag2_tests/resources/mcap/wrong_rmw_test": "unsupported format",
    "rosbag2_tests/resources/sqlite3/wrong_rmw_test": "unsupported format",
    "rosbag2_cpp/test/rosbag2_cpp/bags": "does not hold the parts of one recording",
}


def read(path: Path) -> tuple[int, int, int]:
    with Recording(path) as recording:
        readable = sum(topic.count for topic in recording.topics if not topic.unreadable)
        given = sum(1 for _ in recording.messages([topic.name for topic in recording.topics]))
        return recording.message_count, readable, given


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (name.format(storage=storage), expected)
        for name, expected in OPENED.items()
        for storage in (("mcap", "sqlite3") if "{storage}" in name else ("",))
    ],
)
def test_conformance_bags_are_opened_and_no_message_is_lost(folder: str, expected: tuple[int, int]) -> None:
    assert read(ROSBAG2 / folder) == (*expected, expected[1])


@pytest.mark.parametrize(("folder", "match"), list(REFUSED.items()))
def test_conformance_bags_that_cannot_be_read_are_refused(folder: str, match: str) -> None:
    with pytest.raises(RecordingError, match=match):
        read(ROSBAG2 / folder)


def test_every_conformance_bag_is_accounted_for() -> None:
    folders = {path.parent for suffix in ("mcap", "db3") for path in ROSBAG2.rglob(f"*.{suffix}")}
    named = {
        ROSBAG2 / name.format(storage=storage)
        for name in (*OPENED, *REFUSED)
        for storage in ("mcap", "sqlite3")
    }
    assert {folder for folder in folders if folder not in named} == set()


def test_all_mcap_variants_are_opened_with_every_message() -> None:
    files = sorted(MCAP.rglob("*.mcap"))
    assert len(files) == 70
    for file in files:
        with Recording(file) as recording:
            (topic,) = recording.topics
            assert (topic.name, topic.count) == ("example", 10), file.name
            assert "serialised as a" in topic.unreadable
    assert read(MCAP / "testdata" / "db3" / "chatter.db3") == (7, 7, 7)


def test_a_real_ros_1_bag_is_read_with_its_custom_type() -> None:
    with Recording(ROOT / "wx200_ros1" / "waist_diagnostics.bag") as recording:
        assert recording.skipped == ()
        joints = list(recording.messages(["/wx200/joint_states"]))
        assert len(joints) == 10_598
        (report,) = recording.order.reports()
    assert 99.0 < report.rate < 101.0
    assert report.negative_latency == 0


def test_a_recording_of_many_sensors_is_read_completely() -> None:
    assert read(ROOT / "sensor_types_rosbag2") == (194, 194, 194)


def test_a_real_episode_becomes_a_bag_and_is_replayed_with_real_phase_offsets(tmp_path: Path) -> None:
    robot = load_robot("g1_inspire")
    converted = convert_lerobot(ROOT / "g1_inspire_lerobot", tmp_path / "ep1", robot=robot, episode=1)
    assert (converted.rows, converted.messages) == (393, 3 * 393 + 1)
    assert converted.instruction == "Pick up the yellow bottle on the table."
    assert converted.warnings == ()
    settings = ReplaySettings(
        planner_latency_ns=100_000_000, executor_latency_ns=50_000_000, planner_period_ns=0
    )
    options = ReplayOptions(bag=tmp_path / "ep1", policy_name="fake", settings=settings)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    outcome = replay(options, robot=robot, policy=policy, report=tmp_path / "report")
    metrics = outcome.summary["metrics"]
    assert metrics["chunks"] > 120
    assert metrics["scored_chunks"] == metrics["chunks"]
    assert 2 <= metrics["phase_offset_p50_rows"] <= 4
    assert metrics["coverage"] == 1.0
    # Standing still is off by what the teleoperator moved within half a second.
    assert 0.01 < metrics["hold_l1"] < 0.1
    assert outcome.summary["warnings"] == []


def test_an_episode_that_the_metadata_name_but_the_disk_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="has no episode 0; allowed: 1, 2"):
        convert_lerobot(
            ROOT / "g1_inspire_lerobot", tmp_path / "ep0", robot=load_robot("g1_inspire"), episode=0
        )
    assert list(tmp_path.iterdir()) == []
