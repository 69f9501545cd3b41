# SPDX-License-Identifier: Apache-2.0
"""A relay for action chunks that loses, delays, repeats or damages them on command; nodes do not know of it.

It takes part in the lock-step like a node: otherwise chunks could wait in it while simulated time goes on.
"""

from __future__ import annotations

import copy
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from wam.ros.lock_step import TOPIC as ANSWERS
from wam.ros.qos import CHUNK, CLOCK, LOCK_STEP
from wam.ros.segments import private_segments
from wam_msgs.msg import ActionChunk

CHUNK_TOPIC = "wam_executor/chunk"
RELAYED_TOPIC = "relayed/chunk"
REMAPS = {CHUNK_TOPIC: RELAYED_TOPIC}
"""What makes the safety node listen to the relay."""

LATE_CHUNKS = 8
JUMP_RAD = 0.5
OLD_S = 2
SPIN_TIMEOUT_S = 0.05

Damage = Callable[[Any], Iterable[Any]]
"""From a chunk (a copy, free to change) to the chunks that are passed on instead."""


def late() -> Damage:
    """Delay chunks by a number of them."""
    waiting: deque[Any] = deque()

    def damage(chunk: Any) -> Iterable[Any]:
        waiting.append(chunk)
        return (waiting.popleft(),) if len(waiting) > LATE_CHUNKS else ()

    return damage


def swapped() -> Damage:
    """Deliver chunks in swapped pairs."""
    waiting: deque[Any] = deque()

    def damage(chunk: Any) -> Iterable[Any]:
        waiting.append(chunk)
        return (waiting.pop(), waiting.pop()) if len(waiting) == 2 else ()

    return damage


def half_lost(seed: int) -> Damage:
    """Lose half of the chunks at random."""
    generator = np.random.default_rng(seed)
    return lambda chunk: (chunk,) if generator.random() < 0.5 else ()


def overwritten(value: float, seed: int) -> Damage:
    """Overwrite one number of every chunk."""
    generator = np.random.default_rng(seed)

    def damage(chunk: Any) -> Iterable[Any]:
        chunk.positions[int(generator.integers(len(chunk.positions)))] = value
        return (chunk,)

    return damage


def jumping(seed: int) -> Damage:
    """Move one joint of every chunk away from where it is."""
    generator = np.random.default_rng(seed)

    def damage(chunk: Any) -> Iterable[Any]:
        table = np.array(chunk.positions).reshape(chunk.num_rows, len(chunk.joint_names))
        table[:, int(generator.integers(table.shape[1]))] += JUMP_RAD
        chunk.positions = table.ravel().tolist()
        return (chunk,)

    return damage


def old(chunk: Any) -> Iterable[Any]:
    """Give a chunk a stamp of the past."""
    chunk.header.stamp.sec -= OLD_S
    return (chunk,)


DAMAGES: dict[str, Callable[[int], Damage]] = {
    "chunks_lost": lambda seed: lambda chunk: (),
    "chunks_half_lost": half_lost,
    "chunks_late": lambda seed: late(),
    "chunks_twice": lambda seed: lambda chunk: (chunk, chunk),
    "chunks_swapped": lambda seed: swapped(),
    "chunks_nan": lambda seed: overwritten(math.nan, seed),
    "chunks_infinite": lambda seed: overwritten(math.inf, seed),
    "chunks_jump": jumping,
    "chunks_old": lambda seed: old,
}
"""Fault of the schedule -> maker of the damage, from a seed."""


class ChunkRelay:
    """Passes chunks from the executor to the safety node."""

    def __init__(self) -> None:
        self._context = Context()
        with private_segments():
            rclpy.init(context=self._context, args=[])
            self.node = Node("wam_relay", context=self._context, use_global_arguments=False)
        self._lock = threading.Lock()
        self._damage: Damage | None = None
        self._second: Any = None
        self._chunks = self.node.create_publisher(ActionChunk, RELAYED_TOPIC, CHUNK)
        self.node.create_subscription(ActionChunk, CHUNK_TOPIC, self._pass, CHUNK)
        # Created last: within a round of the executor, what arrived before a new time is passed on before the answer.
        self._answers = self.node.create_publisher(Header, ANSWERS, LOCK_STEP)
        self.node.create_subscription(Clock, "/clock", self._on_clock, CLOCK)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="relay", daemon=True)
        self._thread.start()

    def damage(self, damage: Damage | None) -> None:
        """Damage chunks from the next one on; None passes them on as they are."""
        with self._lock:
            self._damage = damage

    def second_sender(self, wanted: bool) -> None:
        """Send every chunk from a second node as well, or no longer."""
        with self._lock:
            second, self._second = self._second, None
        if second is not None:
            node, _ = second
            node.destroy_node()
        if wanted:
            node = Node("wam_stranger", context=self._context, use_global_arguments=False)
            publisher = node.create_publisher(ActionChunk, RELAYED_TOPIC, CHUNK)
            with self._lock:
                self._second = node, publisher

    def close(self) -> None:
        """Stop relaying."""
        self._stopping.set()
        self._thread.join(5.0)
        self.second_sender(False)
        self.node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _pass(self, chunk: Any) -> None:
        with self._lock:
            damage = self._damage
            for one in (chunk,) if damage is None else damage(copy.deepcopy(chunk)):
                self._chunks.publish(one)
                if self._second is not None:
                    self._second[1].publish(one)

    def _on_clock(self, message: Clock) -> None:
        self._answers.publish(Header(frame_id=self.node.get_fully_qualified_name(), stamp=message.clock))

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=SPIN_TIMEOUT_S)
