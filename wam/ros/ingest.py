# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of a robot's streams: one per camera and one per joint group; callbacks only store.

Joint states come 10 to 100 times for each observation, so they wait in the middleware's queue until one is made.

A camera with `reliability: auto` in the robot file is subscribed to with the reliability of its publishers. A
best-effort subscription always matches, but loses a whole image with one fragment; a reliable one receives nothing from
a best-effort publisher.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSReliabilityPolicy
from sensor_msgs.msg import JointState

from wam.core.clock import Clock
from wam.core.errors import ImageError
from wam.core.input_guard import InputContract
from wam.core.observation import Observation
from wam.robots.camera_spec import CameraSpec, Reliability
from wam.robots.description import RobotDescription
from wam.ros.camera_messages import PacketStream, message_kind, sends_packets
from wam.ros.inputs import GuardedInput, Inputs, ReadBy, node_name, node_of_topic
from wam.ros.qos import (
    IMAGE,
    IMAGE_RELIABLE,
    JOINT_STATE,
    JOINT_STATE_QUEUE,
    PACKETS,
    PACKETS_RELIABLE,
)
from wam.ros.timers import steady_timer
from wam.runtime.ingest.ingest import TRUTH_TOPIC, StreamIngest

MATCH_PERIOD_S = 0.5

DRAIN_PERIOD_S = 0.05
"""Joint states are read when an observation is made, and this often, so that none is lost and little is left [s]."""

PIXEL_BYTES = 16
"""Room of an image for each pixel of its camera [bytes]: the widest encodings, and a size that is refused by name."""

IMAGE_RATE_HZ = 1_000.0

STATE_RELEASE_NS = 500_000_000
"""Silence of a driver after which another one is followed [ns]."""


def image_contract(camera: CameraSpec) -> InputContract:
    """Return what is accepted as an image of `camera`."""
    return InputContract(
        max_bytes=PIXEL_BYTES * camera.height * camera.width + 65_536, max_rate=IMAGE_RATE_HZ
    )


class CameraSubscription:
    """The subscription of one camera, recreated when its publishers offer another reliability.

    Args:
        inputs: owns it.
        camera: topic, transport and requested reliability.
        store: called with each image.
    """

    def __init__(self, inputs: Inputs, camera: CameraSpec, store: Callable[[Any], None]) -> None:
        self._inputs, self._camera, self._store = inputs, camera, store
        self._topic = inputs.node.resolve_topic_name(camera.topic)
        self._contract = image_contract(camera)
        self._subscription: GuardedInput | None = None
        self.reliable = False
        self.publishers: tuple[str, ...] = ()
        self.match()

    def match(self) -> None:
        """Look up the publishers and subscribe with their reliability; called periodically."""
        infos = self._inputs.node.get_publishers_info_by_topic(self._topic)
        names = {name for name in map(node_name, infos) if name is not None}
        self.publishers = tuple(sorted(names))
        wanted = self._wanted([info.qos_profile.reliability for info in infos])
        if self._subscription is not None and wanted is self.reliable:
            return
        self.close()
        self.reliable = wanted
        packets = sends_packets(self._camera)
        if packets:
            profile = PACKETS_RELIABLE if wanted else PACKETS
        else:
            profile = IMAGE_RELIABLE if wanted else IMAGE
        self._subscription = self._inputs.listen(
            message_kind(self._camera),
            self._camera.topic,
            PacketStream(self._camera, self._store).take if packets else self._store,
            profile,
            contract=self._contract,
            read_by=ReadBy.RCLPY,
        )

    def close(self) -> None:
        """Remove the subscription."""
        if self._subscription is not None:
            self._inputs.remove(self._subscription)
            self._subscription = None

    def _wanted(self, offered: Sequence[QoSReliabilityPolicy]) -> bool:
        if self._camera.reliability is not Reliability.AUTO:
            return self._camera.reliability is Reliability.RELIABLE
        if not offered:
            return self.reliable
        return all(one == QoSReliabilityPolicy.RELIABLE for one in offered)


class RosIngest:
    """Feeds a `StreamIngest` from subscriptions of `node`.

    Args:
        node: the node that owns the subscriptions.
        robot: whose streams to subscribe to; topic names are relative to the node's namespace.
        cameras: names of the cameras, the reference camera first.
        clock: time for checks of staleness.
        environment: names of the ground truth that observations hold; empty subscribes to none.
        node_time: a driver is silent by `clock`, not by wall time; for lock-step.
    """

    def __init__(
        self,
        node: Node,
        robot: RobotDescription,
        cameras: tuple[str, ...],
        clock: Clock,
        *,
        environment: tuple[str, ...] = (),
        node_time: bool = False,
    ) -> None:
        self._node = node
        self._clock = clock
        self._lock_step = node_time
        self._on_image: list[Callable[[], None]] = []
        self._truth_is_reference = not cameras
        self.stream = StreamIngest(robot, cameras=cameras, environment=environment)
        self.inputs = Inputs(node, clock)
        self.cameras: dict[str, CameraSubscription] = {}
        for name in cameras:
            store = partial(self._store_image, name)
            self.cameras[name] = CameraSubscription(self.inputs, robot.camera(name), store)
        self._timer = steady_timer(node, MATCH_PERIOD_S, self._match)
        self._states: list[GuardedInput] = []
        for group in robot.groups:
            store_state = partial(self._store_state, group.name)
            states = InputContract(
                sole=True, parts=group.parts, release_ns=STATE_RELEASE_NS, node_time=node_time
            )
            self._states.append(
                self.inputs.listen(
                    JointState,
                    group.state_topic,
                    store_state,
                    JOINT_STATE if node_time else JOINT_STATE_QUEUE,
                    contract=states,
                    on_demand=not node_time,
                )
            )
        self._drain_timer = None if node_time else steady_timer(node, DRAIN_PERIOD_S, self._drain)
        if environment:
            truth = InputContract(sole=True, node=node_of_topic(node, TRUTH_TOPIC), node_time=node_time)
            self.inputs.listen(JointState, TRUTH_TOPIC, self._store_truth, JOINT_STATE, contract=truth)

    def on_image(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every image, or ground truth where no camera is used; it must not block."""
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
        self._drain()
        return self.stream.assemble(now_ns=now_ns)

    def close(self) -> None:
        """Remove the subscriptions."""
        self._node.destroy_timer(self._timer)
        if self._drain_timer is not None:
            self._node.destroy_timer(self._drain_timer)
        for camera in self.cameras.values():
            camera.close()
        self.inputs.close()

    def _drain(self) -> None:
        for one in () if self._lock_step else self._states:
            one.drain()

    def _match(self) -> None:
        for camera in self.cameras.values():
            camera.match()

    def _store_image(self, camera: str, message: Any) -> None:
        publishers = self.cameras[camera].publishers
        if len(publishers) > 1:
            # The images of several cameras would look like those of one that jumps back and forth.
            self.stream.refuse_image(
                camera,
                ImageError(
                    f"camera {camera!r} is published by several nodes",
                    value=", ".join(publishers),
                    allowed="one",
                    where="the cameras' drivers: stop one of them or rename its topic",
                ),
            )
        else:
            self.stream.put_image(camera, message, receive_ns=self._clock.now_ns())
        self._report()
        for callback in tuple(self._on_image):
            callback()

    def _store_state(self, group: str, message: Any) -> None:
        self.stream.put_joint_state(group, message, receive_ns=self._clock.now_ns())
        self._report()

    def _store_truth(self, message: Any) -> None:
        self.stream.put_truth(message, receive_ns=self._clock.now_ns())
        self._report()
        for callback in tuple(self._on_image) if self._truth_is_reference else ():
            callback()

    def _report(self) -> None:
        for notice in self.stream.take_notices():
            if notice.recovered:
                self._node.get_logger().info(notice.text)
            else:
                self._node.get_logger().warning(notice.text)


class SharedIngest:
    """One ingest for several nodes of a process: one subscription per camera, however many nodes use it.

    Args:
        node: the node that owns the subscriptions; it lives as long as the process.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._users = 0
        self._ingest: RosIngest | None = None
        self._key: tuple[str, tuple[str, ...], tuple[str, ...]] | None = None

    def acquire(
        self,
        robot: RobotDescription,
        cameras: tuple[str, ...],
        clock: Clock,
        *,
        environment: tuple[str, ...] = (),
        node_time: bool,
    ) -> RosIngest:
        """Return the ingest, which is made at the first call; arguments as `RosIngest`.

        Raises:
            ValueError: another robot, other cameras or another ground truth are in use already.
        """
        with self._lock:
            key = (robot.name, cameras, environment)
            if self._ingest is None:
                self._ingest = RosIngest(
                    self._node, robot, cameras, clock, environment=environment, node_time=node_time
                )
                self._key = key
            elif key != self._key:
                raise ValueError(f"shared ingest serves {self._key}, requested was {key}")
            self._users += 1
            return self._ingest

    def release(self) -> None:
        """End one use; the last one removes the subscriptions."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users == 0 and self._ingest is not None:
                self._ingest.close()
                self._ingest = None
