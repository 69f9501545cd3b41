# SPDX-License-Identifier: Apache-2.0
"""The recipe of UD-VLA: video world-modelling, then joint denoising of image and action (paper section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from wam.core.clock import NS_PER_S
from wam.models.bundle import Bundle
from wam.models.robot_layout import RobotLayout
from wam.policies.ud_vla.initialise import decoder_name, vision_name
from wam.policies.ud_vla.training.config import UdVlaTrainConfig
from wam.policies.ud_vla.training.data import NORM, ActionChunks, ud_vla_source
from wam.policies.ud_vla.training.objective import ObjectiveConfig, TrainingStage
from wam.policies.ud_vla.training.start import UdVlaStart, open_start, ud_vla_start
from wam.policies.ud_vla.training.trainable import UdVlaCodes, UdVlaTrainable
from wam.policies.ud_vla.writing import write_policy
from wam.training.episodes import Columns, EpisodeTable, RunData, VideoTable, joint_names, run_statistics
from wam.training.objective import Objective
from wam.training.parallel import World
from wam.training.recipe import Recipe, Trained
from wam.training.source import Source
from wam.training.statistics import DatasetStats


@dataclass(frozen=True, slots=True)
class UdVlaRun:
    """What the stages of a run share.

    Attributes:
        begin: network, image tokenizer, text and action vocabulary.
        stats: that the run normalises with.
        state_joints: names of the state joints.
        action_joints: names of the action joints.
    """

    begin: UdVlaStart
    stats: DatasetStats
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]


def _chunks(table: VideoTable, stats: DatasetStats, *, stride: int) -> ActionChunks | None:
    return ActionChunks(table, stats, stride=stride) if isinstance(table, EpisodeTable) else None


class UdVlaRecipe:
    """Trains every weight of the decoder in one of the two stages; the image tokenizer stays as it is."""

    title = "UD-VLA"
    config_type = UdVlaTrainConfig

    def stage(self, config: UdVlaTrainConfig) -> str:
        """Return "video" or "jd3p"."""
        return config.objective.stage.value

    def columns(self, config: UdVlaTrainConfig) -> Columns:
        """Return the columns; videos may come without a robot."""
        data = config.data
        return (
            Columns(data.cameras, data.state, data.action)
            if data.has_robot
            else Columns(data.cameras, None, None)
        )

    def start(self, config: UdVlaTrainConfig, data: RunData, *, world: World) -> UdVlaRun:
        """Make the network, and an action vocabulary where none is given.

        Raises:
            BundleError: a bundle is of another kind, missing or damaged, or a joint never moves.
            ConfigError: sizes, cameras, masks or joints do not fit, or the vocabulary has no room.
        """
        section, bundle = config.data, open_start(config)
        state_joints, action_joints = joint_names(
            section,
            data.dataset,
            state_names=section.state_names or section.joint_names,
            manifest=bundle.manifest if bundle is not None else None,
        )
        stats = run_statistics(
            data.train,
            bundle.stats if bundle is not None else None,
            min_std=section.min_std,
            joints=(len(state_joints), len(action_joints)),
        )
        chunks = _chunks(data.train, stats, stride=section.stride)
        begin = ud_vla_start(
            config,
            bundle,
            joints=len(action_joints),
            windows=lambda rows: [] if chunks is None else chunks.spread(rows),
        )
        begin.vision.to(world.device)
        return UdVlaRun(begin, stats, state_joints, action_joints)

    def source(
        self,
        config: UdVlaTrainConfig,
        start: UdVlaRun,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[UdVlaCodes]:
        """Return batches of codes, from the cache where the configuration names one; see `ud_vla_source`."""
        video = config.objective.stage is TrainingStage.VIDEO
        return ud_vla_source(
            config,
            start.begin,
            table,
            actions=None if video else _chunks(table, start.stats, stride=config.data.stride),
            world=world,
            training=training,
            on_episode=on_episode,
        )

    def objective(
        self, config: UdVlaTrainConfig, start: UdVlaRun, source: Source[UdVlaCodes], *, world: World
    ) -> Objective[UdVlaCodes]:
        """Return the decoder with the loss of its stage."""
        section, decoder = config.objective, start.begin.decoder
        if config.optim.recompute_layers:
            decoder.lm.model.gradient_checkpointing_enable()
        return UdVlaTrainable(
            decoder,
            layout=start.begin.layout,
            stage=section.stage,
            objective=ObjectiveConfig(
                law=section.law, visual_weight=section.visual_weight, protect_marks=section.protect_marks
            ),
            dropout=config.optim.dropout,
        )

    def export(self, directory: Path, config: UdVlaTrainConfig, start: UdVlaRun, trained: Trained) -> Bundle:
        """Write the decoder as it is now and the image tokenizer as it was."""
        begin, dataset = start.begin, trained.data.dataset
        dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
        decoder = {
            decoder_name(name.removeprefix("decoder.")): tensor.to("cpu", dtype)
            for name, tensor in trained.weights.items()
        }
        vision = {vision_name(name): tensor.cpu() for name, tensor in begin.vision.state_dict().items()}
        joints = len(start.action_joints)
        robot = RobotLayout(
            cameras=tuple(camera.name for camera in begin.cameras),
            state_joints=start.state_joints,
            action_joints=start.action_joints,
            centre=(0.0,) * joints,
            spread=(1.0,) * joints,
            control_period_ns=round(NS_PER_S * config.data.stride / dataset.fps),
            instruction=next(iter(dataset.tasks.values())),
        )
        return write_policy(
            directory,
            config=begin.config,
            cameras=begin.cameras,
            robot=robot,
            stats=start.stats.stats,
            chunk_rows=begin.chunk_rows,
            action_norm=NORM,
            dtype=config.run.bundle_dtype.value,
            sampler=begin.sampler,
            fast=begin.fast,
            text=begin.text_section,
            tensors={**decoder, **vision},
            source={
                **begin.source,
                "kind": f"train ud-vla {config.objective.stage.value}",
                "data_set": dataset.root.name,
                "step": trained.step,
            },
            files=begin.files,
            template=begin.template,
        )


RECIPE: Recipe[UdVlaTrainConfig, UdVlaRun, UdVlaCodes] = UdVlaRecipe()
