# SPDX-License-Identifier: Apache-2.0
"""Writing a LeRobot data set, v2.1 or v3.0, episode by episode: tables through pyarrow, H.264 videos through PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.bag.writing import link_or_copy
from wam.data.lerobot.episode import EpisodeReader
from wam.data.lerobot.format import ACTION, ENVIRONMENT, EPISODES_PER_CHUNK, IMAGES, STATE, Version
from wam.data.lerobot.metadata_writer import (
    Notes,
    WrittenDataset,
    WrittenEpisode,
    read_single_episode,
    write_metadata,
)
from wam.data.lerobot.places import parse_template
from wam.data.lerobot.reader import open_dataset
from wam.data.lerobot.video_writer import Statistics, VideoWriter, column_statistics
from wam.robots.description import RobotDescription

__all__ = ["EpisodeRows", "LeRobotWriter", "Notes", "OpenEpisode"]

Table = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class EpisodeRows:
    """The table of an episode to be written: even rows.

    Attributes:
        times_ns: int64 [T], `1 / fps` apart, on the recording's clock [ns].
        state: float64 [T, N], positions of all joints of the robot (rad or m).
        action_names: joints that were commanded; empty where no action was recorded.
        action: float64 [T, M].
        texts: task text in force in each row.
        environment_names: names of the ground truth; empty where none was recorded.
        environment: float64 [T, E], ground truth of a simulation (m, rad or 1); None where none was recorded.
    """

    times_ns: npt.NDArray[np.int64]
    state: npt.NDArray[np.float64]
    action_names: tuple[str, ...]
    action: npt.NDArray[np.float64]
    texts: tuple[str, ...]
    environment_names: tuple[str, ...] = ()
    environment: npt.NDArray[np.float64] | None = None


class OpenEpisode:
    """An episode whose images are being written; made by `LeRobotWriter.begin`.

    Args:
        writers: one per camera.
    """

    def __init__(self, writers: Mapping[str, VideoWriter]) -> None:
        self._writers = writers

    def add_image(self, camera: str, rgb: Rgb) -> None:
        """Write the next image of a camera.

        Raises:
            RecordingError: it could not be encoded, or the disk is full or fails.
        """
        self._writers[camera].add(rgb)

    def finish(self) -> dict[str, Statistics]:
        """Close the videos and return the statistics of their pixels."""
        return {IMAGES + camera: writer.finish() for camera, writer in self._writers.items()}

    def close(self) -> None:
        """Close the videos; safe to call twice."""
        for writer in self._writers.values():
            writer.close()


class LeRobotWriter:
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
        self._environment_names: tuple[str, ...] = ()
        self._tasks: dict[str, int] = {}
        self._episodes: list[WrittenEpisode] = []

    def add(
        self, rows: EpisodeRows, images: Mapping[str, Iterable[Rgb]], *, notes: Notes | None = None
    ) -> None:
        """Write an episode: `rows`, and for every camera one image per row.

        Raises:
            RecordingError: its action has other joints than that of the first episode, or it another ground truth.
        """
        self._check_columns(rows)
        episode = self.begin(length=len(rows.times_ns))
        try:
            for camera in self._cameras:
                for rgb in images[camera]:
                    episode.add_image(camera, rgb)
            self.end(episode, rows, notes=notes)
        finally:
            episode.close()

    def begin(self, *, length: int | None = None) -> OpenEpisode:
        """Open the videos of the next episode; `end` completes it.

        Args:
            length: images per camera, where it is known.
        """
        index = len(self._episodes)
        return OpenEpisode(
            {
                camera: VideoWriter(
                    self._place(self._version.video_path, index, video_key=IMAGES + camera),
                    fps=self._fps,
                    length=length,
                )
                for camera in self._cameras
            }
        )

    def end(self, episode: OpenEpisode, rows: EpisodeRows, *, notes: Notes | None = None) -> None:
        """Write the table of an episode whose images have been written.

        Args:
            episode: from `begin`; it is closed.
            rows: one per image.
            notes: further facts about it, kept in its metadata.

        Raises:
            RecordingError: its action has other joints than that of the first episode, or it another ground truth.
        """
        self._check_columns(rows)
        self._add_table(rows, episode.finish(), notes or {})

    def adopt(self, part: Path) -> None:
        """Write the only episode of another data set of this writer's kind; its videos are linked, not copied.

        Args:
            part: data set of the same version, robot, cameras and rate, with one task text in its episode.

        Raises:
            RecordingError: it cannot be read, or has other joints.
        """
        content = EpisodeReader(open_dataset(part), 0).episode
        length = len(content.stamps)
        rows = EpisodeRows(
            times_ns=np.arange(length, dtype=np.int64),
            state=content.state,
            action_names=content.action_names,
            action=content.state[:, :0] if content.action is None else content.action,
            texts=(content.instruction,) * length,
            environment_names=content.environment_names,
            environment=content.environment,
        )
        self._check_columns(rows)
        for camera in self._cameras:
            key = IMAGES + camera
            target = self._place(self._version.video_path, len(self._episodes), video_key=key)
            link_or_copy(part / _path(self._version.video_path, 0, video_key=key), target)
        statistics, notes = read_single_episode(part, self._version)
        shown = {name: values for name, values in statistics.items() if name.startswith(IMAGES)}
        self._add_table(rows, shown, notes)

    def _check_columns(self, rows: EpisodeRows) -> None:
        if self._action_names not in (None, rows.action_names):
            raise RecordingError(
                f"episode {len(self._episodes)} commands other joints than the first",
                value=list(rows.action_names),
                allowed=f"{list(self._action_names or ())}",
                where="the recordings (convert them into two data sets)",
            )
        if self._episodes and self._environment_names != rows.environment_names:
            raise RecordingError(
                f"episode {len(self._episodes)} has another ground truth than the first",
                value=list(rows.environment_names),
                allowed=f"{list(self._environment_names)}",
                where="the recordings (write them into two data sets)",
            )

    def _add_table(self, rows: EpisodeRows, pixels: Mapping[str, Statistics], notes: Notes) -> None:
        self._action_names, self._environment_names = rows.action_names, rows.environment_names
        index, length = len(self._episodes), len(rows.times_ns)
        columns = self._columns(rows, index)
        statistics = {**{name: column_statistics(values) for name, values in columns.items()}, **pixels}
        path = self._place(self._version.data_path, index)
        pq.write_table(pa.table({name: _arrow(values) for name, values in columns.items()}), path)
        tasks = tuple(dict.fromkeys(rows.texts))
        self._episodes.append(WrittenEpisode(index, length, tasks, statistics, dict(notes)))

    def finish(self) -> None:
        """Write the metadata."""
        write_metadata(
            self._root,
            WrittenDataset(
                version=self._version,
                fps=self._fps,
                robot=self._robot,
                cameras=self._cameras,
                action_names=self._action_names or (),
                environment_names=self._environment_names,
                episodes=self._episodes,
                tasks=self._tasks,
            ),
        )

    def _columns(self, rows: EpisodeRows, index: int) -> dict[str, Table]:
        length = len(rows.times_ns)
        before = sum(episode.length for episode in self._episodes)
        columns: dict[str, Table] = {STATE: rows.state.astype(np.float32)}
        if rows.action_names:
            columns[ACTION] = rows.action.astype(np.float32)
        if rows.environment is not None:
            columns[ENVIRONMENT] = rows.environment.astype(np.float32)
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


def _path(template: str, index: int, **values: Any) -> str:
    """Return the path of an episode's file inside the data set."""
    places = {
        "episode_chunk": index // EPISODES_PER_CHUNK,
        "episode_index": index,
        "chunk_index": index // EPISODES_PER_CHUNK,
        "file_index": index % EPISODES_PER_CHUNK,
    }
    return str(parse_template(template, where=f"template {template}").fill({**places, **values}))


def _arrow(values: Table) -> Any:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
