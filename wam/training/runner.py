# SPDX-License-Identifier: Apache-2.0
"""Runs a recipe from its configuration to a policy bundle: one implementation for every policy.

join the processes -> data, start, sources, objective (the recipe's) -> place, optimiser, trainer
    -> restore a checkpoint -> train, with losses.csv and checkpoints -> bundle, loss curve
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch
import yaml

from wam.core.contract import TrainedOn
from wam.core.errors import ConfigError
from wam.data.lerobot.origin import read_origin
from wam.data.lerobot.unfinished import lines
from wam.models.bundle import state_training
from wam.training.checkpoint import CONFIG_NAME, last_checkpoint, load_checkpoint, save_checkpoint
from wam.training.closed_loop import BEST, ClosedLoop, SuccessLog, Trial, TrialOutcome, seeds_of
from wam.training.config_reading import ConfigT, to_plain
from wam.training.episodes import open_run_data
from wam.training.loop import Trainer, make_optimiser, whole_run
from wam.training.objective import BatchT, Objective
from wam.training.options import TrainConfig
from wam.training.parallel import World, join_world, leave_world, place, wait_for_all
from wam.training.recipe import Recipe, StartT, Trained
from wam.training.reports import CSV_NAME, PLOT_NAME, LossLog, StepRecord, plot_losses
from wam.training.statistics import DatasetStats

BUNDLE = "bundle"
"""Folder of a run's policy bundle."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is going to do; the listener gets it before the first step.

    Attributes:
        kind: policy and stage, for people.
        samples: of an epoch.
        episodes: of the data set that are used.
        batches_per_epoch: of every process.
        steps: of the whole run.
        first_step: 0, or the step that the run continues after.
        parameters: that learn.
        world: this process among all.
        warnings: what a person should know before the first step.
    """

    kind: str
    samples: int
    episodes: int
    batches_per_epoch: int
    steps: int
    first_step: int
    parameters: int
    world: World
    warnings: tuple[str, ...] = ()


class Listener:
    """Sees a run; the base class does nothing."""

    def on_cache(self, done: int, episodes: int) -> None:
        """Called in every process while the cache of the training episodes is filled."""

    def on_plan(self, plan: RunPlan) -> None:
        """Called once, before the first step."""

    def on_step(self, record: StepRecord) -> None:
        """Called after every step, in every process."""

    def on_checkpoint(self, folder: Path) -> None:
        """Called when a checkpoint is on disk."""

    def on_outcome(self, step: int, outcome: TrialOutcome) -> None:
        """Called after an evaluation in closed loop, in the first process."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left.

    Attributes:
        bundle: policy bundle; None in processes that write no files.
        step: last step.
        finished: whether that is the last of the run.
        losses: `losses.csv`.
        plot: loss curve.
        best: the bundle that did best in closed loop; None where none was evaluated.
        outcome: step and outcome of that evaluation.
    """

    bundle: Path | None
    step: int
    finished: bool
    losses: Path
    plot: Path
    best: Path | None = None
    outcome: tuple[int, TrialOutcome] | None = None


def run_recipe(
    recipe: Recipe[ConfigT, StartT, BatchT],
    config: ConfigT,
    *,
    resume: bool = False,
    until: int | None = None,
    listener: Listener | None = None,
    stop: Event | None = None,
    closed_loop: ClosedLoop | None = None,
) -> RunResult:
    """Train a policy.

    Args:
        recipe: of the policy.
        config: of the run.
        resume: continue after the last checkpoint in `run.out`; without it that folder must not have one.
        until: stop after this step, as an interrupted run does; None runs to the end.
        listener: sees the run.
        stop: once set, the run writes a checkpoint and a bundle and ends after the current step.
        closed_loop: runs the episodes of `run.eval_every`.

    Raises:
        WamError: configuration, data set, weights or statistics cannot be used; nothing has been trained.
        PolicyFault: the loss or gradient is not finite.
    """
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    world = join_world(config.run.device)
    try:
        checkpoint = last_checkpoint(config.run.out, resume=resume)
        # No process may write before all have looked.
        wait_for_all(world)
        result = _run(
            recipe,
            config,
            world=world,
            checkpoint=checkpoint,
            until=until,
            listener=listener or Listener(),
            stop=stop,
            closed_loop=closed_loop,
        )
        wait_for_all(world)
        return result
    finally:
        leave_world(world)


def _run(
    recipe: Recipe[ConfigT, StartT, BatchT],
    config: ConfigT,
    *,
    world: World,
    checkpoint: Path | None,
    until: int | None,
    listener: Listener,
    stop: Event | None,
    closed_loop: ClosedLoop | None,
) -> RunResult:
    data = open_run_data(config.data, recipe.columns(config), seed=config.run.seed)
    # Read before the first step: a damaged file must not end a run after its last one.
    origin = read_origin(data.dataset.root, episodes=len(data.dataset.episodes))
    start = recipe.start(config, data, world=world)
    _require_plain(start.stats)
    task = config.run.task or origin.task
    trained_on = TrainedOn(data.dataset.root.name, len(data.train.episodes), origin.seeds, origin.images)
    evaluated = config.run.eval_every > 0
    seeds = seeds_of(config.run, trained_on, task=task) if evaluated else ()
    if evaluated and closed_loop is None:
        raise ConfigError(
            "nothing here runs the episodes of run.eval_every", where="wam train, not this call"
        )
    if world.is_first:
        _write_config(config)
    source = recipe.source(
        config, start, data.train, world=world, training=True, on_episode=listener.on_cache
    )
    validation = None
    if data.held_out is not None:
        validation = recipe.source(
            config, start, data.held_out, world=world, training=False, on_episode=Listener().on_cache
        )
    objective = recipe.objective(config, start, source, world=world)
    place(objective, world, precision=config.optim.precision)
    batches = len(source.sampler)
    total = whole_run(config.optim, batches_per_epoch=batches)
    trainer = Trainer(
        objective,
        make_optimiser(objective, config.optim, decays=objective.decays),
        source=source,
        options=config.optim,
        total=total,
        seed=config.run.seed,
        world=world,
        validation=validation,
    )
    if checkpoint is not None:
        trainer.position = load_checkpoint(
            checkpoint,
            model=objective.network,
            optimiser=trainer.optimiser,
            config=config,
            world=world,
            average=trainer.average,
        )
    stage = recipe.stage(config)
    plan = RunPlan(
        kind=f"{recipe.title} {stage}",
        samples=len(data.train),
        episodes=start.stats.episodes,
        batches_per_epoch=batches,
        steps=total,
        first_step=trainer.position.step,
        parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        world=world,
        warnings=(*lines(data.dataset.unfinished), *source.warnings),
    )
    listener.on_plan(plan)
    out = config.run.out
    success = None
    if evaluated and world.is_first:
        success = SuccessLog(out, after_step=trainer.position.step, patience=config.run.eval_patience)

    def export() -> Path | None:
        weights = trainer.exported()
        if not world.is_first:
            return None
        shutil.rmtree(out / BUNDLE, ignore_errors=True)
        exported = recipe.export(out / BUNDLE, config, start, Trained(weights, data, trainer.position.step))
        return state_training(exported, task=task, trained_on=trained_on).directory

    def on_evaluate() -> bool:
        bundle, step = export(), trainer.position.step
        if bundle is None or success is None or closed_loop is None:
            return True
        outcome = closed_loop(Trial(bundle, task, seeds, origin.images))
        listener.on_outcome(step, outcome)
        return success.add(step, outcome, bundle=bundle)

    _train(
        trainer,
        objective,
        config=config,
        stats=start.stats,
        listener=listener,
        until=min(until or total, total),
        on_evaluate=on_evaluate,
        stop=stop,
    )
    bundle = export()
    step = trainer.position.step
    if world.is_first:
        title = f"{recipe.title} {stage}: {data.dataset.root.name}"
        plot_losses(out / CSV_NAME, out / PLOT_NAME, title=title)
    scored = success is not None and success.best is not None
    return RunResult(
        bundle=bundle,
        step=step,
        finished=step >= total or (success is not None and success.gave_up),
        losses=out / CSV_NAME,
        plot=out / PLOT_NAME,
        best=out / BEST if scored else None,
        outcome=success.best if success is not None else None,
    )


def _require_plain(stats: DatasetStats) -> None:
    """Refuse statistics of a bundle that states units: rows of a data set are normalised as they are.

    Raises:
        ConfigError: it does.
    """
    if stats.stats.state.units or stats.stats.action.units:
        raise ConfigError(
            "training continues from a bundle whose columns state units, and data sets state none",
            allowed="the bundle as it was before `wam convert units`; state the units of the trained one afterwards",
            where="model.bundle, or --teacher",
        )


def _train(
    trainer: Trainer[BatchT],
    objective: Objective[BatchT],
    *,
    config: TrainConfig,
    stats: DatasetStats,
    listener: Listener,
    until: int,
    on_evaluate: Callable[[], bool],
    stop: Event | None,
) -> None:
    """Train up to a step; write losses and checkpoints."""
    run, world = config.run, trainer.world
    log = None
    if world.is_first:
        log = LossLog(
            run.out,
            names=objective.loss_names,
            after_step=trainer.position.step,
            tensorboard=run.tensorboard,
        )

    def on_step(record: StepRecord) -> None:
        if log is not None:
            log(record)
            if record.error is not None:
                record.error.write(run.out, step=record.step)
        listener.on_step(record)

    def on_checkpoint() -> None:
        folder = save_checkpoint(
            model=objective.network,
            optimiser=trainer.optimiser,
            position=trainer.position,
            config=config,
            stats=stats,
            world=world,
            average=trainer.average,
        )
        listener.on_checkpoint(folder)

    try:
        trainer.run(
            until=until,
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            checkpoint_every=run.checkpoint_every,
            validate_every=run.validate_every,
            on_evaluate=on_evaluate,
            evaluate_every=run.eval_every,
            stop=stop,
        )
    finally:
        if log is not None:
            log.close()


def _write_config(config: TrainConfig) -> None:
    """Write the configuration with all its defaults into the folder of the run."""
    out = config.run.out
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFIG_NAME).write_text(yaml.safe_dump(to_plain(config), sort_keys=False), encoding="utf-8")
