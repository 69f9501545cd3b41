# SPDX-License-Identifier: Apache-2.0
"""A whole DUST run from its configuration: data, loop, checkpoints, bundle."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import torch
import yaml
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

from wam.core.errors import BundleError, ConfigError
from wam.datasets.lerobot import open_dataset
from wam.models.bundle import open_weights
from wam.models.bundle.weights import iterate
from wam.training.checkpoint import (
    CONFIG_NAME,
    FORMAT,
    STATE_NAME,
    Progress,
    full_weights,
    list_checkpoints,
    put_weights,
    save_checkpoint,
)
from wam.training.config import Precision
from wam.training.config_reading import to_plain
from wam.training.dust_config import DustTrainConfig, ObjectiveKind
from wam.training.dust_data import DustSource, dust_data
from wam.training.dust_export import export_dust
from wam.training.dust_flare import Alignment
from wam.training.dust_losses import DustObjective
from wam.training.dust_objective import DustTrainable, make_dust_optimiser
from wam.training.dust_start import DustStart, dust_start
from wam.training.loop import Trainer, whole_run
from wam.training.parallel import World, join_world, leave_world, shard
from wam.training.reports import CSV_NAME, PLOT_NAME, LossLog, StepRecord, plot_losses
from wam.training.run import BUNDLE, Listener, RunPlan, RunResult
from wam.training.statistics import DatasetStats

LOSS_NAMES = ("total", "action", "world")
MUST_AGREE = ("model", "data", "objective", "optim")
FREE_KEYS = ("workers", "feature_cache")


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
    checkpoints = list_checkpoints(config.run.out)
    if checkpoints and not resume:
        raise ConfigError(
            f"{config.run.out} holds checkpoints up to {checkpoints[-1].name}",
            allowed="a new folder, or --resume",
            where="run.out",
        )
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    torch.set_float32_matmul_precision("high")
    world = join_world(config.run.device)
    try:
        checkpoint = checkpoints[-1] if checkpoints else None
        return _run_in(world, config, checkpoint, until=until, listener=listener or Listener(), stop=stop)
    finally:
        leave_world(world)


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
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG_NAME).write_text(yaml.safe_dump(to_plain(config), sort_keys=False), encoding="utf-8")
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
    if checkpoint is not None:
        trainer.progress = _load(checkpoint, trainable, optimiser, config, world)
    listener.on_plan(
        RunPlan(
            kind=f"dust {config.objective.kind.value}",
            samples=data.samples,
            episodes=data.stats.episodes,
            batches_per_epoch=len(data.train.sampler),
            steps=total,
            first_step=trainer.progress.step,
            parameters=sum(p.numel() for p in trainable.parameters() if p.requires_grad),
            world=world,
        )
    )
    _loop(trainer, trainable, config, data.stats, listener, until=min(until or total, total), stop=stop)
    weights = full_weights(trainable)
    bundle = None
    if world.is_first:
        bundle = export_dust(out / BUNDLE, config, start, weights, data, dataset, step=trainer.progress.step)
        plot_losses(
            out / CSV_NAME, out / PLOT_NAME, title=f"DUST {config.objective.kind.value}: {dataset.root.name}"
        )
    return RunResult(
        bundle=bundle.directory if bundle is not None else None,
        step=trainer.progress.step,
        finished=trainer.progress.step >= total,
        losses=out / CSV_NAME,
        plot=out / PLOT_NAME,
    )


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


def _loop(
    trainer: Trainer,
    trainable: DustTrainable,
    config: DustTrainConfig,
    stats: DatasetStats,
    listener: Listener,
    *,
    until: int,
    stop: Event | None,
) -> None:
    run, world = config.run, trainer.world
    log = None
    if world.is_first:
        log = LossLog(
            run.out, names=LOSS_NAMES, after_step=trainer.progress.step, tensorboard=run.tensorboard
        )

    def on_step(record: StepRecord) -> None:
        if log is not None:
            log(record)
        listener.on_step(record)

    def on_checkpoint() -> None:
        folder = save_checkpoint(
            model=trainable,
            optimiser=trainer.optimiser,
            progress=trainer.progress,
            config=config,  # type: ignore[arg-type]
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


def _load(
    folder: Path,
    trainable: DustTrainable,
    optimiser: torch.optim.Optimizer,
    config: DustTrainConfig,
    world: World,
) -> Progress:
    """Restore weights, optimiser and position.

    Raises:
        BundleError: a file is missing, truncated or of another format or network.
        ConfigError: the configuration is not the one of the checkpoint.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        raise BundleError(f"{path} is missing", allowed="a complete checkpoint", where="--resume")
    stored, mine = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8")), to_plain(config)
    changed = [
        f"{section}.{key}: {stored[section].get(key)!r} then, {value!r} now"
        for section in MUST_AGREE
        for key, value in mine[section].items()
        if stored[section].get(key) != value and key not in FREE_KEYS
    ]
    if changed or stored["run"]["seed"] != config.run.seed:
        raise ConfigError(
            f"the configuration differs from the checkpoint's in {folder}: {'; '.join(changed[:4]) or 'run.seed'}",
            allowed=f"the same seed and sections {', '.join(MUST_AGREE)}",
            where="--config, or start a new run",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = state["format"]
    except (RuntimeError, KeyError, EOFError, ValueError) as error:
        raise BundleError(f"{path} is damaged: {type(error).__name__} {error}", where="--resume") from error
    if found != FORMAT:
        raise BundleError(f"{path}: format", value=found, allowed=FORMAT, where="--resume")
    index = open_weights(folder)
    want = {name: tuple(t.shape) for name, t in trainable.state_dict().items()}
    index.require(want, what=f"the network of {folder}")
    put_weights(trainable, dict(iterate(index, want)) if world.is_first else {}, world)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=world.size > 1)
    set_optimizer_state_dict(
        trainable, optimiser, state["optimiser"] if world.is_first else {}, options=options
    )
    return Progress(int(state["step"]), int(state["batches"]))
