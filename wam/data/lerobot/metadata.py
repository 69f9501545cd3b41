# SPDX-License-Identifier: Apache-2.0
"""Reading the metadata of a LeRobot data set: features, tasks, and the files of every episode.

    v2.0, v2.1  one parquet file and one video per episode; meta/episodes.jsonl, meta/tasks.jsonl
    v3.0        many episodes per parquet file and per video; meta/episodes/**.parquet, meta/tasks.parquet

Only this module distinguishes the versions when reading; training, conversion and replay all read through it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wam.core.errors import RecordingError
from wam.data.lerobot.format import EPISODES_PER_CHUNK, READABLE
from wam.data.lerobot.places import read_places
from wam.data.lerobot.pointers import is_pointer, refuse_pointer
from wam.data.lerobot.unfinished import UnfinishedFile, is_finished

IMAGE_TYPES = ("video", "image")


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the data set.

    Attributes:
        name: column or video key, such as "observation.state".
        dtype: as in info.json; "video" and "image" hold images.
        shape: of one row.
        names: names of the columns, or empty where info.json gives none.
        is_depth: images are depth maps.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    is_depth: bool = False

    @property
    def is_image(self) -> bool:
        """Whether rows are images."""
        return self.dtype in IMAGE_TYPES

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images [px].

        Raises:
            RecordingError: the shape is not that of an image.
        """
        if len(self.shape) != 3:
            raise RecordingError(
                f"feature {self.name} has shape {list(self.shape)}", allowed="height, width and channels"
            )
        # The order differs between tools ([3, H, W] too), and so the names decide.
        names = self.names if len(self.names) == 3 else ("height", "width", "channels")
        places = {name.rstrip("s"): n for name, n in zip(names, self.shape, strict=True)}
        return places.get("height", self.shape[0]), places.get("width", self.shape[1])


@dataclass(frozen=True, slots=True)
class VideoPart:
    """Where the images of one episode and camera are.

    Attributes:
        path: video file.
        start_s: time in the file of the episode's first row [s].
        end_s: time in the file at which the next episode begins [s]; None where the file holds no other.
    """

    path: Path
    start_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class DatasetEpisode:
    """One episode of a data set: its length, its tasks and its files.

    Attributes:
        index: number in the data set.
        length: rows N.
        tasks: instructions, in the words of the data set.
        data_path: parquet file with its rows (and perhaps those of others).
        videos: camera key -> video part; empty for data sets that keep images in the parquet file.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data_path: Path
    videos: Mapping[str, VideoPart]

    @property
    def has_table(self) -> bool:
        """Whether its table exists and was finished; what stands in for a table passes, and is refused by name."""
        return is_finished(self.data_path) or is_pointer(self.data_path)

    def is_present(self, cameras: Collection[str] | None = None) -> bool:
        """Return whether its table (see `has_table`) and the videos of `cameras` exist.

        A partial copy of a data set lacks some.

        Args:
            cameras: camera keys; None for all.
        """
        videos = (part for key, part in self.videos.items() if cameras is None or key in cameras)
        return self.has_table and all(part.path.is_file() for part in videos)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Everything in the metadata of a data set.

    Attributes:
        version: one of `wam.data.lerobot.format.READABLE`.
        fps: control rows per second.
        features: by name.
        episodes: in order of their numbers, whether or not their files exist.
        tasks: task number -> instruction.
        unfinished: tables that cannot be read, and what is lost with them.
    """

    version: str
    fps: float
    features: Mapping[str, Feature]
    episodes: tuple[DatasetEpisode, ...]
    tasks: Mapping[int, str]
    unfinished: tuple[UnfinishedFile, ...]


def read_metadata(root: Path) -> Metadata:
    """Read the metadata of a data set; no rows and no images.

    Raises:
        RecordingError: a metadata file is missing or damaged, or the format version is not supported.
    """
    info = _read_info(root)
    version = str(info.get("codebase_version"))
    if version not in READABLE:
        raise RecordingError(
            f"meta/info.json of {root}: codebase_version",
            value=version,
            allowed="v2.0, v2.1 or v3.0",
            where="the data set (LeRobot's own converter updates older ones)",
        )
    fps = _rate(info, root)
    try:
        features = {str(name): _feature(str(name), spec) for name, spec in info["features"].items()}
        keys = [f.name for f in features.values() if f.dtype == "video"]
        read = _episodes_v30 if version == "v3.0" else _episodes_v2
        tasks, episodes = read(root, info, keys)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise RecordingError(
            f"{root}/meta is damaged or incomplete ({type(error).__name__}: {error})",
            allowed="a complete copy of a LeRobot data set",
            where=f"{root / 'meta'}",
        ) from error
    ordered = tuple(sorted(episodes, key=lambda e: e.index))
    return Metadata(version, fps, features, ordered, tasks, _unfinished(root, info, ordered, fps))


def _unfinished(
    root: Path, info: Mapping[str, Any], episodes: Sequence[DatasetEpisode], fps: float
) -> tuple[UnfinishedFile, ...]:
    """Return the tables that were never finished, those of episodes first, then those that name episodes."""
    found = []
    for path in parquet_files(root / "data"):
        if is_finished(path) or is_pointer(path):
            continue
        held = [episode for episode in episodes if episode.data_path == path]
        if held:
            frames = sum(episode.length for episode in held)
            numbers = tuple(episode.index for episode in held)
            found.append(UnfinishedFile(path, numbers, len(held), frames, frames / fps))
    # What is not among the episodes was named in a table of meta/ that is lost, and only counted in info.json.
    totals = [info.get("total_episodes"), info.get("total_frames")]
    for path in parquet_files(root / "meta" / "episodes"):
        if is_finished(path) or is_pointer(path):
            continue
        if not all(isinstance(total, int) for total in totals):
            found.append(UnfinishedFile(path, (), None, None, None))
            continue
        count = int(totals[0] or 0) - len(episodes)
        frames = int(totals[1] or 0) - sum(episode.length for episode in episodes)
        found.append(UnfinishedFile(path, (), count, frames, frames / fps))
    return tuple(found)


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordingError(
            f"{root} is not a LeRobot data set: {path} is missing",
            allowed="a folder with meta/info.json, data/ and videos/",
            where="the path of the data set",
        ) from error
    except (OSError, ValueError) as error:
        refuse_pointer(path)
        raise RecordingError(
            f"{path} cannot be read ({error})", allowed="a JSON object", where=str(path)
        ) from error
    needed = ("codebase_version", "fps", "features", "data_path")
    missing = [key for key in needed if not isinstance(info, dict) or key not in info]
    if missing:
        raise RecordingError(f"{path} lacks {', '.join(missing)}", where=str(path))
    return dict(info)


def _rate(info: Mapping[str, Any], root: Path) -> float:
    value = info["fps"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 10_000:
        raise RecordingError(
            f"meta/info.json of {root}: fps",
            value=value,
            allowed="a positive number [Hz]",
            where="meta/info.json",
        )
    return float(value)


def _feature(name: str, spec: Mapping[str, Any]) -> Feature:
    is_depth = bool((spec.get("info") or {}).get("video.is_depth_map"))
    shape = tuple(int(n) for n in spec["shape"])
    return Feature(name, str(spec["dtype"]), shape, _names(spec.get("names")), is_depth)


def _names(names: Any) -> tuple[str, ...]:
    """Return column names, flattened from the shapes in use: a list, a list of one list, {"motors": [...]}."""
    if isinstance(names, Mapping):
        names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
    flat = [n for group in names or () for n in (group if isinstance(group, list) else [group])]
    return tuple(flat) if all(isinstance(n, str) for n in flat) else ()


def _episodes_v2(
    root: Path, info: Mapping[str, Any], keys: Sequence[str]
) -> tuple[dict[int, str], list[DatasetEpisode]]:
    tasks = {int(row["task_index"]): str(row["task"]) for row in _json_lines(root / "meta" / "tasks.jsonl")}
    places = read_places(root, info, videos=bool(keys))
    episodes = []
    for row in _json_lines(root / "meta" / "episodes.jsonl"):
        index = int(row["episode_index"])
        chunk = index // int(info.get("chunks_size", EPISODES_PER_CHUNK))
        place = {"episode_chunk": chunk, "episode_index": index}
        videos = {k: VideoPart(places.clip(k, place), 0.0) for k in keys}
        data = places.table(place)
        episodes.append(DatasetEpisode(index, int(row["length"]), _texts(row.get("tasks")), data, videos))
    return tasks, episodes


def _episodes_v30(
    root: Path, info: Mapping[str, Any], keys: Sequence[str]
) -> tuple[dict[int, str], list[DatasetEpisode]]:
    task_file = root / "meta" / "tasks.parquet"
    written = parquet_files(root / "meta" / "episodes")
    files = [path for path in written if is_finished(path) or is_pointer(path)]
    if written and not files:
        (lost, *_) = _unfinished(root, info, (), _rate(info, root))
        raise RecordingError(
            lost.text(),
            allowed="a data set whose recorder has ended, or at least one finished table",
            where="the recorder; images and videos of the data set may be whole",
        )
    if not task_file.is_file() or not files:
        raise RecordingError(
            f"{root}/meta lacks tasks.parquet or episodes/", allowed="a complete copy of the data set"
        )
    # Pandas writes the instruction as the index of the table, which parquet calls so when it has no name.
    tasks = {
        int(r["task_index"]): str(r.get("task", r.get("__index_level_0__"))) for r in _parquet(task_file)
    }
    wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    wanted += [f"videos/{k}/{what}" for k in keys for what in ("chunk_index", "file_index", "from_timestamp")]
    optional = [f"videos/{k}/to_timestamp" for k in keys]
    places = read_places(root, info, videos=bool(keys))
    episodes = []
    for file in files:
        for row in _parquet(file, wanted, optional):
            place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            videos = {}
            for k in keys:
                part = {name: row[f"videos/{k}/{name}"] for name in ("chunk_index", "file_index")}
                path = places.clip(k, part)
                end = row.get(f"videos/{k}/to_timestamp")
                videos[k] = VideoPart(
                    path, float(row[f"videos/{k}/from_timestamp"]), None if end is None else float(end)
                )
            data = places.table(place)
            index, length = int(row["episode_index"]), int(row["length"])
            episodes.append(DatasetEpisode(index, length, _texts(row["tasks"]), data, videos))
    return tasks, episodes


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files in and below a folder, sorted, without what a Mac puts beside every file ("._NAME")."""
    return sorted(path for path in folder.rglob("*.parquet") if not path.name.startswith("._"))


def _texts(tasks: Any) -> tuple[str, ...]:
    return tuple(str(task) for task in tasks or ())


def _json_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise RecordingError(f"{path} is missing", allowed="a complete copy of the data set") from error
    except (OSError, ValueError) as error:
        refuse_pointer(path)
        raise RecordingError(f"{path} cannot be read ({error})", where="the data set") from error


def _parquet(
    path: Path, columns: list[str] | None = None, optional: Sequence[str] = ()
) -> list[dict[str, Any]]:
    try:
        if columns is not None:
            columns = columns + [name for name in optional if name in pq.read_schema(path).names]
        rows: list[dict[str, Any]] = pq.read_table(path, columns=columns, partitioning=None).to_pylist()
    except (OSError, pa.ArrowException) as error:
        refuse_pointer(path)
        raise RecordingError(f"{path} cannot be read ({error})", where="the data set") from error
    return rows
