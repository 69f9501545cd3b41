# SPDX-License-Identifier: Apache-2.0
"""A whole run from its configuration: `train` (joint training) and `distill` (Flash)."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from torch import Tensor, nn

from wam.core.errors import ConfigError
from wam.data.lerobot.reader import LeRobotDataset, open_dataset
from wam.models.bundle import Bundle
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.config import OptimSection, TrainConfig
from wam.policies.aha_wam.training.distill import DistillObjective, draw_distill
from wam.policies.aha_wam.training.export import SAMPLER_STEPS, export_bundle
from wam.policies.aha_wam.training.forward import JointObjective, draw
from wam.policies.aha_wam.training.latents import LatentEncoder
from wam.policies.aha_wam.training.samples import Columns, EpisodeTable
from wam.policies.aha_wam.training.sources import make_source, split_episodes, statistics_of
from wam.policies.aha_wam.training.start import Start, start
from wam.training.checkpoint import (
    full_weights,
    put_weights,
)
from wam.training.runner import BUNDLE, Listener, RunResult, continued, drive, result_of, write_config
from wam.training.loop import Drawing, Trainer, whole_run
from wam.training.optim import make_optimiser
from wam.training.parallel import World, shard
from wam.training.recompute import recompute_blocks
from wam.training.reports import CSV_NAME, PLOT_NAME, plot_losses
from wam.training.statistics import DatasetStats


@dataclass(frozen=True, slots=True)
class _Task:
    """The part in which training and distillation differ."""

    kind: str
    objective: nn.Module
    models: Sequence[AhaWam]
    draw: Drawing
    names: tuple[str, ...]
    sampler_steps: int


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    listener: Listener | None = None,
    stop: Event | None = None,
) -> RunResult:
    """Train planner and executor together (paper section 3).

    Args:
        config: of the run.
        resume: continue after the last checkpoint in `run.out`; without it that folder must not have one.
        until: stop after this step, as an interrupted run does; None runs to the end.
        listener: sees the run.
        stop: once set, the run writes a checkpoint and a bundle and ends after the current step.

    Raises:
        WamError: configuration, data set, weights or statistics cannot be used; nothing has been trained.
        PolicyFault: the loss or gradient is not finite.
    """

    def make(begin: Start) -> _Task:
        if config.model.freeze_video and begin.model.video is not None:
            begin.model.video.requires_grad_(False)
        weight = 0.0 if config.model.freeze_video else config.optim.video_weight
        drawing = functools.partial(
            draw, times=config.optim.noise_times, per_chunk=config.optim.times_per_chunk
        )
        objective = JointObjective(begin.model, video_weight=weight)
        return _Task("train", objective, (begin.model,), drawing, ("total", "video", "action"), SAMPLER_STEPS)

    return _run(
        config, make, use_bundle_stats=False, resume=resume, until=until, listener=listener, stop=stop
    )


def distill(
    config: TrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    listener: Listener | None = None,
    stop: Event | None = None,
) -> RunResult:
    """Distil a trained bundle into few integration steps (AHA-WAM-Flash); arguments as for `train`.

    Raises:
        ConfigError: `model.bundle` is not given.
    """
    if config.model.bundle is None:
        raise ConfigError(
            "model.bundle is missing", allowed="the bundle of the teacher", where="model.bundle"
        )

    def make(begin: Start) -> _Task:
        objective = DistillObjective(begin.model)
        drawing = functools.partial(
            draw_distill, bias=config.distill.anchors, per_chunk=config.distill.anchors_per_chunk
        )
        models = (objective.model, objective.teacher)
        return _Task("distill", objective, models, drawing, ("total",), config.distill.steps)

    return _run(config, make, use_bundle_stats=True, resume=resume, until=until, listener=listener, stop=stop)


def _run(
    config: TrainConfig,
    make: Callable[[Start], _Task],
    *,
    use_bundle_stats: bool,
    resume: bool,
    until: int | None,
    listener: Listener | None,
    stop: Event | None,
) -> RunResult:
    return continued(
        config,
        resume=resume,
        run=lambda world, checkpoint: _run_in(
            world,
            config,
            make,
            use_bundle_stats=use_bundle_stats,
            checkpoint=checkpoint,
            until=until,
            listener=listener or Listener(),
            stop=stop,
        ),
    )


def _run_in(
    world: World,
    config: TrainConfig,
    make: Callable[[Start], _Task],
    *,
    use_bundle_stats: bool,
    checkpoint: Path | None,
    until: int | None,
    listener: Listener,
    stop: Event | None,
) -> RunResult:
    dataset = open_dataset(config.data.root)
    train_episodes, held_out = split_episodes(dataset, config.data, seed=config.run.seed)
    begin = start(config.model, config.data, dataset, weights=world.is_first)
    columns = Columns(config.data.cameras, config.data.state, config.data.action)
    table = EpisodeTable(dataset, train_episodes, columns)
    stats = statistics_of(table, begin, config.data, use_bundle_stats=use_bundle_stats)
    out = config.run.out
    if world.is_first:
        write_config(config)
    encoder = LatentEncoder(begin.vae, begin.config, device=world.device)
    source = make_source(
        table, begin, stats, config, world, encoder=encoder, shuffled=True, on_latents=listener.on_latents
    )
    validation = None
    if held_out:
        held_table = EpisodeTable(dataset, held_out, columns)
        validation = make_source(held_table, begin, stats, config, world, encoder=encoder, shuffled=False)

    task = make(begin)
    _place(task, begin, world, config.optim)
    optimiser = make_optimiser(task.objective.parameters(), config.optim)
    total = whole_run(config.optim, batches_per_epoch=len(source.sampler))
    trainer = Trainer(
        task.objective,
        optimiser,
        draw=task.draw,
        source=source,
        options=config.optim,
        total=total,
        seed=config.run.seed,
        world=world,
        validation=validation,
    )
    student = task.models[0]
    drive(
        trainer,
        model=student,
        objective=task.objective,
        config=config,
        kind=task.kind,
        names=task.names,
        stats=stats,
        samples=len(table),
        batches_per_epoch=len(source.sampler),
        total=total,
        checkpoint=checkpoint,
        listener=listener,
        until=until,
        stop=stop,
    )
    weights = full_weights(student)
    bundle = None
    if world.is_first:
        bundle = _export(out / BUNDLE, begin, weights, stats, config, dataset, task, trainer.progress.step)
        plot_losses(out / CSV_NAME, out / PLOT_NAME, title=f"AHA-WAM {task.kind}: {dataset.root.name}")
    return result_of(config, trainer, total=total, bundle=bundle.directory if bundle is not None else None)


def _place(task: _Task, begin: Start, world: World, options: OptimSection) -> None:
    """Bring the objective to the device, sharded where there are several processes."""
    if options.recompute_blocks:
        recompute_blocks(task.models[0])
    if world.size == 1:
        task.objective.to(world.device)
        return
    weights: Mapping[str, Tensor] = {}
    if world.is_first:
        weights = dict(begin.model.state_dict())
        task.objective.to("meta")
    shard(task.objective, world, precision=options.precision)
    task.objective.to_empty(device=world.device)
    for model in task.models:
        put_weights(model, weights, world)


def _export(
    directory: Path,
    begin: Start,
    weights: Mapping[str, Tensor],
    stats: DatasetStats,
    config: TrainConfig,
    dataset: LeRobotDataset,
    task: _Task,
    step: int,
) -> Bundle:
    shutil.rmtree(directory, ignore_errors=True)
    return export_bundle(
        directory,
        start=begin,
        weights=weights,
        stats=stats.stats,
        data=config.data,
        dataset=dataset,
        dtype=config.run.bundle_dtype,
        steps=task.sampler_steps,
        source={"kind": task.kind, "data_set": dataset.root.name, "step": step},
    )
