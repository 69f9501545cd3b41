# SPDX-License-Identifier: Apache-2.0
"""A trained DUST network as a policy bundle that the nodes load."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from wam.core.clock import NS_PER_S
from wam.data.lerobot.reader import LeRobotDataset
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.policies.dust.policy import KIND, model_section
from wam.policies.dust.prompt import TOKENIZER_FILE
from wam.policies.dust.schedule import SamplerSettings
from wam.policies.dust.training.config import DustTrainConfig
from wam.policies.dust.training.data import NORM, DustData
from wam.policies.dust.training.start import DustStart


def export_dust(
    directory: Path,
    config: DustTrainConfig,
    start: DustStart,
    weights: dict[str, torch.Tensor],
    data: DustData,
    dataset: LeRobotDataset,
    *,
    step: int,
) -> Bundle:
    """Write the bundle of a run: the backbone as it was, the projection and the head as they are now.

    The alignment of the baseline is of training alone and is left out.
    """
    shutil.rmtree(directory, ignore_errors=True)
    dtype: torch.dtype = getattr(torch, config.run.bundle_dtype.value)
    backbone = {n: t for n, t in start.backbone.state_dict().items() if not n.startswith("linear.")}
    tensors = {f"backbone.{n}": t for n, t in backbone.items()}
    for name, tensor in weights.items():
        if name.startswith("linear."):
            tensors[f"backbone.{name}"] = tensor
        elif name.startswith(("head.", "target.")):
            tensors[name] = tensor
    size = start.config.eagle.image_size
    names = config.data.camera_names or tuple(c.rsplit(".", 1)[-1] for c in config.data.cameras)
    text = dict(start.text_section)
    tokenizer = Path(text["directory"]) if text.get("kind") == "bpe" else None
    if tokenizer is not None:
        text["directory"] = "tokenizer"
    sampler = start.policy.sampler if start.policy is not None else SamplerSettings()
    bundle = write_bundle(
        directory,
        manifest=Manifest(
            kind=KIND,
            model=model_section(
                start.config,
                embodiment=start.policy.embodiment if start.policy is not None else config.model.embodiment,
                crop=config.data.crop,
                binary_joints=data.binary,
            ),
            cameras=tuple(BundleCamera(name, size, size) for name in names),
            state_joints=data.state_joints,
            action_joints=data.action_joints,
            control_period_ns=round(NS_PER_S / dataset.fps),
            chunk_rows=start.config.action_rows,
            horizon_rows=start.config.action_rows,
            instruction=next(iter(dataset.tasks.values())),
            instruction_template=start.template,
            state_norm=NORM,
            action_norm=NORM,
            dtype=config.run.bundle_dtype.value,
            text=text,
            sampler=replace(sampler, q=1 if not start.head.has_vision else sampler.q).to_dict(),
            source={
                **start.source,
                "kind": f"train dust {config.objective.kind.value}",
                "data_set": dataset.root.name,
                "step": step,
            },
        ),
        stats=data.stats.stats,
        tensors={n: t.to("cpu", dtype) for n, t in tensors.items()},
    )
    if tokenizer is not None:
        (directory / "tokenizer").mkdir()
        shutil.copyfile(tokenizer / TOKENIZER_FILE, directory / "tokenizer" / TOKENIZER_FILE)
    return bundle
