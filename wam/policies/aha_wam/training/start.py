# SPDX-License-Identifier: Apache-2.0
"""Where a run starts: sizes, weights, VAE, text encoder and picture layout, from a bundle or from a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.errors import ConfigError
from wam.models.bundle import Bundle, open_bundle, read_tensors
from wam.models.bundle.weights import iterate
from wam.models.images import Composite, standard_layout
from wam.models.normalisation import PolicyStats
from wam.models.text import TextEncoder, text_encoder
from wam.policies.aha_wam.config import AhaWamConfig, Latents, preset
from wam.policies.aha_wam.convert.action_backbone import read_action_backbone
from wam.policies.aha_wam.convert.wan_weights import read_vae, read_video_dit
from wam.policies.aha_wam.initialise import load_action_backbone, random_vae
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.policy import VAE_PREFIX, check, layout_of
from wam.policies.aha_wam.training.ablation import ablate
from wam.policies.aha_wam.training.config import AhaWamDataSection, AhaWamModelSection
from wam.policies.aha_wam.training.layout import SampleLayout


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with.

    Attributes:
        config: sizes of the network, as it will be deployed.
        model: with its weights, float32, on the CPU; on the meta device where weights were not wanted.
        vae: tensors of `AutoencoderKLWan`; the decoder may be absent, and all of it with pixel latents.
        composite: picture layout; its tiles are named by the policy's cameras.
        text: embeds instructions.
        text_section: `text` of policy.yaml, paths absolute.
        template: what the text encoder gets.
        stats: of the bundle, or None without one.
        source: what the weights come from, for `source` in policy.yaml.
        relative: action rows are relative to the state at the start of their chunk.
    """

    config: AhaWamConfig
    model: AhaWam
    vae: Mapping[str, Tensor]
    composite: Composite
    text: TextEncoder
    text_section: Mapping[str, Any]
    template: str
    stats: PolicyStats | None
    source: Mapping[str, Any]
    relative: bool = False


def sample_layout(config: AhaWamConfig, data: AhaWamDataSection) -> SampleLayout:
    """Return which rows make a sample for this network.

    Raises:
        ConfigError: the rows do not fit the network's chunks.
    """
    try:
        return SampleLayout(
            horizon_rows=data.horizon_rows,
            chunk_rows=config.chunk_rows,
            max_offset=data.max_offset,
            frame_stride=data.frame_stride,
            history_frames=config.memory_window,
            temporal_stride=config.temporal_stride,
        )
    except ValueError as error:
        raise ConfigError(f"data: {error}", where="the data section") from error


def with_data(config: AhaWamConfig, data: AhaWamDataSection) -> AhaWamConfig:
    """Fit horizon, memory and prefix to the samples: training sees what the planner sees at deployment.

    Raises:
        ConfigError: the rows do not fit the network's chunks.
    """
    if not 0 <= data.prefix_rows < config.chunk_rows:
        raise ConfigError(
            "data.prefix_rows",
            value=data.prefix_rows,
            allowed=f"0 to {config.chunk_rows - 1}: a chunk has {config.chunk_rows} rows",
            where="the data section",
        )
    try:
        config = replace(
            config,
            horizon_rows=data.horizon_rows,
            prefix_rows=data.prefix_rows,
            memory_window=min(config.memory_window, data.history_frames),
        )
    except ValueError as error:
        raise ConfigError(f"data.horizon_rows: {error}", where="the data section") from error
    return replace(config, memory_spacing_rows=sample_layout(config, data).history_spacing)


def start(
    model: AhaWamModelSection,
    data: AhaWamDataSection,
    joints: tuple[tuple[str, ...], tuple[str, ...]],
    *,
    weights: bool = True,
) -> Start:
    """Load or make what the run starts from; the data set is checked against it first.

    Args:
        model: where the weights come from.
        data: what they will be trained on.
        joints: names of the state joints and of the action joints.
        weights: load the network; False leaves it on the meta device, for processes that receive theirs.

    Raises:
        BundleError: weights are missing, damaged, or of another shape.
        ConfigError: the data set does not fit the policy.
    """
    widths = tuple(len(names) for names in joints)
    if model.bundle is not None:
        return _from_bundle(open_bundle(model.bundle), model, data, widths, weights=weights)
    return _from_preset(model, data, widths, weights=weights)


def _from_bundle(
    bundle: Bundle,
    model: AhaWamModelSection,
    data: AhaWamDataSection,
    widths: tuple[int, ...],
    *,
    weights: bool,
) -> Start:
    stored = check(bundle)
    manifest = bundle.manifest
    rules = (
        ("the state", data.state, widths[0], stored.state_dim),
        ("the action", data.action, widths[1], stored.action_dim),
        ("the cameras", ", ".join(data.cameras), len(data.cameras), len(manifest.cameras)),
    )
    for what, column, have, want in rules:
        if have != want:
            raise ConfigError(
                f"{what} of the data set ({column}): {have}, of the bundle {bundle.directory}: {want}",
                allowed="equal numbers: a network's widths and camera layout are part of its weights",
                where="data.cameras, data.state, data.action, or model.bundle",
            )
    if data.relative_actions and not manifest.relative_actions:
        raise ConfigError(
            f"data.relative_actions is true, and the rows of the bundle {bundle.directory} are positions",
            allowed="what the bundle was trained on",
            where="data.relative_actions, or model.bundle",
        )
    config = ablate(with_data(stored, data), model.ablation)
    with torch.device("meta"):
        network = AhaWam(config)
    if weights:
        loaded = dict(iterate(bundle.weights, network.state_dict(), dtype=torch.float32))
        network.load_state_dict(loaded, strict=True, assign=True)
        network.requires_grad_(True)
    text_section = _absolute(manifest.text, bundle.directory)
    return Start(
        config=config,
        model=network,
        vae=read_tensors(bundle.weights, prefix=VAE_PREFIX),
        composite=_renamed(layout_of(manifest, config), data.policy_cameras),
        text=_text(text_section, config, bundle.directory),
        text_section=text_section,
        template=manifest.instruction_template,
        stats=bundle.stats,
        source={"trained_from": str(bundle.directory), "contract": bundle.contract.contract_hash},
        relative=manifest.relative_actions,
    )


def _from_preset(
    model: AhaWamModelSection, data: AhaWamDataSection, widths: tuple[int, ...], *, weights: bool
) -> Start:
    base = preset_config(model.preset, model.overrides)
    sized = replace(base, state_dim=widths[0], action_dim=widths[1])
    config = ablate(with_data(sized, data), model.ablation)
    if weights:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(model.seed)
            network = AhaWam(config)
        if model.video_weights is not None and network.video is not None:
            network.video.load_state_dict(read_video_dit(model.video_weights, config), strict=True)
        if model.action_backbone is not None:
            load_action_backbone(network, read_action_backbone(model.action_backbone, config))
    else:
        with torch.device("meta"):
            network = AhaWam(config)
    vae: Mapping[str, Tensor] = {}
    if config.latents is Latents.VAE:
        given = model.vae_weights
        vae = random_vae(config.vae, seed=model.seed + 1) if given is None else read_vae(given, config.vae)
    try:
        composite = standard_layout(data.policy_cameras, height=config.image_height, width=config.image_width)
    except ValueError as error:
        raise ConfigError(f"data.cameras: {error}", where="data.cameras, or model.overrides") from error
    text_section = _absolute(model.text, Path.cwd())
    return Start(
        config=config,
        model=network,
        vae=vae,
        composite=composite,
        text=_text(text_section, config, Path.cwd()),
        text_section=text_section,
        template=model.instruction_template,
        stats=None,
        source={
            "preset": f"aha_wam/{model.preset}",
            "video": str(model.video_weights or "random"),
            "action": str(model.action_backbone or "random"),
            "vae": str(model.vae_weights or "random") if vae else "none",
            "seed": model.seed,
        },
        relative=data.relative_actions,
    )


def preset_config(name: str, overrides: Mapping[str, Any]) -> AhaWamConfig:
    """Return a preset with fields replaced; nested sections are merged.

    Raises:
        ConfigError: the preset or a field is unknown, or the sizes are impossible.
    """
    try:
        values = preset(name).to_dict()
        for key, value in overrides.items():
            nested = isinstance(values.get(key), dict) and isinstance(value, Mapping)
            values[key] = {**values[key], **value} if nested else value
        return AhaWamConfig.from_dict(values)
    except ValueError as error:
        raise ConfigError(f"model.preset or model.overrides: {error}", where="the model section") from error


def _absolute(section: Mapping[str, Any], base: Path) -> dict[str, Any]:
    paths = {
        key: str((base / str(section[key])).resolve()) for key in ("file", "directory") if key in section
    }
    return {**section, **paths}


def _text(section: Mapping[str, Any], config: AhaWamConfig, base: Path) -> TextEncoder:
    return text_encoder(section, directory=base, text_len=config.context_len, width=config.text_dim)


def _renamed(composite: Composite, names: tuple[str, ...]) -> Composite:
    tiles = tuple(replace(tile, camera=name) for tile, name in zip(composite.tiles, names, strict=True))
    return replace(composite, tiles=tiles)
