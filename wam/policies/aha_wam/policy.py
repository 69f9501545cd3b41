# SPDX-License-Identifier: Apache-2.0
"""Builds AHA-WAM's planner and executor from a bundle, and writes tiny bundles."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import nn

from wam.core.errors import BundleError
from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import (
    COMPILE_NAME,
    CUDA_GRAPH_NAME,
    EAGER_NAME,
    HOST_NAME,
    ONNX_RUNTIME_NAME,
    TENSORRT_NAME,
    TRITON_NAME,
)
from wam.models.backends.plan import BackendPlan, eager_plan
from wam.models.backends.stage import PolicyPart, StageInputs, StageSpec
from wam.models.bundle import Bundle, BundleCamera, Manifest, load_into, read_tensors, write_bundle
from wam.models.images import Composite, ImageTile, standard_layout
from wam.models.normalisation import Normaliser, NormMode
from wam.models.robot_layout import RobotLayout
from wam.models.text import text_encoder
from wam.policies.aha_wam.config import AhaWamConfig, Latents, preset
from wam.policies.aha_wam.context import codec
from wam.policies.aha_wam.executor import AhaExecutor
from wam.policies.aha_wam.imagination import Decode, pixel_decoder, video_decoder
from wam.policies.aha_wam.initialise import random_model, random_vae
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.pixel_latents import PixelEncoder
from wam.policies.aha_wam.planner import AhaPlanner
from wam.policies.aha_wam.prefix import PrefixUse
from wam.policies.aha_wam.vae import collapse
from wam.policies.aha_wam.vision import VisualEncoder
from wam.policies.kind import LoadOptions

KIND = "aha_wam"
BACKENDS: tuple[str, ...] = (
    EAGER_NAME,
    CUDA_GRAPH_NAME,
    ONNX_RUNTIME_NAME,
    TENSORRT_NAME,
    TRITON_NAME,
    COMPILE_NAME,
)
"""What may run the stages."""
VAE_PREFIX = "vae."

RELEASED_TEMPLATE = (
    "A video recorded from a robot's point of view executing the following instruction: {task}"
)

_FROM_MANIFEST = ("state_dim", "action_dim", "chunk_rows", "horizon_rows")
"""Sizes that `policy.yaml` states outside its model section."""


def model_section(config: AhaWamConfig) -> dict[str, Any]:
    """Return the `model` section of policy.yaml."""
    return {k: v for k, v in config.to_dict().items() if k not in _FROM_MANIFEST}


def config_of(manifest: Manifest) -> AhaWamConfig:
    """Return the sizes that a manifest describes.

    Raises:
        BundleError: a key is unknown or missing, or the sizes are impossible.
    """
    values = {
        **manifest.model,
        "state_dim": len(manifest.state_joints),
        "action_dim": len(manifest.action_joints),
        "chunk_rows": manifest.chunk_rows,
        "horizon_rows": manifest.horizon_rows,
    }
    try:
        return AhaWamConfig.from_dict(values)
    except ValueError as error:
        raise BundleError(f"policy.yaml: model: {error}", where="the model section of policy.yaml") from error


def layout_of(manifest: Manifest, config: AhaWamConfig) -> Composite:
    """Return the position of each camera's view in the composite image.

    Raises:
        BundleError: the tiles do not cover the image exactly once.
    """
    if any(c.top is None or c.left is None for c in manifest.cameras):
        raise BundleError("policy.yaml: cameras: AHA-WAM composes its views; every camera needs top and left")
    tiles = tuple(
        ImageTile(c.name, int(c.top or 0), int(c.left or 0), c.height, c.width) for c in manifest.cameras
    )
    try:
        return Composite(config.image_height, config.image_width, tiles)
    except ValueError as error:
        raise BundleError(f"policy.yaml: cameras: {error}") from error


def expected_shapes(config: AhaWamConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every trainable tensor of a bundle."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in AhaWam(config).state_dict().items()}


def check(bundle: Bundle) -> AhaWamConfig:
    """Check everything about a bundle that can be read from the headers of its files; allocate nothing.

    Raises:
        BundleError: sizes, names, shapes, precision or the sampler do not fit.
    """
    config = config_of(bundle.manifest)
    layout_of(bundle.manifest, config)
    want = expected_shapes(config)
    bundle.weights.require(want, what=f"the AHA-WAM network of {bundle.directory}", ignore=(VAE_PREFIX,))
    bundle.weights.require_dtype(bundle.manifest.dtype, names=want)
    sampler_of(bundle.manifest)
    has_vae = any(name.startswith(VAE_PREFIX) for name in bundle.weights.tensors)
    if config.latents is Latents.VAE and not has_vae:
        raise BundleError(f"the bundle {bundle.directory} has no VAE", where="wam convert add-vae")
    return config


class Sampler(NamedTuple):
    """The `sampler` section.

    Attributes:
        steps: of the integration.
        seed: of the start noise.
        guidance: largest weight of the guidance towards what is executed anyway; 0 for none.
        prefix: what becomes of the rows that are executed before a chunk can take over.
    """

    steps: int
    seed: int
    guidance: float
    prefix: PrefixUse


def sampler_of(manifest: Manifest) -> Sampler:
    """Return the `sampler` section.

    Raises:
        BundleError: a key is unknown or illegal, or asks for what the bundle was not trained for.
    """
    sampler = dict(manifest.sampler)
    steps, seed = sampler.pop("steps", None), sampler.pop("seed", None)
    guidance = sampler.pop("guidance", 0.0)
    prefix = _prefix_of(
        sampler.pop("prefix", PrefixUse.NONE.value), trained=manifest.model.get("prefix_rows", 0)
    )
    integers = isinstance(steps, int) and isinstance(seed, int)
    real = isinstance(guidance, int | float) and not isinstance(guidance, bool)
    if sampler or not integers or not real or steps < 1 or not 0.0 <= guidance < math.inf:
        raise BundleError(
            "policy.yaml: sampler",
            value=dict(manifest.sampler),
            allowed="steps (1, 2, 4, 10, ...) and seed, integers; guidance, 0 or more; prefix, none or condition",
        )
    if prefix is PrefixUse.CONDITION and guidance > 0:
        raise BundleError(
            "policy.yaml: sampler: guidance beside prefix: condition",
            value=guidance,
            allowed="one of both: guidance: 0, or prefix: none",
            where="the sampler section, or --sampler",
        )
    return Sampler(steps, seed, float(guidance), prefix)


def _prefix_of(value: object, *, trained: int) -> PrefixUse:
    """Return what becomes of the prefix.

    Args:
        value: of the sampler section.
        trained: rows that the bundle was trained to be given.
    """
    where = "the sampler section, or --sampler"
    if value not in [one.value for one in PrefixUse]:
        raise BundleError(
            "policy.yaml: sampler.prefix", value=value, allowed="none or condition", where=where
        )
    prefix = PrefixUse(value)
    if prefix is PrefixUse.CONDITION and not trained:
        raise BundleError(
            "policy.yaml: sampler.prefix: this bundle was not trained to be given rows (model.prefix_rows is 0)",
            value=value,
            allowed="none, with guidance where chunks shall continue the one before",
            where=f"{where}; data.prefix_rows of a training run makes a bundle that can",
        )
    return prefix


def load(bundle: Bundle, options: LoadOptions) -> LoadedPolicy:
    """Load the requested halves.

    Args:
        bundle: opened.
        options: halves, device, precision and overrides of the sampler.

    Raises:
        BundleError: the bundle does not fit; nothing was allocated on the device.
    """
    config = check(bundle)
    manifest = bundle.manifest
    sampler = sampler_of(manifest)
    device, plan = options.device, options.plan or eager_plan()
    text = (
        text_encoder(
            manifest.text,
            directory=bundle.directory,
            text_len=config.context_len,
            width=config.text_dim,
            device=device,
        )
        if options.planner
        else None
    )
    precision = options.dtype or getattr(torch, manifest.dtype)
    plan.declare("image_preparation", HOST_NAME, "images are composed as bytes, as they were for training")
    vision = _shared_vision(bundle, config, device=device, dtype=precision, plan=plan)
    with torch.device("meta"):
        model = AhaWam(config, planner=options.planner, executor=options.executor)
    load_into(model, bundle.weights, device=device, dtype=options.dtype)
    _freeze(model)
    state_norm = Normaliser(bundle.stats.state, mode=manifest.state_norm)
    slow = (
        AhaPlanner(
            model,
            contract=bundle.contract,
            vision=vision,
            text=text,
            template=manifest.instruction_template,
            state_norm=state_norm,
            plan=plan,
            decoder=_decoder(bundle, config, device=device),
        )
        if text is not None
        else None
    )
    fast = (
        AhaExecutor(
            model,
            contract=bundle.contract,
            vision=vision,
            state_norm=state_norm,
            action_norm=Normaliser(bundle.stats.action, mode=manifest.action_norm),
            steps=options.steps or sampler.steps,
            seed=sampler.seed if options.seed is None else options.seed,
            guidance=sampler.guidance,
            prefix_rows=config.prefix_rows if sampler.prefix is PrefixUse.CONDITION else 0,
            plan=plan,
        )
        if options.executor
        else None
    )
    return LoadedPolicy(bundle.contract, slow, fast, codec(), str(device), plan.stages)


_visions: WeakValueDictionary[tuple[str, str, torch.dtype, str], VisualEncoder] = WeakValueDictionary()


def _shared_vision(
    bundle: Bundle,
    config: AhaWamConfig,
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    plan: BackendPlan,
) -> VisualEncoder:
    """Return the visual encoder of a bundle, one for the planner and the executor of a process."""
    key = (f"{bundle.directory.resolve()}:{bundle.contract.contract_hash}", str(device), dtype, plan.name)
    vision = _visions.get(key)
    if vision is None:
        encoder = _image_encoder(bundle, config, dtype=dtype).to(device)
        layout = layout_of(bundle.manifest, config)
        encode = plan.prepare(image_stage(encoder, layout, device=device))
        vision = VisualEncoder(encode, layout=layout, device=device, stage=plan.stages[-1])
        _visions[key] = vision
    elif vision.stage is not None:
        plan.adopt(vision.stage)
    return vision


def image_stage(encoder: nn.Module, layout: Composite, *, device: torch.device | str) -> StageSpec:
    """Return the stage `vae_encode`."""

    def grey() -> list[StageInputs]:
        return [StageInputs.of(torch.zeros(1, 3, layout.height, layout.width, device=device))]

    return StageSpec("vae_encode", PolicyPart.VISION, encoder, grey)


def _image_encoder(bundle: Bundle, config: AhaWamConfig, *, dtype: torch.dtype) -> nn.Module:
    if config.latents is Latents.PIXELS:
        return PixelEncoder()
    # A bundle may hold the decoder too, which is three quarters of the VAE; nothing here decodes.
    state = read_tensors(bundle.weights, prefix=VAE_PREFIX, parts=("encoder.", "quant_conv."))
    return collapse(state, config.vae, dtype=dtype)


def _decoder(
    bundle: Bundle, config: AhaWamConfig, *, device: torch.device | str
) -> Callable[[], Decode] | None:
    """Return what makes the decoder of latents, which is read only if a future is asked for; None without one."""
    if config.latents is Latents.PIXELS:
        return pixel_decoder
    parts = ("decoder.", "post_quant_conv.")
    if not any(name.startswith(f"{VAE_PREFIX}decoder.") for name in bundle.weights.tensors):
        return None
    return lambda: video_decoder(
        read_tensors(bundle.weights, prefix=VAE_PREFIX, parts=parts), config, device=device
    )


def _freeze(model: nn.Module) -> None:
    model.eval()
    model.requires_grad_(False)


def make_tiny(
    directory: Path | str,
    *,
    robot: RobotLayout,
    seed: int,
    preset_name: str = "tiny",
    overrides: Mapping[str, Any] | None = None,
    steps: int = 10,
) -> Bundle:
    """Write a bundle with random weights and a hashed text embedding: no download, runs in milliseconds.

    Args:
        directory: new or empty.
        robot: cameras, joints and rates it is for.
        seed: of the weights and of the start noise.
        preset_name: of `wam.policies.aha_wam.config`.
        overrides: fields of the preset to replace.
        steps: integration steps.
    """
    config = replace(
        preset(preset_name),
        state_dim=len(robot.state_joints),
        action_dim=len(robot.action_joints),
        **dict(overrides or {}),
    )
    layout = standard_layout(robot.cameras, height=config.image_height, width=config.image_width)
    model = random_model(config, seed=seed)
    tensors = dict(model.state_dict())
    if config.latents is Latents.VAE:
        tensors.update({VAE_PREFIX + n: t for n, t in random_vae(config.vae, seed=seed + 1).items()})
    manifest = Manifest(
        kind=KIND,
        model=model_section(config),
        cameras=tuple(BundleCamera(t.camera, t.height, t.width, t.top, t.left) for t in layout.tiles),
        state_joints=robot.state_joints,
        action_joints=robot.action_joints,
        control_period_ns=robot.control_period_ns,
        chunk_rows=config.chunk_rows,
        horizon_rows=config.horizon_rows,
        instruction=robot.instruction,
        instruction_template="{task}",
        state_norm=NormMode.Z_SCORE,
        action_norm=NormMode.Z_SCORE,
        dtype="float32",
        text={"kind": "hash"},
        sampler={"steps": steps, "seed": seed},
        source={"weights": "random", "seed": seed, "preset": f"{KIND}/{preset_name}"},
    )
    return write_bundle(directory, manifest=manifest, stats=robot.stats(), tensors=tensors)
