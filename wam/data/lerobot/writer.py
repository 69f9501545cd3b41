# SPDX-License-Identifier: Apache-2.0
"""Writing a LeRobot data set, v2.1 or v3.0: tables through pyarrow, H.264 videos through PyAV, statistics."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.bag.writing import link_or_copy
from wam.data.lerobot.episode import ACTION, IMAGES, STATE, LerobotDataset
from wam.data.lerobot.resample import Rows
from wam.data.lerobot.video_writer import VideoWriter, column_statistics, pixel_format
from wam.robots.description import RobotDescription

CHUNK = 1000
"""Episodes in one folder."""

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")

NOTE = "wam/"
"""What the columns of an episode's notes begin with."""

Table = npt.NDArray[Any]
Statistics = dict[str, dict[str, list[Any]]]
Notes = Mapping[str, str | int | float | bool]


class Version(str, enum.Enum):
    """Format of a LeRobot data set."""

    V21 = "v2.1"
    V30 = "v3.0"


@dataclass(frozen=True, slots=True)
class WrittenEpisode:
    """What the metadata say of an episode."""

    index: int
    length: int
    tasks: tuple[str, ...]
    statistics: Statistics
    notes: Notes


class OpenEpisode:
    """An episode whose images are being written; made by `LerobotWriter.begin`.

    Args:
        writers: one per camera.
    """

    def __init__(self, writers: Mapping[str, VideoWriter]) -> None:
        self._writers = writers

    def add_image(self, camera: str, rgb: Rgb) -> None:
        """Write the next image of a camera.

        Raises:
            RecordingError: it could not be encoded, or the disk does not take it.
        """
        self._writers[camera].add(rgb)

    def finish(self) -> Statistics:
        """Close the videos and return the statistics of their pixels."""
        return {IMAGES + camera: writer.finish() for camera, writer in self._writers.items()}

    def close(self) -> None:
        """Close the videos; safe to call twice."""
        for writer in self._writers.values():
            writer.close()


class LerobotWriter:
    """Writes episodes into a new folder, one file of each kind per episode.

    Args:
        root: folder to make.
        version: format.
        fps: rows per second [Hz].
        robot: gives joint names and camera sizes.
        cameras: names of the cameras.
    """

    def __init__(
        self, root: Path, *, version: Version, fps: float, robot: RobotDescription, cameras: tuple[str, ...]
    ) -> None:
        self._root = root
        self._version = version
        self._fps = fps
        self._robot = robot
        self._cameras = cameras
        self._action_names: tuple[str, ...] | None = None
        self._tasks: dict[str, int] = {}
        self._episodes: list[WrittenEpisode] = []
        packed = version is Version.V30
        place = "chunk-{chunk_index:03d}/file-{file_index:03d}" if packed else "episode_{episode_index:06d}"
        self._data_path = ("data/" if packed else "data/chunk-{episode_chunk:03d}/") + place + ".parquet"
        video = "videos/{video_key}/" if packed else "videos/chunk-{episode_chunk:03d}/{video_key}/"
        self._video_path = video + place + ".mp4"

    def add(self, rows: Rows, images: Mapping[str, Iterable[Rgb]], *, notes: Notes | None = None) -> None:
        """Write an episode: `rows`, and for every camera one image per row.

        Raises:
            RecordingError: its action has other joints than that of the first episode.
        """
        self._check_action(rows)
        episode = self.begin(length=len(rows.times_ns))
        try:
            for camera in self._cameras:
                for rgb in images[camera]:
                    episode.add_image(camera, rgb)
            self.end(episode, rows, notes=notes)
        finally:
            episode.close()

    def begin(self, *, length: int | None = None) -> OpenEpisode:
        """Open the videos of the next episode; `end` writes it.

        Args:
            length: images per camera, where it is known.
        """
        index = len(self._episodes)
        return OpenEpisode(
            {
                camera: VideoWriter(
                    self._place(self._video_path, index, video_key=IMAGES + camera),
                    fps=self._fps,
                    length=length,
                )
                for camera in self._cameras
            }
        )

    def end(self, episode: OpenEpisode, rows: Rows, *, notes: Notes | None = None) -> None:
        """Write the rest of an episode whose images have been written.

        Args:
            episode: from `begin`; it is closed.
            rows: one per image.
            notes: what else is known of it; kept in its metadata.

        Raises:
            RecordingError: its action has other joints than that of the first episode.
        """
        self._check_action(rows)
        self._add_table(rows, episode.finish(), notes or {})

    def adopt(self, part: Path) -> None:
        """Write the only episode of another data set of this writer's kind; its videos are linked, not copied.

        Args:
            part: data set of the same version, robot, cameras and rate, with one task text in its episode.

        Raises:
            RecordingError: it cannot be read, or has other joints.
        """
        dataset = LerobotDataset(part)
        content = dataset.open(0)
        length = len(content.stamps)
        rows = Rows(
            times_ns=np.arange(length, dtype=np.int64),
            state=content.state,
            action_names=content.action_names,
            action=content.state[:, :0] if content.action is None else content.action,
            texts=(content.instruction,) * length,
            warnings=(),
        )
        self._check_action(rows)
        for camera in self._cameras:
            key = IMAGES + camera
            target = self._place(self._video_path, len(self._episodes), video_key=key)
            link_or_copy(part / _path(self._video_path, 0, video_key=key), target)
        statistics, notes = _read_episode(part, self._version)
        shown = {name: values for name, values in statistics.items() if name.startswith(IMAGES)}
        self._add_table(rows, shown, notes)

    def _check_action(self, rows: Rows) -> None:
        if self._action_names not in (None, rows.action_names):
            raise RecordingError(
                f"episode {len(self._episodes)} commands other joints than the first",
                value=list(rows.action_names),
                allowed=f"{list(self._action_names or ())}",
                where="the recordings (convert them into two data sets)",
            )

    def _add_table(self, rows: Rows, pixels: Statistics, notes: Notes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._action_names = rows.action_names
        index, length = len(self._episodes), len(rows.times_ns)
        columns = self._columns(rows, index)
        statistics = {name: column_statistics(values) for name, values in columns.items()} | pixels
        path = self._place(self._data_path, index)
        pq.write_table(pa.table({name: _arrow(values) for name, values in columns.items()}), path)
        tasks = tuple(dict.fromkeys(rows.texts))
        self._episodes.append(WrittenEpisode(index, length, tasks, statistics, dict(notes)))

    def finish(self) -> None:
        """Write the metadata."""
        meta = self._root / "meta"
        meta.mkdir(parents=True, exist_ok=True)
        write = self._finish_v30 if self._version is Version.V30 else self._finish_v21
        write(meta)
        (meta / "info.json").write_text(json.dumps(self._info(), indent=4) + "\n", encoding="utf-8")

    def _columns(self, rows: Rows, index: int) -> dict[str, Table]:
        length = len(rows.times_ns)
        before = sum(episode.length for episode in self._episodes)
        columns: dict[str, Table] = {STATE: rows.state.astype(np.float32)}
        if rows.action_names:
            columns[ACTION] = rows.action.astype(np.float32)
        frames = np.arange(length, dtype=np.int64)
        tasks = [self._tasks.setdefault(text, len(self._tasks)) for text in rows.texts]
        columns |= {
            "timestamp": (frames / self._fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(length, index, dtype=np.int64),
            "index": before + frames,
            "task_index": np.array(tasks, dtype=np.int64),
        }
        return columns

    def _place(self, template: str, index: int, **values: Any) -> Path:
        path = self._root / _path(template, index, **values)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _info(self) -> dict[str, Any]:
        count, videos = len(self._episodes), len(self._episodes) * len(self._cameras)
        fps: float = int(self._fps) if self._fps == int(self._fps) else self._fps
        info: dict[str, Any] = {
            "codebase_version": self._version.value,
            "robot_type": self._robot.name,
            "total_episodes": count,
            "total_frames": sum(episode.length for episode in self._episodes),
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK,
            "fps": fps,
            "splits": {"train": f"0:{count}"},
            "data_path": self._data_path,
            "video_path": self._video_path if self._cameras else None,
            "features": self._features(fps),
        }
        if self._version is Version.V21:
            info |= {"total_videos": videos, "total_chunks": -(-count // CHUNK)}
        else:
            info |= {"data_files_size_in_mb": 100, "video_files_size_in_mb": 500}
        return info

    def _features(self, fps: float) -> dict[str, Any]:
        features: dict[str, Any] = {STATE: _vector(self._robot.joint_names)}
        if self._action_names:
            features[ACTION] = _vector(self._action_names)
        for name in self._cameras:
            camera = self._robot.camera(name)
            features[IMAGES + name] = {
                "dtype": "video",
                "shape": [camera.height, camera.width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": camera.height,
                    "video.width": camera.width,
                    "video.codec": "h264",
                    "video.pix_fmt": pixel_format(camera.height, camera.width),
                    "video.is_depth_map": False,
                    "video.fps": fps,
                    "video.channels": 3,
                    "has_audio": False,
                },
            }
        for name in INDEX_COLUMNS:
            kind = "float32" if name == "timestamp" else "int64"
            features[name] = {"dtype": kind, "shape": [1], "names": None}
        return features

    def _finish_v21(self, meta: Path) -> None:
        tasks = [{"task_index": index, "task": text} for text, index in self._tasks.items()]
        episodes = [
            {
                "episode_index": episode.index,
                "tasks": list(episode.tasks),
                "length": episode.length,
                **_named(episode.notes),
            }
            for episode in self._episodes
        ]
        statistics = [
            {"episode_index": episode.index, "stats": episode.statistics} for episode in self._episodes
        ]
        for name, lines in (("tasks", tasks), ("episodes", episodes), ("episodes_stats", statistics)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (meta / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def _finish_v30(self, meta: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows, start = [], 0
        for episode in self._episodes:
            place = {"chunk_index": episode.index // CHUNK, "file_index": episode.index % CHUNK}
            row: dict[str, Any] = {
                "episode_index": episode.index,
                "tasks": list(episode.tasks),
                "length": episode.length,
                "dataset_from_index": start,
                "dataset_to_index": start + episode.length,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
            row |= {f"data/{key}": value for key, value in place.items()}
            for camera in self._cameras:
                key = f"videos/{IMAGES}{camera}"
                row |= {f"{key}/{name}": value for name, value in place.items()}
                row |= {f"{key}/from_timestamp": 0.0, f"{key}/to_timestamp": episode.length / self._fps}
            for name, values in episode.statistics.items():
                row |= {f"stats/{name}/{kind}": value for kind, value in values.items()}
            row |= _named(episode.notes)
            rows.append(row)
            start += episode.length
        path = meta / "episodes" / "chunk-000" / "file-000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        # LeRobot looks a task up by the table's index, which parquet keeps under this name.
        tasks = pa.table(
            {"task_index": list(self._tasks.values()), "__index_level_0__": list(self._tasks.keys())}
        )
        pandas = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [],
            "columns": [
                _pandas_column("task_index", "task_index", "int64"),
                _pandas_column(None, "__index_level_0__", "object"),
            ],
            "creator": {"library": "pyarrow", "version": pa.__version__},
            "pandas_version": "2.0.0",
        }
        tasks = tasks.replace_schema_metadata({"pandas": json.dumps(pandas)})
        pq.write_table(tasks, meta / "tasks.parquet")
        whole = _aggregate([episode.statistics for episode in self._episodes])
        (meta / "stats.json").write_text(json.dumps(whole, indent=4) + "\n", encoding="utf-8")


def _path(template: str, index: int, **values: Any) -> str:
    """Return the path of an episode's file inside the data set."""
    places = {
        "episode_chunk": index // CHUNK,
        "episode_index": index,
        "chunk_index": index // CHUNK,
        "file_index": index % CHUNK,
    }
    return template.format(**places, **values)


def _named(notes: Notes) -> dict[str, Any]:
    return {NOTE + name: value for name, value in notes.items()}


def _read_episode(root: Path, version: Version) -> tuple[Statistics, Notes]:
    """Return statistics and notes of the only episode of a data set that this module has written."""
    import pyarrow.parquet as pq

    statistics: Statistics = {}
    if version is Version.V21:
        meta = root / "meta"
        (row,) = map(json.loads, (meta / "episodes.jsonl").read_text(encoding="utf-8").splitlines())
        (line,) = (meta / "episodes_stats.jsonl").read_text(encoding="utf-8").splitlines()
        statistics = json.loads(line)["stats"]
    else:
        (row,) = pq.read_table(root / "meta" / "episodes", partitioning=None).to_pylist()
        for name, value in row.items():
            if name.startswith("stats/"):
                column, _, kind = name.removeprefix("stats/").rpartition("/")
                statistics.setdefault(column, {})[kind] = value
    return statistics, {
        name.removeprefix(NOTE): value for name, value in row.items() if name.startswith(NOTE)
    }


def _vector(names: tuple[str, ...]) -> dict[str, Any]:
    return {"dtype": "float32", "shape": [len(names)], "names": list(names)}


def _pandas_column(name: str | None, field_name: str, kind: str) -> dict[str, Any]:
    pandas_type = "int64" if kind == "int64" else "unicode"
    return {
        "name": name,
        "field_name": field_name,
        "pandas_type": pandas_type,
        "numpy_type": kind,
        "metadata": None,
    }


def _arrow(values: Table) -> Any:
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _aggregate(episodes: list[Statistics]) -> Statistics:
    """Return the statistics of all episodes together, weighted by their counts (parallel variance, Chan 1979)."""
    return {name: _merged([episode[name] for episode in episodes]) for name in episodes[0]}


def _merged(parts: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    count = np.array([part["count"][0] for part in parts], dtype=np.float64)
    mean, std = (np.array([part[key] for part in parts]) for key in ("mean", "std"))
    weight = (count / count.sum()).reshape((-1, *([1] * (mean.ndim - 1))))
    whole = (weight * mean).sum(axis=0)
    variance = (weight * (std**2 + (mean - whole) ** 2)).sum(axis=0)
    return {
        "min": np.min([part["min"] for part in parts], axis=0).tolist(),
        "max": np.max([part["max"] for part in parts], axis=0).tolist(),
        "mean": whole.tolist(),
        "std": np.sqrt(variance).tolist(),
        "count": [int(count.sum())],
    }
