# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets of format v2.1 and v3.0, read in place, episodes and rows in any order.

    v2.1  one parquet file and one video per episode; meta/episodes.jsonl, meta/tasks.jsonl (v2.0 as well)
    v3.0  many episodes per parquet file and per video; meta/episodes/**.parquet, meta/tasks.parquet

Both come out as the same values: a table of episodes, columns as arrays, frames by row. Rows are control
rows; row i of an episode was recorded i / fps seconds after its start.

Shapes: N rows of an episode, D numbers of a column, H, W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from wam.core.errors import RecordingError
from wam.datasets.video import decode_image, read_frames

SUPPORTED = ("v2.0", "v2.1", "v3.0")
IMAGE_TYPES = ("video", "image")


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the data set.

    Attributes:
        name: column or video key, such as "observation.state".
        dtype: as in info.json; "video" and "image" are pictures.
        shape: of one row.
        names: name of each number, or empty where the file gives none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]

    @property
    def is_image(self) -> bool:
        """Whether rows are pictures."""
        return self.dtype in IMAGE_TYPES


@dataclass(frozen=True, slots=True)
class VideoPart:
    """Where the pictures of one episode and camera are.

    Attributes:
        path: video file.
        start_s: time in the file of the episode's first row [s].
    """

    path: Path
    start_s: float


@dataclass(frozen=True, slots=True)
class Episode:
    """One recorded episode.

    Attributes:
        index: number in the data set.
        length: rows N.
        tasks: instructions, in the words of the data set.
        data_path: parquet file with its rows (and perhaps those of others).
        videos: camera key -> video part; empty for data sets that keep pictures in the parquet file.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data_path: Path
    videos: Mapping[str, VideoPart]

    @property
    def is_present(self) -> bool:
        """Whether all its files are there (a partial copy of a data set lacks some)."""
        return self.data_path.is_file() and all(part.path.is_file() for part in self.videos.values())


@dataclass(frozen=True, slots=True)
class LeRobotDataset:
    """A data set; made by `open_dataset`.

    Attributes:
        root: its folder.
        version: one of `SUPPORTED`.
        fps: control rows per second.
        robot_type: as in info.json.
        features: by name.
        episodes: in the order of their numbers, present or not.
        tasks: task number -> instruction.
    """

    root: Path
    version: str
    fps: float
    robot_type: str
    features: Mapping[str, Feature]
    episodes: tuple[Episode, ...]
    tasks: Mapping[int, str]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the pictures, in the order of info.json."""
        return tuple(f.name for f in self.features.values() if f.is_image)

    def present(self) -> tuple[Episode, ...]:
        """Return the episodes whose files are all there."""
        return tuple(e for e in self.episodes if e.is_present)

    def feature(self, name: str) -> Feature:
        """Return a feature.

        Raises:
            RecordingError: the data set has none of that name.
        """
        if name not in self.features:
            raise RecordingError(
                f"{self.root}: no feature {name!r}",
                allowed=f"one of {sorted(self.features)}",
                where="the data configuration",
            )
        return self.features[name]

    def column(self, episode: Episode, name: str) -> npt.NDArray[np.float32]:
        """Read a column of numbers.

        Returns:
            float32 [N, D]; a scalar column has D = 1.

        Raises:
            RecordingError: the file is missing or damaged, lacks the column, has another number of rows, or a
                number is not finite.
        """
        feature = self.feature(name)
        values = self._read(episode, name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        while isinstance(values, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            values = values.flatten()
        flat = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float32)
        width = int(np.prod(feature.shape)) if feature.shape else 1
        if flat.size != episode.length * width:
            raise RecordingError(
                f"{episode.data_path}: column {name!r} of episode {episode.index} has {flat.size} numbers",
                allowed=f"{episode.length} rows of {width}",
            )
        out = flat.reshape(episode.length, width)
        if not np.isfinite(out).all():
            row, joint = (int(i) for i in np.argwhere(~np.isfinite(out))[0])
            raise RecordingError(
                f"{episode.data_path}: {name}[{joint}] of episode {episode.index}, row {row}, is not finite",
                value=float(out[row, joint]),
                allowed="finite numbers",
            )
        return out

    def task_of_row(self, episode: Episode) -> npt.NDArray[np.int64]:
        """Return the task number of every row, [N]."""
        values = self._read(episode, "task_index").to_numpy()
        return np.asarray(values, dtype=np.int64)

    def frames(self, episode: Episode, camera: str, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read the pictures of the given rows.

        Args:
            episode: of this data set.
            camera: key of a picture feature.
            rows: in any order, repeats allowed.

        Returns:
            uint8 [len(rows), H, W, 3], RGB.

        Raises:
            RecordingError: a row lies outside the episode, or the file is missing, damaged or too short.
        """
        outside = [row for row in rows if not 0 <= row < episode.length]
        if outside:
            raise RecordingError(
                f"{self.root}: rows {outside[:4]} of episode {episode.index}",
                allowed=f"0 to {episode.length - 1}",
            )
        if not self.feature(camera).is_image:
            raise RecordingError(
                f"{self.root}: feature {camera!r} has no pictures", allowed=f"one of {self.cameras}"
            )
        if camera not in episode.videos:
            cells = self._read(episode, camera)
            return np.stack([self._cell_image(episode, cells[row].as_py()) for row in rows])
        part = episode.videos[camera]
        return read_frames(part.path, [part.start_s + row / self.fps for row in rows], period_s=1 / self.fps)

    def iter_frames(
        self, episode: Episode, camera: str, *, batch: int = 64
    ) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield every picture of an episode in order, uint8 [H, W, 3]."""
        for start in range(0, episode.length, batch):
            yield from self.frames(episode, camera, range(start, min(start + batch, episode.length)))

    def _cell_image(self, episode: Episode, cell: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
        data = cell.get("bytes")
        if data is None:
            data = (self.root / str(cell["path"])).read_bytes()
        return decode_image(BytesIO(data), where=f"{episode.data_path}, episode {episode.index}")

    def _read(self, episode: Episode, name: str) -> pa.ChunkedArray:
        if not episode.data_path.is_file():
            raise RecordingError(f"{episode.data_path} is missing", where="a complete copy of the data set")
        try:
            table = pq.read_table(
                episode.data_path,
                columns=[name],
                filters=[("episode_index", "==", episode.index)],
                partitioning=None,
            )
        except (pa.ArrowException, OSError, KeyError) as error:
            raise RecordingError(f"{episode.data_path}: cannot read column {name!r}: {error}") from error
        if table.num_rows != episode.length:
            raise RecordingError(
                f"{episode.data_path}: episode {episode.index} has {table.num_rows} rows",
                allowed=f"{episode.length}, its length in meta/",
                where="a complete copy of the data set",
            )
        return table.column(name)


def open_dataset(root: str | Path) -> LeRobotDataset:
    """Read the metadata of a data set; no rows and no pictures.

    Raises:
        RecordingError: a metadata file is missing or damaged, or the format version is not supported.
    """
    folder = Path(root)
    info = _json(folder / "meta" / "info.json")
    version = str(info.get("codebase_version"))
    if version not in SUPPORTED:
        raise RecordingError(
            f"{folder}: LeRobot format",
            value=version,
            allowed=f"one of {SUPPORTED}",
            where="LeRobot's conversion script",
        )
    try:
        for key in ("data_path", "video_path"):
            _require_inside(folder, key, str(info.get(key) or ""))
        features = {name: _feature(name, spec) for name, spec in info["features"].items()}
        keys = [f.name for f in features.values() if f.dtype == "video"]
        read = _episodes_v30 if version == "v3.0" else _episodes_v21
        tasks, episodes = read(folder, info, keys)
        fps = float(info["fps"])
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise RecordingError(
            f"{folder}/meta is damaged or incomplete: {type(error).__name__} {error}"
        ) from error
    if not fps > 0:
        raise RecordingError(f"{folder}/meta/info.json: fps", value=fps, allowed="a positive number")
    ordered = tuple(sorted(episodes, key=lambda e: e.index))
    return LeRobotDataset(folder, version, fps, str(info.get("robot_type")), features, ordered, tasks)


def _json(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise RecordingError(f"{path} is missing", allowed="a folder with a LeRobot data set") from error
    except ValueError as error:
        raise RecordingError(f"{path} is not JSON: {error}") from error


def _require_inside(root: Path, key: str, template: str) -> None:
    """Refuse a path that leaves the data set, which a downloaded info.json could name."""
    if template.startswith("/") or ".." in Path(template).parts:
        raise RecordingError(
            f"{root}/meta/info.json: {key}", value=template, allowed="a path inside the data set"
        )


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise RecordingError(f"{path} is missing", allowed="a folder with a LeRobot data set")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise RecordingError(f"{path} has a line that is not JSON: {error}") from error


def _feature(name: str, spec: Mapping[str, Any]) -> Feature:
    names: Any = spec.get("names") or ()
    if isinstance(names, Mapping):
        names = [n for group in names.values() for n in (group if isinstance(group, list) else [group])]
    flat = [n for group in names for n in (group if isinstance(group, list) else [group])]
    return Feature(
        name, str(spec["dtype"]), tuple(int(n) for n in spec["shape"]), tuple(str(n) for n in flat)
    )


def _episodes_v21(
    root: Path, info: Mapping[str, Any], keys: Sequence[str]
) -> tuple[dict[int, str], list[Episode]]:
    tasks = {int(row["task_index"]): str(row["task"]) for row in _json_lines(root / "meta" / "tasks.jsonl")}
    episodes = []
    for row in _json_lines(root / "meta" / "episodes.jsonl"):
        index = int(row["episode_index"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        videos = {k: VideoPart(root / info["video_path"].format(video_key=k, **place), 0.0) for k in keys}
        data = root / info["data_path"].format(**place)
        episodes.append(Episode(index, int(row["length"]), tuple(row["tasks"]), data, videos))
    return tasks, episodes


def _episodes_v30(
    root: Path, info: Mapping[str, Any], keys: Sequence[str]
) -> tuple[dict[int, str], list[Episode]]:
    task_file = root / "meta" / "tasks.parquet"
    files = sorted((root / "meta" / "episodes").rglob("*.parquet"))
    if not task_file.is_file() or not files:
        raise RecordingError(
            f"{root}/meta lacks tasks.parquet or episodes/", allowed="a complete copy of the data set"
        )
    rows = pq.read_table(task_file, partitioning=None).to_pylist()
    # Pandas writes the instruction as the index of the table, which parquet calls so when it has no name.
    tasks = {int(r["task_index"]): str(r.get("task", r.get("__index_level_0__"))) for r in rows}
    wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    wanted += [f"videos/{k}/{what}" for k in keys for what in ("chunk_index", "file_index", "from_timestamp")]
    episodes = []
    for file in files:
        for row in pq.read_table(file, columns=wanted, partitioning=None).to_pylist():
            videos = {
                k: VideoPart(
                    root
                    / info["video_path"].format(
                        video_key=k,
                        chunk_index=row[f"videos/{k}/chunk_index"],
                        file_index=row[f"videos/{k}/file_index"],
                    ),
                    float(row[f"videos/{k}/from_timestamp"]),
                )
                for k in keys
            }
            data = root / info["data_path"].format(
                chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            episodes.append(
                Episode(int(row["episode_index"]), int(row["length"]), tuple(row["tasks"]), data, videos)
            )
    return tasks, episodes
