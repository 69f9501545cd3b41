# SPDX-License-Identifier: Apache-2.0
"""`wam record`: writes the messages of a robot and of the nodes that drive it into a bag.

It only subscribes. Callbacks put bytes into a queue of bounded size and one thread writes them, so that a slow disk
never delays a publisher.
"""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.typesys import Stores, get_typestore

from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.record import RecordFile
from wam.data.bag.topics import (
    COMPRESSED_IMAGE,
    COMPRESSED_VIDEO,
    FFMPEG_PACKET,
    IMAGE,
    INSTRUCTION_TOPIC,
    JOINT_STATE,
    JOINT_TRAJECTORY,
)
from wam.data.bag.writing import BagWriter
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import CommandKind, RobotDescription
from wam.stack.listener import TopicListener

BACKLOG_BYTES = 256 * 2**20
"""Most bytes that wait for the disk; messages beyond are dropped and counted."""

POLL_S = 0.25
PLANNER_STATUS = "wam_planner/status"
SUITE_TOPICS = {
    "wam_executor/chunk": "wam_msgs/msg/ActionChunk",
    "wam_executor/status": "wam_msgs/msg/ExecutorStatus",
    PLANNER_STATUS: "wam_msgs/msg/PlannerStatus",
    "wam_safety/event": "wam_msgs/msg/SafetyEvent",
}
SENSOR = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
EACH = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """What to record.

    Attributes:
        out: folder of the new bag.
        namespace: of the robot and the nodes; "" for none.
        topics: further topic -> type.
        seconds: stop after this time [s]; 0 records until `stop` is set.
    """

    out: Path
    namespace: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """Result of a recording.

    Attributes:
        out: folder of the bag.
        counts: messages by topic.
        size: bytes of the file.
        dropped: messages dropped because the disk was too slow.
        silent: topics without a message.
    """

    out: Path
    counts: Mapping[str, int]
    size: int
    dropped: int
    silent: tuple[str, ...]


CAMERA_TYPES = {
    CameraTransport.RAW: IMAGE,
    CameraTransport.COMPRESSED: COMPRESSED_IMAGE,
    CameraTransport.FFMPEG: FFMPEG_PACKET,
    CameraTransport.FOXGLOVE: COMPRESSED_VIDEO,
}
"""Transport of a camera -> type of its messages."""


def topics_of(robot: RobotDescription) -> dict[str, str]:
    """Return topic -> type of everything that a recording of `robot` holds; names are relative to its namespace."""
    topics: dict[str, str] = {}
    for group in robot.groups:
        topics[group.state_topic] = JOINT_STATE
        if group.command_kind is not CommandKind.NONE:
            trajectory = group.command_kind is CommandKind.JOINT_TRAJECTORY
            topics[group.command_topic] = JOINT_TRAJECTORY if trajectory else JOINT_STATE
    for camera in robot.cameras:
        topics[camera.topic] = CAMERA_TYPES[camera.transport]
    return topics | SUITE_TOPICS


def definitions_of(types: Mapping[str, str]) -> dict[str, str]:
    """Return the .msg texts of the packages in `types` (topic -> type), without the common ROS packages.

    Raises:
        ConfigError: a package is not installed or has no such message.
    """
    common = get_typestore(Stores.ROS2_JAZZY).types
    definitions: dict[str, str] = {}
    for topic, msgtype in types.items():
        if msgtype in common or msgtype in definitions:
            continue
        package = msgtype.partition("/")[0]
        try:
            folder = Path(get_package_share_directory(package)) / "msg"
        except (PackageNotFoundError, ValueError):
            folder = Path("/nonexistent")
        for path in sorted(folder.glob("*.msg")):
            definitions[f"{package}/msg/{path.stem}"] = path.read_text(encoding="utf-8")
        if msgtype not in definitions:
            raise ConfigError(
                f"type of topic {topic}",
                value=msgtype,
                allowed="package/msg/Name of a package in this environment",
                where="--topic, or source the workspace that has it",
            )
    return definitions


def message_class(msgtype: str) -> Any:
    """Return the Python class of package/msg/Name.

    Raises:
        ConfigError: there is none in this environment.
    """
    package, _, rest = msgtype.partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), rest.rpartition("/")[2])
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"message type {msgtype} is not installed",
            allowed="package/msg/Name of a package in this environment",
            where="--topic, or source the workspace that has it",
        ) from error


def record(
    robot: RobotDescription,
    options: RecordOptions,
    *,
    stop: threading.Event,
    on_progress: Callable[[Mapping[str, int], int], None] = lambda counts, size: None,
) -> Recorded:
    """Record until `stop` is set, `options.seconds` have passed or the disk is full.

    Args:
        robot: whose topics to record.
        options: further topics, and where to write.
        stop: ends the recording in order.
        on_progress: called a few times a second with messages by topic and bytes written.

    Raises:
        RecordingError: the disk is full (what was recorded stays readable), or no message was received.
        ConfigError: a topic's type is not installed.
    """
    wanted = topics_of(robot) | dict(options.topics)
    classes = {topic: message_class(msgtype) for topic, msgtype in wanted.items()}
    definitions = definitions_of(wanted)
    file = RecordFile(options.out, metadata={"wam.robot": robot.name}, definitions=definitions)
    facts = _Facts(file, classes[PLANNER_STATUS])
    listener = TopicListener("wam_record", namespace=options.namespace)
    names = {topic: listener.node.resolve_topic_name(topic) for topic in wanted}
    backlog = Backlog(BACKLOG_BYTES)
    for topic, kind in classes.items():
        qos = EACH if topic in SUITE_TOPICS else SENSOR
        listener.listen_raw(topic, kind, qos, partial(backlog.put, topic))
    listener.start()
    end_ns = listener.now_ns() + int(options.seconds * 1e9) if options.seconds else None
    shown = -math.inf
    try:
        while not stop.is_set() and (end_ns is None or listener.now_ns() < end_ns):
            received = backlog.take(timeout=POLL_S)
            if received is None:
                file.flush()
            else:
                topic, raw, receive_ns = received
                file.write(names[topic], wanted[topic], raw, receive_ns)
                if topic == PLANNER_STATUS:
                    facts.take(raw, receive_ns)
            if time.monotonic() - shown >= POLL_S:
                shown = time.monotonic()
                on_progress(file.counts, file.size)
    finally:
        listener.close()
    file.close()
    if not file.counts:
        raise RecordingError(
            f"no message of robot {robot.name} was received",
            allowed=", ".join(names.values()),
            where="--namespace, ROS_DOMAIN_ID, or start the robot's drivers",
        )
    silent = tuple(name for name in names.values() if name not in file.counts)
    return Recorded(options.out, dict(file.counts), file.size, backlog.dropped, silent)


class Backlog:
    """Messages that wait for the disk, in order, up to a number of bytes; safe between threads.

    Args:
        most: bytes that may wait; messages beyond are dropped.

    Attributes:
        dropped: messages dropped so far.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._waiting: deque[tuple[str, bytes, int]] = deque()
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, topic: str, raw: bytes, receive_ns: int) -> None:
        """Append a message, or drop it when too many bytes wait; never blocks on the disk."""
        with self._changed:
            if self._bytes + len(raw) > self._most:
                self.dropped += 1
                return
            self._bytes += len(raw)
            self._waiting.append((topic, raw, receive_ns))
            self._changed.notify()

    def take(self, *, timeout: float) -> tuple[str, bytes, int] | None:
        """Return topic, bytes and receive time [ns] of the oldest message; None if none comes within `timeout` [s]."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._waiting), timeout):
                return None
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest[1])
            return oldest


class _Facts:
    """Writes contract hash and instruction of the planner's status into the recording when they change."""

    def __init__(self, file: RecordFile, status: Any) -> None:
        self._file = file
        self._status = status
        self._known = ("", "")

    def take(self, raw: bytes, receive_ns: int) -> None:
        status = deserialize_message(raw, self._status)
        known = (str(status.contract_hash), str(status.instruction))
        if known == self._known:
            return
        if known[1] != self._known[1]:
            BagWriter(self._file).text(INSTRUCTION_TOPIC, receive_ns, known[1])
        self._known = known
        self._file.note({"wam.contract_hash": known[0], "wam.instruction": known[1]})
