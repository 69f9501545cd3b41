# SPDX-License-Identifier: Apache-2.0
"""What a recording holds, as a hash per topic: two recordings are one and the same where these are equal.

Of every message its receive time, its length and its serialised bytes count (a header stamp is among these); of a long
one, evenly spread bytes, since hashing every byte of raw images would take a third of a replay's time. The hashes of a
topic's messages are added up, so that neither the storage (MCAP, sqlite3), nor compression, nor where a recording was
split, nor the order of the file changes them. A ROS 1 bag serialises otherwise: its hash is not that of the same bag as
a rosbag2.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping

BITS = 256

MOST_BYTES = 4_096
"""Bytes of a message that are hashed; of a longer one, every k-th, so that they are at most so many."""


class ContentHash:
    """Hashes the messages of a recording as they are read; a few numbers for each topic are kept."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], int] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def take(self, topic: str, msgtype: str, receive_ns: int, raw: bytes) -> None:
        """Take one message.

        Args:
            topic: name.
            msgtype: type as package/msg/Name.
            receive_ns: when the recorder received it [ns].
            raw: the message as it was serialised, not compressed.
        """
        digest = hashlib.sha256(struct.pack("<qq", receive_ns, len(raw)))
        digest.update(raw if len(raw) <= MOST_BYTES else raw[:: _step(len(raw))])
        key = (topic, msgtype)
        number = int.from_bytes(digest.digest(), "little")
        self._sums[key] = (self._sums.get(key, 0) + number) % (1 << BITS)
        self._counts[key] = self._counts.get(key, 0) + 1

    def of(self, topic: str, msgtype: str) -> str:
        """Return the hash of a topic in hexadecimal digits; a topic without messages has one too."""
        key = (topic, msgtype)
        head = f"{topic}\n{msgtype}\n{self._counts.get(key, 0)}\n".encode()
        return hashlib.sha256(head + self._sums.get(key, 0).to_bytes(BITS // 8, "little")).hexdigest()

    def topics(self, used: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Return topic -> hash for topics given as name and type."""
        return {topic: self.of(topic, msgtype) for topic, msgtype in used}


def _step(length: int) -> int:
    # Odd, and no multiple of three: bytes of all rows, columns and channels of an image are taken.
    step = -(-length // MOST_BYTES) | 1
    return step if step % 3 else step + 2


def combined(topics: Mapping[str, str]) -> str:
    """Return one hash of the hashes of several topics, in hexadecimal digits."""
    lines = "".join(f"{topic} {topics[topic]}\n" for topic in sorted(topics))
    return hashlib.sha256(lines.encode()).hexdigest()
