# SPDX-License-Identifier: Apache-2.0
"""A whole DUST run from its configuration: data, loop, checkpoints, bundle."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import torch

from wam.core.errors import ConfigError
from wam.data.lerobot.reader import open_dataset
from wam.policies.aha_wam.training.config import Precision
from wam.policies.dust.training.config import DustTrainConfig, ObjectiveKind
from wam.policies.dust.training.data import DustSource, dust_data
from wam.policies.dust.training.export import export_dust
from wam.policies.dust.training.flare import Alignment
from wam.policies.dust.training.losses import DustObjective
from wam.policies.dust.training.objective import DustTrainable, make_dust_optimiser
from wam.policies.dust.training.start import DustStart, dust_start
from wam.training.checkpoint import full_weights, put_weights
from wam.training.runner import BUNDLE, Listener, RunResult, continued, drive, result_of, write_config
from wam.training.loop import Trainer, whole_run
from wam.training.parallel import World, shard
from wam.training.reports import CSV_NAME, PLOT_NAME, plot_losses

LOSS_NAMES = ("total", "action", "world")
MUST_AGREE = ("model", "data", "objective", "optim")
MAY_DIFFER = ("workers", "feature_cache", "accumulate")


def train_dust(
    config: DustTrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    listener: Listener | None = None,
    stop: Event | None = None,
) -> RunResult:
    """Train a DUST policy, one of its ablations or one of its baselines.

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
    torch.set_float32_matmul_precision("high")
    return continued(
        config,
        resume=resume,
        run=lambda world, checkpoint: _run_in(
            world, config, checkpoint, until=until, listener=listener or Listener(), stop=stop
        ),
    )


def _run_in(
    world: World,
    config: DustTrainConfig,
    checkpoint: Path | None,
    *,
    until: int | None,
    listener: Listener,
    stop: Event | None,
) -> RunResult:
    dataset = open_dataset(config.data.root)
    start = dust_start(config)
    data = dust_data(config, dataset, start, world)
    out = config.run.out
    if world.is_first:
        write_config(config)
    trainable = _trainable(config, start)
    if start.scale is not None and start.policy is None:
        _fit_scale(trainable, data.train, world)
    _place(trainable, world, config.optim.precision)
    optimiser = make_dust_optimiser(trainable, config.optim)
    total = whole_run(config.optim, batches_per_epoch=len(data.train.sampler))  # type: ignore[arg-type]
    trainer = Trainer(
        trainable,
        optimiser,
        draw=trainable.draw,  # type: ignore[arg-type]
        source=data.train,  # type: ignore[arg-type]
        options=config.optim,  # type: ignore[arg-type]
        total=total,
        seed=config.run.seed,
        world=world,
        validation=data.validation,  # type: ignore[arg-type]
    )
    drive(
        trainer,
        model=trainable,
        objective=trainable,
        config=config,
        kind=f"dust {config.objective.kind.value}",
        names=LOSS_NAMES,
        stats=data.stats,
        samples=data.samples,
        batches_per_epoch=len(data.train.sampler),
        total=total,
        checkpoint=checkpoint,
        listener=listener,
        until=until,
        stop=stop,
        must_agree=MUST_AGREE,
        may_differ=MAY_DIFFER,
    )
    weights = full_weights(trainable)
    bundle = None
    if world.is_first:
        bundle = export_dust(out / BUNDLE, config, start, weights, data, dataset, step=trainer.progress.step)
        plot_losses(
            out / CSV_NAME, out / PLOT_NAME, title=f"DUST {config.objective.kind.value}: {dataset.root.name}"
        )
    return result_of(config, trainer, total=total, bundle=bundle.directory if bundle is not None else None)


def _trainable(config: DustTrainConfig, start: DustStart) -> DustTrainable:
    section = config.objective
    objective = DustObjective(
        world_weight=section.world_weight,
        action_law=section.action_law,
        vision_law=section.vision_law,
        joint_noise=section.joint_noise,
        action_free=section.kind is ObjectiveKind.ACTION_FREE,
        action_free_time=section.action_free_time,
    )
    alignment = None
    if section.kind is ObjectiveKind.ALIGNMENT:
        try:
            alignment = Alignment(start.config, layer=section.alignment_layer)
        except ValueError as error:
            raise ConfigError(f"objective: {error}", where="objective.alignment_layer") from error
    slot = start.policy.embodiment if start.policy is not None else config.model.embodiment
    return DustTrainable(
        start.backbone.linear,
        start.head,
        objective=objective,
        slot=slot,
        scale=start.scale,
        alignment=alignment,
        weight=section.world_weight,
    ).train()


def _fit_scale(trainable: DustTrainable, source: DustSource, world: World) -> None:
    """Take the scale of the target from the first batches; every process takes the same ones."""
    assert trainable.target is not None
    targets = [
        source.latents(batch, world.device).target_BPO
        for batch, _ in zip(source.epoch(), range(8), strict=False)
    ]
    trainable.target.to(world.device).fit(torch.cat(targets))


def _place(trainable: DustTrainable, world: World, precision: Precision) -> None:
    trainable.to(world.device)
    if world.size > 1:
        weights = dict(trainable.state_dict()) if world.is_first else {}
        shard(trainable, world, precision=precision)
        put_weights(trainable, weights, world)
