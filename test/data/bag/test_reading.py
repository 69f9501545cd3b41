# SPDX-License-Identifier: Apache-2.0
"""Every form of recording is read completely, or refused with a text that helps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wam.core.errors import RecordingError
from wam.data.bag.reading import Recording
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_robot, write_fake_bag

ROBOT = fake_robot()
NS = 1_000_000_000


def count(path: Path, *, lenient: bool = False) -> dict[str, int]:
    with Recording(path, lenient=lenient) as recording:
        found: dict[str, int] = {}
        for message in recording.messages([topic.name for topic in recording.topics]):
            found[message.topic] = found.get(message.topic, 0) + 1
        return found


EXPECTED = {"/joint_states": 30, "/action": 30, "/cam_high/image_raw/compressed": 30, "/instruction": 1}


@pytest.mark.parametrize("storage", list(Storage))
def test_both_storage_plugins_are_read(tmp_path: Path, storage: Storage) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0, storage=storage)
    assert count(tmp_path / "bag") == EXPECTED


@pytest.mark.parametrize("storage", list(Storage))
def test_a_bag_without_metadata_is_read_by_folder_and_by_file(tmp_path: Path, storage: Storage) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0, storage=storage)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert count(tmp_path / "bag") == EXPECTED
    assert count(next((tmp_path / "bag").iterdir())) == EXPECTED


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_zstd_per_file_and_per_message_are_read(
    tmp_path: Path, storage: StoragePlugin, mode: CompressionMode
) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=storage)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for i in range(20):
            message = store.types["std_msgs/msg/String"](data=f"number {i}")
            writer.write(connection, NS + i, store.serialize_cdr(message, connection.msgtype))
    with Recording(tmp_path / "bag") as recording:
        assert [m.message.data for m in recording.messages(["/text"])] == [f"number {i}" for i in range(20)]


def test_nothing_decompressed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
    with writer:
        writer.add_connection("/text", "std_msgs/msg/String", typestore=get_typestore(Stores.ROS2_JAZZY))
    with Recording(tmp_path / "bag"):
        assert any(scratch.iterdir())
    assert not any(scratch.iterdir())


def test_the_parts_of_a_split_bag_are_one_recording_in_order_of_time(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    bag = tmp_path / "bag"
    bag.mkdir()
    for part, start in (("b", 0), ("a", 100)):  # names in the wrong order
        with Writer(tmp_path / part, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
            for i in range(start, start + 100):
                message = store.types["std_msgs/msg/String"](data=str(i))
                writer.write(connection, NS + i, store.serialize_cdr(message, connection.msgtype))
        shutil.copy(tmp_path / part / f"{part}.mcap", bag)
    with Recording(bag) as recording:
        assert [int(m.message.data) for m in recording.messages(["/text"])] == list(range(200))
        assert recording.message_count == 200


def test_a_ros_1_bag_is_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=store)
        for i in range(10):
            stamp = types["builtin_interfaces/msg/Time"](sec=1, nanosec=i)
            header = types["std_msgs/msg/Header"](seq=i, stamp=stamp, frame_id="")
            message = types["sensor_msgs/msg/JointState"](
                header=header,
                name=["d0"],
                position=np.array([0.1 * i]),
                velocity=np.empty(0),
                effort=np.empty(0),
            )
            writer.write(connection, NS + i, store.serialize_ros1(message, connection.msgtype))
    with Recording(tmp_path / "old.bag") as recording:
        messages = list(recording.messages(["/joint_states"]))
    assert [m.message.position[0] for m in messages] == pytest.approx([0.1 * i for i in range(10)])
    assert [m.stamp_ns for m in messages] == [NS + i for i in range(10)]


def test_a_topic_of_unknown_type_is_listed_and_the_others_are_read(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        odd = writer.add_connection("/odd", "lab_msgs/msg/Odd", msgdef="=@ no definition", rihs01="RIHS01_0")
        writer.write(
            text, NS, store.serialize_cdr(store.types["std_msgs/msg/String"](data="hi"), text.msgtype)
        )
        writer.write(odd, NS, b"\x00\x01\x00\x00\x07")
    with Recording(tmp_path / "bag") as recording:
        assert [topic.name for topic in recording.skipped] == ["/odd"]
        assert "cannot be read" in recording.skipped[0].unreadable
        assert [m.topic for m in recording.messages(["/text", "/odd"])] == ["/text"]


def test_a_custom_type_is_read_by_the_definition_in_the_bag(tmp_path: Path) -> None:
    own = get_typestore(Stores.ROS2_JAZZY)
    own.register(get_types_from_msg("std_msgs/Header header\nfloat64 grip", "lab_msgs/msg/Grip"))
    header = own.types["std_msgs/msg/Header"](
        stamp=own.types["builtin_interfaces/msg/Time"](sec=3, nanosec=4), frame_id=""
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        grip = writer.add_connection("/grip", "lab_msgs/msg/Grip", typestore=own)
        message = own.types["lab_msgs/msg/Grip"](header=header, grip=0.5)
        writer.write(grip, NS, own.serialize_cdr(message, grip.msgtype))
    with Recording(tmp_path / "bag") as recording:
        (message,) = recording.messages(["/grip"])
    assert message.message.grip == 0.5
    assert message.stamp_ns == 3 * NS + 4


def test_metadata_with_other_qos_than_the_file_lose_no_message(tmp_path: Path) -> None:
    """Bags converted by rosbag2 describe a topic otherwise in metadata.yaml than in the file; all was skipped."""
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0)
    path = tmp_path / "bag" / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    for entry in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
        entry["topic_metadata"]["offered_qos_profiles"] = (
            "- history: 3\n  depth: 0\n  reliability: 1\n  durability: 2"
        )
    path.write_text(yaml.safe_dump(content))
    assert count(tmp_path / "bag") == EXPECTED


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 12}, r"metadata.yaml: version: got 12; allowed: 1 .. 9"),
        ({"compression_mode": "FILE", "compression_format": "brotli"}, "got 'brotli per file'"),
        ({"relative_file_paths": ["gone.mcap"]}, "names files that are missing: gone.mcap"),
        ({"relative_file_paths": []}, "names no storage file"),
        ({"message_count": "many"}, "is damaged"),
    ],
)
def test_metadata_that_cannot_be_followed_are_refused(
    tmp_path: Path, change: dict[str, object], match: str
) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0)
    path = tmp_path / "bag" / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    content["rosbag2_bagfile_information"].update(change)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecordingError, match=match):
        count(tmp_path / "bag")


@pytest.mark.parametrize("text", ["", "rosbag2_bagfile_information:", "a: [1", "- 1", "\x00"])
def test_malformed_metadata_are_refused(tmp_path: Path, text: str) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0)
    (tmp_path / "bag" / "metadata.yaml").write_text(text)
    with pytest.raises(RecordingError, match=r"metadata\.yaml"):
        count(tmp_path / "bag")


def test_lenient_reads_the_parts_that_are_there(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0)
    path = tmp_path / "bag" / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    content["rosbag2_bagfile_information"]["relative_file_paths"] += ["bag_1.mcap"]
    path.write_text(yaml.safe_dump(content))
    assert count(tmp_path / "bag", lenient=True) == EXPECTED


def test_another_serialisation_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        store = get_typestore(Stores.ROS2_JAZZY)
        writer.add_connection(
            "/text", "std_msgs/msg/String", typestore=store, serialization_format="protobuf"
        )
    with pytest.raises(RecordingError, match=r"unsupported format: got \['protobuf'\]; allowed: cdr"):
        count(tmp_path / "bag")


@pytest.mark.parametrize("name", ["nothing", "notes.txt", "empty.mcap", "folder"])
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordingError, match=name):
        count(tmp_path / name)


def test_a_folder_of_recordings_names_those_that_lie_in_it(tmp_path: Path) -> None:
    """`wam replay bags/ur5e` said "no storage file" of a folder whose bags are bags/ur5e/seed_000000 and so on."""
    for seed in range(6):
        folder = tmp_path / f"seed_{seed:06d}"
        folder.mkdir()
        (folder / "part_0.mcap").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    with pytest.raises(RecordingError) as refused:
        Recording(tmp_path)
    said = str(refused.value)
    assert "holds 6 recordings" in said
    assert str(tmp_path / "seed_000000") in said
    assert "notes" not in said
    assert "and more" in said
