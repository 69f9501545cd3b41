# SPDX-License-Identifier: Apache-2.0
"""What every reader of a storage file gives: channels, raw messages, and what of the file is lost."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from wam.core.errors import RecordingError, WamError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "CDR",
    "DAMAGED",
    "NO_TIME_NS",
    "ROS1",
    "UNFINISHED",
    "Channel",
    "LostPart",
    "StorageFile",
    "cause_of",
    "decoding",
    "full_type",
    "lost_by_topic",
    "plain",
    "storage_suffix",
    "within",
    "zstd",
]

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
        publishers: one text for each publisher that the file tells of: a node's name (ROS 1), or a QoS (ROS 2).
    """

    topic: str
    msgtype: str
    encoding: str
    count: int
    definition: str
    is_idl: bool
    key: Any
    publishers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostPart:
    """Messages of a storage file that cannot be read, for one reason.

    Attributes:
        reason: one clause that names the file, without its folder.
        topic: their topic; "" where the file does not tell.
        times_ns: their receive times [ns]; empty where the file does not tell.
        messages: their number; None where the file does not tell.
        seconds: time that they span [s]; None where only `times_ns`, or nothing, tells.
    """

    reason: str
    topic: str = ""
    times_ns: tuple[int, ...] = ()
    messages: int | None = None
    seconds: float | None = None


class StorageFile(Protocol):
    """One open storage file. Not thread-safe."""

    path: Path
    channels: tuple[Channel, ...]
    start_ns: int
    end_ns: int
    lost: tuple[LostPart, ...]
    """What cannot be read, as far as it is known; a fault in the middle may become known while messages are read."""

    seekable: bool
    """A span of time is read without reading what comes before it."""

    def messages(
        self, channels: Collection[Channel], *, span_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield channel, receive time [ns] and bytes of the messages of `channels`, in order of receive time.

        Args:
            channels: of this file.
            span_ns: receive times, from the first up to the second [ns]; None for all.

        Raises:
            RecordingError: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Close the file; safe to call twice."""
        ...


_REPAIRS = {
    ".mcap": "the recording (`mcap recover` of the MCAP tools may save it)",
    ".db3": "the recording (a complete copy of it)",
    ".bag": "the recording (a complete copy of it)",
}
"""Suffix -> what may save a file that cannot be read."""


def storage_suffix(path: Path) -> str:
    """Return the suffix that tells the format: without that of ROS 1 for a bag whose recorder has not ended."""
    return Path(path.stem).suffix if path.suffix == ".active" else path.suffix


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
            f"recording {path} is truncated, damaged or in an unsupported format ({cause_of(error)})",
            allowed="rosbag2 in MCAP or sqlite3, ROS 1 bag version 2.0",
            where=_REPAIRS.get(storage_suffix(path), "the recording"),
        ) from error


DAMAGED = "a part of {} is damaged"
UNFINISHED = "{} ends before its recorder had finished it"


def lost_by_topic(
    reason: str, entries: Mapping[int, Sequence[int]], names: Mapping[int, str]
) -> Iterator[LostPart]:
    """Yield what the index behind a damaged chunk tells of it.

    Args:
        reason: why it is lost.
        entries: channel -> receive times of its messages that cannot be read [ns].
        names: channel -> topic.
    """
    for key, times_ns in entries.items():
        if times_ns:
            yield LostPart(reason, names.get(key, ""), tuple(sorted(times_ns)), len(times_ns))


def within(time_ns: int, span_ns: tuple[int, int] | None) -> bool:
    """Return whether a receive time is in a span of time; None is all of it."""
    return span_ns is None or span_ns[0] <= time_ns < span_ns[1]


def full_type(msgtype: str) -> str:
    """Return package/msg/Name; the first rosbag2 versions wrote package/Name."""
    package, _, name = msgtype.partition("/")
    return msgtype if "/" in name or not name else f"{package}/msg/{name}"


def cause_of(error: Exception) -> str:
    """Return type and first line of an error."""
    text = str(error).strip().rstrip(".").splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def plain(raw: bytes | memoryview, *, message_zstd: bool) -> bytes:
    """Return a message as it was before it was compressed by itself; nothing where it is damaged, as no type allows."""
    if not message_zstd:
        return bytes(raw)
    try:
        return zstd.decompress(raw)
    except zstd.ZstdError:
        return b""
