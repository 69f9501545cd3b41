# SPDX-License-Identifier: Apache-2.0
"""What a viewer is shown of running nodes: everything that counts, little enough to stay cheap, nothing that waits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recording_sink import RecordingSink

from wam.core.chunk import ActionChunk
from wam.core.observation import Rgb
from wam.core.verdict import Event, Finding, Ladder, Verdict
from wam.devices.loader import load_robot
from wam.evaluation.replay.rerun import RerunSink
from wam.evaluation.replay.viewer_sink import LogLevel, RobotPose
from wam.robots.description import RobotDescription
from wam.stack.live_view import LiveView
from wam.stack.samples import ImageSample, JointSample

MS = 1_000_000


class MovingSink(RecordingSink):
    """A sink that also keeps the pieces of robots."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[RobotPose] = []

    def move(self, robot: RobotPose) -> None:
        self.moves.append(robot)


@pytest.fixture(scope="module")
def franka() -> RobotDescription:
    return load_robot("franka")


def chunk(robot: RobotDescription, at_ns: int) -> ActionChunk:
    home = np.array([joint.home for joint in robot.joints])
    return ActionChunk(
        stamp_ns=at_ns,
        generation=1,
        sequence=1,
        contract_hash="a" * 64,
        context_version=1,
        context_age_ns=250 * MS,
        phase_offset_rows=0,
        row_period_ns=50 * MS,
        joint_names=robot.joint_names,
        rows=np.tile(home, (4, 1)),
        inference_ns=20 * MS,
    )


def picture(camera: str, at_ns: int, decoded: list[int]) -> ImageSample:
    def decode() -> Rgb:
        decoded.append(at_ns)
        return np.zeros((48, 64, 3), dtype=np.uint8)

    return ImageSample(camera, at_ns, decode)


def test_images_that_are_left_out_are_not_even_decoded(franka: RobotDescription) -> None:
    sink, decoded = MovingSink(), list[int]()
    view = LiveView(sink, franka, about="")
    for at_ns in range(0, 1000 * MS, 33 * MS):
        view.take_image(picture("wrist", at_ns, decoded))
    assert decoded == []
    view.show(view.collect())
    assert 5 <= len(decoded) <= 6
    assert min(np.diff(decoded)) >= 180 * MS


def test_joints_are_thinned_out_and_the_robot_moves_once_its_policy_is_known(
    franka: RobotDescription,
) -> None:
    sink = MovingSink()
    view = LiveView(sink, franka, about="")
    group = franka.groups[0]
    home = np.array([joint.home for joint in group.joints])

    def measure(first_ms: int) -> None:
        for at_ms in range(first_ms, first_ms + 1000, 2):
            view.take_measured(group, JointSample(at_ms * MS, home))

    measure(0)
    view.show(view.collect())
    assert sink.moves == []
    view.take_chunk(chunk(franka, 1000 * MS))
    measure(1000)
    view.show(view.collect())
    view.take_chunk(chunk(franka, 2000 * MS))
    measure(2000)
    view.show(view.collect())
    (moved,) = [one for one in sink.moves if one.times_ns[0] >= 2000 * MS]
    assert 19 <= len(moved.times_ns) <= 24
    assert "fr3_joint1" in moved.joints


def test_rung_and_cause_of_a_hold_are_shown(franka: RobotDescription) -> None:
    sink = MovingSink()
    view = LiveView(sink, franka, about="")
    finding = Finding(Verdict.HOLD, "chunk_timeout", "no valid chunk for 0.4 s", "", 0.4, 0.3)
    view.take_move(500 * MS, Event(finding, Ladder.NOMINAL, Ladder.HOLD, 3))
    view.show(view.collect())
    ((time_ns, text, level),) = sink.texts
    assert (time_ns, level) == (500 * MS, LogLevel.ERROR)
    assert text == "NOMINAL -> HOLD: no valid chunk for 0.4 s"


def test_a_live_file_can_be_read_back_with_cameras_robot_chunks_and_rung(
    tmp_path: Path, franka: RobotDescription
) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed (optional)")
    from rerun.chunk import RrdReader

    path = tmp_path / "live.rrd"
    sink = RerunSink(rerun, path, application="wam demo", timeline="simulated time")
    view = LiveView(sink, franka, about="a demo")
    group = franka.groups[0]
    home = np.array([joint.home for joint in group.joints])
    camera = franka.cameras[0].name
    for second in range(3):
        at_ns = second * 1000 * MS
        view.take_chunk(chunk(franka, at_ns))
        view.take_measured(group, JointSample(at_ns + 100 * MS, home + 0.1 * second))
        view.take_image(picture(camera, at_ns, []))
        finding = Finding(Verdict.OK, "recovered", "nominal again", "", 0.0, 0.0)
        view.take_move(at_ns, Event(finding, Ladder.HOLD, Ladder.NOMINAL, 1))
        view.show(view.collect())
    sink.close()
    rows: dict[str, int] = {}
    for one in RrdReader(path).stream().to_chunks():
        rows[one.entity_path] = rows.get(one.entity_path, 0) + (0 if one.is_static else one.num_rows)
    assert rows[f"/cameras/{camera}"] == 3
    assert rows["/chunks\\ in\\ 3D/fr3_hand_tcp"] == 3
    assert rows["/safety/rung"] == 3
    assert rows["/recorded/joints/fr3_joint1"] >= 2
    assert rows["/joints/fr3_joint1/measured"] == 3
