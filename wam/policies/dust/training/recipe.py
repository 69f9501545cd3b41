# SPDX-License-Identifier: Apache-2.0
"""The recipe of DUST: its objective, its ablations and its baselines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.policy import KIND, model_section
from wam.policies.dust.prompt import TOKENIZER_FILE
from wam.policies.dust.schedule import SamplerSettings
from wam.policies.dust.training.config import DustTrainConfig, ObjectiveKind
from wam.policies.dust.training.data import NORM, RELATIVE_NORM, DustRun, dust_run, dust_source
from wam.policies.dust.training.flare import Alignment
from wam.policies.dust.training.losses import DustObjective
from wam.policies.dust.training.objective import DustTrainable
from wam.policies.dust.training.samples import DustSeen
from wam.policies.dust.training.start import DustStart
from wam.training.episodes import Columns, RunData, VideoTable
from wam.training.objective import Objective
from wam.training.parallel import World
from wam.training.recipe import Recipe, Trained
from wam.training.source import Source

SCALE_BATCHES = 8
"""Batches from which the scale of the world-model target is taken."""


class DustRecipe:
    """Trains head and projection (or the whole vision, with patches) on robot data or on videos alone."""

    title = "DUST"
    config_type = DustTrainConfig

    def stage(self, config: DustTrainConfig) -> str:
        """Return the kind of objective."""
        return config.objective.kind.value

    def columns(self, config: DustTrainConfig) -> Columns:
        """Return the columns; videos are pictures alone, even where a robot was recorded beside them."""
        data = config.data
        return (
            Columns(data.cameras, None, None)
            if config.videos_alone
            else Columns(data.cameras, data.state, data.action)
        )

    def start(self, config: DustTrainConfig, data: RunData, *, world: World) -> DustRun:
        """Make the network and read joints and statistics; see `dust_run`."""
        return dust_run(config, data, world)

    def source(
        self,
        config: DustTrainConfig,
        start: DustRun,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[DustSeen]:
        """Return batches of features, from the cache where the configuration names one; see `dust_source`."""
        return dust_source(config, start, table, world=world, training=training, on_episode=on_episode)

    def objective(
        self, config: DustTrainConfig, start: DustRun, source: Source[DustSeen], *, world: World
    ) -> Objective[DustSeen]:
        """Return projection and head with their losses; a new head's target is scaled by the data set.

        Raises:
            ConfigError: the head has no block `objective.alignment_layer`.
        """
        begin, section, backbone = start.begin, config.objective, start.begin.backbone
        trainable = DustTrainable(
            backbone.linear if isinstance(backbone, EagleBackbone) else backbone,
            begin.head,
            objective=DustObjective(
                world_weight=section.world_weight,
                action_law=section.action_law,
                vision_law=section.vision_law,
                joint_noise=section.joint_noise,
                action_free=config.videos_alone,
                action_free_time=section.action_free_time,
            ),
            slot=_embodiment(config, begin),
            scale=begin.scale,
            alignment=_alignment(config, begin),
            weight=section.world_weight,
            units=start.units,
        ).train()
        if begin.scale is not None and begin.policy is None:
            # Every process takes the same batches.
            first = zip(range(SCALE_BATCHES), source.epoch(world.device), strict=False)
            begin.scale.to(world.device).fit(torch.cat([trainable.target_of(batch) for _, batch in first]))
        return trainable

    def export(self, directory: Path, config: DustTrainConfig, start: DustRun, trained: Trained) -> Bundle:
        """Write a frozen backbone as it was, and all that learns as it is now.

        The alignment of the baseline belongs to training alone and is left out.
        """
        begin, dataset = start.begin, trained.data.dataset
        dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
        backbone = {n: t for n, t in begin.backbone.state_dict().items() if not n.startswith("linear.")}
        tensors = {f"backbone.{n}": t for n, t in backbone.items()}
        for name, tensor in trained.weights.items():
            if name.startswith("linear."):
                tensors[f"backbone.{name}"] = tensor
            elif name.startswith(("backbone.", "head.", "target.")):
                tensors[name] = tensor
        text = dict(begin.text_section)
        tokenizer = Path(text["directory"]) if text.get("kind") == "bpe" else None
        if tokenizer is not None:
            text["directory"] = "tokenizer"
        sampler = begin.policy.sampler if begin.policy is not None else SamplerSettings()
        manifest = Manifest(
            kind=KIND,
            model=model_section(
                begin.config,
                embodiment=_embodiment(config, begin),
                crop=config.data.crop,
                binary_joints=start.binary,
            ),
            cameras=tuple(
                BundleCamera(name, *begin.config.image_size) for name in config.data.policy_cameras
            ),
            state_joints=start.state_joints,
            action_joints=start.action_joints,
            control_period_ns=round(NS_PER_S / dataset.fps),
            chunk_rows=begin.config.action_rows,
            horizon_rows=begin.config.action_rows,
            instruction=next(iter(dataset.tasks.values())),
            instruction_template=begin.template,
            state_norm=NORM,
            action_norm=RELATIVE_NORM if begin.relative else NORM,
            dtype=config.run.bundle_dtype.value,
            text=text,
            sampler=replace(sampler, q=1 if not begin.head.has_vision else sampler.q).to_dict(),
            source={
                **begin.source,
                "kind": f"train dust {config.objective.kind.value}",
                "data_set": dataset.root.name,
                "step": trained.step,
            },
            relative_actions=begin.relative,
        )
        bundle = write_bundle(
            directory,
            manifest=manifest,
            stats=start.stats.stats,
            tensors={n: t.to("cpu", dtype) for n, t in tensors.items()},
        )
        if tokenizer is not None:
            (directory / "tokenizer").mkdir()
            shutil.copyfile(tokenizer / TOKENIZER_FILE, directory / "tokenizer" / TOKENIZER_FILE)
        return bundle


def _embodiment(config: DustTrainConfig, begin: DustStart) -> int:
    return begin.policy.embodiment if begin.policy is not None else config.model.embodiment


def _alignment(config: DustTrainConfig, begin: DustStart) -> Alignment | None:
    if config.objective.kind is not ObjectiveKind.ALIGNMENT:
        return None
    try:
        return Alignment(begin.config, layer=config.objective.alignment_layer)
    except ValueError as error:
        raise ConfigError(f"objective: {error}", where="objective.alignment_layer") from error


RECIPE: Recipe[DustTrainConfig, DustRun, DustSeen] = DustRecipe()
