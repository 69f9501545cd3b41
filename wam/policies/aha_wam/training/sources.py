# SPDX-License-Identifier: Apache-2.0
"""From the data section of a configuration to batches: episodes, statistics, samples, latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from wam.core.errors import ConfigError
from wam.data.lerobot.reader import DatasetEpisode, LeRobotDataset
from wam.models.images import Composite
from wam.policies.aha_wam.convert.dataset_stats import read_dataset_stats
from wam.policies.aha_wam.training.config import DataSection, TrainConfig
from wam.policies.aha_wam.training.latents import LatentEncoder, LatentSamples, fill_cache
from wam.policies.aha_wam.training.samples import (
    EpisodeTable,
    Pictures,
    PixelSamples,
    SampleNumbers,
    embed_tasks,
)
from wam.policies.aha_wam.training.start import Start, camera_names, sample_layout
from wam.training.loop import Source
from wam.training.parallel import World, wait_for_all
from wam.training.sampler import HistoryBatchSampler
from wam.training.statistics import DatasetStats


def split_episodes(
    dataset: LeRobotDataset, data: DataSection, *, seed: int
) -> tuple[tuple[DatasetEpisode, ...], tuple[DatasetEpisode, ...]]:
    """Return training and validation episodes.

    Raises:
        ConfigError: an episode that was asked for is not there, or none is left to train on.
    """
    chosen = dataset.present()
    if data.episodes:
        by_index = {e.index: e for e in chosen}
        missing = [i for i in data.episodes if i not in by_index]
        if missing:
            raise ConfigError(
                f"{dataset.root}: episodes {missing[:6]} are not on disk",
                allowed=f"{sorted(by_index)[:12]}",
                where="data.episodes",
            )
        chosen = tuple(by_index[i] for i in data.episodes)
    if data.validation_fraction == 0:
        return chosen, ()
    count = max(1, round(data.validation_fraction * len(chosen)))
    if count >= len(chosen):
        raise ConfigError(
            f"data.validation_fraction keeps {count} of {len(chosen)} episodes",
            value=data.validation_fraction,
            allowed="a share that leaves at least one to train on",
            where="data.validation_fraction",
        )
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed)).tolist()
    held = set(order[:count])
    return (
        tuple(e for i, e in enumerate(chosen) if i not in held),
        tuple(e for i, e in enumerate(chosen) if i in held),
    )


def statistics_of(
    table: EpisodeTable, begin: Start, data: DataSection, *, use_bundle_stats: bool
) -> DatasetStats:
    """Return what a run normalises with: a file, the teacher's statistics, or those of the episodes.

    Args:
        table: training episodes.
        begin: what the run started from.
        data: may name a file.
        use_bundle_stats: prefer those of the bundle to new ones.

    Raises:
        BundleError: the file has other widths, NaN or a zero standard deviation, or a joint never moves.
    """
    if data.stats is not None:
        config = begin.config
        given = read_dataset_stats(data.stats, state_width=config.state_dim, action_width=config.action_dim)
        return DatasetStats(given, len(table.episodes), len(table))
    if use_bundle_stats and begin.stats is not None:
        # A student speaks the units of its teacher.
        return DatasetStats(begin.stats, len(table.episodes), len(table))
    return table.statistics(min_std=data.min_std)


def make_source(
    table: EpisodeTable,
    begin: Start,
    stats: DatasetStats,
    config: TrainConfig,
    world: World,
    *,
    encoder: LatentEncoder,
    shuffled: bool,
    on_latents: Callable[[int, int], None] = lambda done, episodes: None,
) -> Source:
    """Return the batches of some episodes.

    Args:
        table: the episodes.
        begin: gives sizes, VAE, text encoder and picture layout.
        stats: to normalise with.
        config: of the run.
        world: this process among all.
        encoder: frozen VAE on this process's device.
        shuffled: for training: every process gets its share; else every one gets all.
        on_latents: told how many episodes of how many are encoded, where there is a cache.
    """
    layout = sample_layout(begin.config, config.data)
    text = embed_tasks(table, begin.text, template=begin.template)
    numbers = SampleNumbers(table, layout, stats.stats, text)
    composite = _by_feature(begin.composite, config.data)
    pictures = Pictures(table, composite)
    sampler = HistoryBatchSampler(
        table.history_lengths(layout),
        batch_size=config.optim.batch_size,
        max_offset=config.data.max_offset,
        seed=config.run.seed,
        rank=world.rank if shuffled else 0,
        world=world.size if shuffled else 1,
    )
    cache = config.data.latent_cache
    if cache is None:
        return Source(PixelSamples(numbers, pictures), sampler, encoder, config.data.workers)
    files = fill_cache(
        cache,
        numbers,
        pictures,
        encoder,
        composite=composite,
        device=world.device,
        rank=world.rank,
        world=world.size,
        on_episode=on_latents,
    )
    wait_for_all(world)
    return Source(LatentSamples(numbers, files), sampler, None, config.data.workers)


def _by_feature(composite: Composite, data: DataSection) -> Composite:
    feature = dict(zip(camera_names(data), data.cameras, strict=True))
    return replace(composite, tiles=tuple(replace(t, camera=feature[t.camera]) for t in composite.tiles))
