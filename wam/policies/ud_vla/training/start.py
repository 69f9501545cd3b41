# SPDX-License-Identifier: Apache-2.0
"""Where a UD-VLA run starts: network, image tokenizer, text and action vocabulary, from a bundle or from a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import BundleError, ConfigError, InputError
from wam.models.bundle import Bundle, BundleCamera, open_bundle
from wam.policies.ud_vla.config import MaskMode, UdVlaConfig, preset
from wam.policies.ud_vla.contents import KIND, UdVlaPolicyConfig, check, layout_of, require_mask
from wam.policies.ud_vla.convert.ud_vla import read_action_tokenizer
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.fast import FastTokenizer, fit
from wam.policies.ud_vla.initialise import random_decoder, random_vision
from wam.policies.ud_vla.jd3p import Jd3pSettings
from wam.policies.ud_vla.policy import load_decoder, load_vision
from wam.policies.ud_vla.sequence import SequenceLayout, header_ids
from wam.policies.ud_vla.text import TextTokenizer, byte_ids
from wam.policies.ud_vla.tokens import RELEASED, compact
from wam.policies.ud_vla.training.config import TokenizerSource, UdVlaTrainConfig, require_same_cameras
from wam.policies.ud_vla.training.objective import TrainingStage
from wam.policies.ud_vla.vision import ImageTokenizer
from wam.policies.ud_vla.writing import TINY_SIDES, TINY_TEXT

SIDES = (200, 80)
"""Sides of the first view and of all others in the published data sets [px]."""
COMPACT_ACTIONS = 256
"""Action ids of a tiny vocabulary where the configuration gives no number."""

Chunk = npt.NDArray[np.float32]
Windows = Callable[[int], Sequence[Chunk]]
"""Returns chunks [rows, joints] in model units, given the rows of a chunk; none where there is no robot."""


@dataclass(frozen=True, slots=True)
class UdVlaStart:
    """What a run begins with.

    Attributes:
        layout: of the sequence.
        decoder: with its weights, float32, on the CPU.
        vision: frozen image tokenizer.
        fast: action vocabulary.
        text: turns instructions into ids.
        text_section: `text` of policy.yaml without the action tokenizer.
        files: further files of the bundle, by name.
        template: "{task}" stands for the instruction.
        cameras: names and the sizes that the policy sees.
        chunk_rows: rows of a chunk.
        sampler: settings that the new bundle gets.
        bundle: that is trained further, or None.
        source: what the weights come from, for `source` in policy.yaml.
    """

    layout: SequenceLayout
    decoder: UdVlaDecoder
    vision: ImageTokenizer
    fast: FastTokenizer
    text: TextTokenizer
    text_section: Mapping[str, Any]
    files: Mapping[str, bytes]
    template: str
    cameras: tuple[BundleCamera, ...]
    chunk_rows: int
    sampler: Jd3pSettings
    bundle: Bundle | None
    source: Mapping[str, Any]

    @property
    def config(self) -> UdVlaConfig:
        """Sizes of the network."""
        return self.decoder.config


def open_start(config: UdVlaTrainConfig) -> Bundle | None:
    """Open the bundle that is trained further; None without one.

    Raises:
        BundleError: it is missing, damaged or of another kind.
    """
    path = config.model.bundle
    if path is None:
        return None
    bundle = open_bundle(path)
    if bundle.manifest.kind != KIND:
        raise BundleError(f"{path}: kind", value=bundle.manifest.kind, allowed=KIND, where="model.bundle")
    return bundle


def ud_vla_start(
    config: UdVlaTrainConfig, bundle: Bundle | None, *, joints: int, windows: Windows
) -> UdVlaStart:
    """Build the network and fill it.

    Args:
        config: of the run.
        bundle: from `open_start`.
        joints: of the action.
        windows: chunks of the data set, for fitting an action vocabulary.

    Raises:
        BundleError: a file of the bundle does not fit.
        ConfigError: sizes are impossible, cameras or masks differ, or the vocabulary has no room.
    """
    start = _fresh(config, joints, windows) if bundle is None else _continued(config, bundle, windows)
    if config.objective.stage is TrainingStage.VIDEO:
        _require_room(config, start)
    return start


def _continued(config: UdVlaTrainConfig, bundle: Bundle, windows: Windows) -> UdVlaStart:
    policy = check(bundle)
    manifest = bundle.manifest
    require_same_cameras(config.data.policy_cameras, [c.name for c in manifest.cameras])
    if config.model.mask is not None:
        require_mask(policy.network, config.model.mask)
    text = {name: value for name, value in manifest.text.items() if name != "action_tokenizer"}
    files = {}
    if "file" in text:
        files[str(text["file"])] = (bundle.directory / str(text["file"])).read_bytes()
    decoder = load_decoder(bundle, policy.network, device="cpu", dtype=None).float()
    return UdVlaStart(
        layout=policy.layout,
        decoder=decoder,
        vision=load_vision(bundle, policy.network, device="cpu"),
        fast=_tokenizer(
            config, policy.fast, windows(manifest.chunk_rows), policy.network.tokens.action_count
        ),
        text=policy.text,
        text_section=text,
        files=files,
        template=manifest.instruction_template,
        cameras=manifest.cameras,
        chunk_rows=manifest.chunk_rows,
        sampler=policy.sampler,
        bundle=bundle,
        source=_bundle_source(bundle, policy),
    )


def _bundle_source(bundle: Bundle, policy: UdVlaPolicyConfig) -> dict[str, Any]:
    return {
        "bundle": bundle.directory.name,
        "contract": bundle.contract.contract_hash,
        "mask": policy.network.mask.value,
    }


def _fresh(config: UdVlaTrainConfig, joints: int, windows: Windows) -> UdVlaStart:
    model, data, actions = config.model, config.data, config.actions
    try:
        base = preset(model.preset)
    except ValueError as error:
        raise ConfigError(f"model: {error}", where="model.preset") from error
    released = base.tokens.vocab_size == RELEASED.vocab_size
    room = actions.vocab_size or (base.tokens.action_count if released else COMPACT_ACTIONS)
    chunks = windows(data.chunk_rows)
    fast = _tokenizer(config, None, chunks, room)
    tokens = base.tokens
    if not released:
        # No id without a meaning; a run without actions leaves room for those of the next stage.
        tokens = compact(visual_count=tokens.visual_count, action_count=fast.vocab_size if chunks else room)
    if fast.vocab_size > tokens.action_count:
        raise ConfigError(
            f"the action vocabulary has {fast.vocab_size} tokens",
            allowed=f"at most {tokens.action_count}",
            where="actions.vocab_size",
        )
    # A token stands for at least one coefficient, so that no chunk needs more.
    action_len = actions.action_len or (base.action_len if released else data.chunk_rows * joints + 2)
    cameras = _cameras(config, SIDES if released else TINY_SIDES)
    grids = [(c.height // base.vision.side_factor, c.width // base.vision.side_factor) for c in cameras]
    image_len = sum(len(header_ids(grid)) + grid[0] * grid[1] + 4 for grid in grids)
    positions = base.max_positions if released else 2 * image_len + action_len + TINY_TEXT
    known = {f.name for f in fields(UdVlaConfig)} - {"tokens", "vision", "mask", "action_len"}
    if unknown := sorted(set(model.overrides) - known):
        raise ConfigError(
            f"model.overrides: unknown keys {unknown}", allowed=f"{sorted(known)}", where="model.overrides"
        )
    try:
        network = replace(
            base,
            **{
                "tokens": tokens,
                "action_len": action_len,
                "max_positions": positions,
                "mask": model.mask or MaskMode.HYBRID,
                **model.overrides,
            },
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {error}", where="model.overrides") from error
    return UdVlaStart(
        layout=layout_of(cameras, network),
        decoder=random_decoder(network, seed=model.seed),
        vision=random_vision(network, seed=model.seed),
        fast=fast,
        text=byte_ids,
        text_section={"kind": "bytes"},
        files={},
        template=model.instruction_template,
        cameras=cameras,
        chunk_rows=data.chunk_rows,
        sampler=Jd3pSettings(),
        bundle=None,
        source={"weights": "random", "seed": model.seed, "preset": f"{KIND}/{model.preset}"},
    )


def _cameras(config: UdVlaTrainConfig, default: tuple[int, int]) -> tuple[BundleCamera, ...]:
    names = config.data.policy_cameras
    sides = config.data.sides or tuple(
        (default[0],) * 2 if i == 0 else (default[1],) * 2 for i in range(len(names))
    )
    return tuple(BundleCamera(name, side[0], side[1]) for name, side in zip(names, sides, strict=True))


def _tokenizer(
    config: UdVlaTrainConfig, given: FastTokenizer | None, chunks: Sequence[Chunk], room: int
) -> FastTokenizer:
    """Return the action vocabulary.

    Raises:
        ConfigError: there is nothing to fit it on, or it does not fit the network's ids.
    """
    actions = config.actions
    if actions.file is not None:
        return read_action_tokenizer(actions.file)
    if given is not None and actions.tokenizer is TokenizerSource.AUTO:
        return given
    if not chunks:
        # Stage (i) has no actions; its bundle gets a vocabulary that the next stage replaces.
        chunks = [np.zeros((config.data.chunk_rows, 1), dtype=np.float32)]
    size = min(room, actions.vocab_size or room)
    try:
        return fit(chunks, scale=actions.scale, vocab_size=size)
    except InputError as error:
        raise ConfigError(f"actions: {error}", where="actions.scale, actions.vocab_size") from error


def _require_room(config: UdVlaTrainConfig, start: UdVlaStart) -> None:
    """Refuse more images than the network has positions for.

    Raises:
        ConfigError: see above.
    """
    images = config.objective.frames * start.layout.image_len
    most = start.config.max_positions
    if images + 2 > most:
        raise ConfigError(
            f"objective.frames: {config.objective.frames} images take {images} sites",
            allowed=f"at most {most - 2}, the positions of the network without text",
            where="objective.frames, or max_positions in model.overrides",
        )
