# SPDX-License-Identifier: Apache-2.0
"""What training minimises: the mean distance of the predicted rows, with noise on the measured state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.models.normalisation import PolicyStats
from wam.policies.state.network import StateNetwork
from wam.policies.state.training.samples import StateBatch
from wam.training.objective import Objective


class StateLosses(NamedTuple):
    """Losses of a step.

    Attributes:
        total: mean absolute error of the rows, in standard deviations.
    """

    total: Tensor


class StateObjective(Objective[StateBatch]):
    """Mean absolute error of rows relative to a state that noise has moved.

    The rows lead from the moved state to where the episode went, so that the policy learns to come back.

    Args:
        network: to be trained.
        stats: of the state, and of the rows relative to it.
        columns: state column of each action joint [A].
        state_noise: spread of the noise on the state, as a share of the standard deviation of each joint.
        environment_noise: the same of the ground truth. An object in the hand moves with it: a policy that follows the
            ground truth exactly runs after it.
    """

    def __init__(
        self,
        network: StateNetwork,
        *,
        stats: PolicyStats,
        columns: npt.NDArray[np.intp],
        state_noise: float,
        environment_noise: float,
    ) -> None:
        super().__init__()
        self.policy = network
        self._state_noise, self._environment_noise = state_noise, environment_noise
        vectors = {
            "state_mean": stats.state.values["mean"],
            "state_std": stats.state.values["std"],
            "action_mean": stats.action.values["mean"],
            "action_std": stats.action.values["std"],
        }
        for name, values in vectors.items():
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)
        self.register_buffer("columns", torch.from_numpy(columns), persistent=False)

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    columns: Tensor

    @property
    def network(self) -> StateNetwork:
        """What checkpoints and bundles hold."""
        return self.policy

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The only loss."""
        return StateLosses._fields

    def draw(self, batch: StateBatch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the noise on the state, [B, J], and on the ground truth, [B, E], in standard deviations."""
        state = torch.randn(batch.state.shape, generator=generator, device=generator.device)
        environment = torch.randn(batch.environment.shape, generator=generator, device=generator.device)
        return self._state_noise * state, self._environment_noise * environment

    def forward(self, batch: StateBatch, draws: tuple[Tensor, Tensor]) -> StateLosses:
        """Return the losses."""
        state = (batch.state - self.state_mean) / self.state_std + draws[0]
        environment = batch.environment + draws[1] * self.policy.environment_std
        measured = state * self.state_std + self.state_mean
        relative = batch.actions - measured[:, None, self.columns]
        wanted = (relative - self.action_mean) / self.action_std
        return StateLosses((self.policy(state, environment) - wanted).abs().mean())
