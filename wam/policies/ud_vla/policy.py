# SPDX-License-Identifier: Apache-2.0
"""Builds UD-VLA's planner and executor from a bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from wam.core.policy import LoadedPolicy
from wam.models.backends.backend import CUDA_GRAPH_NAME, EAGER_NAME, ONNX_RUNTIME_NAME, TRITON_NAME
from wam.models.backends.plan import eager_plan
from wam.models.bundle import Bundle, Manifest, load_into
from wam.models.normalisation import Normaliser
from wam.policies.kind import LoadOptions
from wam.policies.ud_vla.config import MaskMode, UdVlaConfig
from wam.policies.ud_vla.contents import KIND, UdVlaPolicyConfig, check, require_mask
from wam.policies.ud_vla.context import codec
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.executor import UdVlaExecutor
from wam.policies.ud_vla.initialise import decoder_name, vision_name
from wam.policies.ud_vla.planner import UdVlaPlanner
from wam.policies.ud_vla.vision import ImageTokenizer
from wam.policies.ud_vla.writing import make_tiny

__all__ = ["BACKENDS", "KIND", "check", "load", "make_tiny"]

BACKENDS: tuple[str, ...] = (EAGER_NAME, CUDA_GRAPH_NAME, ONNX_RUNTIME_NAME, TRITON_NAME)
"""What may run the stages. Exported to ONNX Runtime, the image tokenizer finds other codes, as the nearest one depends
on rounding: that stage stays as it is written."""

M = TypeVar("M", bound=nn.Module)


def load(bundle: Bundle, options: LoadOptions, *, mask: MaskMode | None = None) -> LoadedPolicy:
    """Load the requested halves; both share one copy of the weights.

    Args:
        bundle: opened.
        options: halves, device, precision and overrides of the sampler.
        mask: attention mask that the caller expects; None takes the bundle's.

    Raises:
        BundleError: the bundle does not fit; nothing was allocated on the device.
        ConfigError: T is below 1, or the policy was trained with another mask.
    """
    config = check(bundle)
    if mask is not None:
        require_mask(config.network, mask)
    sampler = config.sampler
    if options.steps is not None:
        sampler = replace(sampler, steps=options.steps)
    if options.seed is not None:
        sampler = replace(sampler, seed=options.seed)
    decoder = load_decoder(bundle, config.network, device=options.device, dtype=options.dtype)
    vision = load_vision(bundle, config.network, device=options.device)
    contract, manifest = bundle.contract, bundle.manifest
    plan, example = options.plan or eager_plan(), example_prefix(config, manifest)
    slow = fast = None
    if options.planner:
        slow = UdVlaPlanner(
            decoder,
            vision,
            contract=contract,
            layout=config.layout,
            text=config.text,
            template=manifest.instruction_template,
            example=example,
            plan=plan,
        )
    if options.executor:
        fast = UdVlaExecutor(
            decoder,
            vision,
            contract=contract,
            layout=config.layout,
            fast=config.fast,
            action_norm=Normaliser(bundle.stats.action, mode=manifest.action_norm, clamp=None),
            settings=sampler,
            example=example,
            plan=plan,
        )
    return LoadedPolicy(contract, slow, fast, codec(), str(options.device), plan.stages)


def example_prefix(config: UdVlaPolicyConfig, manifest: Manifest) -> Tensor:
    """Return the ids of the policy's own instruction and of images that show every code in turn, [P]."""
    codes = [
        torch.arange(h * w).reshape(h, w) % config.network.tokens.visual_count for h, w in config.layout.grids
    ]
    text = config.text(manifest.instruction_template.replace("{task}", manifest.instruction))
    return config.layout.prefix(text, codes)


def load_decoder(
    bundle: Bundle, config: UdVlaConfig, *, device: torch.device | str, dtype: torch.dtype | None
) -> UdVlaDecoder:
    """Load the decoder, frozen."""
    with torch.device("meta"):
        decoder = UdVlaDecoder(config)
    load_into(decoder, bundle.weights, device=device, dtype=dtype, name_in_file=decoder_name)
    decoder.restore_buffers(device)
    return _frozen(decoder)


def load_vision(bundle: Bundle, config: UdVlaConfig, *, device: torch.device | str) -> ImageTokenizer:
    """Load the image tokenizer, frozen and in single precision: its nearest code must not depend on rounding."""
    with torch.device("meta"):
        vision = ImageTokenizer(config.vision, codes=config.tokens.visual_count)
    load_into(vision, bundle.weights, device=device, dtype=torch.float32, name_in_file=vision_name)
    return _frozen(vision)


def _frozen(module: M) -> M:
    return module.eval().requires_grad_(False)
