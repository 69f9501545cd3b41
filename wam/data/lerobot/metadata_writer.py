# SPDX-License-Identifier: Apache-2.0
"""Writing the metadata of a LeRobot data set, v2.1 or v3.0: info.json, tasks, episodes and their statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wam.data.lerobot.format import ACTION, ENVIRONMENT, EPISODES_PER_CHUNK, IMAGES, STATE, Version
from wam.data.lerobot.video_writer import Statistics, pixel_format
from wam.robots.description import RobotDescription

INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")

NOTE = "wam/"
"""What the columns of an episode's notes begin with."""

Notes = Mapping[str, str | int | float | bool]
"""Facts about an episode that LeRobot has no column for."""


@dataclass(frozen=True, slots=True)
class WrittenEpisode:
    """An episode whose table and videos have been written.

    Attributes:
        index: number in the data set.
        length: rows.
        tasks: task texts, each once.
        statistics: of every column and camera.
        notes: facts kept in its metadata.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    statistics: Mapping[str, Statistics]
    notes: Notes


@dataclass(frozen=True, slots=True)
class WrittenDataset:
    """Everything that the metadata are made of.

    Attributes:
        version: format.
        fps: rows per second [Hz].
        robot: gives joint names and camera sizes.
        cameras: names of the cameras.
        action_names: joints of the action; empty where there is none.
        environment_names: of the ground truth; empty where there is none.
        episodes: in order.
        tasks: task text -> number.
    """

    version: Version
    fps: float
    robot: RobotDescription
    cameras: tuple[str, ...]
    action_names: tuple[str, ...]
    environment_names: tuple[str, ...]
    episodes: Sequence[WrittenEpisode]
    tasks: Mapping[str, int]


def write_metadata(root: Path, dataset: WrittenDataset) -> None:
    """Write the folder `meta` of a data set whose tables and videos are in `root`."""
    meta = root / "meta"
    meta.mkdir(parents=True, exist_ok=True)
    write = _write_v30 if dataset.version is Version.V30 else _write_v21
    write(meta, dataset)
    (meta / "info.json").write_text(json.dumps(_info(dataset), indent=4) + "\n", encoding="utf-8")


def read_single_episode(root: Path, version: Version) -> tuple[dict[str, Statistics], Notes]:
    """Return statistics and notes of the only episode of a data set that `write_metadata` has written."""
    statistics: dict[str, Statistics] = {}
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
    notes = {name.removeprefix(NOTE): value for name, value in row.items() if name.startswith(NOTE)}
    return statistics, notes


def _info(dataset: WrittenDataset) -> dict[str, Any]:
    count, videos = len(dataset.episodes), len(dataset.episodes) * len(dataset.cameras)
    fps: float = int(dataset.fps) if dataset.fps == int(dataset.fps) else dataset.fps
    info: dict[str, Any] = {
        "codebase_version": dataset.version.value,
        "robot_type": dataset.robot.name,
        "total_episodes": count,
        "total_frames": sum(episode.length for episode in dataset.episodes),
        "total_tasks": len(dataset.tasks),
        "chunks_size": EPISODES_PER_CHUNK,
        "fps": fps,
        "splits": {"train": f"0:{count}"},
        "data_path": dataset.version.data_path,
        "video_path": dataset.version.video_path if dataset.cameras else None,
        "features": _features(dataset, fps),
    }
    if dataset.version is Version.V21:
        info |= {"total_videos": videos, "total_chunks": -(-count // EPISODES_PER_CHUNK)}
    else:
        info |= {"data_files_size_in_mb": 100, "video_files_size_in_mb": 500}
    return info


def _features(dataset: WrittenDataset, fps: float) -> dict[str, Any]:
    features: dict[str, Any] = {STATE: _vector(dataset.robot.joint_names)}
    if dataset.action_names:
        features[ACTION] = _vector(dataset.action_names)
    if dataset.environment_names:
        features[ENVIRONMENT] = _vector(dataset.environment_names)
    for name in dataset.cameras:
        camera = dataset.robot.camera(name)
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


def _write_v21(meta: Path, dataset: WrittenDataset) -> None:
    tasks = [{"task_index": index, "task": text} for text, index in dataset.tasks.items()]
    episodes = [
        {
            "episode_index": episode.index,
            "tasks": list(episode.tasks),
            "length": episode.length,
            **_named(episode.notes),
        }
        for episode in dataset.episodes
    ]
    statistics = [
        {"episode_index": episode.index, "stats": episode.statistics} for episode in dataset.episodes
    ]
    for name, lines in (("tasks", tasks), ("episodes", episodes), ("episodes_stats", statistics)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (meta / f"{name}.jsonl").write_text(text, encoding="utf-8")


def _write_v30(meta: Path, dataset: WrittenDataset) -> None:
    rows, start = [], 0
    for episode in dataset.episodes:
        place = {
            "chunk_index": episode.index // EPISODES_PER_CHUNK,
            "file_index": episode.index % EPISODES_PER_CHUNK,
        }
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
        for camera in dataset.cameras:
            key = f"videos/{IMAGES}{camera}"
            row |= {f"{key}/{name}": value for name, value in place.items()}
            row |= {f"{key}/from_timestamp": 0.0, f"{key}/to_timestamp": episode.length / dataset.fps}
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
        {"task_index": list(dataset.tasks.values()), "__index_level_0__": list(dataset.tasks.keys())}
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
    whole = _aggregate([episode.statistics for episode in dataset.episodes])
    (meta / "stats.json").write_text(json.dumps(whole, indent=4) + "\n", encoding="utf-8")


def _named(notes: Notes) -> dict[str, Any]:
    return {NOTE + name: value for name, value in notes.items()}


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


def _aggregate(episodes: Sequence[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Return the statistics of all episodes together, weighted by their counts (parallel variance, Chan 1979)."""
    return {name: _merged([episode[name] for episode in episodes]) for name in episodes[0]}


def _merged(parts: Sequence[Statistics]) -> Statistics:
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
