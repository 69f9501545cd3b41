# SPDX-License-Identifier: Apache-2.0
"""Files of a recording as raw messages: rosbag2 (MCAP, sqlite3), ROS 1 bags, MCAP of any other profile.

Every storage file is read by itself; metadata.yaml only lists the files. The metadata's list of topics is not used:
where it differs from the file (as in bags written by `ros2 bag convert`), messages would be lost silently.

Whole files are read by their index. One without an index, cut off or damaged is read from front to end by another
reader, which finds all that can be read and tells what cannot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader

from wam.core.errors import RecordingError
from wam.data.bag.mcap_file import McapFile, mcap_profile
from wam.data.bag.ros1_file import Ros1File
from wam.data.bag.sqlite_file import SqliteFile, is_cut_off
from wam.data.bag.storage_file import (
    CDR,
    ROS1,
    Channel,
    LostPart,
    StorageFile,
    decoding,
    full_type,
    plain,
    storage_suffix,
    zstd,
)

__all__ = [
    "CDR",
    "ROS1",
    "SUFFIXES",
    "Channel",
    "LostPart",
    "StorageFile",
    "decoding",
    "open_storage",
    "zstd",
]

SUFFIXES = (".mcap", ".db3", ".bag")


def open_storage(path: Path, *, message_zstd: bool = False) -> StorageFile:
    """Open one storage file.

    Args:
        path: .mcap, .db3 or .bag file; .bag.active for a bag whose recorder has not ended.
        message_zstd: every message is compressed by itself (compression mode "message").

    Raises:
        RecordingError: the file is missing, empty or of an unknown format, or no message of it can be read.
    """
    suffix = storage_suffix(path)
    if suffix not in SUFFIXES:
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
        if suffix == ".mcap" and mcap_profile(path) != "ros2":
            return _require_some(McapFile(path))
        try:
            if suffix == ".db3" and is_cut_off(path):
                raise RecordingError(
                    f"recording {path} was cut off, and its tables are lost", where="the recording"
                )
            return RosbagsFile(path, message_zstd=message_zstd)
        except Exception as error:  # rosbags raises errors of any type on damaged bytes
            try:
                return _require_some(read_through(path, message_zstd=message_zstd))
            except RecordingError:
                raise error from error.__cause__


def read_through(path: Path, *, message_zstd: bool) -> StorageFile:
    """Open a file that is damaged, cut off or without an index.

    Raises:
        RecordingError: it is not of the format that its suffix says.
    """
    suffix = storage_suffix(path)
    if suffix == ".mcap":
        return McapFile(path, message_zstd=message_zstd)
    return Ros1File(path) if suffix == ".bag" else SqliteFile(path, message_zstd=message_zstd)


def _require_some(file: StorageFile) -> StorageFile:
    """Refuse a file that has lost all it held; one that is whole may be empty."""
    if file.lost and not any(channel.count for channel in file.channels):
        raise RecordingError(f"recording {file.path}: no message of it can be read", where="the recording")
    return file


class RosbagsFile:
    """A rosbag2 storage file or a ROS 1 bag, through rosbags.

    Args:
        path: the file.
        message_zstd: every message is compressed by itself.
    """

    def __init__(self, path: Path, *, message_zstd: bool = False) -> None:
        self.path = path
        self.lost: tuple[LostPart, ...] = ()
        self.seekable = True
        self._zstd = message_zstd
        self._reader: Any = Ros1Reader(path) if storage_suffix(path) == ".bag" else Ros2Reader(path)
        self._reader.open()
        self.channels = tuple(self._channel(connection) for connection in self._reader.connections)
        self.start_ns = int(self._reader.start_time)
        self.end_ns = int(self._reader.end_time)

    def messages(
        self, channels: Collection[Channel], *, span_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """See `StorageFile.messages`."""
        if not channels:
            return
        by_id = {channel.key.id: channel for channel in channels}
        last_ns, at_last = -1, Counter[tuple[str, str]]()
        connections = [channel.key for channel in channels]
        start_ns, stop_ns = span_ns or (None, None)
        with decoding(self.path):
            try:
                for connection, receive_ns, raw in self._reader.messages(connections, start_ns, stop_ns):
                    channel = by_id[connection.id]
                    if receive_ns != last_ns:
                        last_ns, at_last = receive_ns, Counter()
                    at_last[channel.topic, channel.msgtype] += 1
                    yield channel, receive_ns, plain(raw, message_zstd=self._zstd) if self._zstd else raw
            except Exception as error:  # rosbags raises errors of any type on damaged bytes
                yield from self._go_on(channels, error, after_ns=last_ns, already=at_last, span_ns=span_ns)

    def _go_on(
        self,
        channels: Collection[Channel],
        error: Exception,
        *,
        after_ns: int,
        already: Counter[tuple[str, str]],
        span_ns: tuple[int, int] | None,
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield the messages that can be read behind a damaged part, in the order of the file.

        Args:
            channels: as for `messages`.
            error: what went wrong at the damaged part; raised where the rest cannot be read either.
            after_ns: receive time of the last message given [ns].
            already: messages of that time that were given, by topic and type.
            span_ns: as for `messages`.
        """
        try:
            rest = _require_some(read_through(self.path, message_zstd=self._zstd))
        except RecordingError:
            raise error from error.__cause__
        self.lost = rest.lost
        counts = {(channel.topic, channel.msgtype): channel.count for channel in rest.channels}
        self.channels = tuple(
            replace(one, count=counts.get((one.topic, one.msgtype), 0)) for one in self.channels
        )
        own = {(channel.topic, channel.msgtype): channel for channel in channels}
        wanted = [channel for channel in rest.channels if (channel.topic, channel.msgtype) in own]
        for channel, receive_ns, raw in rest.messages(wanted, span_ns=span_ns):
            name = (channel.topic, channel.msgtype)
            if receive_ns < after_ns:
                continue
            if receive_ns == after_ns and already[name] > 0:
                already[name] -= 1
                continue
            yield own[name], receive_ns, raw

    def close(self) -> None:
        """Close the file."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _channel(self, connection: Any) -> Channel:
        encoding = ROS1 if storage_suffix(self.path) == ".bag" else connection.ext.serialization_format
        form = connection.msgdef.format
        return Channel(
            topic=connection.topic,
            msgtype=full_type(connection.msgtype),
            encoding=encoding,
            count=connection.msgcount,
            definition="" if form == MessageDefinitionFormat.NONE else connection.msgdef.data,
            is_idl=form == MessageDefinitionFormat.IDL,
            key=connection,
            publishers=_publishers(connection.ext),
        )


def _publishers(ext: Any) -> tuple[str, ...]:
    """Return what a file says of the publishers of a topic: a node each in ROS 1, a QoS each in ROS 2."""
    if hasattr(ext, "callerid"):
        return (str(ext.callerid),) if ext.callerid else ()
    return tuple(
        f"{qos.reliability.name.lower()}, {qos.durability.name.lower()}".replace("_", " ")
        for qos in ext.offered_qos_profiles
    )
