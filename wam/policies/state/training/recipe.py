# SPDX-License-Identifier: Apache-2.0
"""The recipe of the state policy; see `wam.training.recipe.Recipe`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.models.bundle import Bundle
from wam.models.robot_layout import RobotLayout
from wam.policies.state.config import StateConfig
from wam.policies.state.network import StateNetwork
from wam.policies.state.policy import write
from wam.policies.state.training.config import StateTrainConfig
from wam.policies.state.training.objective import StateObjective
from wam.policies.state.training.samples import StateBatch, StateSamples, as_it_is, to_device
from wam.training.episodes import Columns, EpisodeTable, RunData, VideoTable, joint_names, state_columns
from wam.training.objective import Objective
from wam.training.parallel import World
from wam.training.recipe import Trained
from wam.training.source import Source, batch_sampler
from wam.training.statistics import DatasetStats, field_statistics


@dataclass(frozen=True, slots=True)
class StateRun:
    """What a run begins with.

    Attributes:
        network: to be trained, with the statistics of the ground truth.
        stats: of the training episodes: state, and rows relative to it.
        joints: the policy's names of the state joints and of the action joints.
        columns: state column of each action joint [A].
        environment: names of the ground truth.
    """

    network: StateNetwork
    stats: DatasetStats
    joints: tuple[tuple[str, ...], tuple[str, ...]]
    columns: npt.NDArray[np.intp]
    environment: tuple[str, ...]


class StateRecipe:
    """Trains the network."""

    title = "State"
    config_type = StateTrainConfig

    def stage(self, config: StateTrainConfig) -> str:
        """Return the only stage."""
        return "policy"

    def columns(self, config: StateTrainConfig) -> Columns:
        """Return the columns of the joints."""
        return Columns(config.data.cameras, config.data.state, config.data.action)

    def start(self, config: StateTrainConfig, data: RunData, *, world: World) -> StateRun:
        """Make the network and compute the statistics.

        Raises:
            RecordingError: the data set has no ground truth, or does not name it.
            ConfigError: the joints have no names, or an action joint is not measured.
        """
        section, sizes, table = config.data, config.model, _robot(data.train)
        joints = joint_names(section, data.dataset, state_names=section.state_names)
        columns = state_columns(joints)
        environment = _environment_names(data, section.environment)
        stats = table.relative_statistics(columns=columns, chunk_rows=sizes.rows, min_std=section.min_std)
        truth = field_statistics(
            _truth(table, config),
            what=section.environment,
            names=environment,
            min_std=section.min_std,
        )
        torch.manual_seed(config.run.seed)
        network = StateNetwork(
            StateConfig(
                state=len(joints[0]),
                environment=len(environment),
                action=len(joints[1]),
                rows=sizes.rows,
                width=sizes.width,
                depth=sizes.depth,
                live=sizes.live,
            )
        )
        network.environment_mean.copy_(torch.from_numpy(truth.values["mean"]))
        network.environment_std.copy_(torch.from_numpy(truth.values["std"]))
        return StateRun(network, stats, joints, columns, environment)

    def source(
        self,
        config: StateTrainConfig,
        start: StateRun,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[StateBatch]:
        """Return batches of rows."""
        robot = _robot(table)
        samples = StateSamples(robot, _truth(robot, config), rows=config.model.rows)
        sampler = batch_sampler(table, config, world, training=training)
        return Source(samples, sampler, as_it_is, to_device, config.data.workers)

    def objective(
        self, config: StateTrainConfig, start: StateRun, source: Source[StateBatch], *, world: World
    ) -> Objective[StateBatch]:
        """Return the error of the rows."""
        return StateObjective(
            start.network,
            stats=start.stats.stats,
            columns=start.columns,
            state_noise=config.data.augment.state_noise,
            environment_noise=config.data.environment_noise,
        )

    def export(self, directory: Path, config: StateTrainConfig, start: StateRun, trained: Trained) -> Bundle:
        """Write the policy bundle."""
        dataset, (state, action) = trained.data.dataset, start.joints
        robot = RobotLayout(
            cameras=(),
            state_joints=state,
            action_joints=action,
            centre=(0.0,) * len(action),
            spread=(1.0,) * len(action),
            control_period_ns=round(NS_PER_S / dataset.fps),
            instruction=next(iter(dataset.tasks.values())),
        )
        dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
        return write(
            directory,
            {name: tensor.to(dtype) for name, tensor in trained.weights.items()},
            start.network.config,
            robot=robot,
            environment=start.environment,
            stats=start.stats.stats,
            source={"data_set": dataset.root.name, "step": trained.step},
            dtype=config.run.bundle_dtype.value,
        )


def _robot(table: VideoTable) -> EpisodeTable:
    """Return the table of a robot's episodes, which the columns of this recipe always give."""
    if not isinstance(table, EpisodeTable):
        raise TypeError(f"a {type(table).__name__}, not the episodes of a robot")
    return table


def _truth(table: EpisodeTable, config: StateTrainConfig) -> list[npt.NDArray[np.float32]]:
    """Return the ground truth of each episode [N, E], as the policy will be given it."""
    columns = [table.dataset.column(episode, config.data.environment) for episode in table.episodes]
    if config.model.live:
        return columns
    return [np.broadcast_to(rows[:1], rows.shape) for rows in columns]


def _environment_names(data: RunData, column: str) -> tuple[str, ...]:
    """Return the names of the ground truth.

    Raises:
        RecordingError: the data set has none, or it has no names.
    """
    feature = data.dataset.features.get(column)
    if feature is None or not feature.names:
        raise RecordingError(
            f"{data.dataset.root} has no ground truth {column}"
            + (" with a name for each number" if feature is not None else ""),
            allowed="a recording of wam sim record --truth",
            where="data.root, or data.environment",
        )
    return feature.names


RECIPE = StateRecipe()
