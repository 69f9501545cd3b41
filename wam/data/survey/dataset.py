# SPDX-License-Identifier: Apache-2.0
"""Survey of a LeRobot data set: its metadata, the tables of a few episodes, the headers of a few videos."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.lerobot.pointers import refuse_pointer
from wam.data.lerobot.reader import DatasetEpisode, Feature, LeRobotDataset, open_dataset
from wam.data.survey.columns import ColumnBlock, survey_columns
from wam.data.survey.values import (
    CameraSurvey,
    ColumnSurvey,
    DatasetSurvey,
    EpisodeSurvey,
    FeatureSurvey,
    FileSize,
)

SAMPLED = 12
"""Episodes whose tables are read, evenly spread."""


def survey_dataset(path: Path) -> DatasetSurvey:
    """Return what a data set holds.

    Raises:
        RecordingError: its metadata are missing, damaged or of another version.
    """
    dataset = open_dataset(path)
    problems: list[str] = []
    # Existence is asked once per file: in v3.0, many episodes share one.
    there: dict[Path, bool] = {}
    episodes = tuple(_episode(one, path, there) for one in dataset.episodes)
    readable = [
        episode for episode, found in zip(dataset.episodes, episodes, strict=True) if there[episode.data_path]
    ]
    step = max(1, len(readable) // SAMPLED)
    chosen = readable[::step][:SAMPLED]
    columns, rows = _columns(dataset, chosen, problems)
    features = tuple(
        FeatureSurvey(
            feature.name,
            feature.dtype,
            feature.shape,
            columns.get(feature.name, ()),
            _camera(dataset, feature, readable) if feature.is_image else None,
        )
        for feature in dataset.features.values()
    )
    return DatasetSurvey(
        path=path,
        version=dataset.version,
        robot_type=_robot_type(path),
        fps=dataset.fps,
        episodes=episodes,
        tasks=tuple(text for _, text in sorted(dataset.tasks.items())),
        features=features,
        files=tuple(_size(path, name) for name in ("meta", "data", "videos") if (path / name).is_dir()),
        sampled=len(chosen),
        sampled_rows=rows,
        problems=(*_missing(episodes), *dict.fromkeys(problems), *_images(features)),
    )


def _episode(episode: DatasetEpisode, root: Path, there: dict[Path, bool]) -> EpisodeSurvey:
    files = [episode.data_path, *(part.path for part in episode.videos.values())]
    for file in files:
        if file not in there:
            there[file] = file.is_file()
    missing = tuple(str(file.relative_to(root)) for file in files if not there[file])
    return EpisodeSurvey(episode.index, episode.length, episode.tasks, missing)


def _columns(
    dataset: LeRobotDataset, episodes: list[DatasetEpisode], problems: list[str]
) -> tuple[dict[str, tuple[ColumnSurvey, ...]], int]:
    """Return the columns of every key of floating-point numbers, and how many rows were read."""
    keys = [f for f in dataset.features.values() if f.dtype.startswith("float") and f.name != "timestamp"]
    blocks: dict[str, list[ColumnBlock]] = {feature.name: [] for feature in keys}
    rows = 0
    for episode in episodes:
        rows += episode.length
        warning = dataset.locate(episode)[1]
        if warning:
            problems.append(warning)
        times_ns = (np.arange(episode.length) * (NS_PER_S / dataset.fps)).astype(np.int64)
        for feature in keys:
            try:
                (values,) = dataset.read_columns(episode, [feature.name], dtype=np.float64, finite=False)
            except RecordingError as error:
                problems.append(str(error))
                continue
            named = len(feature.names) == values.shape[1]
            names = feature.names if named else tuple(str(i) for i in range(values.shape[1]))
            blocks[feature.name].append(ColumnBlock(names, times_ns, values))
    found = {name: survey_columns(some) for name, some in blocks.items()}
    for feature in keys:
        if not feature.names and feature.shape != (1,):
            problems.append(f"meta/info.json names no columns for {feature.name}")
        broken = sum(column.not_finite > 0 for column in found[feature.name])
        if broken:
            problems.append(f"{broken} columns of {feature.name} hold values that are not finite")
    return found, rows


def _camera(dataset: LeRobotDataset, feature: Feature, episodes: list[DatasetEpisode]) -> CameraSurvey:
    """Return what the first video of a camera says of itself, or its first stored image."""
    parts = [e.videos[feature.name].path for e in dataset.episodes if feature.name in e.videos]
    try:
        if parts:
            there = next((path for path in parts if path.is_file()), None)
            if there is None:
                return CameraSurvey(
                    0, 0, "video", True, f"none of its {len(set(parts))} video files is there"
                )
            return _video(there)
        if not episodes:
            return CameraSurvey(0, 0, "image", True, "no episode is there")
        pixels = next(iter(dataset.stored_images(episodes[0], feature.name)))
        return CameraSurvey(pixels.shape[0], pixels.shape[1], "image", True)
    except RecordingError as error:
        return CameraSurvey(0, 0, feature.dtype, True, str(error))


def _video(path: Path) -> CameraSurvey:
    try:
        with av.open(str(path), mode="r") as container:
            stream = container.streams.video[0]
            return CameraSurvey(stream.height, stream.width, stream.codec_context.codec.canonical_name, True)
    except (av.error.FFmpegError, IndexError) as error:
        refuse_pointer(path)
        raise RecordingError(f"video {path} cannot be decoded ({error})", where="the data set") from error


def _missing(episodes: tuple[EpisodeSurvey, ...]) -> Iterator[str]:
    lacking = [episode for episode in episodes if episode.missing]
    if lacking:
        names = ", ".join(lacking[0].missing)
        yield (
            f"{len(lacking)} of {len(episodes)} episodes lack files, for example episode {lacking[0].index}: {names}"
        )


def _images(features: tuple[FeatureSurvey, ...]) -> Iterator[str]:
    for feature in features:
        if feature.camera is not None and feature.camera.problem:
            yield f"{feature.name}: {feature.camera.problem}"


def _robot_type(path: Path) -> str:
    info = json.loads((path / "meta" / "info.json").read_text(encoding="utf-8"))
    return str(info.get("robot_type") or "")


def _size(root: Path, name: str) -> FileSize:
    return FileSize(name, sum(file.stat().st_size for file in (root / name).rglob("*") if file.is_file()))
