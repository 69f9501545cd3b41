# SPDX-License-Identifier: Apache-2.0
"""What an error about a recording tells to do is done, and the run gets further."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_dataset import write_fake_dataset
from remedy_runs import Told, accepted, flag, named, option, refused, remedy, robot_file
from rewritten_bag import STORE, rewritten

from wam.cli.main import run
from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import EPOCH_NS, FLOAT64_ARRAY
from wam.data.bag.writing import Storage
from wam.data.fakes import fake_robot, write_fake_bag

JOINTS, IMAGES, ACTION = "/joint_states", "/cam_high/image_raw/compressed", "/action"

Words = Callable[[object], list[object]]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "bag"
    write_fake_bag(path, robot=fake_robot(), seconds=1.5)
    return path


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    return robot_file(tmp_path)


def replay(tmp_path: Path, robot: Path) -> Words:
    """Return the words of a replay of a recording, into a new report each time."""
    return lambda path: [
        "replay", path, "--robot", robot, "--policy", "fake", "--report", fresh(tmp_path, "report"),
    ]  # fmt: skip


def convert(tmp_path: Path, robot: Path) -> Words:
    return lambda path: ["convert", "bag", path, fresh(tmp_path, "set"), "--robot", robot]


def fresh(folder: Path, name: str) -> Path:
    number = 0
    while (folder / f"{name}{number}").exists():
        number += 1
    return folder / f"{name}{number}"


BOTH = pytest.mark.parametrize("reads", [replay, convert], ids=["replay", "convert bag"])
Reads = Callable[[Path, Path], Words]


def renamed(topics: dict[str, str]) -> Callable[[BagMessage], Iterable[BagMessage]]:
    return lambda message: [replace(message, topic=topics.get(message.topic, message.topic))]


# The files of a recording


@BOTH
def test_the_argument_is_a_recording_that_exists(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = reads(tmp_path, robot)
    assert "the argument BAG" in remedy(refused(words(tmp_path / "gone"), capsys))
    accepted(words(bag), capsys)


def test_a_data_set_is_converted_by_the_command_in_the_error_and_replayed(
    robot: Path, tmp_path: Path, capsys: Told
) -> None:
    source = write_fake_dataset(tmp_path / "set", rows=30)
    words = replay(tmp_path, robot)
    error = refused(words(source), capsys)
    found = re.search(r"`wam (convert lerobot [^`]*)`", error)
    assert found
    filled = {"OUT": str(tmp_path / "made"), "ROBOT": str(robot), "N": "0"}
    accepted([filled.get(word, word) for word in shlex.split(found[1])], capsys)
    accepted(words(tmp_path / "made"), capsys)


@BOTH
def test_of_a_folder_with_several_recordings_a_file_is_named(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(bag / "bag.mcap", folder / "one.mcap")
    write_fake_bag(tmp_path / "other", robot=fake_robot(), seconds=0.5, storage=Storage.SQLITE3)
    shutil.copy(next((tmp_path / "other").glob("*.db3")), folder / "two.db3")
    words = reads(tmp_path, robot)
    error = refused(words(folder), capsys)
    assert "name one of the files" in remedy(error)
    more: list[object] = ["--instruction", "wave"] if reads is convert else []
    accepted([*words(folder / "one.mcap"), *more], capsys)


@BOTH
def test_lenient_reads_a_file_that_was_renamed(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    """The metadata name a file that is not there; --lenient, which the error names, did not look at the one that is."""
    shutil.copytree(bag, tmp_path / "copy")
    (tmp_path / "copy" / "bag.mcap").rename(tmp_path / "copy" / "monday.mcap")
    words = reads(tmp_path, robot)
    error = refused(words(tmp_path / "copy"), capsys)
    accepted([*words(tmp_path / "copy"), *flag(error, "--lenient")], capsys)


@BOTH
@pytest.mark.parametrize("text", ["", "a: [", "rosbag2_bagfile_information: {version: 9}"])
def test_metadata_that_are_damaged_are_moved_away(
    text: str, reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    shutil.copytree(bag, tmp_path / "copy")
    (tmp_path / "copy" / "metadata.yaml").write_text(text)
    words = reads(tmp_path, robot)
    error = refused(words(tmp_path / "copy"), capsys)
    found = re.search(r"change it in (\S+) \(move it away", error)
    assert found
    Path(found[1]).unlink()
    more: list[object] = ["--instruction", "wave"] if reads is convert else []
    accepted([*words(tmp_path / "copy"), *more], capsys)


# Topics


@BOTH
def test_remap_names_the_topic_that_the_error_proposes(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    """`wam convert bag` had no --remap."""
    made = rewritten(bag, tmp_path / "renamed", renamed({JOINTS: "/arm/states", ACTION: "/other"}))
    words = reads(tmp_path, robot)
    error = refused(words(made), capsys)
    assert option(error, "--remap") == ["--remap", "joint_states:=/arm/states"]
    accepted([*words(made), *option(error, "--remap")], capsys)


@BOTH
def test_namespace_is_the_one_that_the_error_found(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    made = rewritten(bag, tmp_path / "spaced", renamed({JOINTS: f"/lab{JOINTS}", IMAGES: f"/lab{IMAGES}"}))
    words = reads(tmp_path, robot)
    error = refused(words(made), capsys)
    accepted([*words(made), *option(error, "--namespace")], capsys)


@BOTH
def test_a_recording_of_another_robot_is_taken_by_what_the_error_names(
    reads: Reads, bag: Path, tmp_path: Path, capsys: Told
) -> None:
    """`--robot NAME` was named for robots of which no file is installed."""
    other = robot_file(tmp_path, name="desk")
    words = reads(tmp_path, other)
    error = refused(words(bag), capsys)
    assert "--robot with the file of fake" in error
    accepted([*words(bag), *flag(error, "--lenient")], capsys)
    own = robot_file(tmp_path)
    accepted([str(own) if word == other else word for word in words(bag)], capsys)
    found = re.search(rf"(recorded_as: fake) in {re.escape(str(other))}", remedy(error))
    assert found
    other.write_text(f"{found[1]}\n{other.read_text()}", encoding="utf-8")
    accepted(words(bag), capsys)


def test_a_robot_that_is_installed_is_named_as_it_is(tmp_path: Path, robot: Path, capsys: Told) -> None:
    from wam.devices.loader import load_robot

    write_fake_bag(tmp_path / "g1", robot=load_robot("g1_inspire"), seconds=1.5)
    words = replay(tmp_path, robot)
    error = refused(words(tmp_path / "g1"), capsys)
    chosen = option(error, "--robot")
    assert chosen == ["--robot", "g1_inspire"]
    accepted([chosen[1] if word == robot else word for word in words(tmp_path / "g1")], capsys)


@BOTH
@pytest.mark.parametrize("given", ["/gone", IMAGES])
def test_the_action_topic_is_one_of_those_that_the_error_lists(
    given: str, reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = reads(tmp_path, robot)
    error = refused([*words(bag), "--action-topic", given], capsys)
    flag(error, "--action-topic")
    if given == "/gone":
        accepted([*words(bag), *named(error, "--action-topic", ACTION)], capsys)
    accepted([*words(bag), "--action-topic", ACTION], capsys)


@BOTH
def test_joints_of_an_array_are_named_as_the_error_says(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    array = STORE.types[FLOAT64_ARRAY]
    layout = STORE.types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)

    def as_array(message: BagMessage) -> list[BagMessage]:
        if message.topic != ACTION:
            return [message]
        data = np.asarray(message.message.position[:2], dtype=np.float64)
        made = array(layout=layout, data=data)
        return [replace(message, topic="/cmd", msgtype=FLOAT64_ARRAY, message=made, stamp_ns=None)]

    made = rewritten(bag, tmp_path / "array", as_array)
    words = reads(tmp_path, robot)
    error = refused([*words(made), "--action-topic", "/cmd"], capsys)
    chosen = option(error, "--action-topic", **{"JOINT,JOINT": "j0,j1"})
    assert chosen == ["--action-topic", "/cmd=j0,j1"]
    accepted([*words(made), *chosen], capsys)


@BOTH
def test_the_transport_of_the_robot_file_is_changed_as_the_error_says(
    reads: Reads, bag: Path, tmp_path: Path, capsys: Told
) -> None:
    wrong = ("transport: compressed, encoding: jpeg", "transport: raw, encoding: rgb8")
    file = robot_file(tmp_path, wrong)
    words = reads(tmp_path, file)
    error = refused(words(bag), capsys)
    assert f"{file} (transport)" in remedy(error)
    robot_file(tmp_path)
    accepted(words(bag), capsys)


# Clocks


@BOTH
@pytest.mark.parametrize("way", ["--clock-offset", "--time"])
def test_topics_of_different_clocks_are_put_on_one_as_the_error_says(
    way: str, reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    def uptime(message: BagMessage) -> list[BagMessage]:
        if message.topic != IMAGES or message.stamp_ns is None:
            return [message]
        return [replace(message, stamp_ns=message.stamp_ns - EPOCH_NS + 77 * NS_PER_S)]

    made = rewritten(bag, tmp_path / "uptime", uptime)
    words = reads(tmp_path, robot)
    error = refused(words(made), capsys)
    accepted([*words(made), *option(error, way)], capsys)


def test_an_offset_is_of_a_topic_that_the_error_lists(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = replay(tmp_path, robot)
    error = refused([*words(bag), "--clock-offset", "/cam=1"], capsys)
    assert IMAGES in error
    flag(error, "--clock-offset")
    accepted([*words(bag), "--clock-offset", f"{IMAGES}=0.01"], capsys)


def test_a_recording_shorter_than_the_latencies_gets_a_chunk_with_a_shorter_one(
    robot: Path, tmp_path: Path, capsys: Told
) -> None:
    write_fake_bag(tmp_path / "short", robot=fake_robot(), seconds=0.12)
    words = replay(tmp_path, robot)
    error = refused([*words(tmp_path / "short"), "--planner-latency", "0.3"], capsys)
    flag(error, "--planner-latency")
    accepted([*words(tmp_path / "short"), "--planner-latency", "0"], capsys)


def test_a_stream_that_is_slower_than_its_max_age_is_given_one_that_fits(
    bag: Path, tmp_path: Path, capsys: Told
) -> None:
    first = rewritten(
        bag, tmp_path / "first", lambda m: [m] if m.topic != IMAGES or seconds(m) < 0.02 else []
    )
    usual = "max_age: {value: 200, unit: ms}, frame_id"
    tight = (usual, usual.replace("200", "34"))
    file = robot_file(tmp_path, tight)
    words = replay(tmp_path, file)
    error = refused([*words(first), "--planner-latency", "0.2"], capsys)
    assert "max_age in the robot file" in remedy(error)
    robot_file(tmp_path, (usual, usual.replace("200", "1100")))
    accepted([*words(first), "--planner-latency", "0.2"], capsys)


# Contents


def test_degrees_are_converted_by_the_line_that_the_error_gives(
    bag: Path, tmp_path: Path, capsys: Told
) -> None:
    def degrees(message: BagMessage) -> list[BagMessage]:
        if message.topic == JOINTS:
            message.message.position = np.degrees(message.message.position) * 4
        return [message] if message.topic != ACTION else []

    made = rewritten(bag, tmp_path / "degrees", degrees)
    file = robot_file(tmp_path)
    words = replay(tmp_path, file)
    error = refused(words(made), capsys)
    found = re.search(r"conversion: (\{state: [\d.]+\})", error)
    assert found
    line = found[1].replace("}", ", command: 57.2958}")
    robot_file(tmp_path, ("jerk: 100}", f"jerk: 100, conversion: {line}}}"))
    accepted(words(made), capsys)


@BOTH
def test_lenient_leaves_out_a_command_whose_names_and_positions_differ(
    reads: Reads, bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    def damaged(message: BagMessage) -> list[BagMessage]:
        if message.topic == ACTION and message.time_ns == EPOCH_NS + NS_PER_S:
            message.message.position = message.message.position[:2]
        return [message]

    made = rewritten(bag, tmp_path / "damaged", damaged)
    words = reads(tmp_path, robot)
    error = refused(words(made), capsys)
    accepted([*words(made), *flag(error, "--lenient")], capsys)


def test_lenient_leaves_out_a_state_that_is_not_finite(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    def broken(message: BagMessage) -> list[BagMessage]:
        if message.topic == JOINTS and message.time_ns == EPOCH_NS + NS_PER_S:
            message.message.position = np.array([0.0, np.nan, 0.0])
        return [message]

    made = rewritten(bag, tmp_path / "broken", broken)
    words = replay(tmp_path, robot)
    error = refused(words(made), capsys)
    accepted([*words(made), *flag(error, "--lenient")], capsys)


CONVERSIONS: list[tuple[str, Callable[[BagMessage], bool], str]] = [
    ("a gap of the states", lambda m: m.topic == JOINTS and 0.4 < seconds(m) < 1.0, "--lenient"),
    ("a gap of a camera", lambda m: m.topic == IMAGES and 0.4 < seconds(m) < 1.0, "--lenient"),
    ("no task text", lambda m: m.topic == "/instruction", "--instruction"),
]


def seconds(message: BagMessage) -> float:
    return (message.time_ns - EPOCH_NS) / NS_PER_S


@pytest.mark.parametrize(("what", "left_out", "way"), CONVERSIONS, ids=[one[0] for one in CONVERSIONS])
def test_what_a_data_set_needs_is_given_as_the_error_says(
    what: str,
    left_out: Callable[[BagMessage], bool],
    way: str,
    bag: Path,
    robot: Path,
    tmp_path: Path,
    capsys: Told,
) -> None:
    made = rewritten(bag, tmp_path / "lacking", lambda m: [] if left_out(m) else [m])
    words = convert(tmp_path, robot)
    error = refused(words(made), capsys)
    more: list[object] = ["follow the sine"] if way == "--instruction" else []
    accepted([*words(made), *flag(error, way), *more], capsys)


def test_lenient_leaves_out_a_joint_whose_commands_begin_late(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    def late(message: BagMessage) -> list[BagMessage]:
        if message.topic == ACTION and seconds(message) < 0.8:
            message.message.name = message.message.name[:2]
            message.message.position = message.message.position[:2]
        return [message]

    words = convert(tmp_path, robot)
    made = rewritten(bag, tmp_path / "late", late)
    error = refused(words(made), capsys)
    accepted([*words(made), *flag(error, "--lenient")], capsys)


def test_a_recording_of_less_than_two_rows_gives_some_at_another_rate(
    robot: Path, tmp_path: Path, capsys: Told
) -> None:
    write_fake_bag(tmp_path / "short", robot=fake_robot(), seconds=0.2)
    words = convert(tmp_path, robot)
    error = refused([*words(tmp_path / "short"), "--fps", "2"], capsys)
    flag(error, "--fps")
    accepted([*words(tmp_path / "short"), "--fps", "30"], capsys)


def test_two_publishers_that_disagree_are_written_only_as_the_error_says(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    zeros = SimpleNamespace(count=0)

    def twice(message: BagMessage) -> list[BagMessage]:
        if message.topic != ACTION:
            return [message]
        zeros.count += 1
        type_ = STORE.types[message.msgtype]
        header = STORE.types["std_msgs/msg/Header"](
            stamp=STORE.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id=""
        )
        nothing = np.zeros(3)
        other = type_(
            header=header, name=list(message.message.name), position=nothing + 2.0, velocity=np.empty(0),
            effort=np.empty(0),
        )  # fmt: skip
        late_ns = 16 * NS_PER_MS
        stamp_ns = None if message.stamp_ns is None else message.stamp_ns + late_ns
        return [
            message,
            replace(message, message=other, receive_ns=message.receive_ns + late_ns, stamp_ns=stamp_ns),
            replace(message, topic="/leader"),
        ]

    made = rewritten(bag, tmp_path / "twice", twice)
    words = convert(tmp_path, robot)
    error = refused(words(made), capsys)
    accepted([*words(made), *flag(error, "--lenient")], capsys)
    accepted([*words(made), *flag(error, "--action-topic"), "/leader"], capsys)


# Options and files of a replay


def test_options_are_given_in_the_form_that_the_error_shows(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = replay(tmp_path, robot)
    for name, wrong, form, right in (
        ("--remap", "a=b", "ROBOT_TOPIC:=RECORDED_TOPIC", "joint_states:=/joint_states"),
        ("--clock-offset", "x", "TOPIC=SECONDS", f"{IMAGES}=0"),
        ("--action-topic", "/action=", "TOPIC=JOINT,JOINT", "/action=j0,j1,j2"),
        ("--time", "wall", "receive", "receive"),
        ("--strategy", "best", "latest", "latest"),
        ("--planner-latency", "soon", "measured", "0.1"),
        ("--mode", "fast", "offline", "offline"),
    ):
        error = refused([*words(bag), name, wrong], capsys)
        assert form in error
        assert name in remedy(error)
        accepted([*words(bag), name, right], capsys)


def test_latencies_are_left_out_of_a_live_replay_as_the_error_says(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = [*replay(tmp_path, robot)(bag), "--mode", "live"]
    error = refused([*words, "--planner-latency", "0.2"], capsys)
    assert "--planner-latency, --executor-latency" in remedy(error)
    # Without the latency the run reaches the next check, which is about the recording.
    words[1] = tmp_path / "gone"
    assert "does not exist" in refused(words, capsys)


def test_a_report_goes_to_a_folder_that_is_free(bag: Path, robot: Path, tmp_path: Path, capsys: Told) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    words = replay(tmp_path, robot)(bag)
    error = refused([*words[:-1], taken], capsys)
    flag(error, "--report")
    accepted([*words[:-1], tmp_path / "new"], capsys)


def test_a_gate_is_mended_where_the_error_points(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    gate = tmp_path / "gate.yaml"
    words = replay(tmp_path, robot)
    error = refused([*words(bag), "--gate", gate], capsys)
    flag(error, "--gate")
    for text in (
        "thresholds: [",
        "limits: {}",
        "thresholds: {coverage: 1}",
        "thresholds: {coverage: {min: x}}",
    ):
        gate.write_text(text)
        assert str(gate) in remedy(refused([*words(bag), "--gate", gate], capsys))
    gate.write_text("thresholds: {luck: {min: 0}}")
    error = refused([*words(bag), "--gate", gate], capsys)
    assert "coverage" in error
    gate.write_text("thresholds: {coverage: {min: 0}}")
    accepted([*words(bag), "--gate", gate], capsys)


def test_reports_are_compared_once_wam_replay_has_written_them(
    bag: Path, robot: Path, tmp_path: Path, capsys: Told
) -> None:
    words = replay(tmp_path, robot)
    first, second = tmp_path / "a", tmp_path / "b"
    accepted([*words(bag)[:-1], first], capsys)
    second.mkdir()
    (second / "summary.json").write_text('{"schema": "theirs/1"}')
    error = refused(["replay", "compare", first, second], capsys)
    assert "wam replay writes it" in remedy(error)
    shutil.rmtree(second)
    accepted([*words(bag)[:-1], second], capsys)
    assert run(["replay", "compare", str(first), str(second)]) == 0
