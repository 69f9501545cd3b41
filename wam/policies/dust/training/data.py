# SPDX-License-Identifier: Apache-2.0
"""From the data section of a DUST configuration to joints, statistics and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from wam.core.errors import ConfigError
from wam.models.normalisation import NormMode, PolicyStats
from wam.policies.dust.config import DustConfig
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.training.config import DustTrainConfig
from wam.policies.dust.training.features import (
    DustCachedSamples,
    FeatureEncoder,
    fill_feature_cache,
    fill_picture_cache,
)
from wam.policies.dust.training.samples import (
    DustPixels,
    DustPixelSamples,
    DustSampleTable,
    DustSeen,
    collate,
    move,
)
from wam.policies.dust.training.start import DustStart, dust_start
from wam.policies.dust.units import ActionUnits, RowUnits, StateUnits
from wam.training.augmentation import AugmentSection
from wam.training.episodes import RunData, VideoTable, joint_names, run_statistics, state_columns
from wam.training.options import Precision
from wam.training.parallel import World, wait_for_all
from wam.training.source import Source, batch_sampler
from wam.training.statistics import DatasetStats

NORM = NormMode.MIN_MAX
"""How state and action are brought to model units, except for binary joints."""
RELATIVE_NORM = NormMode.Z_SCORE
"""The same for action rows relative to the state: their range is that of the last row, the first hardly moves."""


@dataclass(frozen=True, slots=True)
class DustRun:
    """What the stages of a run share.

    Attributes:
        begin: sizes, backbone, head and tokens.
        stats: that the run normalises with.
        encoder: frozen backbone on this process's device; None where the vision learns.
        units: maps of state and action between SI units and the head's numbers; None for videos alone.
        state_joints: names of the state joints.
        action_joints: names of the action joints.
        binary: action joints with two positions.
    """

    begin: DustStart
    stats: DatasetStats
    encoder: FeatureEncoder | None
    units: RowUnits | None
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
    if begin.relative and binary:
        raise ConfigError(
            "data.binary_joints",
            value=list(binary),
            allowed="none where rows are relative to the state: one position of two is no distance",
            where="data.binary_joints, or data.relative_actions",
        )
    joints = (state_joints, action_joints)
    stats = run_statistics(
        data.train,
        begin.stats,
        min_std=section.min_std,
        joints=(len(state_joints), len(action_joints)),
        relative=(state_columns(joints), begin.config.action_rows) if begin.relative else None,
    )
    units = None
    if not config.videos_alone:
        units = units_of(stats.stats, begin.config, joints, binary, relative=begin.relative)
    encoder = None
    if isinstance(begin.backbone, EagleBackbone):
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
) -> Source[DustSeen]:
    """Return the batches of some episodes; arguments as for `wam.training.recipe.Recipe.source`.

    Raises:
        InputError: an instruction has too many tokens.
    """
    data, begin, encoder = config.data, run.begin, run.encoder
    augment = data.augment if training else AugmentSection()
    samples = DustSampleTable(
        table, begin.config, units=run.units, count_past_end=data.count_past_end, augment=augment
    )
    prompts = {number: begin.prompter(text) for number, text in table.instructions().items()}
    jitter = config.run.seed if data.crop_and_jitter and training else None
    pixels = DustPixelSamples(samples, prompts, crop=data.crop, jitter=jitter, augment=augment)
    sampler = batch_sampler(table, config, world, training=training)
    chosen: DustPixelSamples | DustCachedSamples = pixels
    if data.feature_cache is not None:
        share: dict[str, Any] = {"rank": world.rank, "world": world.size, "on_episode": on_episode}
        if encoder is None:
            files = fill_picture_cache(data.feature_cache, pixels, crop=data.crop, **share)
            chosen = DustPixelSamples(samples, prompts, crop=data.crop, augment=augment, files=files)
        else:
            files = fill_feature_cache(data.feature_cache, pixels, encoder, crop=data.crop, **share)
            chosen = DustCachedSamples(pixels, files)
        wait_for_all(world)

    def prepare(batch: DustSeen, device: torch.device) -> DustSeen:
        moved = move(batch, device)
        return encoder.batch(moved) if encoder is not None and isinstance(moved, DustPixels) else moved

    return Source(chosen, sampler, collate, prepare, data.workers)


def units_of(
    stats: PolicyStats,
    config: DustConfig,
    joints: tuple[tuple[str, ...], tuple[str, ...]],
    binary: tuple[str, ...],
    *,
    relative: bool,
) -> RowUnits:
    """Return the maps between SI units and the head's numbers that a run trains with.

    Args:
        stats: of the data set.
        config: of the network.
        joints: names of the state joints and of the action joints.
        binary: action joints with two positions.
        relative: action rows are relative to the state.

    Raises:
        ConfigError: there are more joints than the network has values.
    """
    for label, width, most in (
        ("state", stats.state.width, config.state_dim),
        ("action", stats.action.width, config.action_dim),
    ):
        if width > most:
            raise ConfigError(f"{width} {label} numbers", allowed=f"at most {most}, the width of the network")
    state, action = joints
    two = tuple(action.index(joint) for joint in binary)
    mode = RELATIVE_NORM if relative else NORM
    return RowUnits(
        StateUnits(stats.state, mode=NORM, padded=config.state_dim),
        ActionUnits(stats.action, mode=mode, padded=config.action_dim, binary=two),
        action,
        state_columns(joints) if set(action) <= set(state) else None,
        relative,
        stats.state.values["std"],
    )
