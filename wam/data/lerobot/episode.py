# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets (v2.0, v2.1, v3.0): table and videos of one episode, checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.lerobot.frames import decode_stored, decode_video
from wam.data.lerobot.metadata import Episode as EpisodeFiles
from wam.data.lerobot.metadata import Feature, VideoPart
from wam.data.lerobot.reader import open_dataset

STATE = "observation.state"
ACTION = "action"
IMAGES = "observation.images."
FPS_TOLERANCE = 0.02
"""Largest relative distance between the frame rate that the data set declares and the one its stamps have."""

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode, its videos not yet decoded.

    Attributes:
        index: number of the episode.
        fps: declared frame rate [Hz].
        instruction: task text.
        stamps: float64 [T], time since the start of the episode [s].
        state_names: names of the columns of `state`; empty where the data set names none.
        state: float64 [T, N].
        action_names: names of the columns of `action`; empty where the data set names none.
        action: float64 [T, M], or None where the data set has none.
        cameras: camera name (the feature without "observation.images.") -> height and width [px].
    """

    index: int
    fps: float
    instruction: str
    stamps: Table
    state_names: tuple[str, ...]
    state: Table
    action_names: tuple[str, ...]
    action: Table | None
    cameras: Mapping[str, tuple[int, int]]


class LerobotDataset:
    """A LeRobot data set on disk, one episode at a time and from front to end.

    Args:
        root: folder that holds `meta/info.json`.
        lenient: let a wrong frame rate or a short video pass; `warnings` tells of those met so far in the episode.

    Raises:
        RecordingError: it is no data set, or of a version that is not supported.
    """

    def __init__(self, root: Path, *, lenient: bool = False) -> None:
        self.root = root
        self.lenient = lenient
        self.warnings: list[str] = []
        self._data = open_dataset(root)
        self._files: EpisodeFiles | None = None

    @property
    def version(self) -> str:
        """Format version, such as "v2.1"."""
        return self._data.version

    def open(self, index: int) -> Episode:
        """Read the table of episode `index` and check it; its videos are read by `images`.

        Raises:
            RecordingError: the episode is missing, damaged or contradicts the data set's metadata.
        """
        files = self._find(index)
        self._files = files
        features = self._data.features
        wanted = ["timestamp", STATE, *([ACTION] if ACTION in features else [])]
        table = self._data.rows(files, wanted)
        where = f"{files.data_path}"
        stamps = _column(table, "timestamp", where)[:, 0]
        self.warnings = []
        self._check_rate(stamps, self._data.fps, where)
        state = _column(table, STATE, where)
        action = _column(table, ACTION, where) if ACTION in features else None
        return Episode(
            index=index,
            fps=self._data.fps,
            instruction=files.tasks[0] if files.tasks else "",
            stamps=stamps,
            state_names=_names(features.get(STATE), width=state.shape[1], where=f"{STATE} of {where}"),
            state=state,
            action_names=()
            if action is None
            else _names(features[ACTION], width=action.shape[1], where=f"{ACTION} of {where}"),
            action=action,
            cameras={
                feature.name.removeprefix(IMAGES): feature.image_size
                for feature in features.values()
                if feature.is_image and not feature.is_depth and feature.name.startswith(IMAGES)
            },
        )

    def images(self, episode: Episode, camera: str) -> Iterator[tuple[int, Rgb]]:
        """Decode the images of one camera in order.

        Yields:
            row of the table and its image, uint8 [H, W, 3], red first; every row, unless `lenient`.

        Raises:
            RecordingError: the video is missing, damaged, of another size or rate, or shorter than the table.
        """
        if self._files is None:
            raise ValueError("open an episode before its images")
        size = episode.cameras[camera]
        part = self._files.videos.get(IMAGES + camera)
        if part is None:
            stored = _read_stored_images(self._files, IMAGES + camera)
            yield from decode_stored(stored, size=size, where=f"{IMAGES}{camera} of {self._files.data_path}")
        else:
            yield from self._decode(episode, part, size)

    def _decode(self, episode: Episode, part: VideoPart, size: tuple[int, int]) -> Iterator[tuple[int, Rgb]]:
        count = 0
        for row, rgb in decode_video(
            part.path,
            stamps=episode.stamps + part.start_s,
            fps=episode.fps,
            size=size,
            lenient=self.lenient,
            on_fault=self._fault,
        ):
            count += 1
            yield row, rgb
        if count < len(episode.stamps):
            self._fault(
                RecordingError(
                    f"video {part.path} is shorter than the table of episode {episode.index}",
                    value=f"{count} images",
                    allowed=f"{len(episode.stamps)} images, one per row",
                    where="the data set, or pass --lenient to keep the rows that have an image",
                )
            )

    def _fault(self, error: RecordingError) -> None:
        """Raise `error`, or keep it as a warning where that is allowed."""
        if not self.lenient:
            raise error
        self.warnings.append(str(error))

    def _find(self, index: int) -> EpisodeFiles:
        """Return the files of an episode, all of them present."""
        known = {episode.index: episode for episode in self._data.episodes}
        if index not in known or not known[index].data_path.is_file():
            have = [i for i, episode in known.items() if episode.data_path.is_file()]
            names = ", ".join(map(str, have[:12])) + (f" ... {have[-1]}" if len(have) > 12 else "")
            raise RecordingError(
                f"data set {self.root} has no episode {index}",
                allowed=names or "(it has none)",
                where="--episode",
            )
        for part in known[index].videos.values():
            if not part.path.is_file():
                raise RecordingError(f"file {part.path} of the data set is missing", where="the data set")
        return known[index]

    def _check_rate(self, stamps: Table, fps: float, where: str) -> None:
        if not np.all(np.isfinite(stamps)) or np.any(np.diff(stamps) <= 0):
            raise RecordingError(
                f"column timestamp of {where} does not increase",
                value=_first_fault(stamps),
                allowed="times that increase from row to row [s]",
                where="the data set",
            )
        if len(stamps) < 2:
            return
        seen = 1.0 / float(np.median(np.diff(stamps)))
        if abs(seen - fps) > FPS_TOLERANCE * fps:
            self._fault(
                RecordingError(
                    f"meta/info.json of {self.root} declares another frame rate than the stamps of {where} have",
                    value=f"fps {fps:g}, stamps at {seen:.2f} Hz",
                    allowed=f"within {100 * FPS_TOLERANCE:.0f} %",
                    where="meta/info.json: fps, or pass --lenient to let the stamps decide",
                )
            )


def _names(feature: Feature | None, *, width: int, where: str) -> tuple[str, ...]:
    """Return the column names of a feature, or () for none.

    Raises:
        RecordingError: there are names, but not as many as columns.
    """
    names = () if feature is None else feature.names
    if names and len(names) != width:
        raise RecordingError(
            f"{where} has another width than meta/info.json has names",
            value=f"{width} columns, {len(names)} names",
            allowed="one name per column",
            where="meta/info.json: features",
        )
    return names


def _read_stored_images(files: EpisodeFiles, key: str) -> Iterator[bytes | None]:
    """Give the encoded images of a feature that lies in the table, row group by row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(files.data_path) as parquet:
        if key not in parquet.schema_arrow.names:
            raise RecordingError(
                f"neither a video nor a column holds {key} of episode {files.index}",
                allowed=f"{key} in {files.data_path}, or its video file",
                where="the data set",
            )
        for batch in parquet.iter_batches(batch_size=64, columns=[key, "episode_index"]):
            for cell, episode in zip(batch[key].to_pylist(), batch["episode_index"].to_pylist(), strict=True):
                if episode == files.index:
                    yield cell.get("bytes") if isinstance(cell, Mapping) else None


def _column(table: Any, name: str, where: str) -> Table:
    values = np.array(table[name].to_pylist(), dtype=object)
    try:
        array = np.array(values.tolist(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordingError(
            f"column {name} of {where} is not a table of numbers of one width", where="the data set"
        ) from error
    array = array.reshape(len(array), -1)
    if not np.all(np.isfinite(array)):
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise RecordingError(f"column {name} of {where} is not finite in row {row}", where="the data set")
    return array


def _first_fault(stamps: Table) -> str:
    bad = np.flatnonzero(~(np.diff(stamps) > 0))
    row = int(bad[0])
    return f"{stamps[row]:.6f} s in row {row}, then {stamps[row + 1]:.6f} s"
