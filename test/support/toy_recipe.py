# SPDX-License-Identifier: Apache-2.0
"""A recipe of a few lines: a linear map from a robot's state to its next action, with noise on the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from wam.core.errors import ConfigError
from wam.models.bundle import Bundle, Manifest, write_bundle
from wam.models.normalisation import NormMode
from wam.training.action_error import PredictedRows
from wam.training.cache import fill_cache
from wam.training.episodes import Columns, EpisodeTable, RunData, VideoTable
from wam.training.objective import Objective
from wam.training.options import DataSection, Rule, TrainConfig
from wam.training.parallel import World, wait_for_all
from wam.training.recipe import Trained
from wam.training.sampler import SampleRef
from wam.training.source import Source, batch_sampler
from wam.training.statistics import DatasetStats


@dataclass(frozen=True, slots=True)
class ToyDataSection(DataSection):
    """The data set; `cache` is a folder for sums of states."""

    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class ToyModelSection:
    """The network; `noise` is the spread of the noise on its input, `bias` gives it one."""

    noise: float = 0.1
    bias: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ToyTrainConfig(TrainConfig):
    """A whole run."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainConfig.MAY_CHANGE | {"cache"}

    data: ToyDataSection
    model: ToyModelSection = field(default_factory=ToyModelSection)

    def rules(self) -> tuple[Rule, ...]:
        """Return the bounds."""
        noise = self.model.noise
        return (*TrainConfig.rules(self), (noise >= 0, "model.noise", noise, "0 or more"))


@dataclass(frozen=True, slots=True)
class ToyBatch:
    """States and actions, [B, J] each."""

    states: Tensor
    actions: Tensor

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.states.shape[0]


class ToySamples(Dataset[ToyBatch]):
    """Rows of a table."""

    def __init__(self, table: EpisodeTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, ref: SampleRef) -> ToyBatch:
        place, row = self._table.locate(ref.index)
        state, action = (rows[place][row : row + 1] for rows in (self._table.states, self._table.actions))
        return ToyBatch(torch.tensor(state), torch.tensor(action))


def join(samples: Sequence[ToyBatch]) -> ToyBatch:
    """Join samples."""
    return ToyBatch(torch.cat([s.states for s in samples]), torch.cat([s.actions for s in samples]))


def to_device(batch: ToyBatch, device: torch.device) -> ToyBatch:
    """Return the batch on a device."""
    return ToyBatch(batch.states.to(device), batch.actions.to(device))


class ToyLosses(NamedTuple):
    """Losses of a step."""

    total: Tensor
    worst: Tensor


class ToyObjective(Objective[ToyBatch]):
    """Mean squared error."""

    def __init__(self, network: nn.Linear, *, noise: float) -> None:
        super().__init__()
        self.linear = network
        self._noise = noise

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Total and worst joint."""
        return ToyLosses._fields

    def decays(self, name: str) -> bool:
        """Return whether a parameter is the matrix."""
        return "bias" not in name

    def draw(self, batch: ToyBatch, generator: torch.Generator) -> Tensor:
        """Draw the noise on the states."""
        return self._noise * torch.randn(batch.states.shape, generator=generator, device=generator.device)

    def forward(self, batch: ToyBatch, draws: Tensor) -> ToyLosses:
        """Return the losses."""
        error = (self.linear(batch.states + draws) - batch.actions).square().mean(0)
        return ToyLosses(error.mean(), error.max())

    def predict(self, batch: ToyBatch, generator: torch.Generator) -> PredictedRows:
        """Return one row per sample."""
        rows = [t.double().numpy()[:, None] for t in (self.linear(batch.states), batch.actions, batch.states)]
        joints = tuple(f"joint{i}" for i in range(batch.actions.shape[1]))
        return PredictedRows(joints, *rows, valid=np.ones((batch.size, 1), dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class ToyStart:
    """What a run begins with."""

    network: nn.Linear
    stats: DatasetStats


class ToyRecipe:
    """Trains the map."""

    title = "Toy"
    config_type = ToyTrainConfig

    def stage(self, config: ToyTrainConfig) -> str:
        """Return the only stage."""
        return "map"

    def columns(self, config: ToyTrainConfig) -> Columns:
        """Return the columns."""
        return Columns(config.data.cameras, config.data.state, config.data.action)

    def start(self, config: ToyTrainConfig, data: RunData, *, world: World) -> ToyStart:
        """Make the network."""
        table = data.train
        assert isinstance(table, EpisodeTable)
        widths = [rows[0].shape[1] for rows in (table.states, table.actions)]
        if widths[0] != widths[1]:
            raise ConfigError(
                "data.action", value=widths[1], allowed=f"{widths[0]} numbers, as the state has"
            )
        torch.manual_seed(config.model.seed)
        return ToyStart(
            nn.Linear(*widths, bias=config.model.bias), table.statistics(min_std=config.data.min_std)
        )

    def source(
        self,
        config: ToyTrainConfig,
        start: ToyStart,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[ToyBatch]:
        """Return rows; the cache is filled and not read."""
        assert isinstance(table, EpisodeTable)
        if config.data.cache is not None:
            fill_cache(
                config.data.cache,
                table,
                depends=lambda place: ("toy",),
                compute=lambda place: {"sum": torch.tensor(table.states[place].sum(0))},
                rank=world.rank,
                world=world.size,
                on_episode=on_episode,
            )
            wait_for_all(world)
        sampler = batch_sampler(table, config, world, training=training)
        return Source(ToySamples(table), sampler, join, to_device, config.data.workers)

    def objective(
        self, config: ToyTrainConfig, start: ToyStart, source: Source[ToyBatch], *, world: World
    ) -> Objective[ToyBatch]:
        """Return the error of the map."""
        return ToyObjective(start.network, noise=config.model.noise)

    def export(self, directory: Path, config: ToyTrainConfig, start: ToyStart, trained: Trained) -> Bundle:
        """Write the map."""
        names = trained.data.dataset.feature("action").names
        manifest = Manifest(
            kind="toy",
            model={"bias": config.model.bias},
            cameras=(),
            state_joints=names,
            action_joints=names,
            control_period_ns=round(1e9 / trained.data.dataset.fps),
            chunk_rows=1,
            horizon_rows=1,
            instruction=next(iter(trained.data.dataset.tasks.values())),
            instruction_template="{task}",
            state_norm=NormMode.Z_SCORE,
            action_norm=NormMode.Z_SCORE,
            dtype="float32",
            text={},
            sampler={},
            source={"step": trained.step},
        )
        return write_bundle(
            directory, manifest=manifest, stats=start.stats.stats, tensors=dict(trained.weights)
        )


RECIPE = ToyRecipe()
