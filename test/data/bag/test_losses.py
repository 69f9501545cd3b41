# SPDX-License-Identifier: Apache-2.0
"""Of a recording that was cut off or damaged all is read that can be, and what cannot is told: topic, number, time."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from wam.core.errors import RecordingError
from wam.data.bag.losses import RecordingLoss, loss_lines, seconds_lost
from wam.data.bag.reading import Recording
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_robot, write_fake_bag

ROBOT = fake_robot()
NS = 1_000_000_000
MS = 1_000_000
EXPECTED = {"/joint_states": 30, "/action": 30, "/cam_high/image_raw/compressed": 30, "/instruction": 1}
ROS1 = get_typestore(Stores.ROS1_NOETIC)
ROS2 = get_typestore(Stores.ROS2_JAZZY)


def read(
    path: Path, *, lenient: bool = False
) -> tuple[dict[str, int], tuple[RecordingLoss, ...], tuple[str, ...]]:
    """Return messages read by topic, losses and warnings."""
    with Recording(path, lenient=lenient) as recording:
        found: dict[str, int] = {}
        for message in recording.messages([topic.name for topic in recording.topics]):
            found[message.topic] = found.get(message.topic, 0) + 1
        return found, recording.losses, recording.warnings


def sum_of(found: dict[str, int], losses: tuple[RecordingLoss, ...]) -> dict[str, int]:
    """Return messages read and lost, by topic."""
    total = dict(found)
    for loss in losses:
        assert loss.messages is not None
        total[loss.topic] = total.get(loss.topic, 0) + loss.messages
    return total


def storage_of(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))


@pytest.mark.parametrize("storage", list(Storage))
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.02, 0.3, 0.7, 0.98])
def test_wherever_a_file_was_cut_what_was_read_and_what_was_lost_is_all_that_was_promised(
    tmp_path: Path, storage: Storage, share: float
) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0, storage=storage)
    file = storage_of(tmp_path / "bag")
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    if share < 0.01 or (storage is Storage.SQLITE3 and share < 0.5):
        with pytest.raises(RecordingError, match=file.name):
            read(tmp_path / "bag")
        return
    found, losses, warnings = read(tmp_path / "bag")
    assert sum_of(found, losses) == EXPECTED
    assert losses or found == EXPECTED, "where only an index was cut off"
    assert all(file.name in loss.reason for loss in losses)
    for loss in losses:
        if loss.topic != "/instruction":  # once: it has no interval
            assert loss.seconds == pytest.approx((loss.messages or 0) / 30, rel=0.01)
    assert any("lost are" in line for line in warnings) is bool(losses)


def test_a_file_without_index_and_metadata_tells_until_when_its_last_chunk_went_on(tmp_path: Path) -> None:
    """What a chunk that was cut off had held was not told, and what stood in it up to the cut was not read."""
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=60.0, images=True)
    file = storage_of(tmp_path / "bag")
    data = file.read_bytes()
    file.write_bytes(data[: int(0.8 * len(data))])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    found, (loss,), warnings = read(tmp_path / "bag")
    assert found["/joint_states"] == pytest.approx(0.8 * 1800, rel=0.02)
    assert (loss.topic, loss.messages) == ("", None)
    assert loss.seconds is not None
    assert 0.0 <= loss.seconds < 2.0, "less than the chunk"
    assert warnings == (f"{loss.reason}: lost are messages ({loss.seconds:.2f} s)",)


@pytest.mark.parametrize("storage", list(Storage))
def test_garbage_in_the_middle_costs_what_lies_there(tmp_path: Path, storage: Storage) -> None:
    bag = tmp_path / "bag"
    write_fake_bag(bag, robot=ROBOT, seconds=30.0, storage=storage)
    file = storage_of(bag)
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40_000] = bytes(range(1, 201)) * 200
    file.write_bytes(data)
    found, losses, _ = read(bag)
    assert sum_of(found, losses) == {**dict.fromkeys(EXPECTED, 900), "/instruction": 1}
    assert 0 < sum(loss.messages or 0 for loss in losses) < 1400


def write_mcap(path: Path, *, count: int, compression: CompressionType) -> None:
    """Write /text at 100 Hz and /other at 50 Hz, ten chunks."""
    with path.open("wb") as file:
        writer = McapWriter(file, compression=compression, chunk_size=10**9)
        writer.start("ros2")
        schema = writer.register_schema("std_msgs/msg/String", "ros2msg", b"string data")
        channels = [writer.register_channel(name, "cdr", schema) for name in ("/text", "/other")]
        for i in range(count):
            raw = bytes(
                ROS2.serialize_cdr(ROS2.types["std_msgs/msg/String"](data=f"{i}"), "std_msgs/msg/String")
            )
            for channel in channels[: 1 + (i % 2 == 0)]:
                writer.add_message(channel, NS + i * 10 * MS, raw, NS + i * 10 * MS)
            if i % (count // 10) == count // 10 - 1:
                writer.flush()
        writer.finish()


def chunks_of(data: bytes) -> list[tuple[int, int]]:
    """Return begin and end of the content of every chunk record of an MCAP."""
    at, found = 8, []
    while at + 9 <= len(data) - 8:
        kind, length = struct.unpack_from("<BQ", data, at)
        if kind == 0x06:
            found.append((at + 9, at + 9 + length))
        at += 9 + length
    return found


def test_a_damaged_chunk_is_skipped_and_its_index_tells_what_it_held(tmp_path: Path) -> None:
    """Reading ended at the first damaged chunk, however much came after it."""
    file = tmp_path / "a.mcap"
    write_mcap(file, count=1000, compression=CompressionType.ZSTD)
    data = bytearray(file.read_bytes())
    begin, end = chunks_of(bytes(data))[4]
    data[begin + 60 : end] = bytes(end - begin - 60)
    file.write_bytes(data)
    found, losses, warnings = read(file)
    assert found == {"/text": 900, "/other": 450}
    reason = f"a part of {file.name} is damaged"
    assert losses == (RecordingLoss("/text", 100, 1.0, reason), RecordingLoss("/other", 50, 1.0, reason))
    assert warnings == (f"{reason}: lost are 100 messages of /text (1.00 s), 50 messages of /other (1.00 s)",)


def test_a_damaged_chunk_is_read_up_to_the_damage(tmp_path: Path) -> None:
    file = tmp_path / "a.mcap"
    write_mcap(file, count=1000, compression=CompressionType.NONE)
    data = bytearray(file.read_bytes())
    begin, end = chunks_of(bytes(data))[4]
    middle = (begin + end) // 2
    data[middle : middle + 60] = b"\xff" * 60
    file.write_bytes(data)
    found, losses, _ = read(file)
    assert sum_of(found, losses) == {"/text": 1000, "/other": 500}
    assert {loss.topic: loss.messages for loss in losses}["/text"] == pytest.approx(50, abs=3)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_compressed_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, share: float) -> None:
    from wam.data.bag.storage_file import zstd

    file = tmp_path / "a.mcap"
    write_mcap(file, count=1000, compression=CompressionType.NONE)
    # Blocks of little content, as a compressor writes them that is flushed now and then.
    packed = b"".join(
        zstd.compress(file.read_bytes()[i : i + 4096]) for i in range(0, file.stat().st_size, 4096)
    )
    (tmp_path / "a.mcap.zstd").write_bytes(packed[: int(share * len(packed))])
    found, (loss,), _ = read(tmp_path / "a.mcap.zstd")
    assert found["/text"] == pytest.approx(1000 * share, abs=120)
    assert "ends before its recorder had finished it" in loss.reason


def write_ros1(path: Path, *, compression: Ros1Writer.CompressionFormat | None = None) -> None:
    """Write /joint_states at 100 Hz and /text at 10 Hz for ten seconds, in many chunks."""
    types = ROS1.types
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        writer.chunk_threshold = 20_000
        states = writer.add_connection("/joint_states", "sensor_msgs/msg/JointState", typestore=ROS1)
        texts = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS1)
        for i in range(1000):
            time_ns = NS + i * 10 * MS
            stamp = types["builtin_interfaces/msg/Time"](sec=time_ns // NS, nanosec=time_ns % NS)
            header = types["std_msgs/msg/Header"](seq=i, stamp=stamp, frame_id="")
            message = types["sensor_msgs/msg/JointState"](
                header=header,
                name=["d0"],
                position=np.array([0.1 * i]),
                velocity=np.empty(0),
                effort=np.empty(0),
            )
            writer.write(states, time_ns, ROS1.serialize_ros1(message, states.msgtype))
            if i % 10 == 0:
                text = types["std_msgs/msg/String"](data=f"{i}")
                writer.write(texts, time_ns, ROS1.serialize_ros1(text, texts.msgtype))


def index_of(path: Path) -> tuple[int, list[int]]:
    """Return where the index of a ROS 1 bag begins, and its chunks."""
    with Ros1Reader(path) as reader:
        chunks = sorted(info.pos for info in reader.chunk_infos)
    data = path.read_bytes()
    return struct.unpack_from("<Q", data, data.index(b"index_pos=") + 10)[0], chunks


def forget_index(data: bytearray) -> None:
    """Leave the header of a ROS 1 bag as its recorder writes it at the start."""
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)


@pytest.mark.parametrize("name", ["old.bag", "old.bag.active"])
@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_a_ros_1_bag_whose_recorder_was_killed_is_read_without_its_index(
    tmp_path: Path, name: str, compression: Ros1Writer.CompressionFormat | None
) -> None:
    """It was refused with the advice to find a ROS 1 installation."""
    write_ros1(tmp_path / "whole.bag", compression=compression)
    index, _ = index_of(tmp_path / "whole.bag")
    data = bytearray((tmp_path / "whole.bag").read_bytes()[:index])
    forget_index(data)
    (tmp_path / name).write_bytes(data)
    with Recording(tmp_path / name) as recording:
        messages = list(recording.messages(["/joint_states"]))
        (loss,) = recording.losses
    assert [m.message.position[0] for m in messages] == pytest.approx([0.1 * i for i in range(1000)])
    assert (loss.messages, loss.seconds) == (None, None)
    assert loss.reason == f"{name} ends before its recorder had finished it"


@pytest.mark.parametrize("compression", [None, *Ros1Writer.CompressionFormat])
def test_a_ros_1_bag_that_was_cut_off_is_read_into_its_last_chunk(
    tmp_path: Path, compression: Ros1Writer.CompressionFormat | None
) -> None:
    write_ros1(tmp_path / "old.bag", compression=compression)
    _, chunks = index_of(tmp_path / "old.bag")
    data = (tmp_path / "old.bag").read_bytes()
    (length,) = struct.unpack_from("<I", data, chunks[-1])
    (size,) = struct.unpack_from("<I", data, chunks[-1] + 4 + length)
    (tmp_path / "old.bag").write_bytes(data[: chunks[-1] + 8 + length + size // 2])
    found, losses, _ = read(tmp_path / "old.bag")
    assert len(losses) == 1
    whole = 1000 * (len(chunks) - 1) // len(chunks)
    assert whole * 0.9 < found["/joint_states"] < 1000


def test_the_open_chunk_of_a_ros_1_bag_is_read(tmp_path: Path) -> None:
    """A recorder writes the length of a chunk only when it closes it: until then it says 0."""
    write_ros1(tmp_path / "old.bag")
    index, chunks = index_of(tmp_path / "old.bag")
    data = bytearray((tmp_path / "old.bag").read_bytes()[:index])
    forget_index(data)
    (length,) = struct.unpack_from("<I", data, chunks[-1])
    size_at = chunks[-1] + 4 + length
    (size,) = struct.unpack_from("<I", data, size_at)
    del data[size_at + 4 + size - 40 :]  # the index of the chunk and the end of its last message
    data[size_at : size_at + 4] = bytes(4)
    (tmp_path / "old.bag").write_bytes(data)
    found, _, _ = read(tmp_path / "old.bag")
    assert found["/joint_states"] == 999


@pytest.mark.parametrize("compression", [None, Ros1Writer.CompressionFormat.BZ2])
def test_a_damaged_chunk_of_a_ros_1_bag_is_skipped_and_its_index_tells_what_it_held(
    tmp_path: Path, compression: Ros1Writer.CompressionFormat | None
) -> None:
    write_ros1(tmp_path / "old.bag", compression=compression)
    _, chunks = index_of(tmp_path / "old.bag")
    data = bytearray((tmp_path / "old.bag").read_bytes())
    begin = chunks[2] + 300
    data[begin : begin + 200] = b"\xff" * 200
    (tmp_path / "old.bag").write_bytes(data)
    found, losses, _ = read(tmp_path / "old.bag")
    assert sum_of(found, losses) == {"/joint_states": 1000, "/text": 100}
    lost = {loss.topic: loss for loss in losses}["/joint_states"]
    assert lost.reason == "a part of old.bag is damaged"
    assert 0 < (lost.messages or 0) < 400
    assert lost.seconds == pytest.approx((lost.messages or 0) / 100)


def test_what_is_no_ros_1_bag_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V1.2\n" + bytes(100))
    with pytest.raises(RecordingError, match=r"old\.bag"):
        read(tmp_path / "old.bag")


@pytest.mark.parametrize("promised", [True, False])
def test_damaged_pages_of_a_sqlite3_file_cost_the_rows_that_lie_on_them(
    tmp_path: Path, promised: bool
) -> None:
    """The first damaged page ended the replay."""
    bag = tmp_path / "bag"
    write_fake_bag(bag, robot=ROBOT, seconds=10.0, storage=Storage.SQLITE3)
    file = storage_of(bag)
    with closing(sqlite3.connect(file)) as database:
        (size,) = database.execute("PRAGMA page_size").fetchone()
    data = bytearray(file.read_bytes())
    leaves = [
        at
        for at in range(size, len(data), size)
        if data[at] == 0x0D and b"observation" not in data[at : at + size]
    ]
    leaf = leaves[len(leaves) // 2]
    data[leaf : leaf + size] = bytes(size)
    file.write_bytes(data)
    if not promised:
        (bag / "metadata.yaml").unlink()
    found, losses, _ = read(bag)
    total = sum_of(found, losses)
    assert losses
    assert all(loss.reason == f"pages of {file.name} are damaged" for loss in losses)
    if promised:
        assert total == {**dict.fromkeys(EXPECTED, 300), "/instruction": 1}
    else:
        assert sum(total.values()) == 901
        assert {loss.topic for loss in losses} == {""}
        assert all(loss.seconds is not None and 0.0 < loss.seconds < 2.0 for loss in losses)


def test_a_message_that_cannot_be_decoded_is_left_out_and_told(tmp_path: Path) -> None:
    """One damaged message ended the reading of the recording."""
    raws: list[bytes] = []
    for i in range(10):
        message = ROS2.types["std_msgs/msg/String"](data=f"{i}")
        raws.append(bytes(ROS2.serialize_cdr(message, "std_msgs/msg/String")))
    raws[4] = raws[5] = b"\x00\x01\x00\x00\xff\xff\xff\x7fab"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
        for i, raw in enumerate(raws):
            writer.write(text, NS + i * 100 * MS, raw)
    found, (loss,), _ = read(tmp_path / "bag")
    assert found == {"/text": 8}
    assert (loss.topic, loss.messages) == ("/text", 2)
    assert loss.seconds == pytest.approx(0.2)
    with Recording(tmp_path / "bag") as recording:
        for _ in range(2):
            assert len(list(recording.messages(["/text"]))) == 8
        assert [one.messages for one in recording.losses] == [2], "read twice, lost once"


def test_a_topic_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
        writer.write(text, NS, b"\x00\x01\x00\x00\xff\xff\xff\x7fab")
    with pytest.raises(RecordingError, match=r"no message of /text .* can be decoded"):
        read(tmp_path / "bag")
    found, (loss,), _ = read(tmp_path / "bag", lenient=True)
    assert (found, loss.messages, loss.seconds) == ({}, 1, None)


def test_a_missing_split_file_is_told_by_topic_with_its_seconds(tmp_path: Path) -> None:
    def part(name: str, start: int) -> None:
        with Writer(tmp_path / name, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=ROS2)
            for i in range(start, start + 100):
                message = ROS2.types["std_msgs/msg/String"](data=str(i))
                writer.write(connection, NS + i * 10 * MS, ROS2.serialize_cdr(message, connection.msgtype))

    part("bag", 0)
    part("other", 100)
    path = tmp_path / "bag" / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    information = content["rosbag2_bagfile_information"]
    information["relative_file_paths"] += ["other.mcap"]
    information["message_count"] = 200
    information["topics_with_message_count"][0]["message_count"] = 200
    path.write_text(yaml.safe_dump(content))
    found, losses, _ = read(tmp_path / "bag", lenient=True)
    assert found == {"/text": 100}
    assert losses == (RecordingLoss("/text", 100, pytest.approx(1.0), "other.mcap is missing"),)
    shutil.copy(tmp_path / "other" / "other.mcap", tmp_path / "bag")
    assert read(tmp_path / "bag")[:2] == ({"/text": 200}, ())


@pytest.mark.parametrize("storage", list(Storage))
def test_a_whole_recording_has_lost_nothing(tmp_path: Path, storage: Storage) -> None:
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=1.0, storage=storage)
    assert read(tmp_path / "bag") == (EXPECTED, (), ())


def test_seconds_lost_are_those_up_to_the_next_message() -> None:
    def at(*times_ms: int) -> np.ndarray:
        return np.array(times_ms, dtype=np.int64) * MS

    assert seconds_lost(at(0, 100, 200, 500, 600), at(300, 400)) == pytest.approx(0.2)
    assert seconds_lost(at(0, 100, 200), at(300)) == pytest.approx(0.1), "the last one: the usual interval"
    assert seconds_lost(at(0, 100, 200, 60_000), at(300)) == pytest.approx(0.5), (
        "a pause was not lost with it"
    )
    assert seconds_lost(at(0, 100, 200), at(100)) == pytest.approx(0.1), "one that is among all"
    assert seconds_lost(None, at(0)) is None


def test_a_line_names_the_topics_that_lost_most() -> None:
    losses = [RecordingLoss(f"/t{i}", i, 0.5 * i, "the disk was full") for i in range(1, 7)]
    (line,) = loss_lines(losses)
    assert line == (
        "the disk was full: lost are 6 messages of /t6 (3.00 s), 5 messages of /t5 (2.50 s), 4 messages of /t4 "
        "(2.00 s), 3 messages of /t3 (1.50 s) and those of 2 more topics"
    )
    assert loss_lines([RecordingLoss("", None, None, "a.bag ends early")]) == (
        "a.bag ends early: lost are messages (how many is not known)",
    )
