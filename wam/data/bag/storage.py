# SPDX-License-Identifier: Apache-2.0
"""Files of a recording as raw messages: rosbag2 (MCAP, sqlite3), ROS 1 bags, MCAP of any other profile.

Every storage file is read by itself; metadata.yaml only lists the files. The metadata's list of topics is not used:
where it differs from the file (as in bags written by `ros2 bag convert`), messages would be lost silently.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel as McapChannel
from mcap.records import Header, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader

from wam.core.errors import RecordingError, WamError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["CDR", "ROS1", "SUFFIXES", "Channel", "StorageFile", "decoding", "open_storage", "zstd"]

SUFFIXES = (".mcap", ".db3", ".bag")
CDR = "cdr"
ROS1 = "ros1"
NO_TIME_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic of one type in one file.

    Attributes:
        topic: name, with its leading slash.
        msgtype: type as package/msg/Name.
        encoding: "cdr", "ros1", or what the file says.
        count: messages in the file, 0 where the file does not say.
        definition: text of the message definition, "" where the file has none.
        is_idl: whether `definition` is IDL.
        key: the reader's own handle of the channel.
    """

    topic: str
    msgtype: str
    encoding: str
    count: int
    definition: str
    is_idl: bool
    key: Any


class StorageFile(Protocol):
    """One open storage file. Not thread-safe."""

    path: Path
    channels: tuple[Channel, ...]
    start_ns: int
    end_ns: int
    truncated: bool
    """The file ends in the middle of a record; what comes before it is read."""

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield channel, receive time [ns] and bytes of the messages of `channels`, in order of receive time.

        Raises:
            RecordingError: the file is damaged.
        """
        ...

    def close(self) -> None:
        """Close the file; safe to call twice."""
        ...


def open_storage(path: Path, *, message_zstd: bool = False, lenient: bool = False) -> StorageFile:
    """Open one storage file.

    Args:
        path: .mcap, .db3 or .bag file.
        message_zstd: every message is compressed by itself (compression mode "message").
        lenient: read a truncated MCAP up to where it ends.

    Raises:
        RecordingError: the file is missing, empty, truncated or of an unknown format.
    """
    if path.suffix not in SUFFIXES:
        raise RecordingError(
            f"{path} is not a recording that can be read",
            value=path.suffix or "(no suffix)",
            allowed=f"a folder with metadata.yaml, or a file with suffix {', '.join(SUFFIXES)}",
            where="the argument BAG",
        )
    if not path.is_file():
        raise RecordingError(f"recording {path} does not exist", where="the argument BAG")
    if not path.stat().st_size:
        raise RecordingError(f"recording {path} is empty", value="0 bytes", where="the recorder's disk")
    with decoding(path):
        if path.suffix == ".mcap":
            return _open_mcap(path, message_zstd=message_zstd, lenient=lenient)
        return RosbagsFile(path, message_zstd=message_zstd)


_REPAIRS = {
    ".mcap": "the recording (`mcap recover` of the MCAP tools may save it), or pass --lenient to read it up to its end",
    ".db3": "the recording (`sqlite3 FILE .recover` writes what can be read, `ros2 bag reindex` then the metadata)",
    ".bag": "the recording (ROS 1's `rosbag reindex` makes the index of a bag whose recorder was killed)",
}
"""Suffix -> what may save a file that cannot be read."""


@contextlib.contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn every error of decoding the file at `path` into a `RecordingError` that names it."""
    try:
        yield
    except WamError:
        raise
    except OSError as error:
        raise RecordingError(f"recording {path} cannot be read ({error.strerror or error})") from error
    except (
        Exception
    ) as error:  # decoders raise errors of any type on damaged bytes: struct, zstd, Unicode ...
        raise RecordingError(
            f"recording {path} is truncated, damaged or in an unsupported format ({_reason(error)})",
            allowed="rosbag2 in MCAP or sqlite3, ROS 1 bag version 2.0",
            where=_REPAIRS.get(path.suffix, "the recording"),
        ) from error


class RosbagsFile:
    """A rosbag2 storage file or a ROS 1 bag, through rosbags.

    Args:
        path: the file.
        message_zstd: every message is compressed by itself.
    """

    def __init__(self, path: Path, *, message_zstd: bool = False) -> None:
        self.path = path
        self.truncated = False
        self._zstd = message_zstd
        self._reader: Any = Ros1Reader(path) if path.suffix == ".bag" else Ros2Reader(path)
        self._reader.open()
        self.channels = tuple(self._channel(connection) for connection in self._reader.connections)
        self.start_ns = int(self._reader.start_time)
        self.end_ns = int(self._reader.end_time)

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`."""
        if not channels:
            return
        by_id = {channel.key.id: channel for channel in channels}
        with decoding(self.path):
            for connection, receive_ns, raw in self._reader.messages(connections=[c.key for c in channels]):
                yield by_id[connection.id], receive_ns, zstd.decompress(raw) if self._zstd else raw

    def close(self) -> None:
        """Close the file."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _channel(self, connection: Any) -> Channel:
        encoding = ROS1 if self.path.suffix == ".bag" else connection.ext.serialization_format
        form = connection.msgdef.format
        return Channel(
            topic=connection.topic,
            msgtype=full_type(connection.msgtype),
            encoding=encoding,
            count=connection.msgcount,
            definition="" if form == MessageDefinitionFormat.NONE else connection.msgdef.data,
            is_idl=form == MessageDefinitionFormat.IDL,
            key=connection,
        )


class McapFile:
    """An MCAP file read from front to end, for those that rosbags refuses: of another profile, or without an index.

    Args:
        path: the file.
        lenient: read a file that ends in the middle of a record up to that record.
        message_zstd: every message is compressed by itself.
    """

    def __init__(self, path: Path, *, lenient: bool = False, message_zstd: bool = False) -> None:
        self.path = path
        self.truncated = False
        self._lenient = lenient
        self._zstd = message_zstd
        self._scan()

    def messages(self, channels: Collection[Channel]) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`; records come in the order of the file."""
        by_id = {channel.key: channel for channel in channels}
        with decoding(self.path):
            for record in self._records():
                if isinstance(record, Message) and record.channel_id in by_id:
                    raw = zstd.decompress(record.data) if self._zstd else record.data
                    yield by_id[record.channel_id], record.log_time, raw

    def close(self) -> None:
        """Do nothing: no file stays open between two reads."""

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
            _mcap_channel(channel, schemas.get(channel.schema_id), counts.get(key, 0))
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


def _open_mcap(path: Path, *, message_zstd: bool, lenient: bool) -> StorageFile:
    if _mcap_profile(path) != "ros2":
        return McapFile(path, lenient=lenient)
    try:
        return RosbagsFile(path, message_zstd=message_zstd)
    except Exception:
        # A recorder that was killed leaves no index; the messages before its end can still be read one by one.
        if not lenient:
            raise
        return McapFile(path, lenient=True, message_zstd=message_zstd)


def _mcap_profile(path: Path) -> str:
    """Return the profile of an MCAP file ("ros2", "ros1", "" ...).

    Raises:
        RecordingError: it does not begin as an MCAP file does.
    """
    with decoding(path), path.open("rb") as file:
        first = next(iter(StreamReader(file).records))
        if not isinstance(first, Header):
            raise RecordingError(f"recording {path} does not begin with an MCAP header")
        return str(first.profile)


def _mcap_channel(channel: McapChannel, schema: Schema | None, count: int) -> Channel:
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


def full_type(msgtype: str) -> str:
    """Return package/msg/Name; the first rosbag2 versions wrote package/Name."""
    package, _, name = msgtype.partition("/")
    return msgtype if "/" in name or not name else f"{package}/msg/{name}"


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".").splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
