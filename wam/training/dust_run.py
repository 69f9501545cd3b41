# SPDX-License-Identifier: Apache-2.0
"""A whole DUST run from its configuration: data, loop, checkpoints, bundle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import yaml
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
from torch.utils.data import DataLoader, Dataset

from wam.core.clock import NS_PER_S
from wam.core.errors import BundleError, ConfigError
from wam.datasets.lerobot import LeRobotDataset, open_dataset
from wam.models.bundle import Bundle, BundleCamera, Manifest, open_weights, write_bundle
from wam.models.bundle.weights import iterate
from wam.models.dust.config import DustConfig
from wam.models.dust.policy import KIND, model_section
from wam.models.dust.prompt import TOKENIZER_FILE
from wam.models.dust.schedule import SamplerSettings
from wam.models.dust.units import ActionUnits, StateUnits
from wam.models.normalisation import FieldStats, NormMode, PolicyStats
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
from wam.training.config import Precision, to_plain
from wam.training.dust_config import DustTrainConfig, ObjectiveKind
from wam.training.dust_features import CachedSamples, FeatureEncoder, fill_feature_cache
from wam.training.dust_flare import Alignment
from wam.training.dust_losses import DustObjective
from wam.training.dust_objective import DustTrainable, make_dust_optimiser
from wam.training.dust_samples import (
    DustFeatures,
    DustPixels,
    PixelSamples,
    SampleTable,
    VideoTable,
    collate,
    move,
)
from wam.training.dust_start import DustStart, dust_start, joint_names
from wam.training.loop import Trainer, whole_run
from wam.training.parallel import World, join_world, leave_world, shard
from wam.training.reports import CSV_NAME, PLOT_NAME, LossLog, StepRecord, plot_losses
from wam.training.run import BUNDLE, Listener, RunPlan, RunResult
from wam.training.sampler import HistoryBatchSampler
from wam.training.samples import Columns, EpisodeTable
from wam.training.sources import split_episodes
from wam.training.statistics import DatasetStats

LOSS_NAMES = ("total", "action", "world")
MUST_AGREE = ("model", "data", "objective", "optim")
FREE_KEYS = ("workers", "feature_cache")
ACTION_MODE = NormMode.MIN_MAX


@dataclass(frozen=True, slots=True)
class DustSource:
    """Where batches come from; the same methods as `wam.training.loop.Source`.

    Attributes:
        samples: of pictures or of cached features.
        sampler: which samples, in which order.
        encoder: frozen backbone; unused for cached features.
        workers: data loader processes.
    """

    samples: Dataset[Any]
    sampler: HistoryBatchSampler
    encoder: FeatureEncoder
    workers: int

    def stream(self, position: int) -> Iterator[DustPixels | DustFeatures]:
        """Yield this process's batches without end, from the given one on."""
        epoch, batch = divmod(position, len(self.sampler))
        while True:
            self.sampler.seek(epoch=epoch, batch=batch)
            yield from self._loader()
            epoch, batch = epoch + 1, 0

    def epoch(self) -> Iterator[DustPixels | DustFeatures]:
        """Yield the batches of epoch 0 once."""
        self.sampler.seek(epoch=0, batch=0)
        yield from self._loader()

    def latents(self, batch: DustPixels | DustFeatures, device: torch.device) -> DustFeatures:
        """Bring a batch to the device and through the backbone."""
        moved = move(batch, device)
        return moved if isinstance(moved, DustFeatures) else self.encoder.batch(moved)

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.samples,
            batch_sampler=self.sampler,
            num_workers=self.workers,
            collate_fn=collate,
            # A forked copy of a process that has used CUDA or threads may hang.
            multiprocessing_context="spawn" if self.workers else None,
        )


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
    data = _data(config, dataset, start, world)
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


@dataclass(frozen=True, slots=True)
class _Data:
    """Batches, and what the bundle says about the robot."""

    train: DustSource
    validation: DustSource | None
    samples: int
    stats: DatasetStats
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]
    binary: tuple[str, ...]


def _data(config: DustTrainConfig, dataset: LeRobotDataset, start: DustStart, world: World) -> _Data:
    data = config.data
    episodes, held_out = split_episodes(dataset, data, seed=config.run.seed)  # type: ignore[arg-type]
    state_joints, action_joints = joint_names(config, dataset, start)
    binary = tuple(data.binary_joints) or (start.policy.binary_joints if start.policy else ())
    if unknown := sorted(set(binary) - set(action_joints)):
        raise ConfigError("data.binary_joints", value=unknown, allowed=f"some of {list(action_joints)}")
    # Videos are pictures alone, even where somebody recorded a robot beside them.
    video = config.objective.kind is ObjectiveKind.ACTION_FREE
    columns = Columns(data.cameras) if video else Columns(data.cameras, data.state or "", data.action or "")
    make_table = VideoTable if video else EpisodeTable
    table = make_table(dataset, episodes, columns)
    stats = _statistics(table, start, data.min_std, state_joints=state_joints, action_joints=action_joints)
    units = None if video else units_of(stats.stats, start.config, action_joints, binary)
    dtype = torch.bfloat16 if config.optim.precision is Precision.BFLOAT16 else torch.float32
    encoder = FeatureEncoder(start.backbone, device=world.device, dtype=dtype)

    def source(of: EpisodeTable | VideoTable, *, training: bool) -> DustSource:
        samples = SampleTable(of, start.config, units=units, count_past_end=data.count_past_end)
        prompts = _prompts(of, dataset, start)
        augment = config.run.seed if data.augment and training else None
        pixels = PixelSamples(samples, prompts, crop=data.crop, augment=augment)
        sampler = HistoryBatchSampler(
            [0] * len(of),
            batch_size=config.optim.batch_size,
            seed=config.run.seed,
            rank=world.rank if training else 0,
            world=world.size if training else 1,
        )
        if data.feature_cache is None:
            return DustSource(pixels, sampler, encoder, data.workers)
        files = fill_feature_cache(
            data.feature_cache, pixels, encoder, crop=data.crop, rank=world.rank, world=world.size
        )
        if world.size > 1:
            dist.barrier()
        return DustSource(CachedSamples(pixels, files), sampler, encoder, data.workers)

    validation = source(make_table(dataset, held_out, columns), training=False) if held_out else None
    train = source(table, training=True)
    return _Data(train, validation, len(table), stats, state_joints, action_joints, binary)


def units_of(
    stats: PolicyStats, config: DustConfig, action_joints: tuple[str, ...], binary: tuple[str, ...]
) -> tuple[StateUnits, ActionUnits]:
    """Return the maps between SI units and the head's numbers that a run trains with.

    Raises:
        ConfigError: there are more joints than the network has values.
    """
    for label, width, most in (
        ("state", stats.state.width, config.state_dim),
        ("action", stats.action.width, config.action_dim),
    ):
        if width > most:
            raise ConfigError(f"{width} {label} numbers", allowed=f"at most {most}, the width of the network")
    columns = tuple(action_joints.index(joint) for joint in binary)
    return (
        StateUnits(stats.state, mode=ACTION_MODE, padded=config.state_dim),
        ActionUnits(stats.action, mode=ACTION_MODE, padded=config.action_dim, binary=columns),
    )


def _statistics(
    table: EpisodeTable | VideoTable,
    start: DustStart,
    min_std: float,
    *,
    state_joints: tuple[str, ...],
    action_joints: tuple[str, ...],
) -> DatasetStats:
    """Return those of the data set; of the bundle, or unit ones, where there is no robot in it."""
    if isinstance(table, EpisodeTable):
        return table.statistics(min_std=min_std)
    stats = start.stats
    if stats is None:
        stats = PolicyStats(_unit(len(state_joints)), _unit(len(action_joints)))
    return DatasetStats(stats, len(table.episodes), len(table))


def _unit(width: int) -> FieldStats:
    ones = np.ones(width)
    return FieldStats({"mean": 0 * ones, "std": ones, "min": -ones, "max": ones})


def _prompts(
    table: EpisodeTable | VideoTable, dataset: LeRobotDataset, start: DustStart
) -> dict[int, torch.Tensor]:
    """Return the tokens of every instruction of the episodes."""
    used = sorted({int(t) for tasks in table.tasks for t in np.unique(tasks)})
    missing = [t for t in used if t not in dataset.tasks]
    if missing:
        raise ConfigError(
            f"{dataset.root}: task numbers {missing[:4]} have no text", allowed=f"{sorted(dataset.tasks)}"
        )
    return {t: start.prompter(dataset.tasks[t]) for t in used}


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


def export_dust(
    directory: Path,
    config: DustTrainConfig,
    start: DustStart,
    weights: dict[str, torch.Tensor],
    data: _Data,
    dataset: LeRobotDataset,
    *,
    step: int,
) -> Bundle:
    """Write the bundle of a run: the backbone as it was, the projection and the head as they are now.

    The alignment of the baseline is of training alone and is left out.
    """
    shutil.rmtree(directory, ignore_errors=True)
    dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
    backbone = {n: t for n, t in start.backbone.state_dict().items() if not n.startswith("linear.")}
    tensors = {f"backbone.{n}": t for n, t in backbone.items()}
    for name, tensor in weights.items():
        if name.startswith("linear."):
            tensors[f"backbone.{name}"] = tensor
        elif name.startswith(("head.", "target.")):
            tensors[name] = tensor
    size = start.config.eagle.image_size
    names = config.data.camera_names or tuple(c.rsplit(".", 1)[-1] for c in config.data.cameras)
    text = dict(start.text_section)
    tokenizer = Path(text["directory"]) if text.get("kind") == "bpe" else None
    if tokenizer is not None:
        text["directory"] = "tokenizer"
    sampler = start.policy.sampler if start.policy is not None else SamplerSettings()
    bundle = write_bundle(
        directory,
        manifest=Manifest(
            kind=KIND,
            model=model_section(
                start.config,
                embodiment=start.policy.embodiment if start.policy is not None else config.model.embodiment,
                crop=config.data.crop,
                binary_joints=data.binary,
            ),
            cameras=tuple(BundleCamera(name, size, size) for name in names),
            state_joints=data.state_joints,
            action_joints=data.action_joints,
            control_period_ns=round(NS_PER_S / dataset.fps),
            chunk_rows=start.config.action_rows,
            horizon_rows=start.config.action_rows,
            instruction=next(iter(dataset.tasks.values())),
            instruction_template=start.template,
            state_norm=ACTION_MODE,
            action_norm=ACTION_MODE,
            dtype=config.run.bundle_dtype.value,
            text=text,
            sampler=replace(sampler, q=1 if not start.head.has_vision else sampler.q).to_dict(),
            source={
                **start.source,
                "kind": f"train dust {config.objective.kind.value}",
                "data_set": dataset.root.name,
                "step": step,
            },
        ),
        stats=data.stats.stats,
        tensors={n: t.to("cpu", dtype) for n, t in tensors.items()},
    )
    if tokenizer is not None:
        (directory / "tokenizer").mkdir()
        shutil.copyfile(tokenizer / TOKENIZER_FILE, directory / "tokenizer" / TOKENIZER_FILE)
    return bundle
