# SPDX-License-Identifier: Apache-2.0
"""From the data section of a DUST configuration to batches, statistics and joints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from wam.core.errors import ConfigError
from wam.data.lerobot.reader import LeRobotDataset
from wam.models.normalisation import NormMode, PolicyStats
from wam.policies.aha_wam.training.config import Precision
from wam.policies.aha_wam.training.samples import Columns, EpisodeTable, used_tasks
from wam.policies.aha_wam.training.sources import split_episodes
from wam.policies.dust.config import DustConfig
from wam.policies.dust.training.config import DustTrainConfig, ObjectiveKind
from wam.policies.dust.training.features import CachedSamples, FeatureEncoder, fill_feature_cache
from wam.policies.dust.training.samples import (
    DustFeatures,
    DustPixels,
    PixelSamples,
    SampleTable,
    collate,
    move,
)
from wam.policies.dust.training.start import DustStart
from wam.policies.dust.units import ActionUnits, StateUnits
from wam.training.parallel import World
from wam.training.episodes import VideoTable, joint_names, table_statistics
from wam.training.sampler import HistoryBatchSampler
from wam.training.statistics import DatasetStats

NORM = NormMode.MIN_MAX
"""How state and action are brought to model units, but for binary joints."""


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


@dataclass(frozen=True, slots=True)
class DustData:
    """Batches, and what the bundle says about the robot."""

    train: DustSource
    validation: DustSource | None
    samples: int
    stats: DatasetStats
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]
    binary: tuple[str, ...]


def dust_data(config: DustTrainConfig, dataset: LeRobotDataset, start: DustStart, world: World) -> DustData:
    """Return the samples, statistics and joints of a run, split into episodes to train on and held-out ones."""
    data = config.data
    episodes, held_out = split_episodes(dataset, data, seed=config.run.seed)  # type: ignore[arg-type]
    goes_on = start.bundle.manifest if start.bundle is not None and start.policy is not None else None
    state_joints, action_joints = joint_names(data, dataset, goes_on)
    binary = tuple(data.binary_joints) or (start.policy.binary_joints if start.policy else ())
    if unknown := sorted(set(binary) - set(action_joints)):
        raise ConfigError("data.binary_joints", value=unknown, allowed=f"some of {list(action_joints)}")
    # Videos are pictures alone, even where somebody recorded a robot beside them.
    video = config.objective.kind is ObjectiveKind.ACTION_FREE
    columns = Columns(data.cameras) if video else Columns(data.cameras, data.state or "", data.action or "")
    make_table = VideoTable if video else EpisodeTable
    table = make_table(dataset, episodes, columns)
    stats = table_statistics(
        table, start.stats, min_std=data.min_std, state_joints=state_joints, action_joints=action_joints
    )
    units = None if video else units_of(stats.stats, start.config, action_joints, binary)
    dtype = torch.bfloat16 if config.optim.precision is Precision.BFLOAT16 else torch.float32
    encoder = FeatureEncoder(start.backbone, device=world.device, dtype=dtype)

    def source(of: EpisodeTable | VideoTable, *, training: bool) -> DustSource:
        samples = SampleTable(of, start.config, units=units, count_past_end=data.count_past_end)
        prompts = {number: start.prompter(text) for number, text in used_tasks(of).items()}
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
    return DustData(train, validation, len(table), stats, state_joints, action_joints, binary)


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
        StateUnits(stats.state, mode=NORM, padded=config.state_dim),
        ActionUnits(stats.action, mode=NORM, padded=config.action_dim, binary=columns),
    )
