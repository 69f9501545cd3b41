# SPDX-License-Identifier: Apache-2.0
"""The file of a running recording: rosbag2 MCAP that is readable up to the last half second, however it ends.

Messages are gathered in chunks, and a chunk reaches the kernel half a second after its first message at the latest. A
process that is killed thus leaves whole chunks and at most one torn one at the end, which `Recording(lenient=True)`
leaves out. When a write fails, the file is cut back to its last whole chunk.
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
"""A message is in the kernel's hands this much after it was received, at the latest [ns]."""

WAM_METADATA = "wam"
"""Name of the MCAP metadata records with robot, contract hash and instruction."""


class _File:
    """An unbuffered file that can be cut back; what `mcap` asks of a stream."""

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
        """Nothing is kept back."""

    def cut(self, length: int) -> None:
        os.ftruncate(self._raw.fileno(), length)

    def close(self) -> None:
        self._raw.close()


class RecordFile:
    """Writes serialised messages to a new bag. Not thread-safe.

    Args:
        out: folder of the bag; it must not exist.
        metadata: what is known from the start, such as the robot's name.
        definitions: msgtype (package/msg/Name) -> text of its .msg file, for types that are not common ones.

    Raises:
        RecordingError: `out` exists or cannot be written.
    """

    def __init__(self, out: Path, *, metadata: Mapping[str, str], definitions: Mapping[str, str]) -> None:
        self._out = out
        self._store = get_typestore(Stores.ROS2_JAZZY)
        for msgtype, text in definitions.items():
            self._store.register(get_types_from_msg(text, msgtype))
        try:
            out.mkdir(parents=True)
            self._file = _File(out / f"{out.resolve().name}.mcap")
        except OSError as error:
            raise RecordingError(
                f"recording {out} cannot be made ({error.strerror})",
                allowed="a new path in a folder that you may write",
                where="the argument OUT",
            ) from error
        self._writer = Writer(self._file, compression=CompressionType.NONE)  # type: ignore[arg-type]
        self._channels: dict[str, int] = {}
        self._types: dict[str, str] = {}
        self._schemas: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._custom: dict[str, str] = {}
        self._good = 0
        self._flushed_ns: int | None = None
        self._first_ns = self._last_ns = 0
        self._closed = False
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
        """Put facts about the recording into it at once; later ones replace earlier ones of the same key.

        Raises:
            RecordingError: the disk does not take them.
        """
        self._custom |= values
        self._guard(self._writer.add_metadata, WAM_METADATA, dict(values))
        self._flush()

    def write(self, topic: str, msgtype: str, raw: bytes, receive_ns: int) -> None:
        """Write a message, serialised as CDR.

        Raises:
            RecordingError: the disk does not take it; the recording is closed.
        """
        if topic not in self._channels:
            self._open(topic, msgtype)
        self._guard(self._writer.add_message, self._channels[topic], receive_ns, raw, receive_ns)
        if not sum(self._counts.values()):
            self._first_ns = receive_ns
        self._last_ns = max(self._last_ns, receive_ns)
        self._counts[topic] += 1
        if self._flushed_ns is None:
            self._flushed_ns = receive_ns
        elif receive_ns - self._flushed_ns >= FLUSH_NS or receive_ns < self._flushed_ns:
            self._flush()
            self._flushed_ns = receive_ns

    def flush(self) -> None:
        """Hand everything to the kernel, for a time without messages.

        Raises:
            RecordingError: the disk does not take it; the recording is closed.
        """
        self._flush()
        self._flushed_ns = None

    def text(self, topic: str, text: str, receive_ns: int) -> None:
        """Write a std_msgs/String.

        Raises:
            RecordingError: see `write`.
        """
        message = self._store.types["std_msgs/msg/String"](data=text)
        raw = bytes(self._store.serialize_cdr(message, "std_msgs/msg/String"))
        self.write(topic, "std_msgs/msg/String", raw, receive_ns)

    def close(self) -> None:
        """Write index and metadata.yaml; safe to call twice.

        Raises:
            RecordingError: the disk does not take them; what was recorded stays readable.
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
            raise self._refusal(error) from error

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
            raise self._refusal(error) from error

    def _refusal(self, error: OSError) -> RecordingError:
        return RecordingError(
            f"recording {self._out} ended after {sum(self._counts.values())} messages: the disk does not take more "
            f"({error.strerror})",
            where="free space in that folder, or OUT on another disk; what was recorded can be read with --lenient",
        )

    def _metadata(self) -> dict[str, Any]:
        count = sum(self._counts.values())
        start, length = self._first_ns, max(0, self._last_ns - self._first_ns)
        span = {
            "starting_time": {"nanoseconds_since_epoch": start},
            "duration": {"nanoseconds": length},
            "message_count": count,
        }
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
                **span,
                "topics_with_message_count": topics,
                "compression_format": "",
                "compression_mode": "",
                "relative_file_paths": [name],
                "files": [{"path": name, **span}],
                "custom_data": dict(self._custom),
                "ros_distro": "jazzy",
            }
        }
