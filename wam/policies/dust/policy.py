# SPDX-License-Identifier: Apache-2.0
"""Builds DUST's planner and executor from a bundle, and writes tiny bundles.

The `model` section of policy.yaml holds the fields of `DustConfig` but for `action_rows` (it is `chunk_rows`),
and three of its own: `embodiment` (slot of the encoders), `crop` (part of each side of an image that is kept) and
`binary_joints` (action joints with two positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.errors import BundleError, ConfigError, InputError
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import (
    COMPILE_NAME,
    CUDA_GRAPH_NAME,
    EAGER_NAME,
    ONNX_RUNTIME_NAME,
    TRITON_NAME,
)
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.bundle import Bundle, BundleCamera, Manifest, load_into, write_bundle
from wam.models.normalisation import NormMode
from wam.models.robot_layout import RobotLayout
from wam.policies.dust.config import DustConfig, preset
from wam.policies.dust.context import codec
from wam.policies.dust.executor import DustExecutor
from wam.policies.dust.head import DustHead
from wam.policies.dust.initialise import random_model
from wam.policies.dust.model import Backbone, DustModel, FeatureProjection, TargetScale, make_backbone
from wam.policies.dust.planner import DustPlanner
from wam.policies.dust.prompt import DEFAULT_MAX_TOKENS, Prompter, prompt_tokenizer
from wam.policies.dust.schedule import ALL_SAVINGS, SamplerSettings, Savings
from wam.policies.dust.units import ActionUnits, StateUnits
from wam.policies.dust.views import DEFAULT_CROP
from wam.policies.kind import LoadOptions

KIND = "dust"
BACKENDS: tuple[str, ...] = (EAGER_NAME, CUDA_GRAPH_NAME, ONNX_RUNTIME_NAME, TRITON_NAME, COMPILE_NAME)
"""What may run the stages."""
GRIPPER_WORDS = ("gripper", "finger")
"""Joints whose names hold one of these are binary in tiny bundles."""

_WHERE = "the model section of policy.yaml"


@dataclass(frozen=True, slots=True)
class DustPolicyConfig:
    """Everything the `model` and `sampler` sections say.

    Attributes:
        network: sizes and readings.
        embodiment: slot of the encoders.
        crop: part of each side of an image that is kept.
        binary_joints: action joints with two positions.
        sampler: how chunks are sampled.
    """

    network: DustConfig
    embodiment: int
    crop: float
    binary_joints: tuple[str, ...]
    sampler: SamplerSettings


def model_section(
    config: DustConfig, *, embodiment: int, crop: float = DEFAULT_CROP, binary_joints: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the `model` section of policy.yaml."""
    own = {"embodiment": embodiment, "crop": crop, "binary_joints": list(binary_joints)}
    return {**{k: v for k, v in config.to_dict().items() if k != "action_rows"}, **own}


def config_of(manifest: Manifest) -> DustPolicyConfig:
    """Read what a manifest says about the network and check it against the robot's part.

    Raises:
        BundleError: a key is unknown or missing, or a value does not fit another.
    """
    values = dict(manifest.model)
    try:
        own = {name: values.pop(name) for name in ("embodiment", "crop", "binary_joints")}
        network = DustConfig.from_dict({**values, "action_rows": manifest.chunk_rows})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"policy.yaml: model: {error}", where=_WHERE) from error
    try:
        sampler = SamplerSettings.from_dict(manifest.sampler)
    except ConfigError as error:
        raise BundleError(f"policy.yaml: {error}", where="the sampler section of policy.yaml") from error
    embodiment, crop = own["embodiment"], own["crop"]
    if not isinstance(embodiment, int) or not 0 <= embodiment < network.embodiments:
        raise BundleError(
            "policy.yaml: model.embodiment",
            value=embodiment,
            allowed=f"0 .. {network.embodiments - 1}",
            where=_WHERE,
        )
    if not isinstance(crop, (int, float)) or not 0 < crop <= 1:
        raise BundleError("policy.yaml: model.crop", value=crop, allowed="above 0, at most 1", where=_WHERE)
    if unknown := sorted(set(own["binary_joints"]) - set(manifest.action_joints)):
        raise BundleError(
            "policy.yaml: model.binary_joints",
            value=unknown,
            allowed=f"some of {list(manifest.action_joints)}",
        )
    config = DustPolicyConfig(network, embodiment, float(crop), tuple(own["binary_joints"]), sampler)
    _require_robot_fits(manifest, network)
    return config


def _require_robot_fits(manifest: Manifest, network: DustConfig) -> None:
    """Compare cameras and joints with the network.

    Raises:
        BundleError: the number of cameras, a size or a width does not fit.
    """
    if len(manifest.cameras) != network.views:
        raise BundleError(
            f"policy.yaml: {len(manifest.cameras)} cameras {[c.name for c in manifest.cameras]}",
            allowed=f"{network.views}, as many as the network was trained with (model.views)",
            where="the cameras of policy.yaml",
        )
    height, width = network.image_size
    for camera in manifest.cameras:
        if (camera.height, camera.width) != (height, width):
            raise BundleError(
                f"policy.yaml: camera {camera.name!r}",
                value=f"{camera.height} x {camera.width}",
                allowed=f"{height} x {width}, the size that the backbone sees",
                where="the cameras of policy.yaml",
            )
    for label, joints, most in (
        ("state_joints", manifest.state_joints, network.state_dim),
        ("action_joints", manifest.action_joints, network.action_dim),
    ):
        if len(joints) > most:
            raise BundleError(
                f"policy.yaml: {len(joints)} {label}",
                allowed=f"at most {most}, the width of the network",
                where=_WHERE,
            )


def expected_shapes(config: DustConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of a bundle."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in DustModel(config).state_dict().items()}


def check(bundle: Bundle) -> DustPolicyConfig:
    """Check everything about a bundle that can be read from the headers of its files; allocate nothing.

    Raises:
        BundleError: sizes, names, shapes, precision, the sampler or the first instruction do not fit.
    """
    config = config_of(bundle.manifest)
    want = expected_shapes(config.network)
    bundle.weights.require(want, what=f"the DUST network of {bundle.directory}")
    bundle.weights.require_dtype(bundle.manifest.dtype, names=want)
    try:
        prompter_of(bundle, config)(bundle.manifest.instruction)
    except InputError as error:
        raise BundleError(f"policy.yaml: instruction: {error}") from error
    return config


def prompter_of(bundle: Bundle, config: DustPolicyConfig) -> Prompter:
    """Return what turns instructions into tokens.

    Raises:
        BundleError: the `text` section is illegal or the tokenizer is missing.
    """
    text = dict(bundle.manifest.text)
    max_tokens = text.pop("max_tokens", DEFAULT_MAX_TOKENS)
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise BundleError("policy.yaml: text.max_tokens", value=max_tokens, allowed="an integer of 1 or more")
    return Prompter(
        prompt_tokenizer(text, directory=bundle.directory, config=config.network.eagle),
        template=bundle.manifest.instruction_template,
        images=config.network.views,
        image_tokens=config.network.image_tokens,
        max_tokens=max_tokens,
    )


def load(bundle: Bundle, options: LoadOptions, *, savings: Savings = ALL_SAVINGS) -> LoadedPolicy:
    """Load the requested halves.

    Args:
        bundle: opened.
        options: halves, device, precision and overrides of the sampler.
        savings: what the sampler does not repeat.

    Raises:
        BundleError: the bundle does not fit; nothing was allocated on the device.
    """
    config = check(bundle)
    sampler = config.sampler
    if options.steps is not None:
        sampler = replace(sampler, action_steps=options.steps)
    if options.seed is not None:
        sampler = replace(sampler, seed=options.seed)
    plan = options.plan or eager_plan()
    slow = _planner(bundle, config, options, plan) if options.planner else None
    fast = _executor(bundle, config, sampler, savings, options, plan) if options.executor else None
    return LoadedPolicy(bundle.contract, slow, fast, codec(), str(options.device), plan.stages)


def _planner(
    bundle: Bundle, config: DustPolicyConfig, options: LoadOptions, plan: BackendPlan
) -> DustPlanner:
    device, dtype = options.device, options.dtype
    return DustPlanner(
        load_backbone(bundle, config.network, device=device, dtype=dtype),
        load_projection(bundle, config.network, device=device, dtype=dtype),
        contract=bundle.contract,
        prompter=prompter_of(bundle, config),
        image_size=config.network.image_size,
        crop=config.crop,
        target_view=config.network.target_view,
        plan=plan,
    )


def _executor(
    bundle: Bundle,
    config: DustPolicyConfig,
    sampler: SamplerSettings,
    savings: Savings,
    options: LoadOptions,
    plan: BackendPlan,
) -> DustExecutor:
    device = options.device
    head = load_head(bundle, config.network, device=device, dtype=options.dtype)
    head.keep_embodiment(config.embodiment)
    head.merge_projections()
    state_units, action_units = units_of(bundle, config)
    return DustExecutor(
        head,
        contract=bundle.contract,
        state_units=state_units,
        action_units=action_units,
        settings=sampler,
        feature_rows=prompter_of(bundle, config)(bundle.manifest.instruction).shape[1],
        target_scale=_load_scale(bundle, config.network, device=device),
        savings=savings,
        stages=plan,
    )


def units_of(bundle: Bundle, config: DustPolicyConfig) -> tuple[StateUnits, ActionUnits]:
    """Return the maps between SI units and the head's numbers."""
    manifest, network = bundle.manifest, config.network
    binary = tuple(manifest.action_joints.index(joint) for joint in config.binary_joints)
    if binary and not {"min", "max"} <= set(bundle.stats.action.values):
        raise BundleError(
            "stats.json: the action has no min and max, which binary joints need", value=config.binary_joints
        )
    return (
        StateUnits(bundle.stats.state, mode=manifest.state_norm, padded=network.state_dim),
        ActionUnits(bundle.stats.action, mode=manifest.action_norm, padded=network.action_dim, binary=binary),
    )


def load_backbone(
    bundle: Bundle, config: DustConfig, *, device: torch.device | str, dtype: torch.dtype | None
) -> Backbone:
    """Load the backbone, frozen."""
    with torch.device("meta"):
        backbone = make_backbone(config)
    load_into(
        backbone, bundle.weights, device=device, dtype=dtype, name_in_file=lambda name: f"backbone.{name}"
    )
    backbone.restore_buffers(device)
    return backbone.eval().requires_grad_(False)


def load_projection(
    bundle: Bundle, config: DustConfig, *, device: torch.device | str, dtype: torch.dtype | None
) -> FeatureProjection:
    """Load the planner's share of the head, frozen."""
    with torch.device("meta"):
        projection = FeatureProjection(config)
    load_into(
        projection,
        bundle.weights,
        device=device,
        dtype=dtype,
        name_in_file=lambda name: f"head.{projection.name_in_head(name)}",
    )
    return projection.eval().requires_grad_(False)


def load_head(
    bundle: Bundle, config: DustConfig, *, device: torch.device | str, dtype: torch.dtype | None
) -> DustHead:
    """Load the head with the encoders of all robots, frozen."""
    with torch.device("meta"):
        head = DustHead(config)
    load_into(head, bundle.weights, device=device, dtype=dtype, name_in_file=lambda name: f"head.{name}")
    return head.eval().requires_grad_(False)


def _load_scale(bundle: Bundle, config: DustConfig, *, device: torch.device | str) -> TargetScale | None:
    if not config.normalise_target:
        return None
    with torch.device("meta"):
        scale = TargetScale(config.vision_dim)
    load_into(scale, bundle.weights, device=device, dtype=torch.float32, name_in_file=lambda n: f"target.{n}")
    return scale


def make_tiny(
    directory: Path | str,
    *,
    robot: RobotLayout,
    seed: int,
    preset_name: str = "tiny",
    overrides: Mapping[str, Any] | None = None,
    sampler: SamplerSettings | None = None,
) -> Bundle:
    """Write a bundle with random weights and hashed tokens: no download, runs in milliseconds.

    Args:
        directory: new or empty.
        robot: cameras, joints and rates it is for.
        seed: of the weights and of the start noise.
        preset_name: of `wam.policies.dust.config`.
        overrides: fields of the preset to replace.
        sampler: settings; None takes the paper's.
    """
    base = preset(preset_name)
    config = replace(
        base,
        views=len(robot.cameras),
        state_dim=max(base.state_dim, len(robot.state_joints)),
        action_dim=max(base.action_dim, len(robot.action_joints)),
        **dict(overrides or {}),
    )
    binary = [j for j in robot.action_joints if any(word in j for word in GRIPPER_WORDS)]
    tensors: dict[str, Tensor] = dict(random_model(config, seed=seed).state_dict())
    return write_bundle(
        directory,
        manifest=manifest_of(
            config,
            robot=robot,
            model=model_section(config, embodiment=0, binary_joints=binary),
            sampler=sampler or SamplerSettings(seed=seed),
            dtype="float32",
            text={"kind": "hash"},
            source={"weights": "random", "seed": seed, "preset": f"{KIND}/{preset_name}"},
        ),
        stats=robot.stats(),
        tensors=tensors,
    )


def manifest_of(
    config: DustConfig,
    *,
    robot: RobotLayout,
    model: Mapping[str, Any],
    sampler: SamplerSettings,
    dtype: str,
    text: Mapping[str, Any],
    source: Mapping[str, Any],
) -> Manifest:
    """Return the manifest of a DUST bundle for a robot."""
    return Manifest(
        kind=KIND,
        model=model,
        cameras=tuple(BundleCamera(name, *config.image_size) for name in robot.cameras),
        state_joints=robot.state_joints,
        action_joints=robot.action_joints,
        control_period_ns=robot.control_period_ns,
        chunk_rows=config.action_rows,
        horizon_rows=config.action_rows,
        instruction=robot.instruction,
        instruction_template="{task}",
        state_norm=NormMode.MIN_MAX,
        action_norm=NormMode.MIN_MAX,
        dtype=dtype,
        text=text,
        sampler=sampler.to_dict(),
        source=source,
    )
