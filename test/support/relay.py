# SPDX-License-Identifier: Apache-2.0
"""Fault injection between real nodes: a relay that passes messages on, or changes, loses and repeats them on command.

The nodes are started with their inputs remapped to the relay's outputs, so that a fault is one function from a
message to the messages that are passed on instead; the nodes do not know of it. In lock-step the relay takes part like
a node: otherwise messages could wait in it, on a busy machine, while simulated time goes on.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription
from wam.ros.lock_step import TOPIC as ANSWERS
from wam.ros.qos import (
    CHUNK,
    CLOCK,
    IMAGE,
    IMAGE_PUBLISHER,
    JOINT_STATE,
    JOINT_STATE_PUBLISHER,
    LOCK_STEP,
)
from wam_msgs.msg import ActionChunk

PREFIX = "relayed/"
SPIN_TIMEOUT_S = 0.05

Fault = Callable[[Any], Iterable[Any]]
"""From a message (a copy, free to change) to the messages passed on in its place."""


def unchanged(message: Any) -> Iterable[Any]:
    """Pass the message on."""
    return (message,)


class Relay:
    """Passes action chunks, joint states and raw images from one topic to another, through a fault.

    Args:
        robot: whose joint groups and cameras are relayed.
    """

    def __init__(self, robot: RobotDescription) -> None:
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self.node = Node(
            "wam_relay", context=self._context, use_global_arguments=False, start_parameter_services=False
        )
        self._lock = threading.Lock()
        self._faults: dict[str, Fault] = {}
        chunks = self.node.create_publisher(ActionChunk, PREFIX + "chunk", CHUNK)
        self.node.create_subscription(
            ActionChunk, "wam_executor/chunk", lambda message: self._pass(message, chunks, "chunk"), CHUNK
        )
        for group in robot.groups:
            states = self.node.create_publisher(JointState, PREFIX + group.state_topic, JOINT_STATE_PUBLISHER)
            self.node.create_subscription(
                JointState,
                group.state_topic,
                lambda message, states=states: self._pass(message, states, "state"),
                JOINT_STATE,
            )
        for topic in _image_topics(robot):
            images = self.node.create_publisher(Image, PREFIX + topic, IMAGE_PUBLISHER)
            self.node.create_subscription(
                Image, topic, lambda message, images=images: self._pass(message, images, "image"), IMAGE
            )
        # Created last: within a round of the executor, what arrived before a new time is passed on before the answer.
        self._answers = self.node.create_publisher(Header, ANSWERS, LOCK_STEP)
        self.node.create_subscription(Clock, "/clock", self._on_clock, CLOCK)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="relay", daemon=True)
        self._thread.start()

    @staticmethod
    def remaps(robot: RobotDescription) -> dict[str, str]:
        """Return the remappings that make the safety node listen to the relay."""
        topics = ["wam_executor/chunk", *(group.state_topic for group in robot.groups)]
        return {topic: PREFIX + topic.removeprefix("wam_executor/") for topic in topics}

    @staticmethod
    def image_remaps(robot: RobotDescription) -> dict[str, str]:
        """Return the remappings that make planner and executor get their images through the relay."""
        return {topic: PREFIX + topic for topic in _image_topics(robot)}

    def inject(
        self, *, chunks: Fault = unchanged, states: Fault = unchanged, images: Fault = unchanged
    ) -> None:
        """Put faults in force from the next message on; without arguments, remove them all."""
        with self._lock:
            self._faults = {"chunk": chunks, "state": states, "image": images}

    def close(self) -> None:
        """Stop relaying."""
        self._stopping.set()
        self._thread.join(5.0)
        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _pass(self, message: Any, publisher: Any, kind: str) -> None:
        with self._lock:
            fault = self._faults.get(kind, unchanged)
        changed = (message,) if fault is unchanged else fault(copy.deepcopy(message))
        for one in changed:
            publisher.publish(one)

    def _on_clock(self, message: Clock) -> None:
        self._answers.publish(Header(frame_id=self.node.get_fully_qualified_name(), stamp=message.clock))

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)


def _image_topics(robot: RobotDescription) -> list[str]:
    return [camera.topic for camera in robot.cameras if camera.transport is CameraTransport.RAW]
