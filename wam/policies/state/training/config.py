# SPDX-License-Identifier: Apache-2.0
"""Options of a run of the state policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from wam.data.lerobot.format import ENVIRONMENT
from wam.policies.state.config import StateConfig
from wam.training.augmentation import AugmentSection
from wam.training.options import DataSection, OptimSection, Precision, Rule, TrainConfig

SIZES = StateConfig()


@dataclass(frozen=True, slots=True)
class StateModelSection:
    """The network.

    Attributes:
        rows: of a chunk.
        width: of the hidden layers.
        depth: number of hidden layers.
        live: the policy is given the ground truth of every observation, which lets it follow what moves and take what
            it has dropped, but needs more episodes; otherwise that of the beginning of the episode.
    """

    rows: int = SIZES.rows
    width: int = SIZES.width
    depth: int = SIZES.depth
    live: bool = SIZES.live


@dataclass(frozen=True, slots=True)
class StateDataSection(DataSection):
    """The data set.

    Attributes:
        cameras: none; the policy sees no pictures.
        environment: column of the ground truth, with a name for each number.
        environment_noise: standard deviation of noise on the ground truth, as a share of its own.
        min_std: lower bound of the standard deviation of joints and ground truth where statistics are computed.
        augment: changes of the samples; only the state can be changed here.
    """

    cameras: tuple[str, ...] = ()
    environment: str = ENVIRONMENT
    environment_noise: float = 0.05
    min_std: float = 0.01
    augment: AugmentSection = field(default_factory=lambda: AugmentSection(state_noise=0.05))


@dataclass(frozen=True, slots=True)
class StateOptimSection(OptimSection):
    """Optimisation, for a network that trains in seconds."""

    steps: int | None = 3000
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    beta2: float = 0.999
    precision: Precision = Precision.FLOAT32
    average: float = 0.995


@dataclass(frozen=True, slots=True)
class StateTrainConfig(TrainConfig):
    """A whole run.

    Attributes:
        data: the data set.
        model: the network.
        optim: optimisation.
    """

    data: StateDataSection
    model: StateModelSection = field(default_factory=StateModelSection)
    optim: StateOptimSection = field(default_factory=StateOptimSection)

    def rules(self) -> tuple[Rule, ...]:
        """Return bounds that the types do not express."""
        data, model = self.data, self.model
        general = [rule for rule in TrainConfig.rules(self) if rule[1] != "data.cameras"]
        joints = data.state is not None and data.action is not None
        return (
            *general,
            (not data.cameras, "data.cameras", list(data.cameras), "none: the policy sees no pictures"),
            (joints, "data.state, data.action", None, "columns of joints"),
            (not data.augment.changes_pictures, "data.augment", data.augment, "shift and colour 0"),
            (data.augment.state_noise >= 0, "data.augment", data.augment.state_noise, "0 or more"),
            (data.environment_noise >= 0, "data.environment_noise", data.environment_noise, "0 or more"),
            (data.min_std > 0, "data.min_std", data.min_std, "a positive number"),
            (model.rows > 0, "model.rows", model.rows, "a positive number"),
            (model.width > 0, "model.width", model.width, "a positive number"),
            (model.depth > 0, "model.depth", model.depth, "a positive number"),
        )
