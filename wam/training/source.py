# SPDX-License-Identifier: Apache-2.0
"""Where batches come from: samples read by data loader processes, then brought to the device by the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch.utils.data import DataLoader, Dataset

from wam.training.episodes import VideoTable
from wam.training.objective import BatchT
from wam.training.options import TrainConfig
from wam.training.parallel import World
from wam.training.sampler import HistoryBatchSampler


def batch_sampler(
    table: VideoTable,
    config: TrainConfig,
    world: World,
    *,
    training: bool,
    history_lengths: Sequence[int] | None = None,
    max_offset: int = 0,
) -> HistoryBatchSampler:
    """Return the order of the samples of some episodes.

    Args:
        table: the episodes.
        config: gives seed and batch size.
        world: this process among all.
        training: every process gets its share; otherwise (validation) every one gets all.
        history_lengths: of every sample; None: none has a history.
        max_offset: see `HistoryBatchSampler`.
    """
    return HistoryBatchSampler(
        [0] * len(table) if history_lengths is None else history_lengths,
        batch_size=config.optim.batch_size,
        max_offset=max_offset,
        seed=config.run.seed,
        rank=world.rank if training else 0,
        world=world.size if training else 1,
    )


@dataclass(frozen=True, slots=True)
class Source(Generic[BatchT]):
    """Batches of some episodes.

    Attributes:
        samples: of pictures, or of what a frozen network made of them.
        sampler: which samples, in which order.
        collate: joins samples; a function of a module, because loader processes import it by name.
        prepare: brings what `collate` returned to the device and through the policy's frozen networks.
        workers: data loader processes.
        warnings: what a person should know about these samples before the first step.
    """

    samples: Dataset[Any]
    sampler: HistoryBatchSampler
    collate: Callable[[Sequence[Any]], Any]
    prepare: Callable[[Any, torch.device], BatchT]
    workers: int
    warnings: tuple[str, ...] = ()

    def stream(self, position: int, device: torch.device) -> Iterator[BatchT]:
        """Yield this process's batches without end.

        Args:
            position: number of the first batch, counted over all epochs.
            device: where batches are wanted.
        """
        epoch, batch = divmod(position, len(self.sampler))
        while True:
            self.sampler.seek(epoch=epoch, batch=batch)
            for read in self._loader():
                yield self.prepare(read, device)
            epoch, batch = epoch + 1, 0

    def epoch(self, device: torch.device) -> Iterator[BatchT]:
        """Yield the batches of epoch 0 once, on `device`."""
        self.sampler.seek(epoch=0, batch=0)
        for read in self._loader():
            yield self.prepare(read, device)

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.samples,
            batch_sampler=self.sampler,
            num_workers=self.workers,
            collate_fn=self.collate,
            # A forked copy of a process that has used CUDA or threads may hang.
            multiprocessing_context="spawn" if self.workers else None,
        )
