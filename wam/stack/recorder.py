# SPDX-License-Identifier: Apache-2.0
"""Keeps what the nodes of a run publish, for its report and its live table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.context import ContextHeader
from wam.evaluation.records import ChunkRecord, ContextRecord, SafetyRecord, TopicSeries
from wam.report.imagined import ImaginedPairs
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.stack import topics
from wam.stack.listener import TopicListener
from wam.stack.samples import ImageSample, JointSample, NodeDiagnostics, SafetyMove
from wam_msgs.msg import ExecutorStatus, PlannerStatus

IMAGINED_PERIOD_NS = NS_PER_S
"""Minimum time between two imagined images of a camera that are kept [ns]."""


class GrowingSeries:
    """The samples of one joint topic so far.

    Args:
        group: whose topic it is.
        rate: nominal rate of the topic [Hz].
    """

    def __init__(self, group: JointGroup, *, rate: float) -> None:
        self._group = group
        self._rate = rate
        self.stamps: list[int] = []
        self.arrivals: list[int] = []
        self._rows: list[npt.NDArray[np.float64]] = []

    def add(self, sample: JointSample, arrival_ns: int) -> None:
        """Append a sample."""
        self._rows.append(sample.positions)
        self.stamps.append(sample.stamp_ns)
        self.arrivals.append(arrival_ns)

    def clear(self) -> None:
        """Drop all samples."""
        self.stamps.clear()
        self.arrivals.clear()
        self._rows.clear()

    def series(self) -> TopicSeries:
        """Return the samples so far."""
        # The listener appends while this reads: a row comes first, its arrival last.
        count = len(self.arrivals)
        return TopicSeries(
            name=self._group.name,
            joint_names=self._group.joint_names,
            stamps_ns=np.array(self.stamps[:count], dtype=np.int64),
            arrivals_ns=np.array(self.arrivals[:count], dtype=np.int64),
            positions=np.array(self._rows[:count]).reshape(count, len(self._group.joints)),
            rate=self._rate,
        )


class Recorder:
    """Listens to the nodes of one run and keeps everything that its report shows.

    Args:
        robot: whose topics to listen to.
        namespace: namespace of the nodes; "" for none.
        in_bulk: take joint states and commands 20 times a second, for less processor time. Not in lock-step, where
            simulated time waits for what has been taken.

    Attributes:
        measured: joint group -> measured positions.
        commanded: joint group -> commands, for groups with a command stream.
        chunks: action chunks in order of arrival.
        contexts: planner contexts in order of arrival.
        safety: events of the safety node in order of arrival.
        imagined: images that the policy expected, beside those that came.
        images: number of images received.
        planner_status: newest status of the planner, None before the first.
        executor_status: newest status of the executor, None before the first.
        backends: stage of the policy -> what runs it, from the nodes' diagnostics.
    """

    def __init__(self, robot: RobotDescription, *, namespace: str = "", in_bulk: bool = False) -> None:
        self._in_bulk = in_bulk
        self.listener = TopicListener("wam_recorder", namespace=namespace)
        self.measured = {group.name: self._series(group, group.state_rate) for group in robot.groups}
        self.commanded = {
            group.name: self._series(group, group.command_rate)
            for group in robot.groups
            if group.command_kind is CommandKind.JOINT_STATE_STREAM
        }
        self.chunks: list[ChunkRecord] = []
        self.contexts: list[ContextRecord] = []
        self.safety: list[SafetyRecord] = []
        self.imagined = ImaginedPairs(period_ns=IMAGINED_PERIOD_NS)
        self.images = 0
        self.planner_status: PlannerStatus | None = None
        self.executor_status: ExecutorStatus | None = None
        self.backends: dict[str, str] = {}
        self._subscribe(robot)
        self.listener.start()

    @property
    def problems(self) -> list[str]:
        """Messages that could not be decoded, one sentence each."""
        return self.listener.problems

    @property
    def has_joint_states(self) -> bool:
        """Whether every joint group has been measured."""
        return all(series.stamps for series in self.measured.values())

    def wait_for(self, condition: Callable[[Recorder], bool], *, timeout: float) -> bool:
        """Return whether `condition` became true within `timeout` [s]; it is checked after every message."""
        return self.listener.wait_for(lambda: condition(self), timeout=timeout)

    def now_ns(self) -> int:
        """Return the node's time [ns]."""
        return self.listener.now_ns()

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        self.listener.close()

    def _series(self, group: JointGroup, rate: float) -> GrowingSeries:
        return GrowingSeries(group, rate=rate)

    def _subscribe(self, robot: RobotDescription) -> None:
        listen = self.listener.listen
        for group in robot.groups:
            listen(topics.joint_states(group), self.measured[group.name].add, in_bulk=self._in_bulk)
            if group.name in self.commanded:
                listen(topics.joint_commands(group), self.commanded[group.name].add, in_bulk=self._in_bulk)
        for camera in robot.cameras:
            listen(topics.images(camera), self._take_image)
        listen(topics.CHUNKS, self._take_chunk)
        listen(topics.IMAGINED_IMAGES, self._take_imagined)
        listen(topics.CONTEXTS, self._take_context)
        listen(topics.SAFETY_EVENTS, self._take_safety)
        listen(topics.PLANNER_STATUS, self._take_planner_status)
        listen(topics.EXECUTOR_STATUS, self._take_executor_status)
        listen(topics.DIAGNOSTICS, self._take_diagnostics)

    def _take_image(self, image: ImageSample, arrival_ns: int) -> None:
        self.images += 1
        self.imagined.see(image.camera, image.stamp_ns, image.decode)

    def _take_imagined(self, image: ImageSample, arrival_ns: int) -> None:
        if self.imagined.wants(image.camera, image.stamp_ns):
            self.imagined.expect(image.frame())

    def _take_chunk(self, chunk: ActionChunk, arrival_ns: int) -> None:
        self.chunks.append(ChunkRecord(arrival_ns, chunk))

    def _take_context(self, header: ContextHeader, arrival_ns: int) -> None:
        self.contexts.append(ContextRecord(arrival_ns, header))

    def _take_safety(self, event: SafetyMove, arrival_ns: int) -> None:
        move, finding = event.move, event.move.finding
        self.safety.append(
            SafetyRecord(
                event.stamp_ns,
                move.before,
                move.after,
                finding.verdict,
                finding.code,
                finding.text,
                finding.joint,
                finding.value,
                finding.limit,
            )
        )

    def _take_planner_status(self, status: PlannerStatus, arrival_ns: int) -> None:
        self.planner_status = status

    def _take_diagnostics(self, reports: tuple[NodeDiagnostics, ...], arrival_ns: int) -> None:
        for report in reports:
            self.backends.update(report.backends)

    def _take_executor_status(self, status: ExecutorStatus, arrival_ns: int) -> None:
        self.executor_status = status
