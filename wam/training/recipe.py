# SPDX-License-Identifier: Apache-2.0
"""How a policy is trained: the Protocol that `wam.training.runner` runs, the same way for every policy.

    columns     which columns of the data set the policy reads
    start       weights, frozen networks, text and statistics that the run begins with
    source      batches of the training episodes, and of the validation episodes
    objective   what is minimised, with its losses and its random numbers
    export      the trained weights as a policy bundle

The runner owns everything else: the folder of the run, checkpoints and resuming, the optimiser and its schedule,
several processes, `losses.csv` and the loss curve. A recipe holds no state of a run; what it needs from one stage in
the next it returns from `start`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from wam.models.bundle import Bundle
from wam.training.config_reading import ConfigT
from wam.training.episodes import Columns, RunData, VideoTable
from wam.training.objective import BatchT, Objective
from wam.training.parallel import World
from wam.training.source import Source
from wam.training.statistics import DatasetStats


class Started(Protocol):
    """What a run begins with; a recipe adds what its later stages need."""

    @property
    def stats(self) -> DatasetStats:
        """Statistics that the run normalises with; written beside every checkpoint."""
        ...


StartT = TypeVar("StartT", bound=Started)


@dataclass(frozen=True, slots=True)
class Trained:
    """What is exported.

    Attributes:
        weights: of the objective's `network`, by its names, full and on the CPU.
        data: that it was trained on.
        step: last optimiser step.
    """

    weights: Mapping[str, Tensor]
    data: RunData
    step: int


class Recipe(Protocol[ConfigT, StartT, BatchT]):
    """How one policy is trained. Methods are called in the order of this class, in every process."""

    @property
    def title(self) -> str:
        """Name of the policy, for people."""
        ...

    @property
    def config_type(self) -> type[ConfigT]:
        """Configuration of a run; `wam.training.config_reading` reads it from YAML."""
        ...

    def stage(self, config: ConfigT) -> str:
        """Return what this run trains, for people: a stage or an objective."""
        ...

    def columns(self, config: ConfigT) -> Columns:
        """Return which columns are read; without state and action for videos without a robot."""
        ...

    def start(self, config: ConfigT, data: RunData, *, world: World) -> StartT:
        """Open or make what the run begins with, and check that the data set fits it.

        Args:
            config: of the run.
            data: its episodes.
            world: this process among all.

        Raises:
            WamError: configuration, data set, weights or statistics cannot be used.
        """
        ...

    def source(
        self,
        config: ConfigT,
        start: StartT,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[BatchT]:
        """Return the batches of some episodes.

        Args:
            config: of the run.
            start: from `start`.
            table: the episodes.
            world: this process among all.
            training: every process gets its share; otherwise (validation) every one gets all.
            on_episode: is given how many of how many episodes are cached, where the recipe has a cache to fill.
        """
        ...

    def objective(
        self, config: ConfigT, start: StartT, source: Source[BatchT], *, world: World
    ) -> Objective[BatchT]:
        """Return what is minimised, on the CPU.

        Args:
            config: of the run.
            start: from `start`.
            source: of the training episodes.
            world: this process among all.

        Raises:
            ConfigError: the network cannot have this objective.
        """
        ...

    def export(self, directory: Path, config: ConfigT, start: StartT, trained: Trained) -> Bundle:
        """Write the policy bundle; only the first process calls.

        Args:
            directory: does not exist.
            config: of the run.
            start: from `start`.
            trained: the weights.
        """
        ...
