# SPDX-License-Identifier: Apache-2.0
"""The training loop, the same for every policy.

    batch -> random numbers -> forward -> backward -> (after `accumulate` of them)
          -> clip -> AdamW -> record -> checkpoint

Batches are numbered over the whole run and over all processes; sample order, offsets and random numbers of a
batch depend on the seed and on that number alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from threading import Event
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wam.core.errors import PolicyFault
from wam.training.action_error import SAMPLES, ActionError, ErrorSum
from wam.training.average import WeightAverage
from wam.training.checkpoint import RunPosition
from wam.training.objective import BatchT, Objective
from wam.training.options import OptimSection, Precision
from wam.training.parallel import World, any_in_world, full_weights, gathered, mean_over_world
from wam.training.reports import StepRecord
from wam.training.source import Source

VALIDATION_STREAM = 1
"""Distinguishes the random numbers of validation from those of training."""
PREDICTION_STREAM = 2
"""The same for the start noise of predicted rows."""


def learning_rate(step: int, *, total: int, options: OptimSection) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine down to a share of the peak.

    Args:
        step: 0 for the first.
        total: steps of the run.
        options: peak, share of the rise, share that is left at the end.
    """
    warmup = math.ceil(options.warmup_fraction * total)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress))
    return options.learning_rate * (options.final_fraction + (1 - options.final_fraction) * shape)


def make_optimiser(
    module: nn.Module, options: OptimSection, *, decays: Callable[[str], bool] = lambda name: True
) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn, in a group with weight decay and one without.

    Args:
        module: owns the parameters.
        options: of the optimisation.
        decays: whether weight decay acts on the parameter of a name.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            groups[decays(name)].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": options.weight_decay if decay else 0.0}
            for decay, members in groups.items()
            if members
        ],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        weight_decay=options.weight_decay,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = value


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


class Trainer(Generic[BatchT]):
    """Runs optimiser steps.

    Args:
        objective: already sharded where there are several processes.
        optimiser: over its parameters.
        source: training batches.
        options: of the optimisation.
        total: optimiser steps of the whole run.
        seed: of the run.
        world: this process among all.
        validation: validation batches, or None.
    """

    def __init__(
        self,
        objective: Objective[BatchT],
        optimiser: torch.optim.Optimizer,
        *,
        source: Source[BatchT],
        options: OptimSection,
        total: int,
        seed: int,
        world: World,
        validation: Source[BatchT] | None = None,
    ) -> None:
        self.objective = objective
        self.optimiser = optimiser
        self.position = RunPosition()
        self._source = source
        self._validation = validation
        self._options = options
        self._total = total
        self._seed = seed
        self.world = world
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.average = WeightAverage(objective.network, options.average) if options.average else None

    def exported(self) -> dict[str, Tensor]:
        """Return the weights of the bundle, full and on the CPU: the average where there is one."""
        if self.average is None:
            return full_weights(self.objective.network)
        return self.average.full(self.objective.network)

    def run(
        self,
        *,
        until: int,
        on_step: Callable[[StepRecord], None] = lambda record: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        checkpoint_every: int = 0,
        validate_every: int = 0,
        on_evaluate: Callable[[], bool] = lambda: True,
        evaluate_every: int = 0,
        stop: Event | None = None,
    ) -> None:
        """Train up to a step.

        Args:
            until: last step, at most the total of the run.
            on_step: sees every step, in every process.
            on_checkpoint: writes a checkpoint; called in every process, and after the last step.
            checkpoint_every: steps between calls of it; 0 calls it at the end alone.
            validate_every: steps between validations; 0 for none.
            on_evaluate: scores the policy and says whether to go on; called in every process, and after the last step.
            evaluate_every: steps between calls of it; 0 for none.
            stop: once set, the loop ends after the current step, in all processes.

        Raises:
            PolicyFault: the loss or the gradient is not finite; the step was not applied.
        """
        started = time.perf_counter()
        first = self.position.batches // self.world.size
        stream = self._source.stream(first, self.world.device)
        per_epoch = len(self._source.sampler)
        saved = self.position.step
        while self.position.step < until:
            result = self.step(stream)
            step = self.position.step
            due = validate_every > 0 and (step % validate_every == 0 or step == until)
            validation, error = self.validate() if due else ({}, None)
            record = StepRecord(
                step=step,
                epoch=self.position.batches / self.world.size / per_epoch,
                seconds=time.perf_counter() - started,
                learning_rate=result.learning_rate,
                grad_norm=result.grad_norm,
                losses=result.losses,
                validation=validation,
                error=error,
            )
            on_step(record)
            if checkpoint_every and step % checkpoint_every == 0:
                on_checkpoint()
                saved = step
            ends = stop is not None and stop.is_set()
            if not ends and evaluate_every and (step % evaluate_every == 0 or step == until):
                ends = not on_evaluate()
            if any_in_world(ends, self.world):
                break
        if saved != self.position.step:
            on_checkpoint()

    def step(self, stream: Iterator[BatchT]) -> StepResult:
        """Run one optimiser step on the next batches of the stream.

        Raises:
            PolicyFault: the loss or the gradient is not finite.
        """
        options, world = self._options, self.world
        rate = learning_rate(self.position.step, total=self._total, options=options)
        set_learning_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for i in range(options.accumulate):
            number = self.position.batches + i * world.size + world.rank
            batch = next(stream)
            draws = self.objective.draw(batch, self._generator(0, number))
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
        self.position = RunPosition(self.position.step + 1, self.position.batches + done)
        if self.average is not None:
            self.average.update(self.position.step)
        return StepResult(values, float(norm), rate)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], ActionError | None]:
        """Return mean losses over the validation episodes, and the error of action rows on some of their samples.

        Random numbers and samples are the same every time. The mean of the errors is among the losses.
        """
        with nullcontext() if self.average is None else self.average.in_place():
            return self._validate()

    def _validate(self) -> tuple[dict[str, float], ActionError | None]:
        if self._validation is None:
            return {}, None
        sums: dict[str, float] = {}
        count, errors = 0, ErrorSum()
        for i, batch in enumerate(self._validation.epoch(self.world.device)):
            draws = self.objective.draw(batch, self._generator(VALIDATION_STREAM, i))
            with gathered(self.objective), self._autocast():
                losses = self.objective(batch, draws)
            for name, value in losses._asdict().items():
                sums[name] = sums.get(name, 0.0) + float(value) * batch.size
            count += batch.size
            if errors.samples < SAMPLES:
                with gathered(self.objective), self._autocast():
                    rows = self.objective.predict(batch, self._generator(PREDICTION_STREAM, i))
                if rows is not None:
                    errors.add(rows)
        error = errors.result()
        means = {name: value / count for name, value in sums.items()}
        return {**means, **({} if error is None else error.scalars())}, error

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
            f"training diverged in step {self.position.step + 1}: losses {losses}, gradient norm {norm}",
            allowed="finite numbers",
            where=f"optim.learning_rate (now {rate:g}), or the data; the last checkpoint is intact",
        )


def whole_run(options: OptimSection, *, batches_per_epoch: int) -> int:
    """Return the number of optimiser steps of a run."""
    if options.steps is not None:
        return options.steps
    return max(1, options.epochs * batches_per_epoch // options.accumulate)
