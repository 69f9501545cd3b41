# SPDX-License-Identifier: Apache-2.0
"""One episode of a LeRobot data set from front to end: table and videos, checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.lerobot.format import ACTION, ENVIRONMENT, IMAGES, STATE
from wam.data.lerobot.metadata import DatasetEpisode, Feature, VideoPart
from wam.data.lerobot.pairing import BY_STAMP
from wam.data.lerobot.reader import LeRobotDataset
from wam.data.lerobot.unfinished import lines
from wam.data.lerobot.video import VideoFile

FPS_TOLERANCE = 0.02
"""Largest relative difference between the declared frame rate and that of the stamps, or of a video."""

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """The table of one episode.

    Attributes:
        index: number of the episode.
        fps: declared frame rate [Hz].
        instruction: task text.
        stamps: float64 [T], time since the start of the episode [s].
        state_names: names of the columns of `state`; empty where the data set gives none.
        state: float64 [T, N].
        action_names: names of the columns of `action`; empty where the data set gives none.
        action: float64 [T, M], or None where the data set has none.
        environment_names: names of the columns of `environment`; empty where the data set gives none.
        environment: float64 [T, E], a simulation's ground truth, or None where the data set has none.
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
    environment_names: tuple[str, ...]
    environment: Table | None
    cameras: Mapping[str, tuple[int, int]]


class EpisodeReader:
    """Reads one episode; its table at once, its images as they are asked for.

    Args:
        dataset: from `open_dataset`.
        index: number of the episode.
        lenient: accept a wrong frame rate, a short video, and rows with numbers that are not finite; `warnings` lists
            what was accepted so far.
        state_key: feature of the state.
        action_key: feature of the action.

    Raises:
        RecordingError: the episode is missing, damaged or contradicts the metadata of the data set.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        index: int,
        *,
        lenient: bool = False,
        state_key: str = STATE,
        action_key: str = ACTION,
    ) -> None:
        self._dataset = dataset
        self._lenient = lenient
        self._state_key, self._action_key = state_key, action_key
        self._files, warning = dataset.locate(_find(dataset, index))
        self.warnings = [*lines(dataset.unfinished), *([warning] if warning else [])]
        self.episode = self._read_table()

    def images(self, camera: str) -> Iterator[tuple[int, Rgb]]:
        """Decode the images of one camera in order; memory stays at few images.

        Yields:
            Row of the table and its image, uint8 [H, W, 3], RGB; every row, unless `lenient`.

        Raises:
            RecordingError: the video is missing, damaged, of another size or rate, or shorter than the table.
        """
        size = self.episode.cameras[camera]
        key = self._key(camera)
        part = self._files.videos.get(key)
        if part is not None:
            yield from self._decode(key, part, size)
            return
        for row, rgb in enumerate(self._dataset.stored_images(self._files, key)):
            where = f"image in row {row} of {key} of {self._files.data_path}"
            _require_size(where, rgb.shape[:2], size)
            yield row, rgb

    def require(self, camera: str) -> None:
        """Refuse an episode whose video of a camera does not exist.

        Raises:
            RecordingError: so it is.
        """
        part = self._files.videos.get(self._key(camera))
        if part is not None and not part.path.is_file():
            raise RecordingError(
                f"file {part.path} of the data set is missing",
                where="the data set, or --camera for another camera of it",
            )

    def _key(self, camera: str) -> str:
        """Return the feature of a camera, which is called by its name, or by the part behind "observation.images."."""
        return camera if camera in self._dataset.features else IMAGES + camera

    def _read_table(self) -> RecordedEpisode:
        dataset, files = self._dataset, self._files
        features = dataset.features
        self._require_keys()
        optional = [name for name in (self._action_key, ENVIRONMENT) if name in features]
        (stamps,) = dataset.read_columns(files, ["timestamp"], dtype=np.float64)
        state, *others = dataset.read_columns(
            files, [self._state_key, *optional], dtype=np.float64, finite=False
        )
        for name, table in zip((self._state_key, *optional), (state, *others), strict=True):
            self._check_finite(name, table)
        where = str(files.data_path)
        self._check_rate(stamps[:, 0], where)
        tables = dict(zip(optional, others, strict=True))
        names = {
            name: _names(features[name], width=table.shape[1], where=f"{name} of {where}")
            for name, table in tables.items()
        }
        return RecordedEpisode(
            index=files.index,
            fps=dataset.fps,
            instruction=files.tasks[0] if files.tasks else "",
            stamps=stamps[:, 0],
            state_names=_names(
                features.get(self._state_key), width=state.shape[1], where=f"{self._state_key} of {where}"
            ),
            state=state,
            action_names=names.get(self._action_key, ()),
            action=tables.get(self._action_key),
            environment_names=names.get(ENVIRONMENT, ()),
            environment=tables.get(ENVIRONMENT),
            cameras={
                feature.name.removeprefix(IMAGES): feature.image_size
                for feature in features.values()
                if feature.is_image and not feature.is_depth
            },
        )

    def _check_finite(self, name: str, table: Table) -> None:
        path, broken = self._files.data_path, np.argwhere(~np.isfinite(table))
        if not len(broken):
            return
        rows = len(np.unique(broken[:, 0]))
        if not self._lenient:
            row, place = broken[0].tolist()
            raise RecordingError(
                f"{path}: {name}[{place}] of episode {self._files.index}, row {row}, is not finite",
                value=f"{rows} such rows",
                allowed="finite numbers",
                where="the data set, or pass --lenient to leave these rows out",
            )
        self.warnings.append(
            f"{path}: {rows} rows of {name} hold numbers that are not finite and are left out"
        )

    def _require_keys(self) -> None:
        """Refuse a data set without the state, with what could be it."""
        features = self._dataset.features
        wanted = [(self._state_key, "--state-key")]
        if self._action_key != ACTION:
            wanted.append((self._action_key, "--action-key"))
        for key, option in wanted:
            if key not in features:
                numbers = [
                    f.name for f in features.values() if f.dtype.startswith("float") and f.shape != (1,)
                ]
                raise RecordingError(
                    f"data set {self._dataset.root} has no feature {key}",
                    allowed=", ".join(numbers) or "(it has no table of numbers)",
                    where=option,
                )

    def _decode(self, key: str, part: VideoPart, size: tuple[int, int]) -> Iterator[tuple[int, Rgb]]:
        rows, fps = len(self.episode.stamps), self.episode.fps
        pairing = self._dataset.pairing(self._files, key)
        count = 0
        with VideoFile(part.path, threads=True) as video:
            _require_size(f"video {part.path}", video.size, size)
            self._check_video_rate(video)
            if pairing.rule == BY_STAMP:
                self._accept(
                    RecordingError(
                        f"video {part.path} is {'shorter' if pairing.images < rows else 'longer'} than the table of "
                        f"episode {self.episode.index}",
                        value=f"{pairing.images} images",
                        allowed=f"{rows} images, one per row",
                        where="the data set, or pass --lenient to pair them by stamp and keep the rows that have "
                        "an image",
                    )
                )
            for row, rgb in video.images_at(pairing.times_s.tolist(), tolerance_s=0.5 / fps):
                count += 1
                yield row, rgb
        if count < min(rows, pairing.images):
            self._accept(
                RecordingError(
                    f"video {part.path} has no image for every row of episode {self.episode.index}",
                    value=f"{count} images",
                    allowed=f"{rows} images, one per row",
                    where="the data set, or pass --lenient to keep the rows that have an image",
                )
            )

    def _accept(self, error: RecordingError) -> None:
        """Keep `error` as a warning where `lenient`, else raise it."""
        if not self._lenient:
            raise error
        self.warnings.append(str(error))

    def _check_rate(self, stamps: Table, where: str) -> None:
        if np.any(np.diff(stamps) <= 0):
            row = int(np.flatnonzero(np.diff(stamps) <= 0)[0])
            raise RecordingError(
                f"column timestamp of {where} does not increase",
                value=f"{stamps[row]:.6f} s in row {row}, then {stamps[row + 1]:.6f} s",
                allowed="times that increase from row to row [s]",
                where="the data set",
            )
        if len(stamps) < 2:
            return
        fps, seen = self._dataset.fps, 1.0 / float(np.median(np.diff(stamps)))
        if abs(seen - fps) > FPS_TOLERANCE * fps:
            self._accept(
                RecordingError(
                    f"meta/info.json of {self._dataset.root} declares another frame rate than the stamps of {where} "
                    "have",
                    value=f"fps {fps:g}, stamps at {seen:.2f} Hz",
                    allowed=f"within {100 * FPS_TOLERANCE:.0f} %",
                    where="meta/info.json: fps, or pass --lenient to use the stamps",
                )
            )

    def _check_video_rate(self, video: VideoFile) -> None:
        fps = self.episode.fps
        rate = fps if video.rate is None else video.rate
        if abs(rate - fps) > FPS_TOLERANCE * fps:
            self._accept(
                RecordingError(
                    f"video {video.path} has another frame rate than meta/info.json declares",
                    value=f"{rate:.2f} Hz",
                    allowed=f"{fps:g} Hz, within {100 * FPS_TOLERANCE:.0f} %",
                    where="meta/info.json: fps, or pass --lenient",
                )
            )


def _find(dataset: LeRobotDataset, index: int) -> DatasetEpisode:
    """Return the files of an episode; those of its videos may be missing."""
    known = {episode.index: episode for episode in dataset.episodes}
    have = [i for i, episode in known.items() if episode.has_table]
    for lost in dataset.unfinished:
        if index in lost.episodes or (index not in known and not lost.episodes):
            raise RecordingError(lost.text(), allowed=f"episode {_some(have)}", where="--episode")
    if index not in have:
        raise RecordingError(
            f"data set {dataset.root} has no episode {index}",
            allowed=_some(have),
            where="--episode",
        )
    return known[index]


def _some(numbers: list[int]) -> str:
    few = ", ".join(map(str, numbers[:12])) + (f" ... {numbers[-1]}" if len(numbers) > 12 else "")
    return few or "(it has none)"


def _names(feature: Feature | None, *, width: int, where: str) -> tuple[str, ...]:
    """Return the column names of a feature, or () where it has none.

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


def _require_size(what: str, have: tuple[int, ...], want: tuple[int, int]) -> None:
    if have != want:
        raise RecordingError(
            f"{what} has another size than meta/info.json declares",
            value=f"{have[1]}x{have[0]}",
            allowed=f"{want[1]}x{want[0]}",
            where="meta/info.json: features",
        )
