# SPDX-License-Identifier: Apache-2.0
"""UD-VLA behind the registry: opens a bundle and builds planner and executor; writes tiny bundles.

The `model` section of policy.yaml holds the fields of `UdVlaConfig`; the bundle has one more file, the action
tokenizer, whose SHA-256 stands in the `text` section so that another one is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wam.core.clock import NS_PER_S
from wam.core.errors import BundleError, ConfigError, ImageError, InputError
from wam.core.policy import LoadedPolicy
from wam.models.bundle import Bundle, BundleCamera, Manifest, load_into, write_bundle
from wam.models.layout import RobotLayout
from wam.models.normalisation import Normaliser, NormMode, PolicyStats
from wam.models.ud_vla.config import UdVlaConfig, preset
from wam.models.ud_vla.context import codec
from wam.models.ud_vla.decoder import UdVlaDecoder
from wam.models.ud_vla.executor import UdVlaExecutor
from wam.models.ud_vla.fast import FILE_NAME, FastTokenizer, plain
from wam.models.ud_vla.initialise import (
    bundle_tensors,
    decoder_name,
    random_decoder,
    random_vision,
    vision_name,
)
from wam.models.ud_vla.jd3p import Jd3pSettings
from wam.models.ud_vla.masks import MaskMode
from wam.models.ud_vla.planner import UdVlaPlanner, require_fits
from wam.models.ud_vla.sequence import SequenceLayout
from wam.models.ud_vla.text import TextTokenizer, text_tokenizer
from wam.models.ud_vla.vision import ImageTokenizer, grid_of

M = TypeVar("M", bound=nn.Module)

KIND = "ud_vla"
TEMPLATE = "{task}"
TINY_ROWS = 8
TINY_RATE = 15
TINY_SIDES = (32, 16)
"""Sides of the first view and of all others in tiny bundles [px]."""
TINY_STEPS = 8
TINY_TEXT = 96
"""Positions that tiny bundles leave to the instruction."""

_WHERE = "the model section of policy.yaml"


@dataclass(frozen=True, slots=True)
class UdVlaPolicyConfig:
    """Everything that a bundle says, checked.

    Attributes:
        network: sizes.
        layout: of the sequence.
        sampler: how chunks are decoded.
        fast: action tokenizer.
        text: text tokenizer.
    """

    network: UdVlaConfig
    layout: SequenceLayout
    sampler: Jd3pSettings
    fast: FastTokenizer
    text: TextTokenizer


def layout_of(manifest: Manifest, network: UdVlaConfig) -> SequenceLayout:
    """Return the sequence that a manifest's cameras give.

    Raises:
        BundleError: a side of an image is no multiple of the pixels per code, or nothing is left for text.
    """
    factor = network.vision.side_factor
    try:
        grids = tuple(
            grid_of(c.height, c.width, factor=factor, what=f"policy.yaml: camera {c.name!r}")
            for c in manifest.cameras
        )
        layout = SequenceLayout(network.tokens, grids, network.action_len)
    except (ImageError, ValueError) as error:
        raise BundleError(str(error)) from error
    if layout.image_len + layout.generated_len + 2 > network.max_positions:
        raise BundleError(
            "policy.yaml: model.max_positions",
            value=network.max_positions,
            allowed=f"at least {layout.image_len + layout.generated_len + 2} for these cameras",
            where=_WHERE,
        )
    return layout


def check(bundle: Bundle) -> UdVlaPolicyConfig:
    """Check everything about a bundle that its files' headers can tell; allocates nothing.

    Raises:
        BundleError: sizes, names, shapes, precision, a tokenizer, the sampler or the first instruction do not fit.
    """
    manifest = bundle.manifest
    try:
        network = UdVlaConfig.from_dict(manifest.model)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BundleError(f"policy.yaml: model: {error}", where=_WHERE) from error
    if network.mask is MaskMode.CAUSAL:
        raise BundleError(
            "policy.yaml: model.mask", value="causal", allowed="hybrid or released", where=_WHERE
        )
    layout = layout_of(manifest, network)
    try:
        sampler = Jd3pSettings.from_dict(manifest.sampler)
    except ConfigError as error:
        raise BundleError(f"policy.yaml: {error}", where="the sampler section of policy.yaml") from error
    want = expected_shapes(network)
    bundle.weights.require(want, what=f"the UD-VLA network of {bundle.directory}")
    # The image tokenizer keeps its own precision: its nearest code must not depend on rounding.
    of_decoder = [name for name in want if name.startswith("decoder.")]
    bundle.weights.require_dtype(manifest.dtype, names=of_decoder)
    fast = read_fast(bundle, network)
    text = dict(manifest.text)
    text.pop("action_tokenizer", None)
    config = UdVlaPolicyConfig(
        network, layout, sampler, fast, text_tokenizer(text, directory=bundle.directory)
    )
    _require_instruction(manifest, config)
    return config


def _require_instruction(manifest: Manifest, config: UdVlaPolicyConfig) -> None:
    ids = config.text(manifest.instruction_template.replace("{task}", manifest.instruction))
    blank = torch.zeros(1 + len(ids) + config.layout.image_len)
    try:
        require_fits(blank, layout=config.layout, most=config.network.max_positions)
    except InputError as error:
        raise BundleError(f"policy.yaml: instruction: {error}") from error


def read_fast(bundle: Bundle, network: UdVlaConfig) -> FastTokenizer:
    """Read the action tokenizer of a bundle.

    Raises:
        BundleError: it is missing, another one than policy.yaml names, or of another size than the vocabulary.
    """
    path = bundle.directory / FILE_NAME
    if not path.is_file():
        raise BundleError(f"the action tokenizer {path} is missing", where="the bundle; convert it again")
    text = path.read_text(encoding="utf-8")
    expected, found = bundle.manifest.text.get("action_tokenizer"), digest(text)
    if found != expected:
        raise BundleError(
            f"{path} is another action tokenizer than the policy was trained with",
            value=found[:12],
            allowed=f"{str(expected)[:12]}, as policy.yaml says",
            where="the bundle; copy the tokenizer again",
        )
    fast = FastTokenizer.from_json(text, what=str(path))
    if fast.vocab_size > network.tokens.action_count:
        raise BundleError(
            f"{path} has {fast.vocab_size} tokens",
            allowed=f"at most {network.tokens.action_count}, the action ids of the vocabulary",
            where=_WHERE,
        )
    return fast


def digest(text: str) -> str:
    """Return the SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def require_mask(config: UdVlaConfig, asked: MaskMode) -> None:
    """Refuse to run weights under another mask than they were trained with.

    Raises:
        ConfigError: the masks differ.
    """
    if config.mask is not asked:
        raise ConfigError(
            "the policy was trained with another attention mask",
            value=asked.value,
            allowed=config.mask.value,
            where="model.mask in policy.yaml",
        )


def expected_shapes(config: UdVlaConfig) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of every tensor of a bundle."""
    with torch.device("meta"):
        decoder, vision = (
            UdVlaDecoder(config),
            ImageTokenizer(config.vision, codes=config.tokens.visual_count),
        )
    return {name: tuple(t.shape) for name, t in bundle_tensors(decoder, vision).items()}


def load(
    bundle: Bundle,
    *,
    planner: bool,
    executor: bool,
    device: torch.device | str,
    dtype: torch.dtype | None,
    steps: int | None,
    seed: int | None,
    mask: MaskMode | None = None,
) -> LoadedPolicy:
    """Load the asked-for halves; both share one copy of the weights.

    Args:
        bundle: opened.
        planner: load the planner.
        executor: load the executor.
        device: where the weights go.
        dtype: what they become; None keeps the stored precision.
        steps: overrides the sampler's T.
        seed: overrides the sampler's.
        mask: attention mask that the caller expects; None takes the bundle's.

    Raises:
        BundleError: the bundle does not fit; nothing was allocated on the device.
        ConfigError: T is below 1, or the policy was trained with another mask.
    """
    config = check(bundle)
    if mask is not None:
        require_mask(config.network, mask)
    sampler = config.sampler
    if steps is not None:
        sampler = replace(sampler, steps=steps)
    if seed is not None:
        sampler = replace(sampler, seed=seed)
    decoder = load_decoder(bundle, config.network, device=device, dtype=dtype)
    vision = load_vision(bundle, config.network, device=device)
    contract, manifest = bundle.contract, bundle.manifest
    slow = fast = None
    if planner:
        slow = UdVlaPlanner(
            decoder,
            vision,
            contract=contract,
            layout=config.layout,
            text=config.text,
            template=manifest.instruction_template,
        )
    if executor:
        fast = UdVlaExecutor(
            decoder,
            vision,
            contract=contract,
            layout=config.layout,
            fast=config.fast,
            action_norm=Normaliser(bundle.stats.action, mode=manifest.action_norm, clamp=None),
            settings=sampler,
        )
    return LoadedPolicy(contract, slow, fast, codec())


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


def make_tiny(
    directory: Path | str,
    *,
    robot: RobotLayout,
    seed: int,
    overrides: Mapping[str, Any] | None = None,
    sampler: Jd3pSettings | None = None,
) -> Bundle:
    """Write a bundle with random weights, byte text and one token per coefficient.

    Its actions are calm and always well-formed, so that it can drive a simulated robot.

    Args:
        directory: new or empty.
        robot: cameras and joints it is for; rows come at 15 Hz.
        seed: of the weights and of the draws.
        overrides: fields of the preset to replace.
        sampler: settings; None takes few steps of the released rule.
    """
    base = preset("tiny")
    # The rate of the paper's UR5e: eight rows last half a second, which a context must outlive.
    robot = replace(robot, control_period_ns=NS_PER_S // TINY_RATE)
    limit = (base.tokens.action_count - 1) // 2
    fast = plain(limit=limit, scale=limit / math.sqrt(TINY_ROWS))
    cameras = tuple(
        BundleCamera(name, side, side)
        for name, side in zip(robot.cameras, _sides(len(robot.cameras)), strict=True)
    )
    action_len = TINY_ROWS * len(robot.action_joints) + 1
    factor = base.vision.side_factor
    grids = tuple((c.height // factor, c.width // factor) for c in cameras)
    layout = SequenceLayout(base.tokens, grids, action_len)
    positions = layout.image_len + layout.generated_len + TINY_TEXT
    config = replace(base, **{"action_len": action_len, "max_positions": positions, **dict(overrides or {})})
    tensors = bundle_tensors(random_decoder(config, seed=seed, calm=True), random_vision(config, seed=seed))
    return write_policy(
        directory,
        config=config,
        cameras=cameras,
        robot=robot,
        stats=robot.stats(),
        chunk_rows=TINY_ROWS,
        action_norm=NormMode.MIN_MAX,
        dtype="float32",
        sampler=sampler or Jd3pSettings(steps=TINY_STEPS, seed=seed),
        fast=fast,
        text={"kind": "bytes"},
        tensors=tensors,
        source={"weights": "random", "seed": seed, "preset": f"{KIND}/tiny"},
    )


def _sides(cameras: int) -> tuple[int, ...]:
    return (TINY_SIDES[0],) + (TINY_SIDES[1],) * (cameras - 1)


def write_policy(
    directory: Path | str,
    *,
    config: UdVlaConfig,
    cameras: tuple[BundleCamera, ...],
    robot: RobotLayout,
    stats: PolicyStats,
    chunk_rows: int,
    action_norm: NormMode,
    dtype: str,
    sampler: Jd3pSettings,
    fast: FastTokenizer,
    text: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    source: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Write a UD-VLA bundle with its action tokenizer.

    Args:
        directory: new or empty.
        config: of the network.
        cameras: with the sizes that the tokenizer sees.
        robot: joints, rate and instruction.
        stats: of the data.
        chunk_rows: rows of a chunk, which is also as far as a context reaches.
        action_norm: which statistics bring actions to [-1, 1].
        dtype: of the decoder's weights.
        sampler: settings.
        fast: action tokenizer.
        text: the text tokenizer's section.
        tensors: by their names in the file.
        source: where the weights come from.
        files: further files, by name.
    """
    encoded = fast.to_json()
    manifest = Manifest(
        kind=KIND,
        model=config.to_dict(),
        cameras=cameras,
        state_joints=robot.state_joints,
        action_joints=robot.action_joints,
        control_period_ns=robot.control_period_ns,
        chunk_rows=chunk_rows,
        horizon_rows=chunk_rows,
        instruction=robot.instruction,
        instruction_template=TEMPLATE,
        state_norm=NormMode.MIN_MAX if action_norm is NormMode.MIN_MAX else action_norm,
        action_norm=action_norm,
        dtype=dtype,
        text={**text, "action_tokenizer": digest(encoded)},
        sampler=sampler.to_dict(),
        source=source,
    )
    bundle = write_bundle(directory, manifest=manifest, stats=stats, tensors=tensors)
    for name, data in {FILE_NAME: encoded.encode("utf-8"), **(files or {})}.items():
        (bundle.directory / name).write_bytes(data)
    check(bundle)
    return bundle
