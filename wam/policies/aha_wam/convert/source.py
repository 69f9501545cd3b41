# SPDX-License-Identifier: Apache-2.0
"""From tensors under our names, and what their files do not say, to a checked bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wam.core.clock import NS_PER_S
from wam.core.errors import BundleError
from wam.models.bundle import Bundle, BundleCamera, Manifest, write_bundle
from wam.models.bundle.weights import DEFAULT_SHARD_BYTES, listed
from wam.models.images import Composite
from wam.models.normalisation import NormMode, PolicyStats
from wam.models.robot_layout import PIPER_JOINTS
from wam.models.text import CACHE_NAME
from wam.policies.aha_wam.config import AhaWamConfig, ExpertConfig, VaeConfig
from wam.policies.aha_wam.convert.wan_weights import read_vae
from wam.policies.aha_wam.key_map import require_same_keys
from wam.policies.aha_wam.policy import KIND, RELEASED_TEMPLATE, VAE_PREFIX, expected_shapes, model_section
from wam.policies.units import UnitStatements


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """What a checkpoint does not contain.

    Attributes:
        cameras: names in the robot file: one, or head, left wrist, right wrist.
        state_joints: joint names of the proprioception; None takes two Piper arms where there are 14 values.
        action_joints: joint names of the action rows; None as above.
        image_height: rows of the composite image [px].
        image_width: columns [px].
        head_dim: channels per attention head.
        context_len: text rows.
        chunk_rows: rows denoised together; None takes 16, or 32 for Fast-WAM.
        horizon_rows: rows that training covered; None takes 64, or 80 with offset training, 32 for Fast-WAM.
        offset_training: the checkpoint was trained with random phase offsets (task robotwin_ahawam_offset).
        control_rate: rows per second [Hz].
        memory_window: earlier prefills that a prefill reads.
        steps: integration steps; None takes 10, or 2 for a distilled checkpoint.
        seed: of the start noise.
        instruction: task text used when nobody sets another.
        vae: sizes of the VAE.
    """

    cameras: tuple[str, ...] = ("head", "left_wrist", "right_wrist")
    state_joints: tuple[str, ...] | None = None
    action_joints: tuple[str, ...] | None = None
    image_height: int = 384
    image_width: int = 320
    head_dim: int = 128
    context_len: int = 128
    chunk_rows: int | None = None
    horizon_rows: int | None = None
    offset_training: bool = False
    control_rate: float = 30.0
    memory_window: int = 6
    steps: int | None = None
    seed: int = 42
    instruction: str = "do the task"
    vae: VaeConfig = field(default_factory=VaeConfig)


@dataclass(frozen=True, slots=True)
class ForeignPolicy:
    """A policy as it was read from somebody's files.

    Attributes:
        path: of the file or folder.
        tensors: by our names.
        values: plain values that the files state about themselves ("step", "torch_dtype").
        name: of the kind of policy, for people.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    name: str


def without_branch_embedding(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Fast-WAM, which never adds this embedding, though AHA-WAM's code writes it into files."""
    width = _shape(tensors, "action.head.weight")[1]
    return {
        **tensors,
        "branch_embedding": torch.zeros(2, width, dtype=tensors["action.head.weight"].dtype),
    }


def _layers(names: Mapping[str, Any], prefix: str) -> int:
    numbers = {int(n.removeprefix(prefix).split(".")[0]) for n in names if n.startswith(prefix)}
    return max(numbers, default=-1) + 1


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in tensors:
        raise BundleError(f"the checkpoint lacks {name}, which is needed to determine its sizes")
    return tuple(tensors[name].shape)


def sizes_of(tensors: Mapping[str, Tensor], options: ConversionOptions, *, fast: bool) -> AhaWamConfig:
    """Read the sizes of a checkpoint from its tensors.

    Args:
        tensors: by our names.
        options: what the tensors do not determine.
        fast: it is Fast-WAM.

    Raises:
        BundleError: a tensor that determines a size is missing, or the sizes are impossible.
    """

    def expert(part: str) -> ExpertConfig:
        inner, width = _shape(tensors, f"{part}.blocks.0.self_attn.q.weight")
        if inner % options.head_dim:
            raise BundleError(
                f"{part}: attention width {inner} is no multiple of head_dim",
                value=options.head_dim,
                where="head_dim",
            )
        return ExpertConfig(
            layers=_layers(tensors, f"{part}.blocks."),
            width=width,
            ffn=_shape(tensors, f"{part}.blocks.0.ffn.0.weight")[0],
            heads=inner // options.head_dim,
            head_dim=options.head_dim,
            freq_dim=_shape(tensors, f"{part}.time_embedding.0.weight")[1],
        )

    z_dim, patch = _shape(tensors, "video.patch_embedding.weight")[1::3]
    queries = 0 if fast else _shape(tensors, "query_encoder.base_queries")[2]
    chunk = options.chunk_rows or (32 if fast else 16)
    horizon = options.horizon_rows or (32 if fast else 80 if options.offset_training else 64)
    try:
        return AhaWamConfig(
            video=expert("video"),
            action=expert("action"),
            text_dim=_shape(tensors, "video.text_embedding.0.weight")[1],
            context_len=options.context_len,
            state_dim=_shape(tensors, "proprio.weight")[1],
            action_dim=_shape(tensors, "action.action_encoder.weight")[1],
            image_height=options.image_height,
            image_width=options.image_width,
            patch=patch,
            queries=queries,
            memory_window=0 if fast else options.memory_window,
            memory_spacing_rows=96 if options.offset_training else 64,
            chunk_rows=chunk,
            horizon_rows=horizon,
            proprio_in_planner=fast,
            first_frame_causal=fast,
            vae=replace(options.vae, z_dim=z_dim),
        )
    except ValueError as error:
        raise BundleError(
            f"the checkpoint's sizes are impossible: {error}", where="the conversion options"
        ) from error


def require_whole(source: ForeignPolicy, config: AhaWamConfig) -> str:
    """Demand exactly the tensors of the network, in their shapes and in one precision, which is returned.

    Raises:
        BundleError: a tensor is missing, left over or of another shape or precision; the text names them.
    """
    want = expected_shapes(config)
    require_same_keys(have=source.tensors, want=want, what=str(source.path))
    wrong = [
        f"{n} is {tuple(t.shape)}, not {want[n]}"
        for n, t in source.tensors.items()
        if tuple(t.shape) != want[n]
    ]
    if wrong:
        raise BundleError(f"{source.path}: {len(wrong)} tensors have another shape: {listed(wrong)}")
    return _dtype_of(source)


def write_policy(
    source: ForeignPolicy,
    out: Path,
    *,
    config: AhaWamConfig,
    layout: Composite,
    statistics: PolicyStats,
    options: ConversionOptions,
    vae: Path | None,
    units: UnitStatements,
    norms: tuple[NormMode, NormMode] = (NormMode.Z_SCORE, NormMode.Z_SCORE),
    template: str = RELEASED_TEMPLATE,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Bundle:
    """Write a policy that was read as a bundle; keywords as for `convert`.

    Args:
        source: its tensors, complete.
        out: new or empty directory.
        config: its sizes.
        layout: where each camera's view lies in the image.
        statistics: of state and action.
        options: names, rates and what else the tensors do not say; `steps` is stated.
        vae: the Wan 2.2 VAE, or None.
        units: of the columns of the statistics.
        norms: how state and action are normalised.
        template: of the instruction.
        max_shard_bytes: size of a weights shard [bytes].

    Raises:
        BundleError: tensors, names or statistics do not fit each other.
    """
    dtype = require_whole(source, config)
    manifest = Manifest(
        kind=KIND,
        model=model_section(config),
        cameras=tuple(BundleCamera(t.camera, t.height, t.width, t.top, t.left) for t in layout.tiles),
        state_joints=_joints(options.state_joints, config.state_dim, what="state"),
        action_joints=_joints(options.action_joints, config.action_dim, what="action"),
        control_period_ns=round(NS_PER_S / options.control_rate),
        chunk_rows=config.chunk_rows,
        horizon_rows=config.horizon_rows,
        instruction=options.instruction,
        instruction_template=template,
        state_norm=norms[0],
        action_norm=norms[1],
        dtype=dtype,
        text={"kind": "cache", "file": CACHE_NAME},
        sampler={"steps": options.steps, "seed": options.seed},
        source={"weights": source.path.name, "policy": source.name, **source.values},
    )
    statistics = units.apply(
        statistics, state_joints=manifest.state_joints, action_joints=manifest.action_joints
    )
    stored = {name: source.tensors[name] for name in expected_shapes(config)}
    if vae is not None:
        stored.update({VAE_PREFIX + n: t for n, t in read_vae(vae, config.vae).items()})
    return write_bundle(
        out, manifest=manifest, stats=statistics, tensors=stored, max_shard_bytes=max_shard_bytes
    )


def _dtype_of(source: ForeignPolicy) -> str:
    stated = str(source.values.get("torch_dtype", "")).removeprefix("torch.")
    found = sorted({str(t.dtype).removeprefix("torch.") for t in source.tensors.values()})
    if len(found) != 1 or (stated and stated != found[0]):
        raise BundleError(
            f"{source.path} says that it is {stated or 'nothing'} but its tensors are {found}",
            allowed="one precision for all tensors",
            where="the checkpoint",
        )
    return found[0]


def _joints(given: tuple[str, ...] | None, width: int, *, what: str) -> tuple[str, ...]:
    names = given if given is not None else PIPER_JOINTS if width == len(PIPER_JOINTS) else ()
    if len(names) != width:
        raise BundleError(
            f"the checkpoint has {width} {what} values for {len(names)} joint names",
            value=list(names),
            allowed=f"{width} joint names",
            where=f"the option {what}_joints",
        )
    return names
