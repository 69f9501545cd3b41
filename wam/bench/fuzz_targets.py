# SPDX-License-Identifier: Apache-2.0
"""What `wam bench fuzz` mutates: one good message per type, and what a node does with the type."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Bool, Float64
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from wam.core.chunk.admission import Admission, check_chunk_size
from wam.core.clock import NS_PER_MS, NS_PER_S, ManualClock
from wam.core.contract import require_same_contract
from wam.core.input_guard import MAX_AHEAD_NS, Arrival, InputContract, InputReason
from wam.core.transport.numpy_codec import NumpyCodec
from wam.core.transport.select import make_reader
from wam.devices.channel import TrajectoryChannel
from wam.devices.loader import load_robot
from wam.devices.ur.arm import SpeedScaling
from wam.robots.images import decode_image
from wam.robots.joint_reader import JointReader
from wam.ros.context_channel import message_to_context
from wam.ros.conversions import duration_to_ns, message_to_chunk, time_to_ns
from wam.ros.inputs import Inputs, ReadBy
from wam.ros.qos import EVENT
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.safety.measured import MeasuredState
from wam_msgs.msg import ActionChunk, KVContext, TensorInfo

ROBOT = load_robot("piper")
HASH = "a" * 64
STAMP = Time(sec=1)
NOW_NS = NS_PER_S + 50 * NS_PER_MS
PERIOD = Duration(nanosec=33_333_333)
CAMERA = ROBOT.cameras[0]
MAX_TRACES = 3

WORDS = (0, 1, 255, 65_535, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
NUMBERS = (*(struct.pack("<d", float(x)) for x in ("nan", "inf", "-inf", "1e308", "5e-324")), b"\xff" * 8)

Store = Callable[[Any, Arrival], None]


class _Logger:
    """Keeps the lines with a traceback."""

    def __init__(self) -> None:
        self.traces: list[str] = []

    def warning(self, line: str) -> None:
        if "Traceback" in line and len(self.traces) < MAX_TRACES:
            self.traces.append(line)


class _Node:
    """As much of a node as a guarded subscription needs; `deliver` is the callback that rclpy would call."""

    def __init__(self) -> None:
        self.logger = _Logger()
        self.deliver: Callable[[Any, Any], None] = lambda message, info: None

    def create_subscription(
        self, _kind: Any, _topic: str, callback: Callable[[Any, Any], None], _qos: Any, *, raw: bool
    ) -> Any:
        self.deliver = callback
        return raw

    def resolve_topic_name(self, topic: str) -> str:
        return f"/{topic}"

    def get_publishers_info_by_topic(self, _topic: str) -> list[Any]:
        return []

    def get_logger(self) -> _Logger:
        return self.logger


class FuzzTarget:
    """One type of message, its good example and its store.

    Args:
        example: a message that is accepted.
        store: what the node does with a message.
        contract: of the input; its rate is not limited here.
        read_by: who reads the bytes.
        seed: of the mutations.
    """

    def __init__(
        self, example: Any, store: Store, *, contract: InputContract, read_by: ReadBy, seed: str
    ) -> None:
        self._kind, self._read_by = type(example), read_by
        self.name = self._kind.__name__
        self._random = random.Random(f"{seed} {self.name}")
        self._bytes = bytes(serialize_message(example))
        self._node = _Node()
        inputs = Inputs(self._node, ManualClock(NOW_NS))  # type: ignore[arg-type]
        self._input = inputs.subscribe(
            self._kind, self.name, store, EVENT, contract=contract, read_by=read_by
        )
        self._unread = 0

    @property
    def accepted(self) -> int:
        """Cases that were stored."""
        return self._input.guard.accepted

    @property
    def refused(self) -> int:
        """Cases that were refused, those included that rclpy refuses to read."""
        return self._input.guard.refused + self._unread

    @property
    def unforeseen(self) -> int:
        """Refusals for an exception that is no error of the suite."""
        return self._input.guard.counts.get(InputReason.INTERNAL, 0)

    @property
    def traces(self) -> list[str]:
        """Lines of the log with a traceback, the first few."""
        return self._node.logger.traces

    def case(self) -> None:
        """Deliver one mutated message."""
        raw: Any = mutated(self._bytes, self._random)
        if self._read_by is ReadBy.RCLPY:
            try:
                raw = deserialize_message(raw, self._kind)
            except Exception:  # rclpy drops such a message before any callback
                self._unread += 1
                return
        self.deliver(raw, self._sender())

    def deliver(self, message: Any, sender: bytes) -> None:
        """Deliver a message as rclpy would."""
        gid = {"data": sender} if sender else None
        self._node.deliver(message, {"received_timestamp": time.time_ns(), "publisher_gid": gid})

    def _sender(self) -> bytes:
        """Return no gid mostly, since with one most of the cases would end at the door."""
        return self._random.randbytes(16) if self._random.random() < 0.02 else b""


def mutated(message: bytes, source: random.Random) -> bytes:
    """Return `message` with one to eight places changed, cut out or filled in, by `source`."""
    raw = bytearray(message)
    for _ in range(source.choice((1, 1, 2, 4, 8))):
        at, how = source.randrange(len(raw)), source.random()
        if how < 0.4:
            raw[at] = source.randrange(256)
        elif how < 0.6:
            raw[at : at + 4] = struct.pack("<I", source.choice(WORDS))
        elif how < 0.75:
            raw[at : at + 8] = source.choice(NUMBERS)
        elif how < 0.85:
            del raw[at : at + source.choice((1, 4, 8))]
        else:
            raw[at:at] = bytes(source.choice((1, 4, 8)))
        if len(raw) < 8:
            break
    return bytes(raw)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Discard the standard error: the type supports print a line for every message that is too short."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _chunk() -> ActionChunk:
    rows = [0.1] * (4 * len(ROBOT.joint_names))
    names = list(ROBOT.joint_names)
    message = ActionChunk(generation=1, sequence=1, contract_hash=HASH, row_period=PERIOD, joint_names=names)
    message.header.stamp, message.num_rows, message.positions = STAMP, 4, rows
    return message


def _store_chunk() -> Store:
    def store(message: Any, arrival: Arrival) -> None:
        chunk = message_to_chunk(message, sender=arrival.sender.hex())
        check_chunk_size(chunk)
        Admission(ROBOT.joint_names).admit(chunk, now_ns=NOW_NS)

    return store


def _context() -> KVContext:
    tensors = [
        TensorInfo(name=name, dtype="float32", shape=[4, 4], byte_offset=at)
        for name, at in (("k", 0), ("v", 64))
    ]
    message = KVContext(generation=1, version=1, contract_hash=HASH, instruction="x", horizon=32)
    message.header.stamp, message.control_period = STAMP, PERIOD
    message.total_bytes, message.transport, message.tensors = 128, KVContext.TRANSPORT_INLINE, tensors
    message.handle, message.data = "inline.0123456789abcdef.1.1", bytes(128)
    return message


def _store_context() -> Store:
    reader = make_reader(NumpyCodec())

    def store(message: Any, _arrival: Arrival) -> None:
        header, handle = message_to_context(message)
        require_same_contract(
            mine=HASH, theirs=header.contract_hash, my_side="executor", their_side="context"
        )
        reader.open(header, handle).release()

    return store


def _state() -> JointState:
    group = ROBOT.groups[0]
    message = JointState(name=list(group.driver_names), position=[0.1] * len(group.joints))
    message.header.stamp, message.velocity = STAMP, [0.0] * (len(group.joints) - 1)
    return message


def _store_state() -> Store:
    group = ROBOT.groups[0]
    reader, measured = JointReader(group), MeasuredState(ROBOT, receipt=time.monotonic_ns)
    ingest = StreamIngest(ROBOT, cameras=())

    def store(message: Any, _arrival: Arrival) -> None:
        positions, _ = reader.read(message)
        measured.offer(group.name, stamp_ns=time_to_ns(message.header.stamp), positions=positions)
        ingest.put_joint_state(group.name, message, receive_ns=NOW_NS)

    return store


def _image() -> Image:
    message = Image(height=24, width=32, encoding="rgb8", step=96)
    message.header.stamp, message.data = STAMP, bytes(24 * 96)
    return message


def _jpeg() -> CompressedImage:
    message = CompressedImage(format="jpeg")
    message.header.stamp = STAMP
    message.data = cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
    return message


def _store_image() -> Store:
    ingest = StreamIngest(ROBOT, cameras=(CAMERA.name,))

    def store(message: Any, _arrival: Arrival) -> None:
        ingest.put_image(CAMERA.name, message, receive_ns=NOW_NS)
        decode_image(message, camera=CAMERA.name, size=(24, 32))

    return store


def _trajectory() -> JointTrajectory:
    names = list(ROBOT.groups[0].driver_names)
    points = [
        JointTrajectoryPoint(positions=[0.1] * len(names), time_from_start=Duration(nanosec=at))
        for at in (0, 10**8, 2 * 10**8)
    ]
    message = JointTrajectory(joint_names=names, points=points)
    message.header.stamp = STAMP
    return message


def _store_trajectory() -> Store:
    channel = TrajectoryChannel(ROBOT.groups[0].driver_names)

    def store(message: Any, _arrival: Arrival) -> None:
        channel.offer(
            message.joint_names,
            [duration_to_ns(point.time_from_start) for point in message.points],
            [point.positions for point in message.points],
            start_ns=time_to_ns(message.header.stamp),
        )

    return store


def _store_flag(message: Any, _arrival: Arrival) -> None:
    """Read a flag, which any byte is."""
    bool(message.data)


def _store_scaling() -> Store:
    scaling = SpeedScaling()

    def store(message: Any, _arrival: Arrival) -> None:
        scaling.read(float(message.data))

    return store


SOLE = InputContract(sole=True, max_rate=0.0, max_ahead_ns=MAX_AHEAD_NS)
PLAIN = InputContract(max_rate=0.0)
LARGE = InputContract(max_rate=0.0, max_bytes=1 << 20)


def _target(
    example: Callable[[], Any], store: Callable[[], Store], contract: InputContract, read_by: ReadBy
) -> Callable[[str], FuzzTarget]:
    return lambda seed: FuzzTarget(example(), store(), contract=contract, read_by=read_by, seed=seed)


TARGETS: dict[str, Callable[[str], FuzzTarget]] = {
    "ActionChunk": _target(_chunk, _store_chunk, SOLE, ReadBy.GUARD),
    "KVContext": _target(_context, _store_context, SOLE, ReadBy.RCLPY),
    "JointState": _target(_state, _store_state, SOLE, ReadBy.GUARD),
    "Image": _target(_image, _store_image, LARGE, ReadBy.RCLPY),
    "CompressedImage": _target(_jpeg, _store_image, LARGE, ReadBy.RCLPY),
    "JointTrajectory": _target(_trajectory, _store_trajectory, PLAIN, ReadBy.GUARD),
    "Bool": _target(lambda: Bool(data=True), lambda: _store_flag, PLAIN, ReadBy.GUARD),
    "Float64": _target(lambda: Float64(data=1.0), _store_scaling, PLAIN, ReadBy.GUARD),
}
"""Name of a type -> its target, made anew with a seed."""
