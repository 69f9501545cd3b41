# SPDX-License-Identifier: Apache-2.0
"""MCAP files read from front to end: of any profile, without an index, cut off, or damaged in places.

A chunk tells its times in front of its messages and an index behind it, so what a damaged chunk held is known by topic
and time, and of one that was cut off until when it went on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel as McapChannel
from mcap.records import Chunk, Header, MessageIndex, Schema
from mcap.stream_reader import get_chunk_data_stream, read_magic

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.storage_file import (
    CDR,
    DAMAGED,
    NO_TIME_NS,
    UNFINISHED,
    Channel,
    LostPart,
    decoding,
    full_type,
    lost_by_topic,
    plain,
    within,
)

_FRAME = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_CHUNK = struct.Struct("<QQQI")
MOST_BYTES = 4 << 30
"""A record that claims to be longer is damaged [bytes]."""


@dataclass(slots=True)
class _McapMessage:
    channel_id: int
    log_ns: int
    data: memoryview


@dataclass(slots=True)
class _McapDamage:
    """A chunk that could be read up to a byte of its content, or one that was cut off."""

    start_ns: int
    end_ns: int
    read_to: int
    last_ns: int | None
    cut: bool = False
    entries: dict[int, list[int]] = field(default_factory=dict)


class McapFile:
    """An MCAP file, for those that rosbags refuses. Nothing stays open between two reads.

    Args:
        path: the file.
        message_zstd: every message is compressed by itself.

    Raises:
        RecordingError: it does not begin as an MCAP file does.
    """

    def __init__(self, path: Path, *, message_zstd: bool = False) -> None:
        self.path = path
        self.seekable = False
        self._zstd = message_zstd
        self._known: set[int] = set()
        self.lost: tuple[LostPart, ...] = ()
        with decoding(path):
            self._scan()

    def messages(
        self, channels: Collection[Channel], *, span_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`; records come in the order of the file."""
        by_id = {channel.key: channel for channel in channels}
        with decoding(self.path):
            for record in self._records():
                if (
                    isinstance(record, _McapMessage)
                    and record.channel_id in by_id
                    and within(record.log_ns, span_ns)
                ):
                    raw = plain(record.data, message_zstd=self._zstd)
                    yield by_id[record.channel_id], record.log_ns, raw

    def close(self) -> None:
        """Do nothing."""

    def _scan(self) -> None:
        schemas: dict[int, Schema] = {}
        channels: dict[int, McapChannel] = {}
        counts: dict[int, int] = {}
        damages: list[_McapDamage] = []
        first, last = NO_TIME_NS, 0
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, McapChannel):
                channels[record.id] = record
                self._known.add(record.id)
            elif isinstance(record, _McapDamage):
                damages.append(record)
            elif isinstance(record, MessageIndex) and damages:
                late = [time_ns for time_ns, at in record.records if at >= damages[-1].read_to]
                damages[-1].entries.setdefault(record.channel_id, []).extend(late)
            elif isinstance(record, _McapMessage):
                counts[record.channel_id] = counts.get(record.channel_id, 0) + 1
                first, last = min(first, record.log_ns), max(last, record.log_ns)
        self.start_ns, self.end_ns = first, last + 1 if counts else 0
        self.channels = tuple(
            _channel(channel, schemas.get(channel.schema_id), counts.get(key, 0))
            for key, channel in sorted(channels.items())
        )
        names = {channel.key: channel.topic for channel in self.channels}
        self.lost = tuple(part for damage in damages for part in self._parts(damage, names))

    def _parts(self, damage: _McapDamage, names: dict[int, str]) -> Iterator[LostPart]:
        if damage.cut:
            rest_ns = damage.end_ns - (damage.last_ns or damage.start_ns)
            seconds = max(0, rest_ns) / NS_PER_S if damage.end_ns else None
            yield LostPart(UNFINISHED.format(self.path.name), seconds=seconds)
            return
        reason = DAMAGED.format(self.path.name)
        if not damage.entries:
            yield LostPart(reason, seconds=max(0, damage.end_ns - damage.start_ns) / NS_PER_S)
        yield from lost_by_topic(reason, damage.entries, names)

    def _records(self) -> Iterator[Any]:
        """Yield schemas, channels, messages, and a `_McapDamage` before the message indices of a damaged chunk."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            read_magic(ReadDataStream(file))
            damaged = False
            while True:
                head = file.read(_FRAME.size)
                opcode, length = _FRAME.unpack(head) if len(head) == _FRAME.size else (0, 0)
                rest = size - file.tell()
                if opcode == Opcode.FOOTER:
                    return
                if length > rest or length > MOST_BYTES or opcode == 0:
                    yield from self._cut_off(file, opcode, min(rest, length))
                    return
                if opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                    damaged = False
                    yield from _parse(opcode, memoryview(file.read(length)))
                elif opcode == Opcode.CHUNK:
                    damage = yield from self._chunk(Chunk.read(ReadDataStream(file)))
                    damaged = damage is not None
                    if damage is not None:
                        yield damage
                elif opcode == Opcode.MESSAGE_INDEX and damaged:
                    yield MessageIndex.read(ReadDataStream(BytesIO(file.read(length))))
                else:
                    file.seek(length, os.SEEK_CUR)

    def _chunk(self, chunk: Chunk) -> Generator[Any, None, _McapDamage | None]:
        """Yield the records of a chunk; return its damage, or None."""
        try:
            stream, length = get_chunk_data_stream(chunk)
            data = memoryview(stream.read(length))
        except Exception:  # decompressors raise errors of any type on damaged bytes
            return _McapDamage(chunk.message_start_time, chunk.message_end_time, 0, None)
        at, last_ns = yield from self._walk(data, (chunk.message_start_time, chunk.message_end_time))
        if at == len(data):
            return None
        return _McapDamage(chunk.message_start_time, chunk.message_end_time, at, last_ns)

    def _walk(
        self, data: memoryview, span: tuple[int, int] | None
    ) -> Generator[Any, None, tuple[int, int | None]]:
        """Yield the records in `data`; return where it can be read no further, and the time of the last message."""
        at = 0
        last_ns: int | None = None
        known = set(self._known)
        while at + _FRAME.size <= len(data):
            opcode, length = _FRAME.unpack_from(data, at)
            begin = at + _FRAME.size
            if begin + length > len(data):
                break
            try:
                records = list(_parse(opcode, data[begin : begin + length]))
            except Exception:  # damaged bytes: struct, Unicode ...
                break
            for record in records:
                if isinstance(record, McapChannel):
                    known.add(record.id)
                elif isinstance(record, _McapMessage):
                    if span is not None and not span[0] <= record.log_ns <= span[1]:
                        return at, last_ns
                    if record.channel_id not in known:
                        return at, last_ns
                    last_ns = record.log_ns
                yield record
            at = begin + length
        return at, last_ns

    def _cut_off(self, file: BinaryIO, opcode: int, rest: int) -> Iterator[Any]:
        """Yield what can be read of the record that the file ends in, and the damage."""
        data = file.read(rest) if opcode == Opcode.CHUNK else b""
        name_at = _CHUNK.size + 4
        if len(data) < name_at:
            yield _McapDamage(0, 0, 0, None, cut=True)
            return
        start_ns, end_ns, _, _ = _CHUNK.unpack_from(data)
        (name,) = struct.unpack_from("<I", data, _CHUNK.size)
        last_ns = None
        if name == 0:  # not compressed
            content = memoryview(data)[name_at + 8 :]
            _, last_ns = yield from self._walk(content, (start_ns, end_ns) if end_ns else None)
        yield _McapDamage(start_ns, end_ns, 0, last_ns, cut=True)


def mcap_profile(path: Path) -> str:
    """Return the profile of an MCAP file ("ros2", "ros1", "" ...).

    Raises:
        RecordingError: it does not begin as an MCAP file does.
    """
    with decoding(path), path.open("rb") as file:
        read_magic(ReadDataStream(file))
        head = file.read(_FRAME.size)
        if len(head) < _FRAME.size or head[0] != Opcode.HEADER:
            raise RecordingError(f"recording {path} does not begin with an MCAP header")
        return str(Header.read(ReadDataStream(file)).profile)


def _parse(opcode: int, content: memoryview) -> Iterator[Any]:
    if opcode == Opcode.MESSAGE:
        channel_id, _, log_ns, _ = _MESSAGE.unpack_from(content)
        yield _McapMessage(channel_id, log_ns, content[_MESSAGE.size :])
    elif opcode == Opcode.SCHEMA:
        yield Schema.read(ReadDataStream(BytesIO(content)))
    elif opcode == Opcode.CHANNEL:
        yield McapChannel.read(ReadDataStream(BytesIO(content)))


def _channel(channel: McapChannel, schema: Schema | None, count: int) -> Channel:
    known = schema is not None and schema.encoding in ("ros2msg", "ros2idl", "omgidl", "ros1msg")
    return Channel(
        topic=channel.topic,
        msgtype=full_type(schema.name if schema else ""),
        encoding=channel.message_encoding if channel.message_encoding != "ros2" else CDR,
        count=count,
        definition=schema.data.decode("utf-8", errors="replace") if schema is not None and known else "",
        is_idl=schema is not None and schema.encoding in ("ros2idl", "omgidl"),
        key=channel.id,
    )
