# SPDX-License-Identifier: Apache-2.0
"""What a recording holds has one hash, however it is stored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from wam.data.bag.content_hash import ContentHash, combined
from wam.data.bag.reading import Recording
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_robot, write_fake_bag

ROBOT = fake_robot()


def hashes(path: Path) -> dict[str, str]:
    """Return topic -> hash of all topics of a recording."""
    content = ContentHash()
    with Recording(path) as recording:
        topics = [(topic.name, topic.msgtype) for topic in recording.topics]
        for _ in recording.messages([name for name, _ in topics], content=content):
            pass
        return content.topics(topics)


def rewrite(source: Path, out: Path, *, keep: float = 1.0, delay_ns: int = 0) -> Path:
    """Copy a bag message by message to sqlite3; `keep` of its messages, received `delay_ns` later."""
    with Reader(source) as reader, Writer(out, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        made = {
            c.id: writer.add_connection(
                c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest, serialization_format="cdr"
            )
            for c in reader.connections
        }
        for number, (connection, time_ns, raw) in enumerate(reader.messages()):
            if number < keep * reader.message_count:
                writer.write(made[connection.id], time_ns + delay_ns, raw)
    return out


def test_the_same_messages_have_one_hash_in_mcap_and_sqlite3(tmp_path: Path) -> None:
    for storage in Storage:
        write_fake_bag(tmp_path / storage.value, robot=ROBOT, seconds=1.0, storage=storage)
    first, *others = (hashes(tmp_path / storage.value) for storage in Storage)
    assert others
    assert all(other == first for other in others)
    assert len(set(first.values())) == len(first) == 4


def test_a_bag_that_was_split_or_lost_its_metadata_has_the_hash_of_the_whole(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "whole", robot=ROBOT, seconds=1.0, latency=0.02)
    rewrite(tmp_path / "whole", tmp_path / "copy")
    assert hashes(tmp_path / "copy") == hashes(tmp_path / "whole")
    (mcap,) = (tmp_path / "whole").glob("*.mcap")
    shutil.copy(mcap, tmp_path / "alone.mcap")
    assert hashes(tmp_path / "alone.mcap") == hashes(tmp_path / "whole")


@pytest.mark.parametrize(("keep", "delay_ns"), [(0.9, 0), (1.0, 1)])
def test_fewer_messages_or_other_times_are_another_recording(
    tmp_path: Path, keep: float, delay_ns: int
) -> None:
    write_fake_bag(tmp_path / "a", robot=ROBOT, seconds=1.0)
    first = hashes(tmp_path / "a")
    second = hashes(rewrite(tmp_path / "a", tmp_path / "b", keep=keep, delay_ns=delay_ns))
    assert first["/joint_states"] != second["/joint_states"]
    assert combined(first) != combined(second)


def test_the_order_of_a_file_does_not_matter_but_what_a_message_says_and_when_does() -> None:
    def of(*messages: tuple[int, bytes]) -> str:
        content = ContentHash()
        for time_ns, raw in messages:
            content.take("/a", "pkg/msg/A", time_ns, raw)
        return content.of("/a", "pkg/msg/A")

    assert of((1, b"x"), (2, b"y")) == of((2, b"y"), (1, b"x"))
    assert (
        len(
            {
                of((1, b"x"), (2, b"y")),
                of((1, b"y"), (2, b"x")),
                of((1, b"x")),
                of((1, b"x"), (1, b"x")),
                of(),
            }
        )
        == 5
    )


def test_a_changed_part_of_a_large_image_is_seen() -> None:
    """Bytes of long messages are taken evenly: a part as large as a blurred face cannot fall between them."""

    def of(raw: bytes) -> str:
        content = ContentHash()
        content.take("/image", "sensor_msgs/msg/Image", 1, raw)
        return content.of("/image", "sensor_msgs/msg/Image")

    image = bytes(range(256)) * 3_600  # 640 x 480 x 3
    seen = {of(image), of(image + b"x")}
    for start in (0, 333_333, len(image) - 400):
        seen.add(
            of(image[:start] + bytes(255 - b for b in image[start : start + 400]) + image[start + 400 :])
        )
    assert len(seen) == 5


def test_hashing_messages_changes_nothing_of_what_is_read(tmp_path: Path) -> None:
    write_fake_bag(tmp_path / "a", robot=ROBOT, seconds=1.0)
    with Recording(tmp_path / "a") as recording:
        names = [topic.name for topic in recording.topics]
        plain = [(m.topic, m.time_ns) for m in recording.messages(names)]
        hashed = [(m.topic, m.time_ns) for m in recording.messages(names, content=ContentHash())]
    assert plain == hashed
