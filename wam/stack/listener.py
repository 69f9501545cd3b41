# SPDX-License-Identifier: Apache-2.0
"""Listens to the topics of a run and keeps what its report and its live table show."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from wam.core.clock import NS_PER_S
from wam.core.errors import WamError
from wam.core.observation import CameraFrame, index_of
from wam.evaluation.records import ChunkRecord, ContextRecord, SafetyRecord, TopicSeries
from wam.report.imagined import ImaginedPairs
from wam.robots.description import CameraTransport, CommandKind, JointGroup, RobotDescription
from wam.robots.images import decode_image
from wam.ros.context_channel import message_to_context
from wam.ros.conversions import event_to_finding, message_to_chunk, time_to_ns
from wam.ros.qos import CHUNK, CONTEXT, EVENT_KEPT, IMAGE, IMAGINED, JOINT_STATE, STATUS
from wam_msgs.msg import ActionChunk, ExecutorStatus, KVContext, PlannerStatus, SafetyEvent

FRAME_PERIOD_NS = NS_PER_S
SPIN_TIMEOUT_S = 0.1


class _Series:
    """Rows of one joint topic in SI units, growing."""

    def __init__(self, group: JointGroup, *, rate: float, factors: Any) -> None:
        self._group = group
        self._factors = factors
        self._rate = rate
        self._index: dict[tuple[str, ...], Any] = {}
        self.stamps: list[int] = []
        self.arrivals: list[int] = []
        self._rows: list[Any] = []

    def add(self, message: Any, arrival_ns: int) -> None:
        names = tuple(message.name)
        if names not in self._index:
            self._index[names] = index_of(
                names, self._group.driver_names, what=f"joint topic of {self._group.name}"
            )
        row = np.asarray(message.position, dtype=np.float64)[self._index[names]]
        self._rows.append(row * self._factors)
        self.stamps.append(time_to_ns(message.header.stamp))
        self.arrivals.append(arrival_ns)

    def clear(self) -> None:
        """Forget what has arrived."""
        self.stamps.clear()
        self.arrivals.clear()
        self._rows.clear()

    def series(self) -> TopicSeries:
        """Return what has arrived so far."""
        count = len(self._rows)
        return TopicSeries(
            name=self._group.name,
            joint_names=self._group.joint_names,
            stamps_ns=np.array(self.stamps[:count], dtype=np.int64),
            arrivals_ns=np.array(self.arrivals[:count], dtype=np.int64),
            positions=np.array(self._rows[:count]).reshape(count, len(self._group.joints)),
            rate=self._rate,
        )


class Recorder:
    """A node with a context and a thread of its own that keeps everything a run publishes.

    Args:
        robot: whose topics to listen to.
        namespace: namespace of the nodes; "" for none.
    """

    def __init__(self, robot: RobotDescription, *, namespace: str = "") -> None:
        self._robot = robot
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self.node = Node(
            "wam_recorder", context=self._context, namespace=namespace, use_global_arguments=False
        )
        self._changed = threading.Condition()
        self.measured = {
            group.name: _Series(group, rate=group.state_rate, factors=group.state_factors)
            for group in robot.groups
        }
        self.commanded = {
            group.name: _Series(group, rate=group.command_rate, factors=1.0 / group.command_factors)
            for group in robot.groups
            if group.command_kind is CommandKind.JOINT_STATE_STREAM
        }
        self.chunks: list[ChunkRecord] = []
        self.contexts: list[ContextRecord] = []
        self.safety: list[SafetyRecord] = []
        self.frames: list[CameraFrame] = []
        self.imagined = ImaginedPairs(period_ns=FRAME_PERIOD_NS)
        self.images = 0
        self.planner_status: PlannerStatus | None = None
        self.executor_status: ExecutorStatus | None = None
        self.problems: list[str] = []
        self._subscribe(robot)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="recorder", daemon=True)
        self._thread.start()

    def wait_for(self, condition: Callable[[Recorder], bool], *, timeout: float) -> bool:
        """Return whether `condition` became true within `timeout` [s]; it is asked after every message."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join(5.0)
        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def now_ns(self) -> int:
        """Return the node's time [ns]."""
        return int(self.node.get_clock().now().nanoseconds)

    def _subscribe(self, robot: RobotDescription) -> None:
        listen = self._listen
        for group in robot.groups:
            listen(
                JointState,
                group.state_topic,
                JOINT_STATE,
                partial(self._on_joints, self.measured[group.name]),
            )
            if group.name in self.commanded:
                callback = partial(self._on_joints, self.commanded[group.name])
                listen(JointState, group.command_topic, JOINT_STATE, callback)
        for camera in robot.cameras:
            kind = Image if camera.transport is CameraTransport.RAW else CompressedImage
            listen(kind, camera.topic, IMAGE, partial(self._on_image, camera.name))
        listen(ActionChunk, "wam_executor/chunk", CHUNK, self._on_chunk)
        listen(Image, "wam_executor/imagined_image", IMAGINED, self._on_imagined)
        listen(KVContext, "wam_planner/context", CONTEXT, self._on_context)
        listen(SafetyEvent, "wam_safety/event", EVENT_KEPT, self._on_event)
        listen(PlannerStatus, "wam_planner/status", STATUS, self._on_planner_status)
        listen(ExecutorStatus, "wam_executor/status", STATUS, self._on_executor_status)

    def _listen(self, kind: type[Any], topic: str, qos: Any, store: Callable[[Any, int], None]) -> None:
        def callback(message: Any) -> None:
            with self._changed:
                try:
                    store(message, self.now_ns())
                except WamError as error:
                    text = f"{topic}: {error}"
                    if text not in self.problems:
                        self.problems.append(text)
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, callback, qos)

    def _on_joints(self, series: _Series, message: Any, arrival_ns: int) -> None:
        series.add(message, arrival_ns)

    def _on_image(self, camera: str, message: Any, arrival_ns: int) -> None:
        self.images += 1
        stamp_ns = time_to_ns(message.header.stamp)
        newest = next((frame.stamp_ns for frame in reversed(self.frames) if frame.camera == camera), None)
        if newest is None or stamp_ns - newest >= FRAME_PERIOD_NS:
            self.frames.append(CameraFrame(camera, stamp_ns, self._decode(camera, message)))
        self.imagined.see(camera, stamp_ns, lambda: self._decode(camera, message))

    def _decode(self, camera: str, message: Any) -> Any:
        spec = self._robot.camera(camera)
        return decode_image(message, camera=camera, size=(spec.height, spec.width))

    def _on_imagined(self, message: Any, arrival_ns: int) -> None:
        camera = str(message.header.frame_id)
        stamp_ns = time_to_ns(message.header.stamp)
        if self.imagined.wants(camera, stamp_ns):
            self.imagined.expect(CameraFrame(camera, stamp_ns, decode_image(message, camera=camera)))

    def _on_chunk(self, message: Any, arrival_ns: int) -> None:
        self.chunks.append(ChunkRecord(arrival_ns, message_to_chunk(message)))

    def _on_context(self, message: Any, arrival_ns: int) -> None:
        self.contexts.append(ContextRecord(arrival_ns, message_to_context(message)[0]))

    def _on_event(self, message: Any, arrival_ns: int) -> None:
        finding, before, after = event_to_finding(message)
        self.safety.append(
            SafetyRecord(
                time_to_ns(message.header.stamp),
                before,
                after,
                finding.verdict,
                finding.code,
                finding.text,
                finding.joint,
                finding.value,
                finding.limit,
            )
        )

    def _on_planner_status(self, message: Any, arrival_ns: int) -> None:
        self.planner_status = message

    def _on_executor_status(self, message: Any, arrival_ns: int) -> None:
        self.executor_status = message

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
