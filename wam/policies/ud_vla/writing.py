# SPDX-License-Identifier: Apache-2.0
"""Writes UD-VLA bundles: with given weights, or tiny ones with random weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wam.core.clock import NS_PER_S
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.models.normalisation import NormMode, PolicyStats
from wam.models.robot_layout import RobotLayout
from wam.policies.ud_vla.config import UdVlaConfig, preset
from wam.policies.ud_vla.contents import KIND, check, digest
from wam.policies.ud_vla.fast import FILE_NAME, FastTokenizer, plain
from wam.policies.ud_vla.initialise import bundle_tensors, random_decoder, random_vision
from wam.policies.ud_vla.jd3p import Jd3pSettings
from wam.policies.ud_vla.sequence import SequenceLayout

TEMPLATE = "{task}"
TINY_ROWS = 8
TINY_RATE = 15
TINY_SIDES = (32, 16)
"""Sides of the first view and of all others in tiny bundles [px]."""
TINY_STEPS = 8
TINY_TEXT = 96
"""Positions that tiny bundles leave to the instruction."""


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
    template: str = TEMPLATE,
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
        template: text for the tokenizer; "{task}" is replaced by the instruction.
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
        instruction_template=template,
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
