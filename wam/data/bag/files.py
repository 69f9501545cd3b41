# SPDX-License-Identifier: Apache-2.0
"""The storage files of a recording, and what its metadata.yaml says about them."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.core.words import counted
from wam.data.bag.storage import CDR, SUFFIXES, decoding, zstd
from wam.data.bag.storage_file import storage_suffix

METADATA = "metadata.yaml"
LATEST_VERSION = 9
COMPRESSED = (".zstd", ".zst")
BLOCK = 1 << 20
NAMED = 4
"""So many recordings in a folder are named where the folder itself is none."""


@dataclass(frozen=True, slots=True)
class BagFiles:
    """Files of a recording.

    Attributes:
        files: storage files, in the order of the metadata or of their names.
        message_zstd: whether every message is compressed by itself.
        custom: custom data of the metadata.
        promised: topic -> messages according to the metadata; empty without metadata.
        duration: of the recording according to the metadata [s]; 0 without.
        missing: names of files that the metadata name and `lenient` left out.
        warnings: faults that `lenient` accepted.
        scratch: folder with decompressed files, to be removed by the caller; None where nothing was compressed.
    """

    files: tuple[Path, ...]
    message_zstd: bool = False
    custom: Mapping[str, str] = field(default_factory=dict)
    promised: Mapping[str, int] = field(default_factory=dict)
    duration: float = 0.0
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    scratch: Path | None = None


def find_files(path: Path, *, lenient: bool = False) -> BagFiles:
    """Return the storage files of the recording at `path`, decompressed where the whole file was compressed.

    Args:
        path: folder of a rosbag2 (with or without metadata.yaml), or one storage file.
        lenient: leave out missing files that the metadata name.

    Raises:
        RecordingError: there is nothing to read, or the metadata are damaged or name files that cannot be read.
    """
    if not path.exists():
        raise RecordingError(f"recording {path} does not exist", where="the argument BAG")
    if path.is_file():
        return _decompressed(BagFiles((path,)))
    if (path / METADATA).is_file():
        return _decompressed(_from_metadata(path, lenient=lenient))
    files = storage_files(path)
    suffixes = sorted({_storage_suffix(file) for file in files})
    if not files and (path / "meta" / "info.json").is_file():
        raise RecordingError(
            f"{path} is a LeRobot data set, not a bag",
            allowed="a bag of one of its episodes",
            where=f"the argument BAG; `wam convert lerobot {path} OUT --robot ROBOT --episode N` makes one",
        )
    if not files and (inner := _recordings_in(path)):
        raise RecordingError(
            f"folder {path} is not a recording, but holds {counted(len(inner), 'recording')}",
            allowed=", ".join(str(one) for one in inner[:NAMED])
            + (" and more" if len(inner) > NAMED else ""),
            where="the argument BAG",
        )
    if len(suffixes) != 1:
        raise RecordingError(
            f"folder {path} has no {METADATA} and does not hold the parts of one recording",
            value=[file.name for file in files[:8]] or "no storage file",
            allowed=f"files of one of the suffixes {', '.join(SUFFIXES)}",
            where="the argument BAG (name one of the files)",
        )
    return _decompressed(BagFiles(tuple(files)))


def storage_files(folder: Path) -> list[Path]:
    """Return the storage files in a folder; beside every file, a Mac puts "._NAME" on disks that are not its own."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if _storage_suffix(entry) in SUFFIXES and not entry.name.startswith("._")
    )


def _recordings_in(folder: Path) -> list[Path]:
    """Return the folders in `folder` that hold storage files, in order of their names."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and storage_files(entry))


def _storage_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in COMPRESSED else storage_suffix(path)


def _from_metadata(path: Path, *, lenient: bool) -> BagFiles:
    source = path / METADATA
    content = _read_metadata(source)
    try:
        version = int(content["version"])
        names = [PurePosixPath(str(name)).name for name in content["relative_file_paths"]]
        mode = str(content.get("compression_mode") or "none").lower()
        form = str(content.get("compression_format") or "")
        int(content["message_count"])
        entries = content.get("topics_with_message_count") or ()
        formats = {str(entry["topic_metadata"]["serialization_format"]) for entry in entries}
        promised: dict[str, int] = {}
        for entry in entries:
            topic = str(entry["topic_metadata"]["name"])
            promised[topic] = promised.get(topic, 0) + int(entry.get("message_count") or 0)
        duration = int((content.get("duration") or {}).get("nanoseconds") or 0) / NS_PER_S
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(
            f"{source} is damaged ({type(error).__name__}: {error})",
            allowed="a rosbag2 metadata file, versions 1 to 9",
            where=f"{source} (move it away to read the storage files alone)",
        ) from error
    if version > LATEST_VERSION:
        raise RecordingError(f"{source}: version", value=version, allowed=f"1 .. {LATEST_VERSION}")
    if mode not in ("none", "file", "message") or (mode != "none" and form != "zstd"):
        raise RecordingError(
            f"{source}: compression", value=f"{form} per {mode}", allowed="zstd per file or message"
        )
    if formats - {CDR}:
        raise RecordingError(
            f"recording {path} is serialised in an unsupported format",
            value=sorted(formats - {CDR}),
            allowed=CDR,
            where="the recorder (`ros2 bag convert` rewrites a bag)",
        )
    files = tuple(path / name for name in names)
    missing = [file.name for file in files if not file.is_file()]
    warnings: tuple[str, ...] = ()
    if missing:
        # A file that was renamed after it was recorded is one that the metadata do not name.
        others = tuple(entry for entry in storage_files(path) if entry.name not in names)
        rest = len(missing) < len(files) or bool(others)
        fault = RecordingError(
            f"{source} names files that are missing: {', '.join(missing)}",
            value=[entry.name for entry in others] or None,
            allowed="all files beside it",
            where="the copy of the recording"
            + (", or pass --lenient to read the files that are there" if rest else ""),
        )
        if not lenient or not rest:
            raise fault
        warnings = (str(fault),)
        files = (*files, *others)
    if not files:
        raise RecordingError(f"{source} names no storage file", where="the recording")
    custom = content.get("custom_data") or {}
    return BagFiles(
        tuple(file for file in files if file.name not in missing),
        message_zstd=mode == "message",
        custom={str(key): str(value) for key, value in custom.items()} if isinstance(custom, dict) else {},
        promised=promised,
        duration=duration,
        missing=tuple(missing),
        warnings=warnings,
    )


def _read_metadata(source: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecordingError(
            f"{source} cannot be read ({line})",
            allowed="a rosbag2 metadata file",
            where=f"{source} (move it away to read the storage files alone)",
        ) from error
    information = content.get("rosbag2_bagfile_information") if isinstance(content, dict) else None
    if not isinstance(information, dict):
        raise RecordingError(
            f"{source} is empty or lacks rosbag2_bagfile_information",
            allowed="a rosbag2 metadata file",
            where=f"{source} (move it away to read the storage files alone)",
        )
    return information


def _decompressed(bag: BagFiles) -> BagFiles:
    """Return `bag` with files that were compressed as a whole, or not closed, in a form that can be read.

    What has to be written for that lies in a scratch folder.
    """
    if not any(file.suffix in COMPRESSED or _log_of(file) for file in bag.files):
        return bag
    scratch = Path(tempfile.mkdtemp(prefix="wam-bag-"))
    files, warnings = [], list(bag.warnings)
    try:
        for file in bag.files:
            if (log := _log_of(file)) is not None:
                files.append(_with_log(file, log, scratch))
                warnings.append(
                    f"recorder of {file} was not ended; what it had not yet moved there was read from {log.name} "
                    f"({log.stat().st_size / 1e6:.1f} MB)"
                )
                continue
            if file.suffix not in COMPRESSED:
                files.append(file)
                continue
            target = scratch / file.stem
            with decoding(file):
                _decompress(file, target)
            files.append(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return BagFiles(
        tuple(files),
        message_zstd=bag.message_zstd,
        custom=bag.custom,
        promised=bag.promised,
        duration=bag.duration,
        missing=bag.missing,
        warnings=tuple(warnings),
        scratch=scratch,
    )


def _decompress(file: Path, target: Path) -> None:
    """Write what can be decompressed of a file; what is then missing at its end is found when it is read."""
    with file.open("rb") as packed, zstd.open(packed, "rb") as plain, target.open("wb") as out:
        try:
            while block := plain.read1(BLOCK):
                out.write(block)
        except (EOFError, zstd.ZstdError):
            if not out.tell():
                raise


def _log_of(file: Path) -> Path | None:
    """Return the write-ahead log beside an sqlite3 file, or None where there is none or it is empty."""
    log = file.with_name(file.name + "-wal")
    return log if file.suffix == ".db3" and log.is_file() and log.stat().st_size else None


def _with_log(file: Path, log: Path, scratch: Path) -> Path:
    """Return a copy of an sqlite3 file that holds what stands in its write-ahead log too.

    The reader opens files as they are and would not see the log, and the recording must stay as it is.
    """
    target = scratch / file.name
    with decoding(file):
        shutil.copyfile(file, target)
        shutil.copyfile(log, scratch / log.name)
        with contextlib.closing(sqlite3.connect(target)) as database:
            database.execute("PRAGMA journal_mode=DELETE")
    return target
