# SPDX-License-Identifier: Apache-2.0
"""Runs a trainer with everything a run leaves behind: losses on disk, checkpoints, and a listener that sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from torch import nn

from wam.training.checkpoint import save_checkpoint
from wam.training.loop import Trainer
from wam.training.parallel import World
from wam.training.reports import LossLog, StepRecord
from wam.training.statistics import DatasetStats

BUNDLE = "bundle"
"""Folder of a run's policy bundle."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is going to do; told to the listener before the first step.

    Attributes:
        kind: "train" or "distill".
        samples: of an epoch.
        episodes: of the data set that are used.
        batches_per_epoch: of every process.
        steps: of the whole run.
        first_step: 0, or the step that the run continues after.
        parameters: that learn.
        world: this process among all.
    """

    kind: str
    samples: int
    episodes: int
    batches_per_epoch: int
    steps: int
    first_step: int
    parameters: int
    world: World


class Listener:
    """Sees a run; the base class does nothing."""

    def on_latents(self, done: int, episodes: int) -> None:
        """Called while the latent cache is filled, in every process."""

    def on_plan(self, plan: RunPlan) -> None:
        """Called once, before the first step."""

    def on_step(self, record: StepRecord) -> None:
        """Called after every step, in every process."""

    def on_checkpoint(self, folder: Path) -> None:
        """Called when a checkpoint is on disk."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left.

    Attributes:
        bundle: policy bundle; None in processes that write no files.
        step: last step.
        finished: whether that is the last of the run.
        losses: `losses.csv`.
        plot: loss curve.
    """

    bundle: Path | None
    step: int
    finished: bool
    losses: Path
    plot: Path


def run_logged(
    trainer: Trainer,
    *,
    model: nn.Module,
    config: Any,
    names: Sequence[str],
    stats: DatasetStats,
    listener: Listener,
    until: int,
    stop: Event | None,
) -> None:
    """Train up to a step, write losses and checkpoints.

    Args:
        trainer: ready, at the position where the run begins.
        model: what checkpoints hold.
        config: of the run; its `run` section is read here.
        names: of the losses.
        stats: written beside each checkpoint.
        listener: sees steps and checkpoints.
        until: last step.
        stop: ends the run after the current step.

    Raises:
        PolicyFault: the loss or the gradient is not finite.
    """
    run, world = config.run, trainer.world
    log = None
    if world.is_first:
        log = LossLog(
            run.out, names=tuple(names), after_step=trainer.progress.step, tensorboard=run.tensorboard
        )

    def on_step(record: StepRecord) -> None:
        if log is not None:
            log(record)
        listener.on_step(record)

    def on_checkpoint() -> None:
        folder = save_checkpoint(
            model=model,
            optimiser=trainer.optimiser,
            progress=trainer.progress,
            config=config,
            stats=stats,
            world=world,
        )
        listener.on_checkpoint(folder)

    try:
        trainer.run(
            until=until,
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            checkpoint_every=run.checkpoint_every,
            validate_every=run.validate_every,
            stop=stop,
        )
    finally:
        if log is not None:
            log.close()
