# SPDX-License-Identifier: Apache-2.0
"""A whole UD-VLA run from its configuration: data, loop, checkpoints, bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Event

import torch
from torch import Tensor
from transformers.models.emu3.modeling_emu3 import Emu3DecoderLayer

from wam.core.clock import NS_PER_S
from wam.data.lerobot.reader import LeRobotDataset, open_dataset
from wam.models.bundle import Bundle
from wam.models.robot_layout import RobotLayout
from wam.policies.aha_wam.training.samples import Columns, EpisodeTable
from wam.policies.aha_wam.training.sources import split_episodes
from wam.policies.ud_vla.initialise import decoder_name, vision_name
from wam.policies.ud_vla.training.config import UdVlaTrainConfig
from wam.policies.ud_vla.training.data import NORM, ActionChunks, make_source
from wam.policies.ud_vla.training.objective import ObjectiveConfig, Stage
from wam.policies.ud_vla.training.start import UdVlaStart, open_start, ud_vla_start
from wam.policies.ud_vla.training.trainable import LOSS_NAMES, UdVlaTrainable
from wam.policies.ud_vla.writing import write_policy
from wam.training.checkpoint import full_weights, put_weights
from wam.training.logged import BUNDLE, Listener, RunResult, continued, drive, result_of, write_config
from wam.training.loop import Trainer, whole_run
from wam.training.optim import make_optimiser
from wam.training.parallel import World, shard
from wam.training.reports import CSV_NAME, PLOT_NAME, plot_losses
from wam.training.robot_data import VideoTable, joint_names, table_statistics
from wam.training.statistics import DatasetStats

MUST_AGREE = ("model", "data", "actions", "objective", "optim")
MAY_DIFFER = ("workers", "code_cache", "accumulate")


def train_ud_vla(
    config: UdVlaTrainConfig,
    *,
    resume: bool = False,
    until: int | None = None,
    listener: Listener | None = None,
    stop: Event | None = None,
) -> RunResult:
    """Train one stage of UD-VLA (paper section 3.3).

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
    return continued(
        config,
        resume=resume,
        run=lambda world, checkpoint: _run_in(
            world, config, checkpoint, until=until, listener=listener or Listener(), stop=stop
        ),
    )


def _run_in(
    world: World,
    config: UdVlaTrainConfig,
    checkpoint: Path | None,
    *,
    until: int | None,
    listener: Listener,
    stop: Event | None,
) -> RunResult:
    data, video = config.data, config.objective.stage is Stage.VIDEO
    dataset = open_dataset(data.root)
    given = open_start(config)
    episodes, held_out = split_episodes(dataset, data, seed=config.run.seed)  # type: ignore[arg-type]
    state_joints, action_joints = joint_names(data, dataset, given.manifest if given is not None else None)
    # Videos may come without a robot.
    robot = data.state is not None and data.action is not None
    columns = Columns(data.cameras, data.state or "", data.action or "") if robot else Columns(data.cameras)
    make_table = EpisodeTable if robot else VideoTable
    table = make_table(dataset, episodes, columns)
    stats = table_statistics(
        table,
        given.stats if given is not None else None,
        min_std=data.min_std,
        state_joints=state_joints,
        action_joints=action_joints,
    )

    def chunks_of(of: EpisodeTable | VideoTable) -> ActionChunks | None:
        return ActionChunks(of, stats, stride=data.stride) if isinstance(of, EpisodeTable) else None

    chunks = chunks_of(table)
    start = ud_vla_start(
        config,
        given,
        joints=len(action_joints),
        windows=lambda rows: [] if chunks is None else chunks.spread(rows),
    )
    start.vision.to(world.device)
    out = config.run.out
    if world.is_first:
        write_config(config)
    train = make_source(table, start, config, world, actions=None if video else chunks, training=True)
    validation = None
    if held_out:
        held = make_table(dataset, held_out, columns)
        validation = make_source(
            held, start, config, world, actions=None if video else chunks_of(held), training=False
        )
    trainable = _trainable(config, start)
    _place(trainable, world, config)
    optimiser = make_optimiser(trainable.parameters(), config.optim)  # type: ignore[arg-type]
    total = whole_run(config.optim, batches_per_epoch=len(train.sampler))  # type: ignore[arg-type]
    trainer = Trainer(
        trainable,
        optimiser,
        draw=trainable.draw,  # type: ignore[arg-type]
        source=train,  # type: ignore[arg-type]
        options=config.optim,  # type: ignore[arg-type]
        total=total,
        seed=config.run.seed,
        world=world,
        validation=validation,  # type: ignore[arg-type]
    )
    kind = f"ud-vla {config.objective.stage.value}"
    drive(
        trainer,
        model=trainable,
        objective=trainable,
        config=config,
        kind=kind,
        names=LOSS_NAMES[config.objective.stage],
        stats=stats,
        samples=len(table),
        batches_per_epoch=len(train.sampler),
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
        bundle = export_ud_vla(
            out / BUNDLE,
            config,
            start,
            weights,
            stats,
            dataset,
            joints=(state_joints, action_joints),
            step=trainer.progress.step,
        )
        plot_losses(
            out / CSV_NAME,
            out / PLOT_NAME,
            title=f"UD-VLA {config.objective.stage.value}: {dataset.root.name}",
        )
    return result_of(config, trainer, total=total, bundle=bundle.directory if bundle is not None else None)


def _trainable(config: UdVlaTrainConfig, start: UdVlaStart) -> UdVlaTrainable:
    section = config.objective
    if config.optim.recompute_layers:
        start.decoder.lm.model.gradient_checkpointing_enable()
    return UdVlaTrainable(
        start.decoder,
        layout=start.layout,
        stage=section.stage,
        objective=ObjectiveConfig(
            law=section.law, visual_weight=section.visual_weight, protect_marks=section.protect_marks
        ),
        dropout=config.optim.dropout,
    )


def _place(trainable: UdVlaTrainable, world: World, config: UdVlaTrainConfig) -> None:
    trainable.to(world.device)
    if world.size > 1:
        weights = dict(trainable.state_dict()) if world.is_first else {}
        shard(trainable, world, precision=config.optim.precision, blocks=(Emu3DecoderLayer,))
        put_weights(trainable, weights, world)


def export_ud_vla(
    directory: Path,
    config: UdVlaTrainConfig,
    start: UdVlaStart,
    weights: Mapping[str, Tensor],
    stats: DatasetStats,
    dataset: LeRobotDataset,
    *,
    joints: tuple[tuple[str, ...], tuple[str, ...]],
    step: int,
) -> Bundle:
    """Write the bundle of a run: the decoder as it is now, the image tokenizer as it was.

    Args:
        directory: replaced as a whole.
        config: of the run.
        start: what the run took over.
        weights: of the trainable, by its names.
        stats: of the data set.
        dataset: gives rate and instruction.
        joints: names of state and action joints.
        step: last one.
    """
    shutil.rmtree(directory, ignore_errors=True)
    dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
    decoder = {decoder_name(n.removeprefix("decoder.")): t.to("cpu", dtype) for n, t in weights.items()}
    vision = {vision_name(n): t.cpu() for n, t in start.vision.state_dict().items()}
    state_joints, action_joints = joints
    robot = RobotLayout(
        cameras=tuple(camera.name for camera in start.cameras),
        state_joints=state_joints,
        action_joints=action_joints,
        centre=(0.0,) * len(action_joints),
        spread=(1.0,) * len(action_joints),
        control_period_ns=round(NS_PER_S * config.data.stride / dataset.fps),
        instruction=next(iter(dataset.tasks.values())),
    )
    return write_policy(
        directory,
        config=start.config,
        cameras=start.cameras,
        robot=robot,
        stats=stats.stats,
        chunk_rows=start.chunk_rows,
        action_norm=NORM,
        dtype=config.run.bundle_dtype.value,
        sampler=start.sampler,
        fast=start.fast,
        text=start.text_section,
        tensors={**decoder, **vision},
        source={
            **start.source,
            "kind": f"train ud-vla {config.objective.stage.value}",
            "data_set": dataset.root.name,
            "step": step,
        },
        files=start.files,
        template=start.template,
    )
