# SPDX-License-Identifier: Apache-2.0
"""A trained network as a policy bundle that the nodes load."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.clock import NS_PER_S
from wam.data.lerobot.reader import LeRobotDataset
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.models.normalisation import NormMode, PolicyStats
from wam.models.text import CACHE_NAME
from wam.policies.aha_wam.policy import KIND, VAE_PREFIX, model_section
from wam.policies.aha_wam.training.config import DataSection, Precision
from wam.policies.aha_wam.training.start import Start, joint_names

SAMPLER_STEPS = 10


def export_bundle(
    directory: Path,
    *,
    start: Start,
    weights: Mapping[str, Tensor],
    stats: PolicyStats,
    data: DataSection,
    dataset: LeRobotDataset,
    dtype: Precision = Precision.FLOAT32,
    steps: int = SAMPLER_STEPS,
    source: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the bundle of a run.

    Args:
        directory: new or empty.
        start: what the run started from; sizes, VAE, text encoder and picture layout go on.
        weights: of the network, by its own names.
        stats: that the run normalised with.
        data: gives cameras and joints.
        dataset: gives the control rate and the instruction.
        dtype: of the stored weights.
        steps: integration steps of the sampler.
        source: entries for `source` in policy.yaml.

    Raises:
        BundleError: the directory is not empty.
    """
    config = start.config
    state_joints, action_joints = joint_names(data, dataset)
    text = dict(start.text_section)
    cache = Path(text["file"]) if text.get("kind") == "cache" else None
    if cache is not None:
        text["file"] = CACHE_NAME
    manifest = Manifest(
        kind=KIND,
        model=model_section(config),
        cameras=tuple(
            BundleCamera(t.camera, t.height, t.width, t.top, t.left) for t in start.composite.tiles
        ),
        state_joints=state_joints,
        action_joints=action_joints,
        control_period_ns=round(NS_PER_S / dataset.fps),
        chunk_rows=config.chunk_rows,
        horizon_rows=config.horizon_rows,
        instruction=next(iter(dataset.tasks.values())),
        instruction_template=start.template,
        state_norm=NormMode.Z_SCORE,
        action_norm=NormMode.Z_SCORE,
        dtype=dtype.value,
        text=text,
        sampler={"steps": steps, "seed": 0},
        source={**start.source, **(source or {})},
    )
    target = getattr(torch, dtype.value)
    tensors = {name: tensor.to(dtype=target) for name, tensor in weights.items()}
    tensors.update({VAE_PREFIX + name: tensor for name, tensor in start.vae.items()})
    bundle = write_bundle(directory, manifest=manifest, stats=stats, tensors=tensors)
    if cache is not None:
        shutil.copyfile(cache, directory / CACHE_NAME)
    return bundle
