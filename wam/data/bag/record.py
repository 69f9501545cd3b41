# SPDX-License-Identifier: Apache-2.0
"""The MCAP file of every rosbag2 that is written: live recordings, conversions and recordings of the simulation.

It stays readable up to its last half second, however the recording ends. Messages are gathered in chunks, and a chunk
is handed to the kernel at most half a second after its first message. A process that is killed thus leaves whole chunks
and at most one torn chunk at the end, which `Recording(lenient=True)` leaves out. When a write fails, the file is cut
back to its last whole chunk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from wam.core.errors import RecordingError
from wam.data.bag.files import METADATA

FLUSH_NS = 500_000_000
"""Longest time between receiving a message and handing it to the kernel [ns]."""

WAM_METADATA = "wam"
"""Name of the MCAP metadata records with robot, contract hash and instruction."""


class _File:
    """An unbuffered file that can be cut back; the stream that `mcap` writes to."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("xb", buffering=0)
        self._length = 0

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:
            done = self._raw.write(rest)
            self._length += done
            rest = rest[done:]
        return len(data)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def cut(self, length: int) -> None:
        os.ftruncate(self._raw.fileno(), length)

    def close(self) -> None:
        self._raw.close()


class RecordFile:
    """Writes serialised messages to a new bag (a `BagFile`). Not thread-safe.

    Args:
        out: folder of the bag; it must not exist.
        metadata: what is known from the start, such as the robot's name.
        definitions: msgtype (package/msg/Name) -> text of its .msg file, for types that are not common ones.
        checksums: protect chunks against damage of the disk; reading them takes a few percent longer.

    Raises:
        RecordingError: `out` exists or cannot be written.

    Attributes:
        refusal: why the disk did not take a write, which closed the recording; None while there is no such fault.
    """

    def __init__(
        self,
        out: Path,
        *,
        metadata: Mapping[str, str],
        definitions: Mapping[str, str] | None = None,
        checksums: bool = True,
    ) -> None:
        self._out = out
        self._store = get_typestore(Stores.ROS2_JAZZY)
        for msgtype, text in (definitions or {}).items():
            self._store.register(get_types_from_msg(text, msgtype))
        try:
            out.mkdir(parents=True)
            self._file = _File(out / f"{out.resolve().name}.mcap")
        except OSError as error:
            raise RecordingError(
                f"recording {out} cannot be made ({error.strerror})",
                allowed="a new path in a writable folder",
                where="the argument OUT",
            ) from error
        self._writer = Writer(
            self._file,  # type: ignore[arg-type]  # annotated as IO[bytes], of which it uses these methods
            compression=CompressionType.NONE,
            enable_crcs=checksums,
        )
        self._channels: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._schemas: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._custom: dict[str, str] = {}
        self._count = 0
        self._good = 0
        self._flushed_ns: int | None = None
        self._first_ns = self._last_ns = 0
        self._closed = False
        self.refusal: OSError | None = None
        self._guard(self._writer.start, "ros2")
        self.note(metadata)

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages written by topic."""
        return self._counts

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.tell()

    def note(self, values: Mapping[str, str]) -> None:
        """Write facts about the recording at once; a later value of the same key replaces an earlier one.

        Raises:
            RecordingError: the disk is full or fails; the recording is closed.
        """
        self._custom |= values
        self._guard(self._writer.add_metadata, WAM_METADATA, dict(values))
        self._flush()

    def write(self, topic: str, msgtype: str, raw: bytes | memoryview, receive_ns: int) -> None:
        """Write a message, serialised as CDR.

        Raises:
            RecordingError: the disk is full or fails; the recording is closed.
        """
        if topic not in self._channels:
            self._open(topic, msgtype)
        self._guard(self._writer.add_message, self._channels[topic], receive_ns, raw, receive_ns)
        if not self._count:
            self._first_ns = receive_ns
        self._last_ns = max(self._last_ns, receive_ns)
        self._count += 1
        self._counts[topic] += 1
        if self._flushed_ns is None:
            self._flushed_ns = receive_ns
        elif receive_ns - self._flushed_ns >= FLUSH_NS or receive_ns < self._flushed_ns:
            self._flush()
            self._flushed_ns = receive_ns

    def flush(self) -> None:
        """Hand everything to the kernel; for a time without messages.

        Raises:
            RecordingError: the disk is full or fails; the recording is closed.
        """
        self._flush()
        self._flushed_ns = None

    def close(self) -> None:
        """Write index and metadata.yaml; safe to call twice.

        Raises:
            RecordingError: the disk is full or fails; what was recorded stays readable.
        """
        if self._closed:
            return
        self._guard(self._writer.finish)
        self._closed = True
        self._file.close()
        try:
            content = yaml.safe_dump(self._metadata(), sort_keys=False, allow_unicode=True)
            (self._out / METADATA).write_text(content, encoding="utf-8")
        except OSError as error:
            (self._out / METADATA).unlink(missing_ok=True)
            raise self._refuse(error) from error

    def abandon(self) -> None:
        """Close the file without index and metadata.yaml; safe to call at any time."""
        if not self._closed:
            self._closed = True
            self._file.close()

    def _open(self, topic: str, msgtype: str) -> None:
        if msgtype not in self._schemas:
            definition, _ = self._store.generate_msgdef(msgtype, ros_version=2)
            self._schemas[msgtype] = self._guard(
                self._writer.register_schema, msgtype, "ros2msg", definition.encode()
            )
        self._channels[topic] = self._guard(
            self._writer.register_channel,
            topic,
            "cdr",
            self._schemas[msgtype],
            {"offered_qos_profiles": ""},
        )
        self._types[topic] = msgtype
        self._counts[topic] = 0

    def _flush(self) -> None:
        self._guard(self._writer.flush)
        self._good = self._file.tell()

    def _guard(self, call: Any, *arguments: Any) -> Any:
        """Call something that writes; when the disk refuses, cut the file back to its last whole chunk."""
        if self._closed:
            raise RecordingError(f"recording {self._out} is closed")
        try:
            return call(*arguments)
        except OSError as error:
            self._closed = True
            self._file.cut(self._good)
            self._file.close()
            raise self._refuse(error) from error

    def _refuse(self, error: OSError) -> RecordingError:
        self.refusal = error
        return RecordingError(
            f"recording {self._out} ended after {self._count} messages: the disk does not take more "
            f"({error.strerror})",
            where="free space in that folder, or OUT on another disk; what was recorded can be read with --lenient",
        )

    def _metadata(self) -> dict[str, Any]:
        name = f"{self._out.resolve().name}.mcap"
        topics = [
            {
                "topic_metadata": {
                    "name": topic,
                    "type": msgtype,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [],
                    "type_description_hash": self._store.hash_rihs01(msgtype),
                },
                "message_count": self._counts[topic],
            }
            for topic, msgtype in self._types.items()
        ]
        return {
            "rosbag2_bagfile_information": {
                "version": 9,
                "storage_identifier": "mcap",
                **self._span(),
                "topics_with_message_count": topics,
                "compression_format": "",
                "compression_mode": "",
                "relative_file_paths": [name],
                "files": [{"path": name, **self._span()}],
                "custom_data": dict(self._custom),
                "ros_distro": "jazzy",
            }
        }

    def _span(self) -> dict[str, Any]:
        return {
            "starting_time": {"nanoseconds_since_epoch": self._first_ns},
            "duration": {"nanoseconds": max(0, self._last_ns - self._first_ns)},
            "message_count": self._count,
        }
