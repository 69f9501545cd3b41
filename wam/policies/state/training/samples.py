# SPDX-License-Identifier: Apache-2.0
"""Samples of the state policy: one per recorded row, gathered a whole batch at a time.

Shapes: B samples, J state joints, E numbers of the ground truth, R rows, A action joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wam.training.episodes import EpisodeTable
from wam.training.sampler import SampleRef

Table = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StateBatch:
    """What one step sees, in SI units.

    Attributes:
        state: measured joints [B, J].
        environment: ground truth [B, E].
        actions: targets [B, R, A].
    """

    state: Tensor
    environment: Tensor
    actions: Tensor

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.state.shape[0]


class StateSamples(Dataset[StateBatch]):
    """Every row of some episodes with the rows that follow it; after the end of an episode its last target stays.

    Args:
        table: the episodes.
        environment: ground truth of each episode [N, E].
        rows: of a chunk.
    """

    def __init__(self, table: EpisodeTable, environment: Sequence[Table], *, rows: int) -> None:
        self._state = np.concatenate(table.states)
        self._environment = np.concatenate(environment)
        self._actions = np.concatenate(table.actions)
        ends = np.cumsum([episode.length for episode in table.episodes])
        lasts = np.repeat(ends - 1, [episode.length for episode in table.episodes])
        self._rows = np.minimum(np.arange(len(lasts))[:, None] + np.arange(rows), lasts[:, None])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, refs: Sequence[SampleRef]) -> StateBatch:
        """Return samples as one batch; torch's loader asks for all of them at once."""
        index = np.array([ref.index for ref in refs])
        return StateBatch(
            torch.from_numpy(self._state[index]),
            torch.from_numpy(self._environment[index]),
            torch.from_numpy(self._actions[self._rows[index]]),
        )


def as_it_is(batch: Any) -> Any:
    """Return a batch that `StateSamples` has joined already."""
    return batch


def to_device(batch: StateBatch, device: torch.device) -> StateBatch:
    """Return a batch on a device."""
    return StateBatch(batch.state.to(device), batch.environment.to(device), batch.actions.to(device))
