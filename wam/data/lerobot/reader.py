# SPDX-License-Identifier: Apache-2.0
"""LeRobot data sets of format v2.0, v2.1 and v3.0, read in place, episodes and rows in any order.

All come out as the same values: a table of episodes, columns as arrays, frames by row. Rows are control rows; row i of
an episode was recorded i / fps seconds after its start. `wam.data.lerobot.metadata` tells where the files are.

Shapes: N rows of an episode, D numbers of a column, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from wam.core.errors import RecordingError
from wam.data.lerobot.metadata import Episode, Feature, VideoPart, read_layout
from wam.data.lerobot.video import decode_image, read_frames

__all__ = ["Episode", "Feature", "LeRobotDataset", "VideoPart", "open_dataset"]


@dataclass(frozen=True, slots=True)
class LeRobotDataset:
    """A data set; made by `open_dataset`.

    Attributes:
        root: its folder.
        version: one of `wam.data.lerobot.metadata.SUPPORTED`.
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

    def rows(self, episode: Episode, names: Sequence[str]) -> pa.Table:
        """Read columns of an episode as they are stored.

        Raises:
            RecordingError: the file is missing or damaged, lacks a column, or has another number of rows.
        """
        path = episode.data_path
        if not path.is_file():
            raise RecordingError(f"{path} is missing", where="a complete copy of the data set")
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
            raise RecordingError(f"table {path} cannot be read ({error})", where="the data set") from error
        if table.num_rows != episode.length:
            raise RecordingError(
                f"{path}: episode {episode.index} has {table.num_rows} rows",
                allowed=f"{episode.length}, its length in meta/",
                where="a complete copy of the data set",
            )
        return table

    def _read(self, episode: Episode, name: str) -> pa.ChunkedArray:
        return self.rows(episode, [name]).column(name)


def open_dataset(root: str | Path) -> LeRobotDataset:
    """Read the metadata of a data set; no rows and no pictures.

    Raises:
        RecordingError: a metadata file is missing or damaged, or the format version is not supported.
    """
    folder = Path(root)
    found = read_layout(folder)
    return LeRobotDataset(
        folder, found.version, found.fps, found.robot_type, found.features, found.episodes, found.tasks
    )
