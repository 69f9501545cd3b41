# SPDX-License-Identifier: Apache-2.0
"""The recipes of AHA-WAM: joint training of planner and executor (paper section 3), and distillation (Flash)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.models.images import Composite
from wam.models.layers.dit_block import DitBlock
from wam.models.normalisation import NormMode
from wam.models.text import CACHE_NAME
from wam.policies.aha_wam.config import Latents
from wam.policies.aha_wam.convert.dataset_stats import read_dataset_stats
from wam.policies.aha_wam.ovcr import ContextEditor
from wam.policies.aha_wam.policy import KIND, VAE_PREFIX, model_section
from wam.policies.aha_wam.prefix import PrefixUse
from wam.policies.aha_wam.training.batch import FRAMES_PER_LATENT, LatentBatch, PixelBatch, collate, move
from wam.policies.aha_wam.training.config import AhaWamDataSection, AhaWamTrainConfig
from wam.policies.aha_wam.training.distill import DistillObjective
from wam.policies.aha_wam.training.forward import JointObjective
from wam.policies.aha_wam.training.latents import (
    ImageEncoder,
    LatentSamples,
    fill_latent_cache,
    fill_picture_cache,
    make_encoder,
)
from wam.policies.aha_wam.training.predict import RowSampler
from wam.policies.aha_wam.training.samples import (
    NodePictures,
    Pictures,
    PixelSamples,
    SampleNumbers,
    embed_tasks,
    history_lengths,
    history_warnings,
)
from wam.policies.aha_wam.training.start import Start, sample_layout, start
from wam.training.augmentation import AugmentSection
from wam.training.episodes import Columns, EpisodeTable, RunData, VideoTable, joint_names, state_columns
from wam.training.objective import Objective
from wam.training.parallel import World, recompute, wait_for_all
from wam.training.recipe import Recipe, Trained
from wam.training.source import Source, batch_sampler
from wam.training.statistics import DatasetStats

SAMPLER_STEPS = 10
RECOMPUTED = (
    (DitBlock, "before_attention"),
    (DitBlock, "after_attention"),
    (ContextEditor, "edit_layer"),
)


@dataclass(frozen=True, slots=True)
class AhaWamRun:
    """What the stages of a run share.

    Attributes:
        begin: sizes, weights, VAE, text encoder and picture layout.
        stats: that the run normalises with.
        encoder: of images, on this process's device.
        joints: names of the state joints and of the action joints.
        relative: state column of each action joint where action rows are relative to the state, or None.
    """

    begin: Start
    stats: DatasetStats
    encoder: ImageEncoder
    joints: tuple[tuple[str, ...], tuple[str, ...]]
    relative: npt.NDArray[np.intp] | None = None


class _Recipe:
    """What joint training and distillation have in common."""

    title = "AHA-WAM"
    config_type = AhaWamTrainConfig
    name: ClassVar[str]
    """Stage, as `source` in policy.yaml names it."""
    keeps_units: ClassVar[bool]
    """The statistics of `model.bundle` are kept; otherwise the data set's are computed."""

    def stage(self, config: AhaWamTrainConfig) -> str:
        """Return the name of the stage."""
        return self.name

    def columns(self, config: AhaWamTrainConfig) -> Columns:
        """Return the columns of cameras, joints and actions."""
        return Columns(config.data.cameras, config.data.state, config.data.action)

    def start(self, config: AhaWamTrainConfig, data: RunData, *, world: World) -> AhaWamRun:
        """Load or make the network, the VAE and the text encoder; only the first process loads the network.

        Raises:
            BundleError: weights are missing, damaged, or of another shape, or a joint never moves.
            ConfigError: the data set does not fit the policy.
        """
        joints = joint_names(config.data, data.dataset, state_names=config.data.state_names)
        begin = start(config.model, config.data, joints, weights=world.is_first)
        if config.data.augment.changes_pictures and begin.config.latents is Latents.VAE:
            raise ConfigError(
                "data.augment changes pictures, and VAE latents are computed once",
                value=config.data.augment,
                allowed="shift and colour 0, or model.overrides.latents: pixels",
                where="data.augment",
            )
        relative = state_columns(joints) if begin.relative else None
        stats = self._statistics(config.data, begin, _robot(data.train), relative)
        encoder = make_encoder(begin.config, begin.vae, device=world.device)
        return AhaWamRun(begin, stats, encoder, joints, relative)

    def _statistics(
        self,
        data: AhaWamDataSection,
        begin: Start,
        table: EpisodeTable,
        relative: npt.NDArray[np.intp] | None,
    ) -> DatasetStats:
        """Return what a run normalises with: a file, the teacher's statistics, or those of the episodes."""
        sizes = begin.config
        if data.stats is not None:
            given = read_dataset_stats(data.stats, state_width=sizes.state_dim, action_width=sizes.action_dim)
        elif self.keeps_units and begin.stats is not None:
            given = begin.stats
        elif relative is not None:
            rows = sizes.chunk_rows
            return table.relative_statistics(columns=relative, chunk_rows=rows, min_std=data.min_std)
        else:
            return table.statistics(min_std=data.min_std)
        return DatasetStats(given, len(table.episodes), len(table))

    def source(
        self,
        config: AhaWamTrainConfig,
        start: AhaWamRun,
        table: VideoTable,
        *,
        world: World,
        training: bool,
        on_episode: Callable[[int, int], None],
    ) -> Source[LatentBatch]:
        """Return batches of latents, from the cache where the configuration names one.

        Raises:
            InputError: an instruction is too long, or not in the embedding cache.
        """
        begin, robot = start.begin, _robot(table)
        layout = sample_layout(begin.config, config.data)
        text = embed_tasks(robot, begin.text, template=begin.template)
        augment = config.data.augment if training else AugmentSection()
        numbers = SampleNumbers(
            robot, layout, start.stats.stats, text, relative=start.relative, augment=augment
        )
        composite = _by_feature(begin.composite, config.data)
        lengths = history_lengths(robot, layout)
        sampler = batch_sampler(
            table,
            config,
            world,
            training=training,
            history_lengths=lengths,
            max_offset=config.data.max_offset,
        )
        cache = _Cache(config.data.latent_cache, robot, composite, world, on_episode)
        samples: PixelSamples | LatentSamples
        if begin.config.latents is Latents.PIXELS:
            pictures = NodePictures(robot, composite, files=cache.pictures())
            samples = PixelSamples(numbers, pictures, video_every=FRAMES_PER_LATENT, augment=augment)
        elif config.data.latent_cache is None:
            samples = PixelSamples(numbers, Pictures(robot, composite))
        else:
            samples = LatentSamples(numbers, cache.latents(numbers, start.encoder))

        def prepare(batch: PixelBatch | LatentBatch, device: torch.device) -> LatentBatch:
            moved = move(batch, device)
            return moved if isinstance(moved, LatentBatch) else start.encoder.batch(moved)

        warnings = history_warnings(lengths, layout, fps=table.dataset.fps)
        return Source(samples, sampler, collate, prepare, config.data.workers, warnings)

    def _export(
        self, directory: Path, config: AhaWamTrainConfig, start: AhaWamRun, trained: Trained, *, steps: int
    ) -> Bundle:
        """Write a bundle whose sampler takes `steps` integration steps, and the prefix where it was trained for one."""
        begin, sizes, dataset = start.begin, start.begin.config, trained.data.dataset
        text = dict(begin.text_section)
        cache = Path(text["file"]) if text.get("kind") == "cache" else None
        if cache is not None:
            text["file"] = CACHE_NAME
        dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
        tensors = {name: tensor.to(dtype=dtype) for name, tensor in trained.weights.items()}
        tensors.update({VAE_PREFIX + name: tensor for name, tensor in begin.vae.items()})
        prefix = {"prefix": PrefixUse.CONDITION.value} if sizes.prefix_rows else {}
        manifest = Manifest(
            kind=KIND,
            model=model_section(sizes),
            cameras=tuple(
                BundleCamera(t.camera, t.height, t.width, t.top, t.left) for t in begin.composite.tiles
            ),
            state_joints=start.joints[0],
            action_joints=start.joints[1],
            control_period_ns=round(NS_PER_S / dataset.fps),
            chunk_rows=sizes.chunk_rows,
            horizon_rows=sizes.horizon_rows,
            instruction=next(iter(dataset.tasks.values())),
            instruction_template=begin.template,
            state_norm=NormMode.Z_SCORE,
            action_norm=NormMode.Z_SCORE,
            dtype=config.run.bundle_dtype.value,
            text=text,
            sampler={"steps": steps, "seed": 0, **prefix},
            source={**begin.source, "kind": self.name, "data_set": dataset.root.name, "step": trained.step},
            relative_actions=begin.relative,
        )
        bundle = write_bundle(directory, manifest=manifest, stats=start.stats.stats, tensors=tensors)
        if cache is not None:
            shutil.copyfile(cache, directory / CACHE_NAME)
        return bundle


class AhaWamRecipe(_Recipe):
    """Trains planner and executor together (paper section 3)."""

    name = "train"
    keeps_units = False

    def objective(
        self, config: AhaWamTrainConfig, start: AhaWamRun, source: Source[LatentBatch], *, world: World
    ) -> Objective[LatentBatch]:
        """Return the joint objective (Eq. 7)."""
        model, optim = start.begin.model, config.optim
        if config.model.freeze_video and model.video is not None:
            model.video.requires_grad_(False)
        if optim.recompute_blocks:
            recompute(model, RECOMPUTED)
        return JointObjective(
            model,
            video_weight=0.0 if config.model.freeze_video else optim.video_weight,
            times=optim.noise_times,
            per_chunk=optim.times_per_chunk,
            predict=_row_sampler(start, SAMPLER_STEPS),
        )

    def export(
        self, directory: Path, config: AhaWamTrainConfig, start: AhaWamRun, trained: Trained
    ) -> Bundle:
        """Write a bundle that integrates in as many steps as the released one."""
        return self._export(directory, config, start, trained, steps=SAMPLER_STEPS)


class AhaWamFlashRecipe(_Recipe):
    """Distils a trained bundle into few integration steps (AHA-WAM-Flash); the planner stays as it is."""

    name = "distill"
    keeps_units = True

    def start(self, config: AhaWamTrainConfig, data: RunData, *, world: World) -> AhaWamRun:
        """Load the teacher.

        Raises:
            BundleError: a file of the teacher is missing or damaged.
            ConfigError: `model.bundle` is missing, rows are to be given, or the data set does not fit the policy.
        """
        if config.model.bundle is None:
            raise ConfigError(
                "model.bundle is missing", allowed="the bundle of the teacher", where="model.bundle"
            )
        if config.data.prefix_rows:
            raise ConfigError(
                "data.prefix_rows",
                value=config.data.prefix_rows,
                allowed="0: distillation gives no rows, and its bundle cannot be conditioned on any",
                where="the data section",
            )
        return super().start(config, data, world=world)

    def objective(
        self, config: AhaWamTrainConfig, start: AhaWamRun, source: Source[LatentBatch], *, world: World
    ) -> Objective[LatentBatch]:
        """Return the distance between the student's and the teacher's final actions."""
        options = config.distill
        objective = DistillObjective(
            start.begin.model,
            bias=options.anchors,
            per_chunk=options.anchors_per_chunk,
            predict=_row_sampler(start, options.steps),
        )
        if config.optim.recompute_blocks:
            recompute(objective.model, RECOMPUTED)
        return objective

    def export(
        self, directory: Path, config: AhaWamTrainConfig, start: AhaWamRun, trained: Trained
    ) -> Bundle:
        """Write a bundle that integrates in the steps of the distillation."""
        return self._export(directory, config, start, trained, steps=config.distill.steps)


@dataclass(frozen=True, slots=True)
class _Cache:
    """The folder for what does not change during training, and this process's share in filling it."""

    folder: Path | None
    table: EpisodeTable
    composite: Composite
    world: World
    on_episode: Callable[[int, int], None]

    def pictures(self) -> Mapping[int, Path]:
        """Return the files of composed pictures; none without a folder."""
        if self.folder is None:
            return {}
        files = fill_picture_cache(
            self.folder,
            NodePictures(self.table, self.composite),
            table=self.table,
            composite=self.composite,
            rank=self.world.rank,
            world=self.world.size,
            on_episode=self.on_episode,
        )
        wait_for_all(self.world)
        return files

    def latents(self, numbers: SampleNumbers, encoder: ImageEncoder) -> Mapping[int, Path]:
        """Return the files of VAE latents."""
        assert self.folder is not None
        files = fill_latent_cache(
            self.folder,
            numbers,
            Pictures(self.table, self.composite),
            encoder,
            composite=self.composite,
            device=self.world.device,
            rank=self.world.rank,
            world=self.world.size,
            on_episode=self.on_episode,
        )
        wait_for_all(self.world)
        return files


def _row_sampler(start: AhaWamRun, steps: int) -> RowSampler:
    state, action = start.joints
    columns = state_columns(start.joints) if set(action) <= set(state) else None
    return RowSampler(start.stats.stats, action, columns, start.relative is not None, steps)


def _robot(table: VideoTable) -> EpisodeTable:
    if not isinstance(table, EpisodeTable):
        raise TypeError("AHA-WAM trains on episodes with state and action")
    return table


def _by_feature(composite: Composite, data: AhaWamDataSection) -> Composite:
    feature = dict(zip(data.policy_cameras, data.cameras, strict=True))
    return replace(composite, tiles=tuple(replace(t, camera=feature[t.camera]) for t in composite.tiles))


RECIPE: Recipe[AhaWamTrainConfig, AhaWamRun, LatentBatch] = AhaWamRecipe()
DISTILL_RECIPE: Recipe[AhaWamTrainConfig, AhaWamRun, LatentBatch] = AhaWamFlashRecipe()
