# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets (v2.0, v2.1, v3.0): table and videos of one episode, checked against each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.replay.lerobot_layout import EpisodeFiles, VideoPart, episode_files
from wam.replay.video import decode_stored, decode_video

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
        warnings: faults that `lenient` let pass.
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
    warnings: tuple[str, ...]


class LerobotDataset:
    """A LeRobot data set on disk.

    Args:
        root: folder that holds `meta/info.json`.
        lenient: let a wrong frame rate or a short video pass as a warning.

    Raises:
        RecordingError: it is no data set, or of a version that is not supported.
    """

    def __init__(self, root: Path, *, lenient: bool = False) -> None:
        self.root = root
        self.info = read_info(root)
        self.lenient = lenient
        self._files: EpisodeFiles | None = None

    def open(self, index: int) -> Episode:
        """Read the table of episode `index` and check it; its videos are read by `images`.

        Raises:
            RecordingError: the episode is missing, damaged or contradicts the data set's metadata.
        """
        files = episode_files(self.root, self.info, index)
        self._files = files
        table = _read_table(files)
        where = f"{files.table}"
        fps = _number(self.info, "fps", self.root)
        stamps = _column(table, "timestamp", where)[:, 0]
        warnings = [] if not (text := self._check_rate(stamps, fps, where)) else [text]
        state = _column(table, STATE, where)
        action = _column(table, ACTION, where) if ACTION in table else None
        features = self.info.get("features", {})
        state_names = feature_names(
            features.get(STATE, {}), width=state.shape[1], where=f"{STATE} of {where}"
        )
        action_names: tuple[str, ...] = ()
        if action is not None:
            action_names = feature_names(
                features.get(ACTION, {}), width=action.shape[1], where=f"{ACTION} of {where}"
            )
        return Episode(
            index=index,
            fps=fps,
            instruction=files.instruction,
            stamps=stamps,
            state_names=state_names,
            state=state,
            action_names=action_names,
            action=action,
            cameras=_cameras(features),
            warnings=tuple(warnings),
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
        part = self._files.videos.get(camera)
        if part is None:
            stored = _read_stored_images(self._files, IMAGES + camera)
            yield from decode_stored(stored, size=size, where=f"{IMAGES}{camera} of {self._files.table}")
        else:
            yield from self._decode(episode, part, size)

    def _decode(self, episode: Episode, part: VideoPart, size: tuple[int, int]) -> Iterator[tuple[int, Rgb]]:
        count = 0
        for row, rgb in decode_video(
            part.path,
            stamps=episode.stamps + part.start,
            fps=episode.fps,
            size=size,
            lenient=self.lenient,
        ):
            count += 1
            yield row, rgb
        if count < len(episode.stamps) and not self.lenient:
            raise RecordingError(
                f"video {part.path} is shorter than the table of episode {episode.index}",
                value=f"{count} images",
                allowed=f"{len(episode.stamps)} images, one per row",
                where="the data set, or pass --lenient to keep the rows that have an image",
            )

    def _check_rate(self, stamps: Table, fps: float, where: str) -> str:
        if not np.all(np.isfinite(stamps)) or np.any(np.diff(stamps) <= 0):
            raise RecordingError(
                f"column timestamp of {where} does not increase",
                value=_first_fault(stamps),
                allowed="times that increase from row to row [s]",
                where="the data set",
            )
        if len(stamps) < 2:
            return ""
        seen = 1.0 / float(np.median(np.diff(stamps)))
        if abs(seen - fps) <= FPS_TOLERANCE * fps:
            return ""
        error = RecordingError(
            f"meta/info.json of {self.root} declares another frame rate than the stamps of {where} have",
            value=f"fps {fps:g}, stamps at {seen:.2f} Hz",
            allowed=f"within {100 * FPS_TOLERANCE:.0f} %",
            where="meta/info.json: fps, or pass --lenient to let the stamps decide",
        )
        if not self.lenient:
            raise error
        return str(error)


def read_info(root: Path) -> dict[str, Any]:
    """Return `meta/info.json` of the data set at `root`.

    Raises:
        RecordingError: it is missing or not a JSON object with the keys that are needed.
    """
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordingError(
            f"{root} is not a LeRobot data set: {path} is missing",
            allowed="a folder with meta/info.json, data/ and videos/",
            where="the argument SRC",
        ) from error
    except (OSError, ValueError) as error:
        raise RecordingError(
            f"{path} cannot be read ({error})", allowed="a JSON object", where=str(path)
        ) from error
    missing = [key for key in ("codebase_version", "fps", "features", "data_path") if key not in info]
    if missing:
        raise RecordingError(f"{path} lacks {', '.join(missing)}", where=str(path))
    return dict(info)


def feature_names(feature: Mapping[str, Any], *, width: int, where: str) -> tuple[str, ...]:
    """Return the column names of a feature, flattened from the shapes that are in use, or () for none.

    Data sets store a list of names, a list with one list, or a mapping such as {"motors": [...]}.

    Raises:
        RecordingError: there are names, but not as many as columns.
    """
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = [name for part in names.values() for name in (part if isinstance(part, list) else [part])]
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], list):
        names = names[0]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    if len(names) != width:
        raise RecordingError(
            f"{where} has another width than meta/info.json has names",
            value=f"{width} columns, {len(names)} names",
            allowed="one name per column",
            where="meta/info.json: features",
        )
    return tuple(names)


def _cameras(features: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return height and width of every camera; a depth map is none."""
    sizes = {}
    for key, feature in features.items():
        if not key.startswith(IMAGES) or feature.get("dtype") not in ("video", "image"):
            continue
        if (feature.get("info") or {}).get("video.is_depth_map"):
            continue
        shape = list(feature.get("shape", ()))
        names = list(feature.get("names") or ("height", "width", "channels"))
        if len(shape) != 3 or len(names) != 3:
            raise RecordingError(f"feature {key} has shape {shape}", allowed="height, width and channels")
        # The order differs between tools ([3, H, W] too), and so the names decide.
        places = {str(name).rstrip("s"): int(n) for name, n in zip(names, shape, strict=True)}
        sizes[key.removeprefix(IMAGES)] = (
            places.get("height", int(shape[0])),
            places.get("width", int(shape[1])),
        )
    return sizes


def _read_table(files: EpisodeFiles) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(files.table).names if not name.startswith(IMAGES)]
        table = pq.read_table(files.table, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(f"table {files.table} cannot be read ({error})", where="the data set") from error
    if "episode_index" in names:
        table = table.filter(pc.equal(table["episode_index"], files.index))
    if not table.num_rows:
        raise RecordingError(f"table {files.table} has no row of episode {files.index}", where="--episode")
    if files.length and table.num_rows != files.length:
        raise RecordingError(
            f"table {files.table} has another length than meta says of episode {files.index}",
            value=f"{table.num_rows} rows",
            allowed=f"{files.length} rows",
            where="the data set",
        )
    return {name: table[name] for name in names}


def _read_stored_images(files: EpisodeFiles, key: str) -> Iterator[bytes | None]:
    """Give the encoded images of a feature that lies in the table, row group by row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(files.table) as parquet:
        if key not in parquet.schema_arrow.names:
            raise RecordingError(
                f"neither a video nor a column holds {key} of episode {files.index}",
                allowed=f"{key} in {files.table}, or its video file",
                where="the data set",
            )
        for batch in parquet.iter_batches(batch_size=64, columns=[key, "episode_index"]):
            for cell, episode in zip(batch[key].to_pylist(), batch["episode_index"].to_pylist(), strict=True):
                if episode == files.index:
                    yield cell.get("bytes") if isinstance(cell, Mapping) else None


def _column(table: Mapping[str, Any], name: str, where: str) -> Table:
    if name not in table:
        raise RecordingError(
            f"{where} has no column {name}", value=sorted(table), allowed=f"{name}", where="the data set"
        )
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


def _number(info: Mapping[str, Any], key: str, root: Path) -> float:
    value = info[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 10_000:
        raise RecordingError(
            f"meta/info.json of {root}: {key}",
            value=value,
            allowed="a positive number [Hz]",
            where="meta/info.json",
        )
    return float(value)


def _first_fault(stamps: Table) -> str:
    bad = np.flatnonzero(~(np.diff(stamps) > 0))
    row = int(bad[0])
    return f"{stamps[row]:.6f} s in row {row}, then {stamps[row + 1]:.6f} s"
