# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets of format v2.0, v2.1 and v3.0, read in place, episodes and rows in any order.

Tables and stored images are read here and nowhere else. Training uses `LeRobotDataset` as it is; conversion and replay
read one episode from front to end, with more checks, through `wam.data.lerobot.episode`.

Shapes: N rows of an episode, D numbers of a column, H, W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.lerobot.metadata import DatasetEpisode, Feature, VideoPart, parquet_files, read_metadata
from wam.data.lerobot.pairing import ImagePairing, pair
from wam.data.lerobot.pointers import refuse_pointer
from wam.data.lerobot.unfinished import UnfinishedFile
from wam.data.lerobot.video import decode_stored, read_images

__all__ = ["DatasetEpisode", "Feature", "LeRobotDataset", "VideoPart", "open_dataset"]

BATCH_ROWS = 64
"""Stored images that are in memory at a time."""

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class LeRobotDataset:
    """A data set; made by `open_dataset`.

    Row i of an episode is a control row that was recorded i / fps seconds after the start of the episode.

    Attributes:
        root: its folder.
        version: one of `wam.data.lerobot.format.READABLE`.
        fps: control rows per second [Hz].
        features: by name.
        episodes: in order of their numbers, whether or not their files exist.
        tasks: task number -> instruction.
        unfinished: tables that cannot be read since their recorder was killed, and what is lost with them.
    """

    root: Path
    version: str
    fps: float
    features: Mapping[str, Feature]
    episodes: tuple[DatasetEpisode, ...]
    tasks: Mapping[int, str]
    unfinished: tuple[UnfinishedFile, ...] = ()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the image features, in the order of info.json."""
        return tuple(f.name for f in self.features.values() if f.is_image)

    def present(self, cameras: Collection[str] | None = None) -> tuple[DatasetEpisode, ...]:
        """Return the episodes whose table can be read, and whose videos of `cameras` (None for all) exist."""
        return tuple(e for e in self.episodes if e.is_present(cameras))

    def feature(self, name: str) -> Feature:
        """Return a feature.

        Raises:
            RecordingError: the data set has no feature of that name.
        """
        if name not in self.features:
            raise RecordingError(
                f"{self.root}: no feature {name!r}",
                allowed=f"one of {sorted(self.features)}",
                where="the data configuration (--set data.state=NAME, data.action=NAME, data.cameras=[NAME]); columns "
                f"in other units are converted first: wam convert lerobot {self.root} BAG --robot R --unit deg, then "
                "wam convert bag BAG SET --robot R",
            )
        return self.features[name]

    def column(self, episode: DatasetEpisode, name: str) -> npt.NDArray[np.float32]:
        """Read a column of numbers of the shape that info.json declares.

        Returns:
            float32 [N, D]; a scalar column has D = 1.

        Raises:
            RecordingError: the file is missing or damaged, lacks the column, has another number of rows, or a
                number is not finite.
        """
        feature = self.feature(name)
        (values,) = self.read_columns(episode, [name], dtype=np.float32)
        width = int(np.prod(feature.shape)) if feature.shape else 1
        if values.size != episode.length * width:
            raise RecordingError(
                f"{episode.data_path}: column {name!r} of episode {episode.index} has {values.size} numbers",
                allowed=f"{episode.length} rows of {width}",
            )
        return np.asarray(values.reshape(episode.length, width), dtype=np.float32)

    def read_columns(
        self, episode: DatasetEpisode, names: Sequence[str], *, dtype: npt.DTypeLike, finite: bool = True
    ) -> tuple[Numbers, ...]:
        """Read columns of numbers as they are in the table, whatever info.json says of them.

        Args:
            episode: of this data set.
            names: of the columns.
            dtype: of the result.
            finite: refuse numbers that are not finite.

        Returns:
            `dtype` [N, D] for each name; a scalar column has D = 1.

        Raises:
            RecordingError: the file is missing or damaged, lacks a column, has another number of rows, or a column
                holds anything but (finite) numbers.
        """
        table = self._table(episode, names)
        return tuple(_numbers(table.column(name), name, episode, dtype, finite=finite) for name in names)

    def task_of_row(self, episode: DatasetEpisode) -> npt.NDArray[np.int64]:
        """Return the task number of every row, [N]."""
        values = self._table(episode, ["task_index"]).column("task_index").to_numpy()
        return np.asarray(values, dtype=np.int64)

    def frames(self, episode: DatasetEpisode, camera: str, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read the images of the given rows.

        Args:
            episode: of this data set.
            camera: name of an image feature.
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
        self._require_images(camera)
        part = episode.videos.get(camera)
        if part is None:
            cells = self._table(episode, [camera]).column(camera)
            return np.stack([self._decode_cell(episode, camera, row, cells[row].as_py()) for row in rows])
        times_s = self.pairing(episode, camera).times_s
        return read_images(part.path, [float(times_s[row]) for row in rows], period_s=1 / self.fps)

    def pairing(self, episode: DatasetEpisode, camera: str) -> ImagePairing:
        """Return which image of a camera's video belongs to which row.

        Raises:
            RecordingError: the video is missing or damaged.
        """

        def stamps() -> npt.NDArray[np.float64]:
            (values,) = self.read_columns(episode, ["timestamp"], dtype=np.float64)
            return np.asarray(values[:, 0], dtype=np.float64)

        return pair(episode.videos[camera], rows=episode.length, fps=self.fps, stamps=stamps)

    def locate(self, episode: DatasetEpisode) -> tuple[DatasetEpisode, str]:
        """Return an episode with the file that really holds its rows, and a warning where meta/ names another.

        LeRobot 0.4.0's converter to v3.0 wrote wrong file numbers.
        """
        if (
            self.version != "v3.0"
            or not episode.data_path.is_file()
            or _holds(episode.data_path, episode.index)
        ):
            return episode, ""
        for path in parquet_files(self.root / "data"):
            if path != episode.data_path and _holds(path, episode.index):
                warning = (
                    f"meta/episodes of {self.root} names {episode.data_path.name} for episode {episode.index}, but its "
                    f"rows are in {path.name} (a fault of LeRobot 0.4.0's converter)"
                )
                return replace(episode, data_path=path), warning
        return episode, ""

    def stored_images(self, episode: DatasetEpisode, camera: str) -> Iterator[Rgb]:
        """Yield the images that lie in the table of an episode, in order, uint8 [H, W, 3]; few are in memory at a time.

        Raises:
            RecordingError: the table has no such column, or an image is missing or damaged.
        """
        with pq.ParquetFile(episode.data_path) as parquet:
            if camera not in parquet.schema_arrow.names:
                raise RecordingError(
                    f"neither a video nor a column holds {camera} of episode {episode.index}",
                    allowed=f"{camera} in {episode.data_path}, or its video file",
                    where="the data set",
                )
            row = 0
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=[camera, "episode_index"]):
                cells = zip(batch[camera].to_pylist(), batch["episode_index"].to_pylist(), strict=True)
                for cell, number in cells:
                    if number == episode.index:
                        yield self._decode_cell(episode, camera, row, cell)
                        row += 1

    def _require_images(self, camera: str) -> None:
        if not self.feature(camera).is_image:
            raise RecordingError(
                f"{self.root}: feature {camera!r} has no images", allowed=f"one of {self.cameras}"
            )

    def _decode_cell(self, episode: DatasetEpisode, camera: str, row: int, cell: Any) -> Rgb:
        """Decode a stored image: bytes, or the path of a file in the data set."""
        what = f"image in row {row} of {camera} of {episode.data_path}"
        cell = cell if isinstance(cell, Mapping) else {}
        data = cell.get("bytes")
        if data is None and cell.get("path"):
            try:
                data = (self.root / str(cell["path"])).read_bytes()
            except OSError as error:
                raise RecordingError(
                    f"{what} cannot be read ({error})", where="a complete copy of the data set"
                ) from error
        return decode_stored(data, what=what)

    def _table(self, episode: DatasetEpisode, names: Sequence[str]) -> pa.Table:
        """Read columns of an episode as they are stored.

        Raises:
            RecordingError: the file is missing or damaged, lacks a column, or has another number of rows.
        """
        if not episode.data_path.is_file():
            raise RecordingError(f"{episode.data_path} is missing", where="a complete copy of the data set")
        episode, _ = self.locate(episode)
        path = episode.data_path
        try:
            lacking = sorted(set(names) - set(pq.read_schema(path).names))
            if lacking:
                raise RecordingError(f"{path} has no column {', '.join(lacking)}", where="the data set")
            table = pq.read_table(
                path,
                columns=list(names),
                filters=[("episode_index", "==", episode.index)],
                partitioning=None,
            )
        except (pa.ArrowException, OSError, KeyError) as error:
            refuse_pointer(path)
            for lost in self.unfinished:
                if lost.path == path:
                    raise RecordingError(lost.text(), where="the recorder, or another episode") from error
            raise RecordingError(f"table {path} cannot be read ({error})", where="the data set") from error
        if table.num_rows != episode.length:
            raise RecordingError(
                f"{path}: episode {episode.index} has {table.num_rows} rows",
                allowed=f"{episode.length}, its length in meta/",
                where="a complete copy of the data set",
            )
        return table


def open_dataset(root: str | Path) -> LeRobotDataset:
    """Read the metadata of a data set; no rows and no images.

    Raises:
        RecordingError: a metadata file is missing or damaged, or the format version is not supported.
    """
    folder = Path(root)
    found = read_metadata(folder)
    return LeRobotDataset(
        folder, found.version, found.fps, found.features, found.episodes, found.tasks, found.unfinished
    )


@functools.lru_cache(maxsize=4096)
def _holds(path: Path, index: int) -> bool:
    """Return whether a table may hold rows of an episode; one that cannot be read is judged where it is read."""
    try:
        found = pq.read_table(
            path, columns=["episode_index"], filters=[("episode_index", "==", index)], partitioning=None
        )
    except (pa.ArrowException, OSError, KeyError):
        return True
    return bool(found.num_rows)


def _numbers(
    column: pa.ChunkedArray, name: str, episode: DatasetEpisode, dtype: npt.DTypeLike, *, finite: bool = True
) -> Numbers:
    """Return a column as [N, D]."""
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    rows = len(values)
    try:
        while isinstance(values, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
            lengths = np.diff(values.offsets) if hasattr(values, "offsets") else np.empty(0)
            if values.null_count or len(np.unique(lengths)) > 1:
                raise ValueError("rows of several lengths")
            values = values.flatten()
        flat = np.asarray(values.to_numpy(zero_copy_only=False), dtype=dtype)
        out = flat.reshape(rows, flat.size // max(rows, 1))
    except (TypeError, ValueError) as error:
        raise RecordingError(
            f"column {name} of {episode.data_path} is not a table of numbers of one width",
            where="the data set",
        ) from error
    if finite and not np.isfinite(out).all():
        row, place = (int(i) for i in np.argwhere(~np.isfinite(out))[0])
        raise RecordingError(
            f"{episode.data_path}: {name}[{place}] of episode {episode.index}, row {row}, is not finite",
            value=float(out[row, place]),
            allowed="finite numbers",
        )
    return out
