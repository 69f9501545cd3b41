# SPDX-License-Identifier: Apache-2.0
"""Where a LeRobot data set keeps one episode: v2.0 and v2.1 have a file per episode, v3.0 packs many into one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wam.core.errors import RecordingError

IMAGES = "observation.images."


@dataclass(frozen=True, slots=True)
class VideoPart:
    """The stretch of a video file that belongs to one episode.

    Attributes:
        path: the file.
        start: time of the episode's first image in it [s].
    """

    path: Path
    start: float


@dataclass(frozen=True, slots=True)
class EpisodeFiles:
    """Files of one episode.

    Attributes:
        index: number of the episode.
        table: parquet file with its rows (and, in v3.0, those of others).
        videos: camera name -> its stretch of video; cameras stored inside the table are left out.
        instruction: task text.
        length: rows that the metadata promise, 0 where they do not say.
    """

    index: int
    table: Path
    videos: Mapping[str, VideoPart]
    instruction: str
    length: int


def episode_files(root: Path, info: Mapping[str, Any], index: int) -> EpisodeFiles:
    """Return the files of episode `index`.

    Raises:
        RecordingError: the version is not supported, or the episode or one of its files is missing.
    """
    version = str(info["codebase_version"])
    if version in ("v2.0", "v2.1"):
        return _version_2(root, info, index)
    if version == "v3.0":
        return _version_3(root, info, index)
    raise RecordingError(
        f"meta/info.json of {root}: codebase_version",
        value=version,
        allowed="v2.0, v2.1 or v3.0",
        where="the data set (LeRobot's own converter brings older ones up to date)",
    )


def _video_keys(info: Mapping[str, Any]) -> list[str]:
    features = info["features"].items()
    return [key for key, feature in features if key.startswith(IMAGES) and feature.get("dtype") == "video"]


def _version_2(root: Path, info: Mapping[str, Any], index: int) -> EpisodeFiles:
    episodes = {int(line["episode_index"]): line for line in _json_lines(root / "meta" / "episodes.jsonl")}
    if index not in episodes:
        raise _no_such_episode(root, index, sorted(episodes))
    chunk = index // int(info.get("chunks_size", 1000))
    numbers = {"episode_chunk": chunk, "episode_index": index}
    table = root / _expand(info, "data_path", numbers)
    if not table.is_file():
        on_disk = sorted(
            int(path.stem.rpartition("_")[2]) for path in (root / "data").glob("*/episode_*.parquet")
        )
        raise _no_such_episode(root, index, on_disk)
    videos = {
        key.removeprefix(IMAGES): VideoPart(
            _existing(root / _expand(info, "video_path", {**numbers, "video_key": key})), 0.0
        )
        for key in _video_keys(info)
    }
    tasks = episodes[index].get("tasks") or []
    return EpisodeFiles(
        index, table, videos, str(tasks[0]) if tasks else "", int(episodes[index].get("length", 0))
    )


def _version_3(root: Path, info: Mapping[str, Any], index: int) -> EpisodeFiles:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: dict[int, dict[str, Any]] = {}
    paths = sorted((root / "meta" / "episodes").glob("chunk-*/file-*.parquet"))
    try:
        for path in paths:
            names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
            rows |= {int(row["episode_index"]): row for row in pq.read_table(path, columns=names).to_pylist()}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RecordingError(f"{path} cannot be read ({error})", where="the data set") from error
    if index not in rows:
        raise _no_such_episode(root, index, sorted(rows))
    row = rows[index]
    try:
        place = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
        videos = {}
        for key in _video_keys(info):
            part = {name: int(row[f"videos/{key}/{name}"]) for name in ("chunk_index", "file_index")}
            path = _existing(root / _expand(info, "video_path", {**part, "video_key": key}))
            videos[key.removeprefix(IMAGES)] = VideoPart(path, float(row[f"videos/{key}/from_timestamp"]))
    except KeyError as error:
        raise RecordingError(
            f"meta/episodes of {root} has no column {error.args[0]}", where="the data set"
        ) from error
    tasks = row.get("tasks") or []
    table = _existing(root / _expand(info, "data_path", place))
    return EpisodeFiles(
        index, table, videos, str(tasks[0]) if len(tasks) else "", int(row.get("length") or 0)
    )


def _expand(info: Mapping[str, Any], key: str, values: Mapping[str, Any]) -> str:
    template = str(info.get(key) or "")
    try:
        path = template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        raise RecordingError(
            f"meta/info.json: {key}",
            value=template,
            allowed=f"a path with {sorted(values)}",
            where="meta/info.json",
        ) from error
    if not path or Path(path).is_absolute() or ".." in Path(path).parts:
        raise RecordingError(
            f"meta/info.json: {key}",
            value=template,
            allowed="a path inside the data set",
            where="meta/info.json",
        )
    return path


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RecordingError(f"file {path} of the data set is missing", where="the data set")
    return path


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise RecordingError(f"{path} cannot be read ({error})", where="the data set") from error


def _no_such_episode(root: Path, index: int, have: list[int]) -> RecordingError:
    names = ", ".join(map(str, have[:12])) + (f" ... {have[-1]}" if len(have) > 12 else "")
    return RecordingError(
        f"data set {root} has no episode {index}", allowed=names or "(it has none)", where="--episode"
    )
