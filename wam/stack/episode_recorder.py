# SPDX-License-Identifier: Apache-2.0
"""Keeps what the nodes publish during one episode after another: task state, messages, images for the film."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.observation import CameraFrame, Rgb
from wam.core.verdict import Ladder
from wam.evaluation.happened import NOT_MEASURED, MeasuredMotion, farthest, motion_of
from wam.evaluation.records import SafetyRecord
from wam.report.imagined import ImaginedPairs
from wam.robots.description import RobotDescription
from wam.ros.conversions import time_to_ns
from wam.stack import topics
from wam.stack.recorder import IMAGINED_PERIOD_NS, Recorder
from wam.stack.samples import ImageSample, NodeDiagnostics
from wam_msgs.msg import TaskStatus

Values = npt.NDArray[np.float64]

FILM_FPS = 5.0
"""Images of the film per second of simulated time [Hz]."""

SAFETY_REPORT = "wam_safety:"
"""How the name of the safety node's diagnostics begins."""


@dataclass(frozen=True, slots=True)
class EpisodeMessages:
    """What the nodes published in one episode.

    Attributes:
        chunk_ms: float64 [K], inference time of each chunk [ms].
        prefill_ms: float64 [M], planning time of each context [ms].
        context_age_ms: float64 [K] [ms].
        safety: events; stamps count from the start of the episode [ns].
        accepted: chunks that the safety node took, as it last counted them, twice a second.
        refused: chunks that it refused.
        motion: the joint that moved most.
    """

    chunk_ms: Values
    prefill_ms: Values
    context_age_ms: Values
    safety: tuple[SafetyRecord, ...]
    accepted: int
    refused: int
    motion: MeasuredMotion


class EpisodeRecorder(Recorder):
    """A recorder that starts afresh with every episode.

    Args:
        robot: whose topics to listen to.
        cameras: cameras to film, side by side.

    Attributes:
        task: newest state of the task, None before the first.
        start_ns: stamp at which the episode began [ns].
    """

    def __init__(self, robot: RobotDescription, cameras: tuple[str, ...]) -> None:
        self.task: TaskStatus | None = None
        self._cameras = cameras
        self.start_ns = 0
        self._stamps: dict[str, int] = {}
        self._newest: dict[str, CameraFrame] = {}
        self._filmed_ns = -math.inf
        self._pictures: deque[tuple[Rgb, ...]] = deque()
        self._joints = {group.name: group.joints for group in robot.groups}
        self._counted = self._counted_before = (0, 0)
        super().__init__(robot, in_bulk=True)

    @property
    def task_time(self) -> float:
        """Simulated time since the simulated robot started the episode [s]."""
        return 0.0 if self.task is None else float(self.task.time)

    @property
    def stopped_at(self) -> float | None:
        """Simulated time since then at which the safety node latched STOP [s], or None."""
        for event in self.safety:
            if event.ladder_to is Ladder.STOP and event.stamp_ns >= self.start_ns and self.task is not None:
                behind_ns = time_to_ns(self.task.header.stamp) - event.stamp_ns
                return self.task_time - behind_ns / NS_PER_S
        return None

    @property
    def ended(self) -> bool:
        """Whether the task has succeeded or the physics have ended."""
        return self.task is not None and bool(self.task.success or self.task.error)

    def seen_since(self, stamp_ns: int) -> bool:
        """Return whether task status, joint states and images newer than `stamp_ns` [ns] have arrived."""
        task_ns = 0 if self.task is None else time_to_ns(self.task.header.stamp)
        joints_ns = [series.stamps[-1] if series.stamps else 0 for series in self.measured.values()]
        pictures_ns = [self._stamps.get(name, 0) for name in self._cameras]
        return min(task_ns, *joints_ns, *pictures_ns) > stamp_ns

    def planned(self, generation: int, stamp_ns: int) -> bool:
        """Return whether a context of `generation` from an image newer than `stamp_ns` [ns] has arrived."""
        if not self.contexts:
            return False
        header = self.contexts[-1].header
        return header.generation >= generation and header.stamp_ns > stamp_ns

    def begin(self) -> None:
        """Drop what was published before; stamps of `take` count from here."""
        with self.listener.locked():
            for kept in (self.chunks, self.contexts, self.safety, self._pictures):
                kept.clear()
            self.imagined = ImaginedPairs(period_ns=IMAGINED_PERIOD_NS)
            for series in (*self.measured.values(), *self.commanded.values()):
                series.clear()
            self.start_ns = 0 if self.task is None else time_to_ns(self.task.header.stamp)
            self._filmed_ns = -math.inf
            self._counted_before = self._counted

    def take(self) -> EpisodeMessages:
        """Return what was published since `begin`."""
        with self.listener.locked():
            chunks = [record.chunk for record in self.chunks]
            accepted, refused = (
                max(0, now - before) for now, before in zip(self._counted, self._counted_before, strict=True)
            )
            return EpisodeMessages(
                chunk_ms=np.array([chunk.inference_ns * 1e-6 for chunk in chunks]),
                prefill_ms=np.array([record.header.plan_ns * 1e-6 for record in self.contexts]),
                context_age_ms=np.array([chunk.context_age_ns * 1e-6 for chunk in chunks]),
                safety=tuple(
                    replace(event, stamp_ns=event.stamp_ns - self.start_ns) for event in self.safety
                ),
                accepted=accepted,
                refused=refused,
                motion=self._motion(),
            )

    def _motion(self) -> MeasuredMotion:
        motions = [
            motion_of(self._joints[name], series.series().positions) for name, series in self.measured.items()
        ]
        return farthest(motions) or NOT_MEASURED

    def take_pictures(self) -> list[tuple[Rgb, ...]]:
        """Return the film's images since the last call: one per camera and moment."""
        with self.listener.locked():
            pictures = list(self._pictures)
            self._pictures.clear()
            return pictures

    def _subscribe(self, robot: RobotDescription) -> None:
        super()._subscribe(robot)
        self.listener.listen(topics.TASK_STATUS, self._take_task)

    def _take_task(self, status: TaskStatus, arrival_ns: int) -> None:
        self.task = status

    def _take_diagnostics(self, reports: tuple[NodeDiagnostics, ...], arrival_ns: int) -> None:
        super()._take_diagnostics(reports, arrival_ns)
        for report in reports:
            if report.name.startswith(SAFETY_REPORT):
                self._counted = (
                    int(report.values.get("chunks_accepted", 0)),
                    int(report.values.get("chunks_refused", 0)),
                )

    def _take_image(self, image: ImageSample, arrival_ns: int) -> None:
        super()._take_image(image, arrival_ns)
        camera, stamp_ns = image.camera, image.stamp_ns
        self._stamps[camera] = stamp_ns
        if camera not in self._cameras:
            return
        first = camera == self._cameras[0]
        if first and stamp_ns - self._filmed_ns < 0.9 * NS_PER_S / FILM_FPS:
            return
        self._newest[camera] = image.frame()
        if first and len(self._newest) == len(self._cameras):
            self._filmed_ns = stamp_ns
            self._pictures.append(tuple(self._newest[name].rgb for name in self._cameras))
