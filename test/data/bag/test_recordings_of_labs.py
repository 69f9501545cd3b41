# SPDX-License-Identifier: Apache-2.0
"""Bags as labs record them: publishers that share a topic, clocks that differ, commands of many types."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from mcap.writer import Writer as McapWriter
from rewritten_bag import rewritten
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.binding import Feed, Role, TopicNames, bind_cameras, parse_action_topics
from wam.data.bag.clocks import ClockCorrection
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import (
    COMPRESSED_VIDEO,
    CONTROLLER_STATE,
    EPOCH_NS,
    FFMPEG_PACKET,
    FLOAT64_ARRAY,
    GRIPPER_COMMAND,
    JOINT_STATE,
    STRING,
)
from wam.data.bag.video_packets import VideoDecoder, as_camera_sends
from wam.data.bag.writing import Storage
from wam.data.fakes import CAMERA, fake_robot, write_fake_bag
from wam.robots.description import RobotDescription
from wam.robots.images import decode_image
from wam.robots.joint_mapping import Conversion

MS = 1_000_000
ROBOT = fake_robot()
STORE = get_typestore(Stores.ROS2_JAZZY)
JOINTS, IMAGES = "/joint_states", "/cam_high/image_raw/compressed"


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_fake_bag(tmp_path / "plain", robot=ROBOT, seconds=2.0)
    return tmp_path / "plain"


def times(recording: Recording, *topics: str) -> list[int]:
    return [message.time_ns for message in recording.messages(topics)]


def test_two_publishers_that_take_turns_keep_their_own_columns() -> None:
    """The columns of the first message were taken for all: one arm's commands were compared with the other's."""
    samples = JointSamples(("a", "b", "c"), max_gap_ns=50 * MS)
    left, right = np.array([0]), np.array([1, 2])
    for i in range(5):
        samples.add("/action", 10 * i * MS, left, [i])
        samples.add("/action", (10 * i + 5) * MS, right, [10.0 + i, 20.0 + i])
    np.testing.assert_allclose(samples.at(np.array([20 * MS]))[0], [2.0, 11.5, 21.5])
    assert samples.complete_ns == 40 * MS


def test_of_joints_that_two_layouts_hold_the_one_heard_of_last_counts_and_none_holds_the_others_up() -> None:
    samples = JointSamples(("a", "b"), max_gap_ns=50 * MS)
    samples.add("/action", 0, np.array([0]), [5.0])  # once, at the start
    for i in range(1, 10):
        samples.add("/action", 10 * i * MS, np.array([0, 1]), [i, -i])
    assert samples.complete_ns == 90 * MS
    np.testing.assert_allclose(samples.at(np.array([40 * MS]))[0], [4.0, -4.0])


def two_groups() -> RobotDescription:
    """Two groups on one topic, the second in degrees to its driver."""
    (first,) = fake_robot(joints=2).groups
    joints = tuple(
        replace(joint, name=f"k{i}", driver_name=f"e{i}", conversion=Conversion(state=0.5, command=2.0))
        for i, joint in enumerate(fake_robot(joints=3).groups[0].joints)
    )
    return replace(ROBOT, groups=(first, replace(first, name="second", joints=joints)))


def test_a_topic_feeds_every_group_whose_joints_its_messages_hold(tmp_path: Path) -> None:
    """Feeds were keyed by topic and the last group won: such robots could not be replayed."""
    robot = two_groups()
    write_fake_bag(tmp_path / "bag", robot=ROBOT, seconds=0.2)
    with Recording(tmp_path / "bag") as recording:
        feeds = bind_cameras(recording, robot=robot, cameras=(CAMERA,)).feeds
    assert feeds[JOINTS] == Feed(JOINTS, JOINT_STATE, Role.JOINTS, ("body", "second"))
    read = RecordedJoints(robot, wanted=robot.joint_names)
    sample = CommandSample(0, ("e2", "wheel", "d0", "e0"), np.array([1.0, 9.0, 2.0, 4.0]))
    index, values = read.read(sample, feeds[JOINTS])
    assert dict(zip([robot.joint_names[i] for i in index], values.tolist(), strict=True)) == {
        "j0": 2.0,
        "k0": 2.0,
        "k2": 0.5,
    }


@pytest.mark.parametrize("every", [1, 4])
def test_two_publishers_that_disagree_about_a_joint_are_told_with_both_values(every: int) -> None:
    """A forgotten publisher of zeros passed without a word, and two scripts' commands were written as training data."""
    watch = PublisherWatch(ROBOT)
    feed = Feed(JOINTS, JOINT_STATE, Role.JOINTS, ("body",))
    for i in range(40):
        arm = np.array([1.0 + 0.002 * i, 0.0, 0.5])
        watch.take(CommandSample(i * 20 * MS, ("d0", "d1", "d2"), arm), feed)
        if i % every == 0:
            watch.take(CommandSample(i * 20 * MS + MS, ("d2", "d1", "d0"), np.zeros(3)), feed)
    (warning,) = watch.warnings()
    assert f"on {JOINTS} and to disagree: j0 jumps between" in warning
    assert " and 0 and back" in warning or " 0 and 1" in warning


def test_joints_that_move_fast_stop_or_are_sent_by_two_nodes_that_agree_are_not_suspected() -> None:
    watch = PublisherWatch(ROBOT)
    feed = Feed(JOINTS, JOINT_STATE, Role.JOINTS, ("body",))
    for i in range(200):
        t = i * 0.02
        arm = np.array(
            [2.9 * np.sin(6.0 * t), 2.0 * float(i % 50 < 25), 0.0]
        )  # fast, and a gripper that snaps
        watch.take(CommandSample(i * 20 * MS, ("d0", "d1", "d2"), arm), feed)
        watch.take(CommandSample(i * 20 * MS + MS, ("d0", "d1"), arm[:2]), feed)
    assert watch.warnings() == ()


def test_numbers_without_names_are_those_of_the_group_of_their_width_or_of_the_joints_that_are_named() -> (
    None
):
    robot = two_groups()
    read = RecordedJoints(robot, wanted=robot.joint_names)
    feed = Feed("/c", FLOAT64_ARRAY, Role.ACTION)
    nameless = CommandSample(0, (), np.array([2.0, 4.0, 6.0]))
    index, values = read.read(nameless, feed)
    assert ([robot.joint_names[i] for i in index], values.tolist()) == (["k0", "k1", "k2"], [1.0, 2.0, 3.0])
    index, values = read.read(nameless, replace(feed, topic="/d", joints=("d1", "k0", "e1")))
    assert ([robot.joint_names[i] for i in index], values.tolist()) == (["j1", "k0", "k1"], [2.0, 4.0, 3.0])
    with pytest.raises(
        RecordingError, match=r"got '4 positions'; .*body 2, second 3\), or 5; .*/c=JOINT,JOINT"
    ):
        read.read(CommandSample(0, (), np.zeros(4)), feed)


@pytest.mark.parametrize(
    ("msgtype", "content", "names", "positions"),
    [
        (FLOAT64_ARRAY, SimpleNamespace(data=[0.1, 0.2]), (), [0.1, 0.2]),
        (GRIPPER_COMMAND, SimpleNamespace(position=0.04, max_effort=5.0), (), [0.04]),
        (
            CONTROLLER_STATE,
            SimpleNamespace(joint_names=["a"], reference=SimpleNamespace(positions=[0.3])),
            ("a",),
            [0.3],
        ),
        (
            CONTROLLER_STATE,
            SimpleNamespace(joint_names=["a"], desired=SimpleNamespace(positions=[0.4])),
            ("a",),
            [0.4],
        ),
    ],
)
def test_commands_are_read_from_every_type_that_controllers_have(
    msgtype: str, content: Any, names: tuple[str, ...], positions: list[float]
) -> None:
    (sample,) = CommandReader(msgtype, step_ns=MS).take(BagMessage("/c", msgtype, 5, None, 5, content))
    assert (sample.time_ns, sample.names, sample.positions.tolist()) == (5, names, positions)


def test_an_action_topic_of_a_type_that_is_not_taken_says_so(bag: Path) -> None:
    """ "has no topic" was said of topics that the recording has."""
    with Recording(bag) as recording:
        names = TopicNames(actions={IMAGES: ()})
        with pytest.raises(
            RecordingError, match="has a type that is not taken as action: got 'sensor_msgs/msg/Comp"
        ):
            bind_cameras(recording, robot=ROBOT, cameras=(), names=names)
    assert parse_action_topics(["/a", "/b=x,y"], option="--o") == {"/a": (), "/b": ("x", "y")}
    with pytest.raises(ConfigError, match="allowed: TOPIC or TOPIC=JOINT"):
        parse_action_topics(["/b="], option="--o")


def test_messages_that_come_seconds_after_their_stamps_are_still_put_in_order(
    tmp_path: Path, bag: Path
) -> None:
    def late(message: BagMessage) -> list[BagMessage]:
        delay_ns = 1300 * MS if message.topic == IMAGES else 0
        return [replace(message, receive_ns=message.receive_ns + delay_ns)]

    with Recording(rewritten(bag, tmp_path / "late", late)) as recording:
        got = times(recording, JOINTS, IMAGES)
        assert got == sorted(got)
        assert [report.late for report in recording.order.reports()] == [0, 0]


def test_topics_of_different_clocks_are_named_and_corrected_on_request(tmp_path: Path, bag: Path) -> None:
    """A camera that was stamped with the time since it was switched on made the replay tick through 50 years."""
    uptime_ns = EPOCH_NS - 77 * NS_PER_S

    def on_uptime(message: BagMessage) -> list[BagMessage]:
        assert message.stamp_ns is not None or message.topic == "/instruction"
        if message.topic != IMAGES or message.stamp_ns is None:
            return [message]
        return [replace(message, stamp_ns=message.stamp_ns - uptime_ns)]

    made = rewritten(bag, tmp_path / "uptime", on_uptime)
    with Recording(made) as recording:
        with pytest.raises(
            RecordingError, match=r"clock.* that of /cam_high/.* is behind that of /"
        ) as caught:
            recording.messages([JOINTS, IMAGES])
        assert f"--clock-offset {IMAGES}={uptime_ns / NS_PER_S:.3f}, or --time receive" in str(caught.value)
        assert len(list(recording.messages([JOINTS, IMAGES], use_stamps=False))) == 120
    with Recording(made, clock_offsets={IMAGES: ClockCorrection(uptime_ns)}) as recording:
        images = list(recording.messages([IMAGES]))
        assert images[0].stamp_ns == images[0].time_ns == EPOCH_NS
        assert images[0].message.header.stamp.sec == EPOCH_NS // NS_PER_S
    with pytest.raises(RecordingError, match="has no topic /cam"):
        Recording(made, clock_offsets={"/cam": ClockCorrection(1)})


def test_a_clock_that_drifts_is_measured(tmp_path: Path, bag: Path) -> None:
    def drifting(message: BagMessage) -> list[BagMessage]:
        if message.topic != JOINTS or message.stamp_ns is None:
            return []
        since_ns = message.stamp_ns - EPOCH_NS
        return [replace(message, stamp_ns=EPOCH_NS + since_ns * 9 // 10, receive_ns=message.stamp_ns)]

    write_fake_bag(tmp_path / "long", robot=ROBOT, seconds=4.0, images=False)
    with Recording(rewritten(tmp_path / "long", tmp_path / "drifting", drifting)) as recording:
        assert len(list(recording.messages([JOINTS]))) == 120
        (report,) = recording.order.reports()
    assert 300 < report.drift_ms < 400


def test_what_stands_in_the_log_of_a_killed_recorder_is_read_and_told(tmp_path: Path) -> None:
    """The last seconds were in the -wal file beside the bag, and were left out without a word."""
    write_fake_bag(tmp_path / "closed", robot=ROBOT, seconds=1.0, storage=Storage.SQLITE3)
    (file,) = (tmp_path / "closed").glob("*.db3")
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute(
            "INSERT INTO messages (topic_id, timestamp, data) "
            "SELECT topic_id, timestamp + 1000000000, data FROM messages"
        )
        database.commit()
        killed = tmp_path / "killed"
        killed.mkdir()
        for part in (tmp_path / "closed").glob("*.db3*"):
            if not part.name.endswith("-shm"):
                shutil.copyfile(part, killed / part.name)
    database.close()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    with Recording(killed) as recording:
        assert len(list(recording.messages([JOINTS]))) == 60
        (warning,) = recording.warnings
    assert f"was read from {file.name}-wal" in warning
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


def test_what_a_mac_leaves_beside_every_file_is_not_a_part_of_the_bag(tmp_path: Path, bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
    for file in list(bag.iterdir()):
        (bag / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07 resource fork")
    with Recording(bag) as recording:
        assert len(times(recording, JOINTS)) == 60


def test_a_file_that_was_renamed_is_read_where_lenient_as_the_error_says(bag: Path) -> None:
    """The error said "--lenient", and it did not help where the recording is one file."""
    (file,) = bag.glob("*.mcap")
    file.rename(bag / "tuesday.mcap")
    with pytest.raises(
        RecordingError, match=r"got .*tuesday.mcap.*pass --lenient to read the files that are there"
    ):
        Recording(bag)
    with Recording(bag, lenient=True) as recording:
        assert len(times(recording, JOINTS)) == 60
    (bag / "tuesday.mcap").unlink()
    with pytest.raises(RecordingError, match=r"change it in the copy of the recording$"):
        Recording(bag, lenient=True)


def test_a_recording_without_any_ros_message_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "foxglove.mcap"
    with path.open("wb") as file:
        writer = McapWriter(file)
        writer.start(profile="", library="test")
        schema = writer.register_schema("foxglove.Log", "jsonschema", b"{}")
        channel = writer.register_channel("/log", "json", schema)
        writer.add_message(channel, log_time=1, publish_time=1, data=b"{}")
        writer.finish()
    with (
        Recording(path) as recording,
        pytest.raises(RecordingError, match=r"are json, and not ROS: got .*/log"),
    ):
        bind_cameras(recording, robot=ROBOT, cameras=())


CARD = np.zeros((48, 64, 3), np.uint8)
CARD[:, :32], CARD[:, 32:] = (200, 30, 30), (30, 30, 200)


def packets(count: int) -> list[bytes]:
    """Encode images whose brightness falls with their number, one packet each."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base = codec.framerate = 30
    codec.options = {"tune": "zerolatency", "g": "10", "x264-params": "scenecut=0:keyint=10:min-keyint=10"}
    made = []
    for i in range(count):
        frame = av.VideoFrame.from_ndarray(CARD - 2 * i * (CARD > 100).astype(np.uint8), format="rgb24")
        frame.pts = i
        made += [bytes(packet) for packet in codec.encode(frame.reformat(format="yuv420p"))]
    return made


@pytest.mark.parametrize("msgtype", [FFMPEG_PACKET, COMPRESSED_VIDEO])
def test_packets_of_a_video_become_images_with_their_own_stamps(msgtype: str) -> None:
    decoder = VideoDecoder("/cam")
    time = STORE.types["builtin_interfaces/msg/Time"]
    images = []
    for i, data in enumerate(packets(12)):
        if msgtype == FFMPEG_PACKET:
            header = STORE.types["std_msgs/msg/Header"](stamp=time(7, i), frame_id="optical")
            message = SimpleNamespace(header=header, encoding="h264;yuv420p", data=data)
        else:
            message = SimpleNamespace(timestamp=time(7, i), frame_id="optical", format="h264", data=data)
        images += decoder.take(message)
    assert [(image.header.stamp.nanosec, image.header.frame_id) for image in images] == [
        (i, "optical") for i in range(12)
    ]
    for i, image in enumerate(images):
        rgb = image.data.reshape(48, 64, 3).astype(int)
        assert np.abs(rgb[24, 10] - (200 - 2 * i, 30, 30)).max() < 12
        assert np.abs(rgb[24, 54] - (30, 30, 200 - 2 * i)).max() < 12
    # To live nodes they are played as the camera of the robot file would publish them.
    for compressed in (False, True):
        message, msgtype = as_camera_sends(images[0], compressed=compressed)
        assert len(STORE.serialize_cdr(message, msgtype)) > 100
        assert decode_image(message, camera="cam", size=(48, 64))[24, 10, 0] > 150


def test_packets_before_the_first_key_image_give_none_and_are_counted() -> None:
    decoder = VideoDecoder("/cam")
    header = STORE.types["std_msgs/msg/Header"](
        stamp=STORE.types["builtin_interfaces/msg/Time"](7, 0), frame_id=""
    )
    made = packets(25)[3:]  # a recorder that joined between two key images
    images = [
        one
        for data in made
        for one in decoder.take(SimpleNamespace(header=header, encoding="h264", data=data))
    ]
    assert len(images) == 15
    assert len(decoder.take_lost()) == 7
    with pytest.raises(RecordingError, match="unknown codec: got 'prores'"):
        decoder.take(SimpleNamespace(header=header, encoding="prores", data=b""))


def test_a_camera_that_was_recorded_as_packets_feeds_its_stream(tmp_path: Path, bag: Path) -> None:
    definition = (
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
    )
    definition += "bool is_bigendian\nuint8[] data\n"
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(definition, FFMPEG_PACKET))
    packet, header = store.types[FFMPEG_PACKET], store.types["std_msgs/msg/Header"]
    with Writer(tmp_path / "video", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            kind: writer.add_connection(topic, kind, typestore=store)
            for topic, kind in ((JOINTS, JOINT_STATE), ("/cam_high/ffmpeg", FFMPEG_PACKET), ("/text", STRING))
        }
        with Recording(bag) as recording:
            states = list(recording.messages([JOINTS]))
        for state, data in zip(states, packets(60), strict=True):
            writer.write(
                connections[JOINT_STATE], state.receive_ns, store.serialize_cdr(state.message, JOINT_STATE)
            )
            stamp = state.message.header.stamp
            message = packet(header(stamp, ""), 64, 48, "h264", 0, 0, False, np.frombuffer(data, np.uint8))
            writer.write(
                connections[FFMPEG_PACKET], state.receive_ns, store.serialize_cdr(message, FFMPEG_PACKET)
            )
    names = TopicNames(renamed={ROBOT.cameras[0].topic: "/cam_high/ffmpeg"})
    with Recording(tmp_path / "video") as recording:
        feeds = bind_cameras(recording, robot=ROBOT, cameras=(CAMERA,), names=names).feeds
        assert feeds["/cam_high/ffmpeg"].camera == CAMERA
        images = list(recording.messages(["/cam_high/ffmpeg"]))
    assert [image.stamp_ns for image in images] == [state.stamp_ns for state in states]


def packet_of(data: bytes, number: int) -> SimpleNamespace:
    time = STORE.types["builtin_interfaces/msg/Time"]
    stamp = time(7 + number // 30, number % 30 * 33_333_333)
    header = STORE.types["std_msgs/msg/Header"](stamp=stamp, frame_id="")
    return SimpleNamespace(header=header, encoding="h264", data=data)


@pytest.mark.parametrize("missing", [(13,), (13, 14, 15), (19,)])
def test_after_missing_packets_there_is_no_image_until_the_next_key_image(missing: tuple[int, ...]) -> None:
    """The decoder went on with the picture that it had, and gave images that never were."""
    decoder = VideoDecoder("/cam")
    shown: list[Any] = []
    for i, data in enumerate(packets(40)):
        if i not in missing:
            shown += decoder.take(packet_of(data, i), time_ns=i)
    shown += decoder.finish()
    key = 20
    numbers = [(one.header.stamp.sec - 7) * 30 + one.header.stamp.nanosec // 33_333_333 for one in shown]
    assert numbers == [*range(missing[0]), *range(key, 40)]
    assert decoder.take_lost() == [i for i in range(missing[-1] + 1, key)]
    for number, image in zip(numbers, shown, strict=True):
        rgb = image.data.reshape(48, 64, 3).astype(int)
        assert abs(rgb[4, 4] - (CARD - 2 * number * (CARD > 100))[4, 4]).max() < 12


def test_a_damaged_packet_costs_the_images_up_to_the_next_key_image() -> None:
    decoder = VideoDecoder("/cam")
    shown: list[Any] = []
    for i, data in enumerate(packets(30)):
        shown += decoder.take(packet_of(b"\x00\x00\x00\x01\x65" if i == 13 else data, i), time_ns=i)
    shown += decoder.finish()
    assert len(shown) + len(decoder.take_lost()) == 30
    numbers = [(one.header.stamp.sec - 7) * 30 + one.header.stamp.nanosec // 33_333_333 for one in shown]
    assert set(range(14, 20)).isdisjoint(numbers)
    assert set(range(20, 30)) <= set(numbers)
