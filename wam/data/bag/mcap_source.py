# SPDX-License-Identifier: Apache-2.0
"""MCAP files that rosbags does not take: of another profile, or cut off before their index was written."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel as McapChannel
from mcap.records import Header, Message, Schema
from mcap.stream_reader import StreamReader

from wam.core.errors import RecordingError
from wam.data.bag.storage import CDR, Channel, decoding, full_type, zstd

NO_TIME_NS = 2**63 - 1


def mcap_profile(path: Path) -> str:
    """Return the profile of an MCAP file ("ros2", "ros1", "" ...).

    Raises:
        RecordingError: it does not begin as an MCAP file does.
    """
    with decoding(path), path.open("rb") as file:
        first = next(iter(StreamReader(file).records))
        if not isinstance(first, Header):
            raise RecordingError(f"recording {path} does not begin with an MCAP header")
        return str(first.profile)


class McapSource:
    """An MCAP file read from front to end; needs no index and stops quietly where a lenient reader may.

    Args:
        path: the file.
        lenient: take a file that ends in the middle of a record for one that ends before it.
        message_zstd: every message is compressed by itself.
    """

    def __init__(self, path: Path, *, lenient: bool = False, message_zstd: bool = False) -> None:
        self.path = path
        self.truncated = False
        self._lenient = lenient
        self._zstd = message_zstd
        self._scan()

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """See `Source.messages`; records are given in the order of the file."""
        by_id = {channel.key: channel for channel in channels}
        with decoding(self.path):
            for record in self._records():
                if isinstance(record, Message) and record.channel_id in by_id:
                    raw = zstd.decompress(record.data) if self._zstd else record.data
                    yield by_id[record.channel_id], record.log_time, raw

    def close(self) -> None:
        """Nothing stays open between two reads."""

    def _scan(self) -> None:
        schemas: dict[int, Schema] = {}
        channels: dict[int, McapChannel] = {}
        counts: dict[int, int] = {}
        first, last = NO_TIME_NS, 0
        for record in self._records():
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, McapChannel):
                channels[record.id] = record
            elif isinstance(record, Message):
                counts[record.channel_id] = counts.get(record.channel_id, 0) + 1
                first, last = min(first, record.log_time), max(last, record.log_time)
        self.start_ns, self.end_ns = first, last + 1 if counts else 0
        self.channels = tuple(
            _channel(channel, schemas.get(channel.schema_id), counts.get(key, 0))
            for key, channel in sorted(channels.items())
        )

    def _records(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            try:
                yield from StreamReader(file).records
            except (EndOfFile, McapError, EOFError):
                if not self._lenient:
                    raise
                self.truncated = True


def _channel(channel: McapChannel, schema: Schema | None, count: int) -> Channel:
    known = schema is not None and schema.encoding in ("ros2msg", "ros2idl", "omgidl", "ros1msg")
    return Channel(
        topic=channel.topic,
        msgtype=full_type(schema.name if schema else ""),
        encoding=channel.message_encoding if channel.message_encoding != "ros2" else CDR,
        count=count,
        definition=schema.data.decode("utf-8", errors="replace") if schema is not None and known else "",
        is_idl=schema is not None and schema.encoding in ("ros2idl", "omgidl"),
        digest="",
        key=channel.id,
    )
