# SPDX-License-Identifier: Apache-2.0
"""Runs a trainer with everything a run leaves behind: losses on disk, checkpoints, and a listener that sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
import yaml
from torch import nn

from wam.training.checkpoint import (
    CONFIG_NAME,
    MAY_DIFFER,
    MUST_AGREE,
    last_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from wam.training.config_reading import to_plain
from wam.training.loop import Trainer
from wam.training.parallel import World, join_world, leave_world, wait_for_all
from wam.training.reports import CSV_NAME, PLOT_NAME, LossLog, StepRecord
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


def _run_logged(
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


def drive(
    trainer: Trainer,
    *,
    model: nn.Module,
    objective: nn.Module,
    config: Any,
    kind: str,
    names: Sequence[str],
    stats: DatasetStats,
    samples: int,
    batches_per_epoch: int,
    total: int,
    checkpoint: Path | None,
    listener: Listener,
    until: int | None,
    stop: Event | None,
    must_agree: Sequence[str] = MUST_AGREE,
    may_differ: Sequence[str] = MAY_DIFFER,
) -> None:
    """Restore a checkpoint where there is one, tell the plan, and train.

    Args:
        trainer: at the beginning of the run.
        model: what checkpoints hold.
        objective: what learns.
        config: of the run.
        kind: of the run, for people.
        names: of the losses.
        stats: of the data set.
        samples: of an epoch.
        batches_per_epoch: of every process.
        total: steps of the whole run.
        checkpoint: to continue after, or None.
        listener: sees the run.
        until: last step; None runs to the end.
        stop: ends the run after the current step.
        must_agree: sections that a continued run may not have changed.
        may_differ: keys in them that may.

    Raises:
        WamError: the checkpoint does not fit the configuration or the network.
        PolicyFault: the loss or the gradient is not finite.
    """
    if checkpoint is not None:
        trainer.progress = load_checkpoint(
            checkpoint,
            model=model,
            optimiser=trainer.optimiser,
            config=config,
            world=trainer.world,
            must_agree=must_agree,
            may_differ=may_differ,
        )
    listener.on_plan(
        RunPlan(
            kind=kind,
            samples=samples,
            episodes=stats.episodes,
            batches_per_epoch=batches_per_epoch,
            steps=total,
            first_step=trainer.progress.step,
            parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
            world=trainer.world,
        )
    )
    _run_logged(
        trainer,
        model=model,
        config=config,
        names=names,
        stats=stats,
        listener=listener,
        until=min(until or total, total),
        stop=stop,
    )


def result_of(config: Any, trainer: Trainer, *, total: int, bundle: Path | None) -> RunResult:
    """Return what a run left, after its bundle is written."""
    out = config.run.out
    return RunResult(
        bundle=bundle,
        step=trainer.progress.step,
        finished=trainer.progress.step >= total,
        losses=out / CSV_NAME,
        plot=out / PLOT_NAME,
    )


def continued(config: Any, *, resume: bool, run: Callable[[World, Path | None], RunResult]) -> RunResult:
    """Join the other processes of a run, find where it begins, and run it.

    Args:
        config: of the run; its `run` section is read here.
        resume: continue after the last checkpoint; without it there must be none.
        run: given this process and the checkpoint to continue after.

    Raises:
        ConfigError: there are checkpoints and the run is not to be continued, or the device is absent.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    world = join_world(config.run.device)
    try:
        checkpoint = last_checkpoint(config.run.out, resume=resume)
        # No process may write before all have looked.
        wait_for_all(world)
        result = run(world, checkpoint)
        wait_for_all(world)
        return result
    finally:
        leave_world(world)


def write_config(config: Any) -> None:
    """Write the configuration with all its defaults into the folder of the run."""
    out = config.run.out
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_NAME).write_text(yaml.safe_dump(to_plain(config), sort_keys=False), encoding="utf-8")
