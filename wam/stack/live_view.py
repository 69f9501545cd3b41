# SPDX-License-Identifier: Apache-2.0
"""What a viewer is shown of running nodes: cameras, the robot, its joints, chunks, the rung and its causes. No ROS.

`take_*` only keep what came; `show` hands it on in one piece, so that the thread that receives is never held up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.errors import ImageError
from wam.core.verdict import Event as LadderMove
from wam.core.verdict import Ladder
from wam.evaluation.replay.viewer import ABOUT, AGE, COMMANDED, FANS, LOG, MEASURED, RUNG, ViewedChunk
from wam.evaluation.replay.viewer_recording import JPEG_QUALITY
from wam.evaluation.replay.viewer_robot import FAN, RECORDED, ViewedRobot, fan, model_joints
from wam.evaluation.replay.viewer_sink import Layout, LiveSink, LogLevel, Points, RobotPose
from wam.robots.description import JointGroup, RobotDescription
from wam.stack.samples import ImageSample, JointSample

IMAGE_PERIOD_NS = NS_PER_S // 5
JOINT_PERIOD_NS = NS_PER_S // 20
"""Least time between two images of a camera, and two samples of a joint, that are shown: a viewer must stay cheap."""

IMAGE_WIDTH = 320
"""Most columns of an image [px]; a wider one is made smaller."""

MAX_LOG_LINES = 2000
"""Most events of the safety node that are written out."""

Rows = npt.NDArray[np.float64]


@dataclass(slots=True)
class _Samples:
    times_ns: list[int] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    """What came since the last `show`."""

    measured: dict[str, _Samples] = field(default_factory=dict)
    commanded: dict[str, _Samples] = field(default_factory=dict)
    images: list[ImageSample] = field(default_factory=list)
    chunks: list[ActionChunk] = field(default_factory=list)
    moves: list[tuple[int, LadderMove]] = field(default_factory=list)


class LiveView:
    """Shows a running robot. `take_*` belong to the thread that receives, everything else to the one that shows.

    Args:
        sink: what takes it.
        robot: whose topics are listened to.
        about: a text for whoever looks at it.
    """

    def __init__(self, sink: LiveSink, robot: RobotDescription, *, about: str) -> None:
        self._sink, self._robot = sink, robot
        self._waiting = _Waiting()
        self._newest: dict[tuple[str, str], int] = {}
        self._positions = np.array([[joint.home for joint in robot.joints]])
        self._viewed: ViewedRobot | None = None
        self._chunks: list[ViewedChunk] = []
        self._ways: dict[str, list[Points]] = {}
        self._lines = 0
        sink.arrange(
            Layout(
                cameras=tuple(("cameras", camera.name) for camera in robot.cameras),
                world=() if robot.urdf is None else ((RECORDED,), FANS),
                joints={
                    group.name: tuple((joint.name, ("joints", joint.name)) for joint in group.joints)
                    for group in robot.groups
                },
                rung=RUNG,
                ages=(AGE,),
                log=LOG,
                about=(ABOUT,),
            )
        )
        sink.document(ABOUT, about)
        sink.style(RUNG, label="rung", colour=COMMANDED, width=2.0, steps=True)
        for joint in robot.joints:
            sink.style(("joints", joint.name, "measured"), label="measured", colour=MEASURED, width=2.0)
            sink.style(("joints", joint.name, "commanded"), label="commanded", colour=COMMANDED, width=1.5)

    def take_measured(self, group: JointGroup, sample: JointSample) -> None:
        """Take a joint state; some are left out."""
        self._keep(self._waiting.measured, "measured", group, sample)

    def take_commanded(self, group: JointGroup, sample: JointSample) -> None:
        """Take a command; some are left out."""
        self._keep(self._waiting.commanded, "commanded", group, sample)

    def take_image(self, image: ImageSample) -> None:
        """Take an image; most are left out, and are not even decoded."""
        if self._is_due("image", image.camera, image.stamp_ns, IMAGE_PERIOD_NS):
            self._waiting.images.append(image)

    def take_chunk(self, chunk: ActionChunk) -> None:
        """Take a chunk."""
        self._waiting.chunks.append(chunk)

    def take_move(self, stamp_ns: int, move: LadderMove) -> None:
        """Take an event of the safety node."""
        self._waiting.moves.append((stamp_ns, move))

    def collect(self) -> _Waiting:
        """Return what came since the last call; called under the lock of the thread that receives."""
        waiting, self._waiting = self._waiting, _Waiting()
        return waiting

    def show(self, waiting: _Waiting) -> None:
        """Hand on what `collect` returned."""
        for group in self._robot.groups:
            self._show_group(group, waiting)
        for image in waiting.images:
            self._show_image(image)
        for chunk in waiting.chunks:
            self._show_chunk(chunk)
        for stamp_ns, move in waiting.moves:
            self._show_move(stamp_ns, move)

    def _is_due(self, kind: str, name: str, stamp_ns: int, period_ns: int) -> bool:
        key = (kind, name)
        before_ns = self._newest.get(key)
        if before_ns is not None and 0 <= stamp_ns - before_ns < 0.9 * period_ns:
            return False
        self._newest[key] = stamp_ns
        return True

    def _keep(self, where: dict[str, _Samples], kind: str, group: JointGroup, sample: JointSample) -> None:
        if self._is_due(kind, group.name, sample.stamp_ns, JOINT_PERIOD_NS):
            kept = where.setdefault(group.name, _Samples())
            kept.times_ns.append(sample.stamp_ns)
            kept.rows.append(sample.positions)

    def _show_group(self, group: JointGroup, waiting: _Waiting) -> None:
        for kind, kept in (
            ("measured", waiting.measured.get(group.name)),
            ("commanded", waiting.commanded.get(group.name)),
        ):
            if kept is None:
                continue
            times_ns, rows = np.array(kept.times_ns, dtype=np.int64), np.array(kept.rows)
            for column, joint in enumerate(group.joints):
                self._sink.series(("joints", joint.name, kind), times_ns, rows[:, column])
            if kind == "measured":
                columns = [self._robot.joint_names.index(joint.name) for joint in group.joints]
                self._positions[0, columns] = rows[-1]
                if self._viewed is not None:
                    moved = model_joints(group.joints, rows)
                    self._sink.move(RobotPose(RECORDED, "", moved, times_ns))

    def _show_image(self, image: ImageSample) -> None:
        try:
            rgb = image.decode()
        except ImageError:
            return  # the nodes say so
        height, width = rgb.shape[:2]
        if width > IMAGE_WIDTH:
            size = (IMAGE_WIDTH, max(1, round(height * IMAGE_WIDTH / width)))
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if done:
            self._sink.images(("cameras", image.camera), [image.stamp_ns], [data.tobytes()])

    def _show_chunk(self, chunk: ActionChunk) -> None:
        at_ns = np.array([chunk.stamp_ns], dtype=np.int64)
        self._sink.series(AGE, at_ns, np.array([chunk.context_age_ns / NS_PER_S]))
        if self._robot.urdf is None:
            return
        if self._viewed is None:
            self._viewed = ViewedRobot(self._robot, chunk.joint_names)
            self._sink.robot(self._viewed.recorded(at_ns, self._positions))
        times = chunk.stamp_ns + chunk.row_period_ns * np.arange(len(chunk.rows), dtype=np.int64)
        self._chunks = [*self._chunks, ViewedChunk(chunk.stamp_ns, times, chunk.rows)][-FAN:]
        for tip in dict.fromkeys(group.tip_link for group in self._robot.groups if group.tip_link):
            way = self._viewed.way(tip, self._chunks[-1], at_ns, self._positions)
            ways = self._ways[tip] = [*self._ways.get(tip, []), way][-FAN:]
            self._sink.strips((*FANS, tip), [fan(self._chunks, ways)], frame=RECORDED)

    def _show_move(self, stamp_ns: int, move: LadderMove) -> None:
        after = Ladder(move.after)
        at_ns = np.array([stamp_ns], dtype=np.int64)
        self._sink.series(RUNG, at_ns, np.array([float(after)]))
        self._lines += 1
        if self._lines <= MAX_LOG_LINES:
            level = LogLevel.ERROR if after >= Ladder.HOLD else LogLevel.INFO
            text = f"{Ladder(move.before).name} -> {after.name}: {move.finding.text}"
            self._sink.log(LOG, [stamp_ns], [text], [level])
