# SPDX-License-Identifier: Apache-2.0
"""What a run takes from a LeRobot data set: episodes, their numbers and tasks, joint names, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from wam.core.errors import ConfigError, RecordingError
from wam.data.lerobot.reader import DatasetEpisode, LeRobotDataset, open_dataset
from wam.models.bundle import Manifest
from wam.models.normalisation import FieldStats, PolicyStats
from wam.training.options import DataSection
from wam.training.pauses import rows_in_motion
from wam.training.statistics import DatasetStats, field_statistics, relative_rows


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a data set are what.

    Attributes:
        cameras: picture features, in the order of the policy's cameras.
        state: column of the measured joints; None for videos without a robot.
        action: column of the action rows; None for videos without a robot.
    """

    cameras: tuple[str, ...]
    state: str | None = "observation.state"
    action: str | None = "action"


class VideoTable:
    """Episodes of which pictures and tasks are read; pictures stay on disk. A sample begins at each of `rows`.

    Args:
        dataset: opened.
        episodes: the ones to train on.
        columns: which are what.

    Raises:
        RecordingError: there is no episode, or a camera is missing.
        ConfigError: a camera is not a picture feature.
    """

    def __init__(self, dataset: LeRobotDataset, episodes: Sequence[DatasetEpisode], columns: Columns) -> None:
        if not episodes:
            raise RecordingError(f"{dataset.root} has no episode to train on", where="data.episodes")
        for camera in columns.cameras:
            if not dataset.feature(camera).is_image:
                allowed = f"picture features: {', '.join(dataset.cameras)}"
                raise ConfigError("data.cameras", value=camera, allowed=allowed)
        self.dataset = dataset
        self.episodes = tuple(episodes)
        self.columns = columns
        self.tasks = [dataset.task_of_row(e) for e in episodes]
        self._begin_at([np.arange(e.length, dtype=np.int64) for e in episodes])

    def _begin_at(self, rows: Sequence[npt.NDArray[np.int64]]) -> None:
        """Let samples begin at these rows of each episode."""
        self.rows = tuple(rows)
        self._starts: npt.NDArray[np.int64] = np.cumsum([0, *map(len, rows)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Return which episode (position in `episodes`) and row a sample number stands for."""
        place = int(np.searchsorted(self._starts, index, side="right")) - 1
        return place, int(self.rows[place][index - int(self._starts[place])])

    def instructions(self) -> dict[int, str]:
        """Return the instructions of these episodes by their task numbers.

        Raises:
            RecordingError: a row names a task that the data set does not list.
        """
        used = sorted({int(t) for tasks in self.tasks for t in np.unique(tasks)})
        missing = [t for t in used if t not in self.dataset.tasks]
        if missing:
            raise RecordingError(
                f"{self.dataset.root}: task numbers {missing[:4]} have no text",
                allowed=f"{sorted(self.dataset.tasks)}",
            )
        return {number: self.dataset.tasks[number] for number in used}


class EpisodeTable(VideoTable):
    """Episodes of a robot: their numbers too, all in memory.

    Args:
        dataset: opened.
        episodes: the ones to train on.
        columns: which are what.

    Raises:
        RecordingError: there is no episode, or a column is missing, damaged or not finite.
        ConfigError: a camera is not a picture feature.
        ValueError: `columns` names no state or no action.
    """

    def __init__(self, dataset: LeRobotDataset, episodes: Sequence[DatasetEpisode], columns: Columns) -> None:
        super().__init__(dataset, episodes, columns)
        if columns.state is None or columns.action is None:
            raise ValueError("a table of a robot needs columns for state and action")
        self._named = ((columns.state, "states"), (columns.action, "actions"))
        self.states = [dataset.column(e, columns.state) for e in episodes]
        self.actions = [dataset.column(e, columns.action) for e in episodes]

    def skip_pauses(self, *, min_std: float = 0.0) -> None:
        """Let no sample begin inside a pause, see `wam.training.pauses`.

        Args:
            min_std: joints with a smaller standard deviation do not count.
        """
        self._begin_at(rows_in_motion(self.states, fps=self.dataset.fps, min_std=min_std))

    def statistics(self, *, min_std: float = 0.0) -> DatasetStats:
        """Compute the statistics of state and action over these episodes.

        Raises:
            BundleError: a joint never moves.
        """
        fields = [
            field_statistics(
                getattr(self, rows), what=name, names=self.dataset.feature(name).names, min_std=min_std
            )
            for name, rows in self._named
        ]
        return DatasetStats(PolicyStats(*fields), len(self.episodes), len(self))

    def relative_statistics(
        self, *, columns: npt.NDArray[np.intp], chunk_rows: int, min_std: float = 0.0
    ) -> DatasetStats:
        """Compute the statistics of the state, and of action rows relative to the state at the start of their chunk.

        Args:
            columns: state column of each action joint [A].
            chunk_rows: rows of a chunk.
            min_std: lower bound of the standard deviation.

        Raises:
            BundleError: a joint never moves.
        """
        (state, _), (action, _) = self._named
        names = {name: self.dataset.feature(name).names for name in (state, action)}
        rows = (
            relative_rows(states, actions, columns=columns, chunk_rows=chunk_rows)
            for states, actions in zip(self.states, self.actions, strict=True)
        )
        fields = (
            field_statistics(self.states, what=state, names=names[state], min_std=min_std),
            field_statistics(rows, what=action, names=names[action], min_std=min_std),
        )
        return DatasetStats(PolicyStats(*fields), len(self.episodes), len(self))


@dataclass(frozen=True, slots=True)
class RunData:
    """The episodes of a run.

    Attributes:
        dataset: opened.
        train: episodes to train on; an `EpisodeTable` where there is a robot.
        held_out: episodes for validation, or None.
    """

    dataset: LeRobotDataset
    train: VideoTable
    held_out: VideoTable | None


def open_run_data(section: DataSection, columns: Columns, *, seed: int) -> RunData:
    """Open a data set and read the numbers of its episodes.

    Args:
        section: of the configuration.
        columns: without state and action only pictures and tasks are read.
        seed: of the choice of validation episodes.

    Raises:
        RecordingError: the data set is missing or damaged, or has no episode.
        ConfigError: an episode is not on disk, none is left to train on, or a camera is not a picture feature.
    """
    dataset = open_dataset(section.root)
    episodes, held_out = split_episodes(dataset, section, seed=seed, cameras=columns.cameras)
    robot = columns.state is not None and columns.action is not None
    make_table = EpisodeTable if robot else VideoTable
    train = make_table(dataset, episodes, columns)
    if section.skip_pauses and isinstance(train, EpisodeTable):
        train.skip_pauses(min_std=section.min_std)
    return RunData(dataset, train, make_table(dataset, held_out, columns) if held_out else None)


def split_episodes(
    dataset: LeRobotDataset, data: DataSection, *, seed: int, cameras: Sequence[str] | None = None
) -> tuple[tuple[DatasetEpisode, ...], tuple[DatasetEpisode, ...]]:
    """Return training and validation episodes.

    Args:
        dataset: opened.
        data: section of the configuration.
        seed: of the choice of validation episodes.
        cameras: picture features whose videos must exist; None for all.

    Raises:
        ConfigError: a requested episode is not on disk, or none is left to train on.
    """
    chosen = dataset.present(cameras)
    if data.episodes:
        by_index = {e.index: e for e in chosen}
        missing = [i for i in data.episodes if i not in by_index]
        if missing:
            raise ConfigError(
                f"{dataset.root}: episodes {missing[:6]} are not on disk",
                allowed=f"{sorted(by_index)[:12]}",
                where="data.episodes",
            )
        chosen = tuple(by_index[i] for i in data.episodes)
    if data.validation_fraction == 0:
        return chosen, ()
    count = max(1, round(data.validation_fraction * len(chosen)))
    if count >= len(chosen):
        raise ConfigError(
            f"data.validation_fraction keeps {count} of {len(chosen)} episodes",
            value=data.validation_fraction,
            allowed="a share that leaves at least one to train on",
            where="data.validation_fraction",
        )
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed)).tolist()
    held = set(order[:count])
    return (
        tuple(e for i, e in enumerate(chosen) if i not in held),
        tuple(e for i, e in enumerate(chosen) if i in held),
    )


def joint_names(
    data: DataSection,
    dataset: LeRobotDataset,
    *,
    state_names: tuple[str, ...],
    manifest: Manifest | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the policy's names of the state joints and of the action joints.

    Args:
        data: names columns and, if they are not the data set's, joints.
        dataset: opened.
        state_names: of the state joints; empty takes the data set's.
        manifest: of the bundle that training continues; its names are taken where the section has none.

    Raises:
        ConfigError: there are no names, they repeat, or their number is not that of the column's numbers.
    """
    if manifest is not None and not data.joint_names:
        return manifest.state_joints, manifest.action_joints
    return (
        _names(dataset, data.state, state_names, option="data.state_names"),
        _names(dataset, data.action, data.joint_names, option="data.joint_names"),
    )


def _names(
    dataset: LeRobotDataset, column: str | None, given: tuple[str, ...], *, option: str
) -> tuple[str, ...]:
    names = given
    if column is not None:
        feature = dataset.feature(column)
        width = feature.shape[0] if feature.shape else 1
        names = names or feature.names
        if len(names) != width:
            allowed = f"{width}, as {column} has numbers"
            raise ConfigError(f"{option}: {len(names)} names", allowed=allowed, where=option)
    if not names:
        raise ConfigError(f"{option} is missing", allowed="names of the joints of the policy", where=option)
    if len(set(names)) != len(names):
        raise ConfigError(option, value=list(names), allowed="different names", where=option)
    return names


def state_columns(joints: tuple[tuple[str, ...], tuple[str, ...]]) -> npt.NDArray[np.intp]:
    """Return the state column of each action joint.

    Raises:
        ConfigError: an action joint is not measured.
    """
    state, action = joints
    if missing := [name for name in action if name not in state]:
        raise ConfigError(
            "rows relative to the state: action joints without a measured position",
            value=", ".join(missing),
            allowed="joints of the state",
            where="data.joint_names, data.state_names, or data.relative_actions where there is that option",
        )
    return np.array([state.index(name) for name in action], dtype=np.intp)


def run_statistics(
    table: VideoTable,
    given: PolicyStats | None,
    *,
    min_std: float,
    joints: tuple[int, int],
    relative: tuple[npt.NDArray[np.intp], int] | None = None,
) -> DatasetStats:
    """Return the statistics of a robot's episodes; for videos the given ones, or unit ones.

    Args:
        table: training episodes.
        given: of the bundle that training continues, or None.
        min_std: lower bound of the standard deviation.
        joints: number of state joints and of action joints.
        relative: where action rows are relative to the state: state column of each action joint, and the rows over
            which a chunk extends.

    Raises:
        BundleError: a joint never moves.
    """
    if isinstance(table, EpisodeTable):
        if relative is not None:
            columns, rows = relative
            return table.relative_statistics(columns=columns, chunk_rows=rows, min_std=min_std)
        return table.statistics(min_std=min_std)
    unit = PolicyStats(FieldStats.unit(joints[0]), FieldStats.unit(joints[1]))
    return DatasetStats(given if given is not None else unit, len(table.episodes), len(table))
