# SPDX-License-Identifier: Apache-2.0
"""What a run takes from a LeRobot data set besides samples: joints, statistics, and videos without a robot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wam.core.errors import ConfigError, RecordingError
from wam.data.lerobot.reader import Episode, LeRobotDataset
from wam.models.bundle import Manifest
from wam.models.normalisation import FieldStats, PolicyStats
from wam.policies.aha_wam.training.samples import Columns, EpisodeTable
from wam.training.statistics import DatasetStats


class VideoTable:
    """Episodes of which only pictures and tasks are read: videos without a robot.

    Args:
        dataset: opened.
        episodes: the ones to train on.
        columns: the cameras.

    Raises:
        RecordingError: there is no episode, or a camera is missing.
        ConfigError: a camera is no picture feature.
    """

    def __init__(self, dataset: LeRobotDataset, episodes: Sequence[Episode], columns: Columns) -> None:
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
        self._starts = np.cumsum([0, *(e.length for e in episodes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Return which episode (position in `episodes`) and row a sample number stands for."""
        place = int(np.searchsorted(self._starts, index, side="right")) - 1
        return place, index - int(self._starts[place])


def joint_names(data: Any, dataset: LeRobotDataset, manifest: Manifest | None) -> tuple[tuple[str, ...], ...]:
    """Return the policy's names of the state and action joints.

    Args:
        data: section with state, action, state_names and joint_names.
        dataset: opened.
        manifest: of the bundle that goes on; its names are taken where the section has none.

    Raises:
        ConfigError: there are none, or of another number than the columns have numbers.
    """
    if manifest is not None and not data.joint_names:
        return manifest.state_joints, manifest.action_joints
    named = []
    for option, given, column in (
        ("data.state_names", data.state_names or data.joint_names, data.state),
        ("data.joint_names", data.joint_names, data.action),
    ):
        names = tuple(given)
        if column is not None:
            feature = dataset.feature(column)
            names = names or feature.names
            if len(names) != feature.shape[0]:
                raise ConfigError(
                    f"{option}: {len(names)} names",
                    allowed=f"{feature.shape[0]}, as {column} has numbers",
                    where=option,
                )
        if not names:
            raise ConfigError(
                f"{option} is missing", allowed="names of the joints of the policy", where=option
            )
        named.append(names)
    return tuple(named)


def table_statistics(
    table: EpisodeTable | VideoTable,
    given: PolicyStats | None,
    *,
    min_std: float,
    state_joints: tuple[str, ...],
    action_joints: tuple[str, ...],
) -> DatasetStats:
    """Return those of the data set; the given ones, or unit ones, where there is no robot in it.

    Raises:
        BundleError: a joint never moves.
    """
    if isinstance(table, EpisodeTable):
        return table.statistics(min_std=min_std)
    stats = (
        given
        if given is not None
        else PolicyStats(FieldStats.unit(len(state_joints)), FieldStats.unit(len(action_joints)))
    )
    return DatasetStats(stats, len(table.episodes), len(table))
