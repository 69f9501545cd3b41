# SPDX-License-Identifier: Apache-2.0
"""The training loop, the same for joint training and for distillation.

    batch -> VAE -> random numbers -> forward -> backward -> (after `accumulate` of them)
          -> clip -> AdamW -> record -> checkpoint

Batches are numbered over the whole run and over all processes; sample order, offsets and random numbers of a
batch depend on the seed and on that number alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from wam.core.errors import PolicyFault
from wam.policies.aha_wam.training.batch import LatentBatch, PixelBatch, collate, move
from wam.policies.aha_wam.training.config import OptimSection, Precision
from wam.policies.aha_wam.training.latents import LatentEncoder
from wam.training.checkpoint import Progress
from wam.training.optim import learning_rate, set_learning_rate
from wam.training.parallel import World, any_in_world, gathered, mean_over_world
from wam.training.reports import StepRecord
from wam.training.sampler import HistoryBatchSampler

VALIDATION_STREAM = 1
"""Distinguishes the random numbers of validation from those of training."""

Objective = nn.Module
"""Called with (LatentBatch, draws); returns a NamedTuple of scalars whose `total` is minimised."""

Drawing = Callable[[LatentBatch, torch.Generator], Any]
"""Draws the random numbers of one forward pass."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where batches come from.

    Attributes:
        samples: of pictures or of cached latents.
        sampler: which samples, in which order.
        encoder: frozen VAE; unused for cached latents.
        workers: data loader processes.
    """

    samples: Dataset[Any]
    sampler: HistoryBatchSampler
    encoder: LatentEncoder | None
    workers: int

    def stream(self, position: int) -> Iterator[PixelBatch | LatentBatch]:
        """Yield this process's batches without end, from the given one on."""
        epoch, batch = divmod(position, len(self.sampler))
        while True:
            self.sampler.seek(epoch=epoch, batch=batch)
            yield from self._loader()
            epoch, batch = epoch + 1, 0

    def epoch(self) -> Iterator[PixelBatch | LatentBatch]:
        """Yield the batches of epoch 0 once."""
        self.sampler.seek(epoch=0, batch=0)
        yield from self._loader()

    def latents(self, batch: PixelBatch | LatentBatch, device: torch.device) -> LatentBatch:
        """Bring a batch to the device and through the VAE."""
        moved = move(batch, device)
        if isinstance(moved, LatentBatch):
            return moved
        if self.encoder is None:
            raise ValueError("pictures need the VAE")
        return self.encoder.batch(moved)

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.samples,
            batch_sampler=self.sampler,
            num_workers=self.workers,
            collate_fn=collate_samples,
            # A forked copy of a process that has used CUDA or threads may hang.
            multiprocessing_context="spawn" if self.workers else None,
        )


def collate_samples(samples: Sequence[Any]) -> Any:
    """Join samples; a plain function, so that loader processes can be given it."""
    return collate(samples)


class StepResult(NamedTuple):
    """What one optimiser step did.

    Attributes:
        losses: name -> mean over passes and processes.
        grad_norm: before clipping.
        learning_rate: used.
    """

    losses: dict[str, float]
    grad_norm: float
    learning_rate: float


def batch_generator(*, seed: int, stream: int, number: int, device: torch.device) -> torch.Generator:
    """Return the random numbers of one batch.

    Args:
        seed: of the run.
        stream: 0 for training, `VALIDATION_STREAM` for validation.
        number: of the batch in the whole run, over all processes.
        device: where the numbers are wanted.
    """
    state = np.random.SeedSequence((seed, stream, number)).generate_state(1, dtype=np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) >> 1)


class Trainer:
    """Runs optimiser steps.

    Args:
        objective: already sharded where there are several processes.
        optimiser: over its parameters.
        draw: random numbers of a forward pass.
        source: training batches.
        options: of the optimisation.
        total: optimiser steps of the whole run.
        seed: of the run.
        world: this process among all.
        validation: validation batches, or None.
    """

    def __init__(
        self,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        *,
        draw: Drawing,
        source: Source,
        options: OptimSection,
        total: int,
        seed: int,
        world: World,
        validation: Source | None = None,
    ) -> None:
        self.objective = objective
        self.optimiser = optimiser
        self.progress = Progress()
        self._draw = draw
        self._source = source
        self._validation = validation
        self._options = options
        self._total = total
        self._seed = seed
        self.world = world
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]

    def run(
        self,
        *,
        until: int,
        on_step: Callable[[StepRecord], None] = lambda record: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        checkpoint_every: int = 0,
        validate_every: int = 0,
        stop: Event | None = None,
    ) -> None:
        """Train up to a step.

        Args:
            until: last step, at most the total of the run.
            on_step: sees every step, in every process.
            on_checkpoint: writes a checkpoint; called in every process, and after the last step.
            checkpoint_every: steps between calls of it; 0 calls it at the end alone.
            validate_every: steps between validations; 0 for none.
            stop: once set, the loop ends after the current step, in all processes.

        Raises:
            PolicyFault: the loss or the gradient is not finite; the step was not applied.
        """
        started = time.perf_counter()
        first = self.progress.batches // self.world.size
        stream = self._source.stream(first)
        per_epoch = len(self._source.sampler)
        saved = self.progress.step
        while self.progress.step < until:
            result = self.step(stream)
            step = self.progress.step
            due = validate_every > 0 and (step % validate_every == 0 or step == until)
            record = StepRecord(
                step=step,
                epoch=self.progress.batches / self.world.size / per_epoch,
                seconds=time.perf_counter() - started,
                learning_rate=result.learning_rate,
                grad_norm=result.grad_norm,
                losses=result.losses,
                validation=self.validate() if due else {},
            )
            on_step(record)
            if checkpoint_every and step % checkpoint_every == 0:
                on_checkpoint()
                saved = step
            if any_in_world(stop is not None and stop.is_set(), self.world):
                break
        if saved != self.progress.step:
            on_checkpoint()

    def step(self, stream: Iterator[PixelBatch | LatentBatch]) -> StepResult:
        """Run one optimiser step on the next batches of the stream.

        Raises:
            PolicyFault: the loss or the gradient is not finite.
        """
        options, world = self._options, self.world
        rate = learning_rate(self.progress.step, total=self._total, options=options)
        set_learning_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for i in range(options.accumulate):
            number = self.progress.batches + i * world.size + world.rank
            batch = self._source.latents(next(stream), world.device)
            draws = self._draw(batch, self._generator(0, number))
            with gathered(self.objective):
                with self._autocast():
                    losses = self.objective(batch, draws)
                (losses.total / options.accumulate).backward()
            for name, value in losses._asdict().items():
                sums[name] = sums.get(name, torch.zeros_like(value.detach())) + value.detach()
        norm = nn.utils.clip_grad_norm_(self._parameters, options.clip_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        means = mean_over_world(torch.stack(list(sums.values())).float() / options.accumulate, world)
        values = dict(zip(sums, means.tolist(), strict=True))
        self._require_finite(values, float(norm), rate)
        self.optimiser.step()
        done = options.accumulate * world.size
        self.progress = Progress(self.progress.step + 1, self.progress.batches + done)
        return StepResult(values, float(norm), rate)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean losses over the validation episodes, with the same random numbers every time."""
        if self._validation is None:
            return {}
        sums: dict[str, float] = {}
        count = 0
        for i, pixels in enumerate(self._validation.epoch()):
            batch = self._validation.latents(pixels, self.world.device)
            draws = self._draw(batch, self._generator(VALIDATION_STREAM, i))
            with gathered(self.objective), self._autocast():
                losses = self.objective(batch, draws)
            for name, value in losses._asdict().items():
                sums[name] = sums.get(name, 0.0) + float(value) * batch.size
            count += batch.size
        return {name: value / count for name, value in sums.items()}

    def _generator(self, stream: int, number: int) -> torch.Generator:
        return batch_generator(seed=self._seed, stream=stream, number=number, device=self.world.device)

    def _autocast(self) -> Any:
        if self._options.precision is Precision.FLOAT32:
            return nullcontext()
        return torch.autocast(self.world.device.type, dtype=torch.bfloat16)

    def _require_finite(self, losses: dict[str, float], norm: float, rate: float) -> None:
        if all(np.isfinite(v) for v in (*losses.values(), norm)):
            return
        raise PolicyFault(
            f"training diverged in step {self.progress.step + 1}: losses {losses}, gradient norm {norm}",
            allowed="finite numbers",
            where=f"optim.learning_rate (now {rate:g}), or the data; the last checkpoint is intact",
        )


def whole_run(options: OptimSection, *, batches_per_epoch: int) -> int:
    """Return the number of optimiser steps of a run."""
    if options.steps is not None:
        return options.steps
    return max(1, options.epochs * batches_per_epoch // options.accumulate)
