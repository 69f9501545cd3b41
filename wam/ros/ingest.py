# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of a robot's streams: one per camera and one per joint group; callbacks only store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from wam.core.clock import Clock
from wam.core.observation import Observation
from wam.robots.description import CameraTransport, RobotDescription
from wam.robots.ingest import StreamIngest
from wam.ros.qos import IMAGE, JOINT_STATE


class RosIngest:
    """Feeds a `StreamIngest` from subscriptions of `node`.

    Args:
        node: the node that owns the subscriptions.
        robot: whose streams to subscribe to; topic names are relative to the node's namespace.
        cameras: names of the cameras wanted, the reference camera first.
        clock: judges staleness.
    """

    def __init__(self, node: Node, robot: RobotDescription, cameras: tuple[str, ...], clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._on_image: list[Callable[[], None]] = []
        self.stream = StreamIngest(robot, cameras=cameras)
        self._subscriptions: list[Any] = []
        for name in cameras:
            camera = robot.camera(name)
            kind = Image if camera.transport is CameraTransport.RAW else CompressedImage
            self._subscriptions.append(
                node.create_subscription(kind, camera.topic, partial(self._store_image, name), IMAGE)
            )
        for group in robot.groups:
            self._subscriptions.append(
                node.create_subscription(
                    JointState, group.state_topic, partial(self._store_state, group.name), JOINT_STATE
                )
            )

    def on_image(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every image of the reference camera; it must not block."""
        self._on_image.append(callback)

    def off_image(self, callback: Callable[[], None]) -> None:
        """Undo `on_image`; safe to call twice."""
        if callback in self._on_image:
            self._on_image.remove(callback)

    def observe(self, now_ns: int) -> Observation:
        """Return the newest observation at `now_ns` [ns]; called from worker threads.

        Raises:
            StaleObservation: a stream is silent or older than its budget.
            InputError: the newest message of a stream cannot be used.
        """
        return self.stream.assemble(now_ns=now_ns)

    def close(self) -> None:
        """Remove the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _store_image(self, camera: str, message: Any) -> None:
        self.stream.put_image(camera, message, receive_ns=self._clock.now_ns())
        self._report()
        for callback in tuple(self._on_image):
            callback()

    def _store_state(self, group: str, message: Any) -> None:
        self.stream.put_joint_state(group, message, receive_ns=self._clock.now_ns())
        self._report()

    def _report(self) -> None:
        for notice in self.stream.take_notices():
            if notice.recovered:
                self._node.get_logger().info(notice.text)
            else:
                self._node.get_logger().warning(notice.text)


class SharedIngest:
    """One ingest for several nodes of a process: one subscription per camera, however many look through it.

    Args:
        node: the node that owns the subscriptions; it lives as long as the process.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._users = 0
        self._ingest: RosIngest | None = None
        self._key: tuple[str, tuple[str, ...]] | None = None

    def acquire(self, robot: RobotDescription, cameras: tuple[str, ...], clock: Clock) -> RosIngest:
        """Return the ingest, made at the first call.

        Raises:
            ValueError: another robot or other cameras are in use already.
        """
        with self._lock:
            key = (robot.name, cameras)
            if self._ingest is None:
                self._ingest, self._key = RosIngest(self._node, robot, cameras, clock), key
            elif key != self._key:
                raise ValueError(f"shared ingest serves {self._key}, asked for {key}")
            self._users += 1
            return self._ingest

    def release(self) -> None:
        """Give one share back; the last one removes the subscriptions."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._ingest is not None:
                self._ingest.close()
                self._ingest = None
