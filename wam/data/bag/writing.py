# SPDX-License-Identifier: Apache-2.0
"""Writing a rosbag2 without ROS: messages are serialised here, and the bag appears in its place when it is complete."""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.record import RecordFile
from wam.data.bag.topics import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, STRING


class Storage(str, enum.Enum):
    """Storage plugin of a rosbag2."""

    MCAP = "mcap"
    SQLITE3 = "sqlite3"


class BagFile(Protocol):
    """The file behind a bag that is being written. Not thread-safe."""

    def write(self, topic: str, msgtype: str, raw: bytes | memoryview, receive_ns: int) -> None:
        """Write a message, serialised as CDR, received at `receive_ns` [ns]."""
        ...

    def note(self, values: Mapping[str, str]) -> None:
        """Put custom data into the bag's metadata.yaml."""
        ...


class BagWriter:
    """Serialises messages of the types that recordings of this suite hold and writes them.

    Args:
        file: where to.
    """

    def __init__(self, file: BagFile) -> None:
        self._file = file
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._types = self._store.types
        self.count = 0

    def joint_state(
        self,
        topic: str,
        stamp_ns: int,
        *,
        names: Sequence[str],
        positions: npt.ArrayLike,
        velocities: npt.ArrayLike = (),
        efforts: npt.ArrayLike = (),
        receive_ns: int | None = None,
    ) -> None:
        """Write a sensor_msgs/JointState: float64 [N] each (rad or m and their rates, N m or N), or empty.

        Its receive time is `receive_ns`, or the stamp [ns].
        """
        position, velocity, effort = (
            np.ascontiguousarray(values, dtype=np.float64) for values in (positions, velocities, efforts)
        )
        message = self._types[JOINT_STATE](
            header=self._header(stamp_ns, ""),
            name=list(names),
            position=position,
            velocity=velocity,
            effort=effort,
        )
        self._write(topic, JOINT_STATE, stamp_ns if receive_ns is None else receive_ns, message)

    def jpeg(
        self,
        topic: str,
        stamp_ns: int,
        *,
        frame_id: str,
        data: npt.NDArray[np.uint8],
        form: str = "jpeg",
        receive_ns: int | None = None,
    ) -> None:
        """Write a sensor_msgs/CompressedImage; `data` is uint8 [bytes], `form` the text of its format."""
        message = self._types[COMPRESSED_IMAGE](
            header=self._header(stamp_ns, frame_id), format=form, data=np.ascontiguousarray(data).ravel()
        )
        self._write(topic, COMPRESSED_IMAGE, stamp_ns if receive_ns is None else receive_ns, message)

    def image(
        self,
        topic: str,
        stamp_ns: int,
        *,
        frame_id: str,
        rgb: npt.NDArray[np.uint8],
        encoding: str = "rgb8",
    ) -> None:
        """Write a sensor_msgs/Image.

        Args:
            topic: name.
            stamp_ns: acquisition time [ns].
            frame_id: frame of the camera.
            rgb: pixels in `encoding`, uint8 [H, W, C] or [H, W].
            encoding: of the pixels, as in the message.
        """
        height, width = rgb.shape[:2]
        message = self._types[IMAGE](
            header=self._header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=rgb.size // height,
            data=np.ascontiguousarray(rgb).ravel(),
        )
        self._write(topic, IMAGE, stamp_ns, message)

    def text(self, topic: str, stamp_ns: int, text: str) -> None:
        """Write a std_msgs/String."""
        self._write(topic, STRING, stamp_ns, self._types[STRING](data=text))

    def note(self, key: str, value: str) -> None:
        """Put custom data into the bag's metadata.yaml."""
        self._file.note({key: value})

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._types["builtin_interfaces/msg/Time"](
            sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S
        )
        return self._types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)

    def _write(self, topic: str, msgtype: str, receive_ns: int, message: Any) -> None:
        self._file.write(topic, msgtype, self._store.serialize_cdr(message, msgtype), receive_ns)
        self.count += 1


class _Sqlite3File:
    """A bag in sqlite3, through rosbags: a `BagFile`.

    Args:
        out: folder of the bag; it must not exist.
        metadata: custom data of its metadata.yaml.
    """

    refusal: OSError | None = None

    def __init__(self, out: Path, *, metadata: Mapping[str, str]) -> None:
        self._writer = Writer(out, version=9, storage_plugin=StoragePlugin.SQLITE3)
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[str, Any] = {}
        self._writer.open()
        self.note(metadata)

    def write(self, topic: str, msgtype: str, raw: bytes | memoryview, receive_ns: int) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, msgtype, typestore=self._store)
        self._writer.write(self._connections[topic], receive_ns, raw)

    def note(self, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self._writer.set_custom_data(key, value)

    def close(self) -> None:
        self._writer.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):  # the folder is removed, whatever state the database is in
            self._writer.close()


@contextlib.contextmanager
def new_bag(out: Path, *, storage: Storage, metadata: Mapping[str, str]) -> Iterator[BagWriter]:
    """Yield a writer for a bag that appears at `out` when the block succeeds; on error nothing is left.

    Args:
        out: folder of the bag; it must not exist.
        storage: storage plugin.
        metadata: custom data of the bag's metadata.yaml.

    Raises:
        RecordingError: `out` exists or its folder cannot be written.
    """
    try:
        with new_folder(out, what="bag") as folder:
            # The file inside a bag is named after its folder.
            file: RecordFile | _Sqlite3File
            if storage is Storage.MCAP:
                file = RecordFile(folder, metadata=metadata, checksums=False)
            else:
                file = _Sqlite3File(folder, metadata=metadata)
            try:
                yield BagWriter(file)
                file.close()
            except RecordingError:
                if file.refusal is not None:
                    raise file.refusal from None  # `new_folder` names the bag's place, not that of its parts
                raise
            finally:
                file.abandon()
    except WriterError as error:
        raise RecordingError(f"bag {out} could not be written ({error})", where="the argument OUT") from error


@contextlib.contextmanager
def new_folder(out: Path, *, what: str) -> Iterator[Path]:
    """Yield the path of a folder to make, of the name of `out`, which appears at `out` when the block succeeds.

    Args:
        out: final place of the folder; it must not exist.
        what: for error texts.

    Raises:
        RecordingError: `out` exists or its folder cannot be written; nothing is left.
    """
    if out.exists() or out.is_symlink():
        raise RecordingError(
            f"{what} {out} exists already and is not overwritten",
            allowed="a new path",
            where="the argument OUT",
        )
    target = out.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise RecordingError(
            f"{what} {out} cannot be written ({error.strerror})",
            allowed="a writable folder",
            where="the argument OUT",
        ) from error
    try:
        yield work / target.name
        if target.exists():
            raise RecordingError(
                f"{what} {out} was made by another process and is not overwritten", where="the argument OUT"
            )
        (work / target.name).rename(target)
    except OSError as error:
        raise RecordingError(
            f"{what} {out} could not be written ({error})", where="the argument OUT"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make `target` the same file as `source`; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
