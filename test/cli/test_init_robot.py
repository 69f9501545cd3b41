# SPDX-License-Identifier: Apache-2.0
"""`wam init robot`: a draft replays what it was made from, and says what it does not know."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from fake_dataset import write_fake_dataset
from recorded_cases import FOLDER, needs_cases
from remedy_runs import Told, accepted, refused
from rewritten_bag import rewritten

from wam.cli.main import run
from wam.core.errors import ConfigError
from wam.data.bag.stamps import BagMessage
from wam.data.bag.writing import Storage, new_bag
from wam.data.draft.joints import Observed, draft_joints
from wam.data.draft.names import camera_name, group_name, legal
from wam.data.draft.text import quoted
from wam.data.draft.values import LimitOrigin
from wam.data.fakes import fake_robot, write_fake_bag
from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import CommandKind, JointKind, RobotDescription
from wam.robots.urdf import urdf_joints

URDF = """<?xml version="1.0"?>
<robot name="three">
  <link name="base"/><link name="a"/><link name="b"/><link name="c"/><link name="e"/>
  <joint name="d0" type="revolute"><parent link="base"/><child link="a"/>
    <limit lower="-1.5" upper="2.5" velocity="1.25" effort="80"/></joint>
  <joint name="d1" type="continuous"><parent link="a"/><child link="b"/></joint>
  <joint name="d2" type="prismatic"><parent link="b"/><child link="c"/>
    <limit lower="-0.7" upper="0.7" velocity="0.5" effort="20"/></joint>
  <joint name="d3" type="prismatic"><parent link="b"/><child link="e"/><mimic joint="d2"/>
    <limit lower="0" upper="1" velocity="1" effort="1"/></joint>
</robot>
"""


def draft(source: Path, out: Path, *more: str, told: Told) -> RobotDescription:
    accepted(["init", "robot", source, "--out", out, *more], told)
    return load_robot(out, moves=False)


def replay_as_told(out: Path, folder: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands in the header of a draft, as they stand there."""
    monkeypatch.chdir(folder)
    commands = re.findall(r"^#   wam (.*)$", out.read_text(encoding="utf-8"), re.MULTILINE)
    assert commands
    for command in commands:
        accepted(list(shlex.split(command)), told)
    assert (folder / "out" / "index.html").is_file()


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    write_fake_bag(tmp_path / "run", robot=fake_robot(), seconds=2.0)
    return tmp_path / "run"


def test_a_draft_replays_its_recording_without_an_edit(
    bag: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "robot.yaml"
    robot = draft(bag, out, told=capsys)
    assert robot.replay_only
    assert robot.recorded_as == "fake"
    (group,) = robot.groups
    assert (group.state_topic, group.driver_names) == ("joint_states", ("d0", "d1", "d2"))
    assert group.state_rate == pytest.approx(30.0, rel=1e-3)
    (camera,) = robot.cameras
    assert (camera.name, camera.transport, camera.height, camera.width) == (
        "cam_high", CameraTransport.COMPRESSED, 48, 64,
    )  # fmt: skip
    replay_as_told(out, tmp_path, capsys, monkeypatch)


def test_limits_are_what_was_observed_a_little_wider_and_marked_so(
    bag: Path, tmp_path: Path, capsys: Told
) -> None:
    out = tmp_path / "robot.yaml"
    joint = draft(bag, out, told=capsys).joints[0]
    assert -0.45 < joint.lower < -0.37
    assert 0.5 < joint.upper < 0.6
    assert 1.0 < joint.velocity < 1.3  # 0.5 sin(2 t) is at most 1 rad/s
    text = out.read_text(encoding="utf-8")
    assert "# TODO: observed in the recording, not the limits of the robot" in text
    assert f"lower: {{observed: {joint.lower:g}}}" in text
    assert "acceleration: TODO, jerk: TODO" in text
    assert "# safety: {chunk_timeout: TODO" in text


def test_a_draft_moves_nothing_and_what_is_missing_is_named_in_its_turn(
    bag: Path, tmp_path: Path, capsys: Told
) -> None:
    out = tmp_path / "robot.yaml"
    draft(bag, out, told=capsys)
    with pytest.raises(ConfigError, match="is for replay only"):
        load_robot(out)
    assert run(["demo", str(out)]) == 1
    assert "is for replay only" in capsys.readouterr().err
    text = re.sub(r"^replay_only.*\n", "", out.read_text(encoding="utf-8"), flags=re.MULTILINE)
    out.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="lacks safety"):
        load_robot(out)


def test_a_urdf_gives_limits_and_kinds(bag: Path, tmp_path: Path, capsys: Told) -> None:
    urdf = tmp_path / "three.urdf"
    urdf.write_text(URDF, encoding="utf-8")
    out = tmp_path / "robot.yaml"
    robot = draft(bag, out, "--urdf", str(urdf), "--name", "My arm", told=capsys)
    first, turning, sliding = robot.joints
    assert robot.title == "My arm"
    assert (first.lower, first.upper, first.velocity) == (-1.5, 2.5, 1.25)
    assert (sliding.kind, sliding.upper) == (JointKind.PRISMATIC, 0.7)
    assert turning.lower > -0.6, "a continuous joint has no limits: what was observed stands in"
    assert robot.urdf == urdf
    open_ = {path.rpartition(".")[2] for path in robot.unstated if "joints[0]" in path}
    assert open_ == {"acceleration", "jerk"}
    assert "# URDF: effort 80 N m" in out.read_text(encoding="utf-8")


def test_two_arms_of_one_driver_have_the_prefixed_joints_of_the_urdf() -> None:
    arm = Observed("d0", -1.0, 1.0, 0.5)
    model = urdf_joints(URDF.replace('"d0"', '"left_d0"'))
    (left,) = draft_joints([arm], model, prefix="left_")
    (right,) = draft_joints([arm], model, prefix="right_")
    assert (left.lower.origin, left.lower.value) == (LimitOrigin.URDF, -1.5)
    assert right.lower.origin is LimitOrigin.OBSERVED


def test_a_joint_that_the_urdf_lacks_is_told(bag: Path, tmp_path: Path, capsys: Told) -> None:
    urdf = tmp_path / "other.xacro"
    urdf.write_text(URDF.replace('"d1"', '"elbow"'), encoding="utf-8")
    robot = draft(bag, tmp_path / "robot.yaml", "--urdf", str(urdf), told=capsys)
    assert robot.urdf is None
    assert "other.xacro has no joint d1" in (tmp_path / "robot.yaml").read_text(encoding="utf-8")


def test_a_urdf_alone_gives_joints_and_leaves_the_topics_open(tmp_path: Path, capsys: Told) -> None:
    urdf, out = tmp_path / "three.urdf", tmp_path / "robot.yaml"
    urdf.write_text(URDF, encoding="utf-8")
    accepted(["init", "robot", urdf, "--out", out], capsys)
    text = out.read_text(encoding="utf-8")
    assert "d3" not in text, "a joint that mimics another is not one of the driver's"
    for old, new, still in (
        ("lower: TODO, upper: TODO", "lower: -3, upper: 3", r"joints\[1\].lower is still TODO"),
        ("velocity: TODO", "velocity: 1", r"joints\[1\].velocity is still TODO"),
        ("rate: TODO", "rate: 30", r"state.rate is still TODO"),
        ("max_age: TODO", "max_age: 0.2", r"state.max_age is still TODO"),
        ("topic: TODO", "topic: joint_states", r"state.topic is still TODO"),
    ):
        with pytest.raises(ConfigError, match=still):
            load_robot(out, moves=False)
        assert old in text
        text = text.replace(old, new)
        out.write_text(text, encoding="utf-8")
    assert [joint.name for joint in load_robot(out, moves=False).joints] == ["d0", "d1", "d2"]


def test_publishers_on_one_topic_and_arms_on_two_become_groups(
    tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_bag(tmp_path / "run", storage=Storage.MCAP, metadata={}) as writer:
        for row in range(80):
            stamp_ns = 10**18 + row * 20_000_000
            wave = 0.3 * np.sin(row / 10 + np.arange(2))
            for side in ("left", "right"):
                writer.joint_state(f"/{side}/joint_states", stamp_ns, names=("q1", "q2"), positions=wave)
                writer.joint_state(f"/{side}/joint_cmd", stamp_ns, names=("q1", "q2"), positions=wave + 0.01)
            if row % 4 == 0:
                opening = np.array([0.03 + 0.03 * np.sin(row / 10)])
                writer.joint_state("/left/joint_states", stamp_ns + 1, names=("finger",), positions=opening)
    out = tmp_path / "robot.yaml"
    robot = draft(tmp_path / "run", out, told=capsys)
    assert [group.name for group in robot.groups] == ["left", "gripper", "right"]
    assert robot.joint_names == ("left_q1", "left_q2", "finger", "right_q1", "right_q2")
    left, gripper, right = robot.groups
    assert gripper.joints[0].kind is JointKind.PRISMATIC
    assert gripper.state_max_age_ns >= 3 * 80_000_000
    assert (left.command_kind, left.command_topic) == (CommandKind.JOINT_STATE_STREAM, "left/joint_cmd")
    assert right.command_topic == "right/joint_cmd"
    assert robot.cameras == ()
    replay_as_told(out, tmp_path, capsys, monkeypatch)


def test_likely_degrees_are_told_in_a_comment_and_not_applied(
    bag: Path, tmp_path: Path, capsys: Told
) -> None:
    def degrees(message: BagMessage) -> list[BagMessage]:
        if message.topic == "/joint_states":
            message.message.position = 150 * message.message.position
        return [message]

    out = tmp_path / "robot.yaml"
    robot = draft(rewritten(bag, tmp_path / "degrees", degrees), out, told=capsys)
    assert robot.joints[0].upper > 70
    assert robot.joints[0].conversion.state == 1.0
    text = " ".join(out.read_text(encoding="utf-8").replace("#", "").split())
    assert "deg or percent are likely" in text
    assert "conversion: {state: 0.017453, command: 57.2967}" in text


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_draft_of_a_data_set_converts_and_replays_it(
    version: str, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_fake_dataset(tmp_path / "set", version=version, rows=40)
    out = tmp_path / "robot.yaml"
    robot = draft(source, out, told=capsys)
    assert robot.joint_names == ("d0", "d1", "d2")
    assert robot.cameras[0].name == "cam_high"
    assert (robot.groups[0].state_rate, robot.cameras[0].rate) == (30.0, 30.0)
    replay_as_told(out, tmp_path, capsys, monkeypatch)


def test_a_file_is_overwritten_only_when_that_is_said(bag: Path, tmp_path: Path, capsys: Told) -> None:
    out = tmp_path / "robot.yaml"
    out.write_text("mine")
    words = ["init", "robot", bag, "--out", out]
    error = refused(words, capsys)
    assert "pass --force to overwrite it" in error
    assert out.read_text() == "mine"
    accepted([*words, "--force"], capsys)
    assert "replay_only: true" in out.read_text(encoding="utf-8")


def test_what_has_no_joint_states_is_refused_in_one_line(tmp_path: Path, capsys: Told) -> None:
    with new_bag(tmp_path / "run", storage=Storage.MCAP, metadata={}) as writer:
        writer.text("/instruction", 10**18, "wave")
    out = tmp_path / "robot.yaml"
    assert "has no joint states: got '/instruction" in refused(
        ["init", "robot", tmp_path / "run", "--out", out], capsys
    )
    assert "does not exist" in refused(["init", "robot", tmp_path / "gone", "--out", out], capsys)
    assert "--out" in refused(["init", "robot", tmp_path / "run", "--out", tmp_path / "robot"], capsys)
    assert not out.exists()
    assert list(tmp_path.glob(".robot*")) == []


def test_a_recording_that_was_cut_short_is_drafted_from_what_can_be_read(
    bag: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (bag / "run.mcap").read_bytes()
    (bag / "run.mcap").write_bytes(content[: len(content) * 4 // 5])
    out = tmp_path / "robot.yaml"
    draft(bag, out, told=capsys)
    assert "--lenient" not in out.read_text(encoding="utf-8")
    replay_as_told(out, tmp_path, capsys, monkeypatch)


def test_messages_that_are_broken_do_not_widen_the_limits_and_are_left_out_of_the_replay(
    bag: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(message: BagMessage) -> list[BagMessage]:
        if message.topic == "/joint_states" and message.receive_ns % 7 == 0:
            message.message.position = np.array([np.nan, 50.0, 0.0])
        return [message]

    out = tmp_path / "robot.yaml"
    robot = draft(rewritten(bag, tmp_path / "broken", broken), out, told=capsys)
    assert all(joint.upper < 1.0 for joint in robot.joints)
    assert "have no finite position for every name" in out.read_text(encoding="utf-8")
    replay_as_told(out, tmp_path, capsys, monkeypatch)


def test_names_are_made_from_topics() -> None:
    topics = ("/cam_high/image_raw/compressed", "/camera/color/image_raw", "/image_raw", "/a/b/rgb/ffmpeg")
    assert camera_name("/cameras/side/color/image_raw") == "side"
    assert [camera_name(topic) for topic in topics] == ["cam_high", "camera", "image_raw", "a_b"]
    topics = ("/left/joint_states", "/joint_states", "/joint_states_single", "/arm/state")
    assert [group_name(topic) for topic in topics] == ["left", "body", "joint_states_single", "arm"]
    assert [legal(text, otherwise="joint") for text in ("7", "a b", "", "x.pos")] == [
        "joint_7", "a_b", "joint", "x.pos",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["on", "1", "null", "a: b", "TODO", "é", "# x", "1e3", "~", "a b"])
def test_every_name_is_written_so_that_it_is_read_back(text: str) -> None:
    import yaml

    read = yaml.safe_load(f"{{name: {quoted(text)}}}")
    assert read == {"name": text}
    assert (quoted(text) == text) is (text == "a b")


READABLE = {
    "action_float64multiarray": "bag", "action_two_publishers_same_width": "bag", "clock_ntp_step": "bag",
    "comp_format_empty": "bag", "db3_wal": "bag", "enc_bayer_rggb8": "bag", "enc_yuv422_yuy2": "bag",
    "gripper_revolute": "bag", "image_late_2s": "bag", "js_degrees": "bag", "js_two_publishers": "bag",
    "video_ffmpeg_packet": "bag", "lr_action_other_names": "data", "lr_dead_columns": "data", "lr_degrees": "data",
    "lr_start_stamp_offset": "data", "lr_unnamed_columns": "data", "lr_v30_stale_file_index": "data",
}  # fmt: skip
"""Cases that can be read at all: not the pointers of Git LFS, and not the messages that are not ROS."""


@needs_cases
@pytest.mark.recorded
@pytest.mark.parametrize("case", READABLE)
def test_a_draft_of_a_recording_of_a_lab_replays_it_without_an_edit(
    case: str, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "robot.yaml"
    draft(FOLDER / case / READABLE[case], out, told=capsys)
    replay_as_told(out, tmp_path, capsys, monkeypatch)
