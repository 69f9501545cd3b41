# SPDX-License-Identifier: Apache-2.0
"""ROS 1 bags read from front to end, for those without an index (their recorder was killed), cut off or damaged.

A bag (format 2.0) is a row of records: a header of fields, and data. Messages lie in chunks, each followed by its
index, which tells what a damaged chunk held. A recorder writes the length of a chunk when it closes it; until then the
length is 0 and the chunk's records follow as if they were no part of it.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame
from rosbags.rosbag1.reader import Header, RecordType
from rosbags.typesys.msg import normalize_msgtype

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.storage_file import (
    DAMAGED,
    NO_TIME_NS,
    ROS1,
    UNFINISHED,
    Channel,
    LostPart,
    decoding,
    lost_by_topic,
    within,
)

MAGIC = b"#ROSBAG V2.0\n"
_LENGTH = struct.Struct("<I")
_ENTRY = struct.Struct("<III")
_DECOMPRESSORS = {"bz2": bz2.BZ2Decompressor, "lz4": lz4.frame.LZ4FrameDecompressor}


@dataclass(slots=True)
class _Ros1Message:
    connection: int
    time_ns: int
    data: bytes


@dataclass(slots=True)
class _Ros1Damage:
    """A chunk of which the messages from a byte of its content on cannot be read."""

    read_to: int
    cut: bool = False
    entries: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Ros1Index:
    connection: int
    entries: list[tuple[int, int]]


class Ros1File:
    """A ROS 1 bag of which nothing but its records is needed. Nothing stays open between two reads.

    Args:
        path: the file.

    Raises:
        RecordingError: it is no bag of version 2.0.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seekable = False
        with decoding(path):
            self._scan()

    def messages(
        self, channels: Collection[Channel], *, span_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`; records come in the order of the file."""
        by_key = {key: channel for channel in channels for key in channel.key}
        with decoding(self.path):
            for record in self._records():
                if (
                    isinstance(record, _Ros1Message)
                    and record.connection in by_key
                    and within(record.time_ns, span_ns)
                ):
                    yield by_key[record.connection], record.time_ns, record.data

    def close(self) -> None:
        """Do nothing."""

    def _scan(self) -> None:
        connections: dict[int, tuple[str, str, str]] = {}
        counts: dict[int, int] = {}
        damages: list[_Ros1Damage] = []
        first, last = NO_TIME_NS, 0
        for record in self._records():
            if isinstance(record, _Ros1Message):
                counts[record.connection] = counts.get(record.connection, 0) + 1
                first, last = min(first, record.time_ns), max(last, record.time_ns)
            elif isinstance(record, _Ros1Damage):
                damages.append(record)
            elif isinstance(record, _Ros1Index):
                late = [time_ns for time_ns, at in record.entries if at >= damages[-1].read_to]
                damages[-1].entries.setdefault(record.connection, []).extend(late)
            else:
                connections[record[0]] = record[1:]
        self.start_ns, self.end_ns = first, last + 1 if counts else 0
        keys: dict[tuple[str, str, str], list[int]] = {}
        for key, connection in connections.items():
            keys.setdefault(connection, []).append(key)  # several nodes publish on one topic
        self.channels = tuple(
            Channel(topic, msgtype, ROS1, sum(counts.get(k, 0) for k in own), text, False, tuple(own))
            for (topic, msgtype, text), own in keys.items()
        )
        names = {key: connection[0] for key, connection in connections.items()}
        self.lost = tuple(part for damage in damages for part in self._parts(damage, names))

    def _parts(self, damage: _Ros1Damage, names: dict[int, str]) -> Iterator[LostPart]:
        if damage.cut:
            yield LostPart(UNFINISHED.format(self.path.name))
            return
        reason = DAMAGED.format(self.path.name)
        if not damage.entries:
            yield LostPart(reason)
        yield from lost_by_topic(reason, damage.entries, names)

    def _records(self) -> Iterator[Any]:
        """Yield connections, messages, and a `_Ros1Damage` before the indices of a damaged chunk."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise RecordingError(f"recording {self.path} is no ROS 1 bag of version 2.0")
            closed = damaged = False
            while file.tell() < size:
                found = _read_header(file, size)
                if found is None:
                    yield _Ros1Damage(0, cut=True)
                    return
                header, length = found
                kind = header.get_uint8("op")
                rest = size - file.tell()
                if kind == RecordType.BAGHEADER:
                    closed = _is_closed(header, size)
                if kind == RecordType.CHUNK:
                    data = file.read(min(length, rest))
                    at, whole = yield from _chunk(header.get_string("compression"), data)
                    damaged = at < whole or length > rest
                    if damaged:
                        yield _Ros1Damage(at, cut=length > rest)
                    if length > rest:
                        return
                elif length > rest:
                    yield _Ros1Damage(0, cut=True)
                    return
                elif kind == RecordType.IDXDATA and damaged:
                    yield _index(header, file.read(length))
                else:
                    yield from _parse(kind, header, file.read(length))
            if not closed:
                yield _Ros1Damage(0, cut=True)


def _is_closed(header: Header, size: int) -> bool:
    """Return whether the recorder has ended: only then it writes where the index is."""
    return 0 < header.get_uint64("index_pos") < size


def _read_header(file: BinaryIO, size: int) -> tuple[Header, int] | None:
    """Return the next record's header and the length of its data, or None where they cannot be read."""
    try:
        length_at = file.tell()
        raw = file.read(_LENGTH.size)
        if len(raw) < _LENGTH.size or _LENGTH.unpack(raw)[0] > size - length_at:
            return None
        file.seek(length_at)
        header = Header.read(file)
        header.get_uint8("op")
        return header, _LENGTH.unpack(file.read(_LENGTH.size))[0]
    except Exception:  # damaged bytes: struct, Unicode, rosbags' own
        return None


def _chunk(compression: str, data: bytes) -> Generator[Any, None, tuple[int, int]]:
    """Yield the records of a chunk; return up to where, and how many bytes it has (more than that where unknown)."""
    whole = True
    if compression != "none":
        data, whole = _decompress(compression, data)
    stream = BytesIO(data)
    at = 0
    while at < len(data):
        found = _read_header(stream, len(data))
        if found is None or found[1] > len(data) - stream.tell():
            return at, len(data) + 1
        header, length = found
        content = stream.read(length)
        try:
            records = list(_parse(header.get_uint8("op"), header, content))
        except Exception:  # damaged bytes
            return at, len(data) + 1
        yield from records
        at = stream.tell()
    return at, at if whole else at + 1


def _decompress(compression: str, data: bytes) -> tuple[bytes, bool]:
    """Return what can be decompressed, and whether that is all."""
    maker = _DECOMPRESSORS.get(compression)
    if maker is None:
        return b"", False
    decompressor = maker()
    parts = []
    try:
        for begin in range(0, len(data), 1 << 14):
            if decompressor.eof:
                break
            parts.append(decompressor.decompress(data[begin : begin + (1 << 14)]))
    except Exception:  # damaged bytes: OSError, RuntimeError ...
        return b"".join(parts), False
    return b"".join(parts), bool(decompressor.eof)


def _parse(kind: int, header: Header, data: bytes) -> Iterator[Any]:
    if kind == RecordType.MSGDATA:
        yield _Ros1Message(header.get_uint32("conn"), header.get_time("time"), data)
    elif kind == RecordType.CONNECTION:
        about = Header.read(BytesIO(_LENGTH.pack(len(data)) + data))
        topic = "/" + header.get_string("topic").strip("/")
        msgtype = normalize_msgtype(about.get_string("type"))
        yield header.get_uint32("conn"), topic, msgtype, about.get_string("message_definition")


def _index(header: Header, data: bytes) -> _Ros1Index:
    entries = [(sec * NS_PER_S + nsec, at) for sec, nsec, at in _ENTRY.iter_unpack(data)]
    return _Ros1Index(header.get_uint32("conn"), entries)
