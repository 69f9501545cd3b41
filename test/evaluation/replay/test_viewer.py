# SPDX-License-Identifier: Apache-2.0
"""What the viewer of a replay is given, without the viewer."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from recording_sink import RecordingSink
from viewed_bag import write_bag

from wam.cli.main import run
from wam.core.verdict import Ladder
from wam.data.fakes import fake_image, write_fake_bag
from wam.devices.loader import load_robot
from wam.evaluation.replay import session
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.viewer import ViewedChunk, fill, lanes, read_events, rung_steps
from wam.evaluation.replay.viewer_recording import Album, read_again, small_jpeg
from wam.evaluation.replay.viewer_robot import FAN, ViewedRobot, viewer_urdf
from wam.evaluation.replay.viewer_sink import LogLevel
from wam.robots.kinematics import RobotModel


class Message:
    """sensor_msgs/CompressedImage."""

    def __init__(self, width: int, height: int) -> None:
        done, data = cv2.imencode(".jpg", fake_image(1, height=height, width=width))
        assert done
        self.format = "jpeg"
        self.data = data.ravel()


def shown(
    bag: Path, robot: str, report: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[RecordingSink, list[int]]:
    """Replay a bag; return what its viewer is given, and the times of the chunks."""
    sink, ready = RecordingSink(), []

    def keep(path: Path, data: ReplayData, events: Path) -> None:
        fill(sink, data, events)
        ready.extend(data.collector.ready_ns)

    monkeypatch.setattr(session, "require_rerun", lambda: None)
    monkeypatch.setattr("wam.evaluation.replay.rerun.require_rerun", lambda: None)
    monkeypatch.setattr(session, "write_rerun", keep)
    command = [
        "replay",
        str(bag),
        "--robot",
        robot,
        "--policy",
        "fake",
        "--gate",
        "none",
        "--report",
        str(report),
    ]
    assert run([*command, "--rerun", str(report.parent / "x.rrd")]) == 0
    return sink, ready


def test_every_image_every_joint_and_every_chunk_of_a_replay_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = load_robot("g1_inspire")
    write_fake_bag(tmp_path / "bag", robot=robot, seconds=2.0)
    sink, ready = shown(tmp_path / "bag", "g1_inspire", tmp_path / "report", monkeypatch)

    times, jpegs = sink.pictures["cameras", "cam_high"]
    assert len(times) == len(jpegs) == 60
    assert all(step > 0 for step in np.diff(times))
    assert cv2.imdecode(np.frombuffer(jpegs[0], np.uint8), cv2.IMREAD_COLOR).shape == (360, 480, 3)

    elbow = robot.joint_names[3]
    kinds = {entity[2] for entity in sink.lines if entity[:2] == ("joints", elbow)}
    assert kinds == {"measured", "recorded action", "policy, as executed", "commanded", "chunks"}
    at, measured = sink.lines["joints", elbow, "measured"]
    np.testing.assert_allclose(measured, 0.5 * np.sin(2.0 * np.arange(60) / 30 + 3), atol=1e-9)
    assert at[0] == times[0]
    # Rows of all chunks are there, each chunk on one of the lanes.
    parts = [
        values for entity, (_, values) in sink.lines.items() if entity[:3] == ("joints", elbow, "chunks")
    ]
    assert sum(int(np.isnan(values).sum()) for values in parts) == len(ready)

    (layout,) = sink.layouts
    assert sink.calls[0] == "arrange"
    assert layout.cameras == (("cameras", "cam_high"),)
    assert layout.world == ()
    assert [name for joints in layout.joints.values() for name, _ in joints] == list(robot.joint_names)
    assert all(len(joints) <= 9 for joints in layout.joints.values())
    (text,) = sink.documents.values()
    assert "no 3D view: the file of robot g1_inspire has no model" in text
    assert "60 of 60 images" in text


def test_a_robot_with_a_model_stands_twice_and_its_chunks_fan_out_from_its_tip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = load_robot("franka")
    write_bag(tmp_path / "bag", robot, seconds=1.0)
    sink, ready = shown(tmp_path / "bag", "franka", tmp_path / "report", monkeypatch)
    assert set(sink.robots) == {"recorded", "commanded"}
    recorded, commanded = sink.robots["recorded"], sink.robots["commanded"]
    assert recorded.stands_on == ""
    assert commanded.stands_on == "recorded"
    np.testing.assert_allclose(
        recorded.joints["fr3_joint1"], robot.joints[0].home + 0.01 * np.sin(0.2 * np.arange(30)), atol=1e-9
    )
    assert len(recorded.times_ns) == 30
    assert len(commanded.joints["fr3_joint1"]) == len(commanded.times_ns) > 10
    # Both fingers of the model follow the one joint of the driver.
    np.testing.assert_array_equal(recorded.joints["fr3_finger_joint1"], recorded.joints["fr3_finger_joint2"])
    tips = {entity[-1] for entity in sink.fans}
    assert tips == {group.tip_link for group in robot.groups if group.tip_link}
    frame, strips = sink.fans["chunks in 3D", robot.groups[0].tip_link]
    assert frame == "recorded"
    assert [one.time_ns for one in strips] == ready
    assert len(strips[0].lines) == 1
    assert len(strips[-1].lines) == FAN
    assert strips[-1].colours[-1][3] == 255 > strips[-1].colours[0][3]
    (layout,) = sink.layouts
    assert layout.world[0] == ("recorded",)


def test_a_line_of_a_fan_is_where_the_tip_would_be_for_each_row() -> None:
    robot = load_robot("franka")
    home = np.array([joint.home for joint in robot.joints])
    rows = home + np.linspace(0.0, 0.2, 4)[:, None] * (np.arange(len(home)) < 7)
    chunk = ViewedChunk(5, np.arange(4, dtype=np.int64), rows)
    viewed = ViewedRobot(robot, robot.joint_names)
    tip = robot.groups[0].tip_link
    (strips,) = viewed.fans([chunk], np.empty(0, np.int64), np.empty((0, len(home))))[tip]
    model = RobotModel(robot)
    for point, row in zip(strips.lines[0], rows, strict=True):
        np.testing.assert_allclose(point, model.pose(tip, row, base=model.root)[:3, 3])


def test_a_joint_that_was_never_reported_stays_at_home() -> None:
    robot = load_robot("franka")
    positions = np.full((2, len(robot.joints)), np.nan)
    pose = ViewedRobot(robot, robot.joint_names).recorded(np.array([1, 2]), positions)
    np.testing.assert_allclose(pose.joints["fr3_joint4"], robot.joints[3].home)


def test_chunks_on_a_lane_do_not_overlap_and_have_a_break_between_them() -> None:
    chunks = [
        ViewedChunk(i, 100 * i + 30 * np.arange(16, dtype=np.int64), np.full((16, 1), float(i)))
        for i in range(20)
    ]
    seen: list[float] = []
    for times, values in lanes(chunks, 0):
        assert (np.diff(times) > 0).all()
        stretches = np.split(values, np.flatnonzero(np.isnan(values)) + 1)
        assert all(len(set(part[~np.isnan(part)])) <= 1 for part in stretches)
        seen += [part[0] for part in stretches if len(part) == 17]
    assert sorted(seen) == list(range(20))
    assert list(lanes([], 0)) == []


def test_chunks_of_one_time_are_cut_rather_than_drawn_backwards() -> None:
    chunks = [ViewedChunk(i, 10 * np.arange(4, dtype=np.int64), np.zeros((4, 1))) for i in range(3)]
    for times, values in lanes(chunks, 0):
        assert len(times) == len(values)
        assert (np.diff(times) > 0).all()


def test_a_rung_stands_until_the_next_and_the_last_until_the_end() -> None:
    times, values = rung_steps([(10, Ladder.NOMINAL), (50, Ladder.HOLD)], 90)
    assert times.tolist() == [10, 50, 90]
    assert values.tolist() == [1, 4, 4]
    assert len(rung_steps([], 90)[0]) == 0


def test_events_become_lines_of_the_log_in_order_of_time(tmp_path: Path) -> None:
    events = [
        {"event": "fault", "time_ns": 9, "node": "executor", "text": "NaN"},
        {"event": "verdict", "time_ns": 5, "sequence": 3, "verdict": "HOLD", "text": "too far"},
        {"event": "verdict", "time_ns": 6, "sequence": 4, "verdict": "OK", "text": ""},
        {"event": "ladder", "time_ns": 7, "before": "NOMINAL", "after": "HOLD", "text": "no chunk"},
        {"event": "refusal", "time_ns": 1, "node": "planner", "reason": "no image"},
        {"event": "score", "stamp_ns": 1},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    chunks, lines = read_events(tmp_path / "events.jsonl")
    assert chunks == []
    assert lines == [
        (1, LogLevel.INFO, "planner: no output: no image"),
        (5, LogLevel.WARN, "chunk 3: HOLD: too far"),
        (7, LogLevel.ERROR, "NOMINAL -> HOLD: no chunk"),
        (9, LogLevel.ERROR, "executor is at fault: NaN"),
    ]


def test_images_never_take_more_than_their_share_and_stay_evenly_spread() -> None:
    message = Message(64, 48)
    size = len(small_jpeg(message, "a"))
    album = Album(10 * size)
    for i in range(100):
        album.add("a", i, message)
        album.add("b", i, message)
    for frames in album.frames.values():
        assert frames.total == 100
        assert frames.every == 32
        assert frames.times_ns == list(range(0, 100, 32))
    assert sum(len(jpeg) for frames in album.frames.values() for jpeg in frames.jpegs) <= 10 * size


def test_a_small_jpeg_is_taken_as_it_is_and_a_large_one_made_smaller() -> None:
    small, large = Message(320, 240), Message(960, 540)
    assert small_jpeg(small, "a") == small.data.tobytes()
    assert cv2.imdecode(np.frombuffer(small_jpeg(large, "a"), np.uint8), cv2.IMREAD_COLOR).shape == (
        270,
        480,
        3,
    )


def test_a_urdf_for_the_viewer_has_no_collision_shapes_and_finds_its_meshes(tmp_path: Path) -> None:
    shape = '<geometry><mesh filename="{}"/></geometry>'
    urdf = (
        '<robot name="r"><link name="a">'
        f"<visual>{shape.format('meshes/a.stl')}<material name='red'><color rgba='1 0 0 1'/></material></visual>"
        f"<visual>{shape.format('package://r_description/b.stl')}</visual>"
        f"<collision>{shape.format('c.stl')}</collision></link></robot>"
    )
    plain = ElementTree.fromstring(viewer_urdf(urdf, tmp_path))
    assert [mesh.get("filename") for mesh in plain.iter("mesh")] == [
        str(tmp_path / "meshes" / "a.stl"),
        "package://r_description/b.stl",
    ]
    assert [color.get("rgba") for color in plain.iter("color")] == ["1 0 0 1"]
    ghost = ElementTree.fromstring(viewer_urdf(urdf, tmp_path, colour="0 1 0 0.5"))
    assert [color.get("rgba") for color in ghost.iter("color")] == ["0 1 0 0.5"] * 2


def test_reading_a_recording_again_leaves_its_statistics_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fake_bag(tmp_path / "bag", robot=load_robot("g1_inspire"), seconds=1.0)
    seen = []
    monkeypatch.setattr(session, "require_rerun", lambda: None)
    monkeypatch.setattr("wam.evaluation.replay.rerun.require_rerun", lambda: None)
    monkeypatch.setattr(session, "write_rerun", lambda path, data, events: seen.append(read_again(data)))
    command = [
        "replay",
        str(tmp_path / "bag"),
        "--robot",
        "g1_inspire",
        "--policy",
        "fake",
        "--gate",
        "none",
        "--report",
    ]
    assert run([*command, str(tmp_path / "with"), "--rerun", str(tmp_path / "x.rrd")]) == 0
    assert run([*command, str(tmp_path / "without")]) == 0
    assert seen[0].positions.shape == (30, 26)
    for name in ("summary.json", "events.jsonl"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
