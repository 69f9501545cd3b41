# SPDX-License-Identifier: Apache-2.0
"""From the data section of a DUST configuration to joints, statistics and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wam.core.errors import ConfigError
from wam.models.normalisation import NormMode, PolicyStats
from wam.policies.dust.config import DustConfig
from wam.policies.dust.training.config import DustTrainConfig
from wam.policies.dust.training.features import DustCachedSamples, FeatureEncoder, fill_feature_cache
from wam.policies.dust.training.samples import (
    DustFeatures,
    DustPixels,
    DustPixelSamples,
    DustSampleTable,
    collate,
    move,
)
from wam.policies.dust.training.start import DustStart, dust_start
from wam.policies.dust.units import ActionUnits, StateUnits
from wam.training.episodes import RunData, VideoTable, joint_names, run_statistics
from wam.training.options import Precision
from wam.training.parallel import World, wait_for_all
from wam.training.source import Source, batch_sampler
from wam.training.statistics import DatasetStats

NORM = NormMode.MIN_MAX
"""How state and action are brought to model units, except for binary joints."""


@dataclass(frozen=True, slots=True)
class DustRun:
    """What the stages of a run share.

    Attributes:
        begin: sizes, backbone, head and tokens.
        stats: that the run normalises with.
        encoder: frozen backbone on this process's device.
        units: maps of state and action between SI units and the head's numbers; None for videos alone.
        state_joints: names of the state joints.
        action_joints: names of the action joints.
        binary: action joints with two positions.
    """

    begin: DustStart
    stats: DatasetStats
    encoder: FeatureEncoder
    units: tuple[StateUnits, ActionUnits] | None
    state_joints: tuple[str, ...]
    action_joints: tuple[str, ...]
    binary: tuple[str, ...]


def dust_run(config: DustTrainConfig, data: RunData, world: World) -> DustRun:
    """Make the network and read joints and statistics.

    Raises:
        BundleError: a bundle is of another kind, missing or damaged, or a joint never moves.
        ConfigError: sizes are impossible, or joints do not fit.
    """
    begin, section = dust_start(config), config.data
    further = begin.bundle.manifest if begin.bundle is not None and begin.policy is not None else None
    state_joints, action_joints = joint_names(
        section, data.dataset, state_names=section.state_names or section.joint_names, manifest=further
    )
    binary = section.binary_joints or (begin.policy.binary_joints if begin.policy else ())
    if unknown := sorted(set(binary) - set(action_joints)):
        raise ConfigError("data.binary_joints", value=unknown, allowed=f"some of {list(action_joints)}")
    stats = run_statistics(
        data.train,
        begin.stats,
        min_std=section.min_std,
        joints=(len(state_joints), len(action_joints)),
    )
    units = None if config.videos_alone else units_of(stats.stats, begin.config, action_joints, binary)
    dtype = torch.bfloat16 if config.optim.precision is Precision.BFLOAT16 else torch.float32
    encoder = FeatureEncoder(begin.backbone, device=world.device, dtype=dtype)
    return DustRun(begin, stats, encoder, units, state_joints, action_joints, binary)


def dust_source(
    config: DustTrainConfig,
    run: DustRun,
    table: VideoTable,
    *,
    world: World,
    training: bool,
    on_episode: Callable[[int, int], None],
) -> Source[DustFeatures]:
    """Return the batches of some episodes; arguments as for `wam.training.recipe.Recipe.source`.

    Raises:
        InputError: an instruction has too many tokens.
    """
    data, begin = config.data, run.begin
    samples = DustSampleTable(table, begin.config, units=run.units, count_past_end=data.count_past_end)
    prompts = {number: begin.prompter(text) for number, text in table.instructions().items()}
    augment = config.run.seed if data.augment and training else None
    pixels = DustPixelSamples(samples, prompts, crop=data.crop, augment=augment)
    sampler = batch_sampler(table, config, world, training=training)
    chosen: DustPixelSamples | DustCachedSamples = pixels
    if data.feature_cache is not None:
        files = fill_feature_cache(
            data.feature_cache,
            pixels,
            run.encoder,
            crop=data.crop,
            rank=world.rank,
            world=world.size,
            on_episode=on_episode,
        )
        wait_for_all(world)
        chosen = DustCachedSamples(pixels, files)

    def prepare(batch: DustPixels | DustFeatures, device: torch.device) -> DustFeatures:
        moved = move(batch, device)
        return moved if isinstance(moved, DustFeatures) else run.encoder.batch(moved)

    return Source(chosen, sampler, collate, prepare, data.workers)


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
