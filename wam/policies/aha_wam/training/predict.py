# SPDX-License-Identifier: Apache-2.0
"""Action rows of a batch as the policy would send them, and as they were recorded, in SI units.

Every chunk of the horizon counts as one of its own, with its own observation, as the executor makes them.

Shapes: see `batch`; Q = B * K chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wam.models.normalisation import Normaliser, PolicyStats
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.batch import LatentBatch
from wam.policies.aha_wam.training.distill import chunk_inputs, rollout
from wam.training.action_error import PredictedRows


@dataclass(frozen=True, slots=True)
class RowSampler:
    """Samples the rows of a batch.

    Attributes:
        stats: of state and action.
        joints: names of the action joints.
        columns: state column of each action joint, [A]; None where one is not measured.
        relative: rows are relative to the state at the start of their chunk.
        steps: integration steps.
    """

    stats: PolicyStats
    joints: tuple[str, ...]
    columns: npt.NDArray[np.intp] | None
    relative: bool
    steps: int

    @torch.no_grad()
    def __call__(self, model: AhaWam, batch: LatentBatch, generator: torch.Generator) -> PredictedRows:
        """Return the rows of all chunks of a batch, [Q, R, A]."""
        noise = torch.randn(batch.actions_BHA.shape, generator=generator, device=generator.device)
        sampled = rollout(model, batch, chunk_inputs(model, batch), noise, steps=self.steps)[self.steps]
        norm, K = Normaliser(self.stats.action), batch.chunks

        def chunks(rows_BHA: Tensor) -> npt.NDArray[np.float64]:
            return norm.to_si(rows_BHA.unflatten(1, (K, -1)).flatten(0, 1).float().cpu().numpy())

        recorded = chunks(batch.actions_BHA)
        padding = batch.action_is_pad_BH.unflatten(1, (K, -1)).flatten(0, 1)
        return PredictedRows(
            self.joints, chunks(sampled), recorded, self._still(batch, recorded), ~padding.cpu().numpy()
        )

    def _still(self, batch: LatentBatch, like: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.relative:
            return np.zeros_like(like)
        if self.columns is None:
            return np.full_like(like, np.nan)
        states = Normaliser(self.stats.state).to_si(batch.states_BKJ.flatten(0, 1).float().cpu().numpy())
        return np.broadcast_to(states[:, None, self.columns], like.shape)
