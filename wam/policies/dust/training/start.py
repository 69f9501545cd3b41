# SPDX-License-Identifier: Apache-2.0
"""Where a DUST run starts: sizes, backbone, head, tokens and units, from a bundle or from a preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wam.core.errors import BundleError, ConfigError
from wam.models.bundle import Bundle, open_bundle, read_tensors
from wam.models.normalisation import PolicyStats
from wam.policies.dust.config import DustConfig, PatchConfig, preset, single_stream, with_depth
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.head import DustHead
from wam.policies.dust.initialise import widen_encoders, zero_gates
from wam.policies.dust.model import Backbone, TargetScale, make_backbone
from wam.policies.dust.policy import KIND, DustPolicyConfig, check, prompter_of
from wam.policies.dust.prompt import DEFAULT_MAX_TOKENS, Prompter, prompt_tokenizer
from wam.policies.dust.readings import ActionPositions, BlockStyle, Conditioning, HeadLayout
from wam.policies.dust.training.config import DustModelSection, DustTrainConfig, HeadAblation, ObjectiveKind
from wam.policies.dust.training.flare import baseline

_ENUMS = {
    "style": BlockStyle,
    "conditioning": Conditioning,
    "layout": HeadLayout,
    "action_positions": ActionPositions,
}


@dataclass(frozen=True, slots=True)
class DustStart:
    """What a run begins with.

    Attributes:
        config: sizes of the network as it is trained.
        backbone: with its weights, float32, on the CPU.
        head: the same.
        scale: of the target, or None.
        prompter: turns instructions into tokens.
        text_section: `text` of policy.yaml, paths absolute.
        template: "{task}" stands for the instruction.
        policy: of the bundle that is trained further, or None.
        bundle: that is trained further or gives the backbone, or None.
        stats: of the bundle that is trained further, or None.
        relative: action rows are relative to the state.
        source: what the weights come from, for `source` in policy.yaml.
    """

    config: DustConfig
    backbone: Backbone
    head: DustHead
    scale: TargetScale | None
    prompter: Prompter
    text_section: Mapping[str, Any]
    template: str
    policy: DustPolicyConfig | None
    bundle: Bundle | None
    stats: PolicyStats | None
    relative: bool
    source: Mapping[str, Any]


def dust_start(config: DustTrainConfig) -> DustStart:
    """Open bundles, build the network and fill it.

    Raises:
        BundleError: a bundle is of another kind, missing or damaged.
        ConfigError: sizes are impossible, or the network cannot have this objective.
    """
    model = config.model
    given = _open(model)
    policy = check(given) if given is not None else None
    network = _network(config, policy)
    _require_objective(config, network)
    template = given.manifest.instruction_template if given is not None else model.instruction_template
    text = _text_section(model, given)
    if given is not None and policy is not None and network.views == policy.network.views:
        prompter = prompter_of(given, policy)
    else:
        prompter = _prompter(text, template, network)
    backbone, head, scale = _weights(model, network, given)
    if model.freeze_linear:
        backbone.linear.requires_grad_(False)
    further = given is not None and model.bundle is not None
    relative = config.data.relative_actions
    if given is not None and further:
        if relative and not given.manifest.relative_actions:
            raise ConfigError(
                f"data.relative_actions is true, and the rows of the bundle {given.directory} are positions",
                allowed="what the bundle was trained on",
                where="data.relative_actions, or model.bundle",
            )
        relative = given.manifest.relative_actions
    return DustStart(
        config=network,
        backbone=backbone,
        head=head,
        scale=scale,
        prompter=prompter,
        text_section=text,
        template=template,
        policy=policy if further else None,
        bundle=given,
        stats=given.stats if given is not None and further else None,
        relative=relative,
        source=_source(model, given),
    )


def _open(model: DustModelSection) -> Bundle | None:
    path = model.bundle or model.backbone
    if path is None:
        return None
    bundle = open_bundle(path)
    if bundle.manifest.kind != KIND:
        raise BundleError(
            f"{path}: kind", value=bundle.manifest.kind, allowed=KIND, where="model.bundle, model.backbone"
        )
    return bundle


def _network(config: DustTrainConfig, policy: DustPolicyConfig | None) -> DustConfig:
    """Return the sizes: those of the bundle, or of a preset or backbone with the configuration's changes."""
    model, kind = config.model, config.objective.kind
    views = len(config.data.cameras)
    try:
        if policy is not None and model.bundle is not None:
            if policy.network.views != views:
                raise ConfigError(
                    f"{views} data.cameras",
                    allowed=f"{policy.network.views}, as the bundle has",
                    where="data.cameras",
                )
            return policy.network
        base = policy.network if policy is not None else preset(model.preset)
        changed = replace(base, views=views, **_overrides(base, model.overrides))
        if model.mm_layers is not None:
            changed = with_depth(changed, model.mm_layers)
        if model.ablation is HeadAblation.SINGLE_STREAM:
            changed = single_stream(changed)
        if kind in (ObjectiveKind.ALIGNMENT, ObjectiveKind.ACTION_ONLY):
            changed = baseline(changed, aligned=kind is ObjectiveKind.ALIGNMENT)
        if not 0 <= model.embodiment < changed.embodiments:
            raise ConfigError(
                "model.embodiment",
                value=model.embodiment,
                allowed=f"0 .. {changed.embodiments - 1}",
                where="model",
            )
        return changed
    except ValueError as error:
        raise ConfigError(f"model: {error}", where="the model section") from error


def _overrides(base: DustConfig, overrides: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in fields(DustConfig)}
    if unknown := sorted(set(overrides) - known):
        raise ConfigError(
            f"model.overrides: unknown keys {unknown}", allowed=f"{sorted(known)}", where="model.overrides"
        )
    read: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in _ENUMS:
            read[name] = _ENUMS[name](value)
        elif name == "eagle":
            read[name] = replace(base.eagle, **value)
        elif name == "patches" and value is not None:
            read[name] = replace(base.patches or PatchConfig(), **value)
        else:
            read[name] = value
    return read


def _require_objective(config: DustTrainConfig, network: DustConfig) -> None:
    kind = config.objective.kind
    wants_vision = kind in (ObjectiveKind.JOINT, ObjectiveKind.ACTION_FREE)
    if wants_vision and network.layout is HeadLayout.ACTION_ONLY:
        raise ConfigError(
            "objective.kind",
            value=kind.value,
            allowed="action-only or alignment: this network has no world model",
            where="objective.kind, or model",
        )
    if not wants_vision and network.layout is not HeadLayout.ACTION_ONLY:
        raise ConfigError(
            "objective.kind", value=kind.value, allowed="joint or action-free for the network of this bundle"
        )
    if kind is ObjectiveKind.ALIGNMENT and network.future_tokens != network.vision_tokens:
        raise ConfigError("objective.kind", value=kind.value, allowed="a bundle that was trained with it")


def _text_section(model: DustModelSection, given: Bundle | None) -> dict[str, Any]:
    text = dict(given.manifest.text if given is not None else model.text)
    if text.get("kind") == "bpe":
        base = given.directory if given is not None else Path.cwd()
        text["directory"] = str((base / str(text.get("directory", "tokenizer"))).resolve())
    return text


def _prompter(text: Mapping[str, Any], template: str, network: DustConfig) -> Prompter:
    options = dict(text)
    limit = int(options.pop("max_tokens", DEFAULT_MAX_TOKENS))
    tokenizer = prompt_tokenizer(options, directory=Path("/"), config=network.eagle)
    return Prompter(
        tokenizer,
        template=template,
        images=network.views,
        image_tokens=network.image_tokens,
        max_tokens=limit,
    )


def _weights(
    model: DustModelSection, network: DustConfig, given: Bundle | None
) -> tuple[Backbone, DustHead, TargetScale | None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        backbone = make_backbone(network)
        head = DustHead(network)
        if network.patches is not None:
            widen_encoders(head)
        if model.zero_gates:
            zero_gates(head)
    scale = TargetScale(network.vision_dim) if network.normalise_target else None
    if given is not None:
        _fill(backbone, given, "backbone.")
        if model.bundle is not None:
            _fill(head, given, "head.")
            if scale is not None:
                _fill(scale, given, "target.")
    if isinstance(backbone, EagleBackbone):
        backbone.freeze(linear=False)
    return backbone, head, scale


def _fill(module: nn.Module, bundle: Bundle, prefix: str) -> None:
    state = {n: t.float() for n, t in read_tensors(bundle.weights, prefix=prefix).items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{bundle.directory}: {prefix} does not fit the network: {error}") from error


def _source(model: DustModelSection, given: Bundle | None) -> dict[str, Any]:
    if given is None:
        return {"weights": "random", "seed": model.seed, "preset": f"{KIND}/{model.preset}"}
    what = "bundle" if model.bundle is not None else "backbone"
    return {what: given.directory.name, "contract": given.contract.contract_hash, "seed": model.seed}
