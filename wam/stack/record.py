# SPDX-License-Identifier: Apache-2.0
"""`wam record`: listens to a robot and to the nodes that drive it, and writes what it hears.

It only listens. Callbacks put bytes into a queue of bounded size and one thread writes them; whatever the disk does, no
publisher waits for it.
"""

from __future__ import annotations

import importlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.typesys import Stores, get_typestore

from wam.core.errors import ConfigError, RecordingError
from wam.data.bag.record import RecordFile
from wam.data.bag.topics import COMPRESSED_IMAGE, IMAGE, INSTRUCTION_TOPIC, JOINT_STATE, JOINT_TRAJECTORY
from wam.data.bag.writing import BagWriter
from wam.robots.description import CameraTransport, CommandKind, RobotDescription

BACKLOG_BYTES = 256 * 2**20
"""What the disk has not taken yet; what goes beyond is dropped and counted."""

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
        seconds: stop after so long [s]; 0 goes on until `stop` is set.
    """

    out: Path
    namespace: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a recording came to.

    Attributes:
        out: folder of the bag.
        counts: messages by topic.
        size: bytes of the file.
        dropped: messages that a slow disk could not take.
        silent: topics from which nothing was heard.
    """

    out: Path
    counts: Mapping[str, int]
    size: int
    dropped: int
    silent: tuple[str, ...]


def topics_of(robot: RobotDescription) -> dict[str, str]:
    """Return topic -> type of everything that a recording of `robot` holds, names relative to its namespace."""
    topics: dict[str, str] = {}
    for group in robot.groups:
        topics[group.state_topic] = JOINT_STATE
        if group.command_kind is not CommandKind.NONE:
            trajectory = group.command_kind is CommandKind.JOINT_TRAJECTORY
            topics[group.command_topic] = JOINT_TRAJECTORY if trajectory else JOINT_STATE
    for camera in robot.cameras:
        topics[camera.topic] = IMAGE if camera.transport is CameraTransport.RAW else COMPRESSED_IMAGE
    return topics | SUITE_TOPICS


def definitions_of(types: Mapping[str, str]) -> dict[str, str]:
    """Return the text of the .msg files of all packages in `types` (topic -> type) that are not common ones.

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
        options: what else, and where to.
        stop: ends the recording in order.
        on_progress: called a few times a second with messages by topic and bytes written.

    Raises:
        RecordingError: the disk refused to take more (what was recorded stays readable), or nothing was heard.
        ConfigError: a topic's type is not installed.
    """
    wanted = topics_of(robot) | dict(options.topics)
    classes = {topic: message_class(msgtype) for topic, msgtype in wanted.items()}
    definitions = definitions_of(wanted)
    file = RecordFile(options.out, metadata={"wam.robot": robot.name}, definitions=definitions)
    ear = _Ear(wanted, classes, namespace=options.namespace)
    facts = _Facts(file, classes[PLANNER_STATUS])
    told = -math.inf
    try:
        for topic, raw, receive_ns in ear.heard(stop, options.seconds):
            if raw is None:
                file.flush()
            else:
                file.write(ear.names[topic], wanted[topic], raw, receive_ns)
                if topic == PLANNER_STATUS:
                    facts.take(raw, receive_ns)
            if time.monotonic() - told >= POLL_S:
                told = time.monotonic()
                on_progress(file.counts, file.size)
    finally:
        ear.close()
    file.close()
    if not file.counts:
        raise RecordingError(
            f"nothing was heard of robot {robot.name}",
            allowed=", ".join(ear.names.values()),
            where="--namespace, ROS_DOMAIN_ID, or start the robot's drivers",
        )
    silent = tuple(name for name in ear.names.values() if name not in file.counts)
    return Recorded(options.out, dict(file.counts), file.size, ear.dropped, silent)


class _Facts:
    """Puts contract hash and instruction, which the planner tells, into the recording when they change."""

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


class _Ear:
    """Subscriptions in a thread of their own that fill a bounded queue."""

    def __init__(self, wanted: Mapping[str, str], classes: Mapping[str, Any], *, namespace: str) -> None:
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self._node = Node(
            "wam_record", context=self._context, namespace=namespace, use_global_arguments=False
        )
        self.names = {topic: self._node.resolve_topic_name(topic) for topic in wanted}
        self._queue: queue.SimpleQueue[tuple[str, bytes, int]] = queue.SimpleQueue()
        self._backlog = 0
        self._lock = threading.Lock()
        self.dropped = 0
        for topic, kind in classes.items():
            qos = EACH if topic in SUITE_TOPICS else SENSOR
            self._node.create_subscription(kind, topic, partial(self._store, topic), qos, raw=True)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="record", daemon=True)
        self._thread.start()

    def heard(self, stop: threading.Event, seconds: float) -> Iterator[tuple[str, bytes | None, int]]:
        """Give topic, bytes and receive time [ns]; bytes are None after a quarter of a second of silence."""
        clock = self._node.get_clock()
        end_ns = clock.now().nanoseconds + int(seconds * 1e9) if seconds else None
        while not stop.is_set() and (end_ns is None or clock.now().nanoseconds < end_ns):
            try:
                topic, raw, receive_ns = self._queue.get(timeout=POLL_S)
            except queue.Empty:
                yield "", None, 0
                continue
            with self._lock:
                self._backlog -= len(raw)
            yield topic, raw, receive_ns

    def close(self) -> None:
        """Stop listening."""
        self._stopping.set()
        self._thread.join(5.0)
        self._node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _store(self, topic: str, raw: bytes) -> None:
        with self._lock:
            if self._backlog + len(raw) > BACKLOG_BYTES:
                self.dropped += 1
                return
            self._backlog += len(raw)
        self._queue.put((topic, raw, self._node.get_clock().now().nanoseconds))

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=POLL_S)
