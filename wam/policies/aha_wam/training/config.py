# SPDX-License-Identifier: Apache-2.0
"""Configuration of a training run: one YAML file, read strictly into frozen values.

Sections are dataclasses, keys are their fields; an unknown, missing or illegal key is an error that names
its dotted path. A field without a default is required.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from wam.core.errors import ConfigError
from wam.policies.aha_wam.training.ablation import Ablation
from wam.policies.aha_wam.training.distill import AnchorBias
from wam.policies.aha_wam.training.forward import NoiseTimes
from wam.training.config_reading import Rule, common_rules, parse_section, read_sections, require_rules

T = TypeVar("T")


class Precision(enum.Enum):
    """What the networks compute in; weights and optimiser state stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class ModelSection:
    """Where the weights start and which parts are used.

    Attributes:
        bundle: policy bundle to start from; its sizes, cameras, VAE and text encoder are taken over. Null starts
            from `preset`.
        preset: of `wam.policies.aha_wam.config`; without a bundle.
        overrides: fields of the preset to replace (nested sections as mappings); without a bundle.
        video_weights: directory or file with the Wan 2.2 video DiT (original or diffusers names); null starts it at
            random.
        action_backbone: file of `wam init action-dit`; null starts the action DiT at random.
        vae_weights: directory or file with the Wan 2.2 VAE; null takes random weights, which only tests and tiny
            networks can use.
        text: how instructions are embedded, as `text` in policy.yaml: {kind: hash}, {kind: cache, file: PATH} or
            {kind: umt5, directory: PATH}.
        instruction_template: what the text encoder gets; "{task}" stands for the instruction.
        ablation: variant of the paper's Table 2.
        freeze_video: keep the video DiT as it is and drop the video loss.
        seed: of random weights.
    """

    bundle: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    video_weights: Path | None = None
    action_backbone: Path | None = None
    vae_weights: Path | None = None
    text: dict[str, Any] = field(default_factory=lambda: {"kind": "hash"})
    instruction_template: str = "{task}"
    ablation: Ablation = Ablation.FULL
    freeze_video: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DataSection:
    """The data set.

    Attributes:
        root: folder of a LeRobot v2.1 or v3.0 data set.
        cameras: picture feature of each policy camera, in the policy's order.
        camera_names: names of the cameras in the policy (and robot file); empty takes the last part of each feature.
        state: column of the measured joints.
        action: column of the action rows.
        joint_names: names of the action joints in the policy; empty takes the data set's.
        state_names: names of the state joints in the policy; empty takes the data set's.
        episodes: numbers of the episodes to use; empty takes all that are on disk.
        stats: dataset_stats.json to use; null computes the statistics.
        min_std: least standard deviation where statistics are computed [SI unit of the joint]; 0 makes a joint that
            never moves an error.
        horizon_rows: action rows per sample (64 as released, 80 with offsets).
        max_offset: largest offset of the action rows (0, or chunk_rows - 1 for horizon-adaptive training).
        frame_stride: rows between two pictures of the planner's video.
        history_frames: most earlier frames that the planner reads.
        validation_fraction: share of episodes kept for validation; at least one if it is not 0.
        latent_cache: folder for VAE latents; null encodes pictures in every step.
        workers: data loader processes; 0 reads in the training process.
    """

    root: Path
    cameras: tuple[str, ...]
    camera_names: tuple[str, ...] = ()
    state: str = "observation.state"
    action: str = "action"
    joint_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    episodes: tuple[int, ...] = ()
    stats: Path | None = None
    min_std: float = 0.0
    horizon_rows: int = 64
    max_offset: int = 0
    frame_stride: int = 8
    history_frames: int = 6
    validation_fraction: float = 0.0
    latent_cache: Path | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class OptimSection:
    """Optimisation; the defaults are those of the released code.

    Attributes:
        steps: optimiser steps; null takes `epochs`.
        epochs: passes over the data; used where `steps` is null.
        batch_size: samples per process and forward pass.
        accumulate: forward passes per optimiser step.
        learning_rate: peak.
        final_fraction: learning rate at the end, as a share of the peak.
        warmup_fraction: share of the steps with a rising learning rate.
        weight_decay: of AdamW.
        beta1: of AdamW.
        beta2: of AdamW.
        clip_norm: largest norm of the gradient.
        precision: of the forward and backward pass.
        video_weight: lambda of Eq. 7.
        noise_times: distribution of the flow times (uniform as released, logit_normal as in the paper).
        times_per_chunk: draw a flow time for every chunk, else one per sample.
        recompute_blocks: keep no activations inside transformer blocks; slower, needs far less memory.
    """

    steps: int | None = None
    epochs: int = 5
    batch_size: int = 6
    accumulate: int = 1
    learning_rate: float = 5e-5
    final_fraction: float = 0.01
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    precision: Precision = Precision.BFLOAT16
    video_weight: float = 1.0
    noise_times: NoiseTimes = NoiseTimes.UNIFORM
    times_per_chunk: bool = True
    recompute_blocks: bool = False


@dataclass(frozen=True, slots=True)
class DistillSection:
    """What only distillation has.

    Attributes:
        anchors: how often each anchor is a starting point (uniform as released, noisy as in the paper).
        anchors_per_chunk: draw an anchor for every chunk, else one per sample.
        steps: integration steps that the distilled bundle names.
    """

    anchors: AnchorBias = AnchorBias.UNIFORM
    anchors_per_chunk: bool = True
    steps: int = 2


@dataclass(frozen=True, slots=True)
class RunSection:
    """The run as such.

    Attributes:
        out: folder of the run: checkpoints, logs, and at the end the bundle.
        seed: of the order of samples, the noise and the times.
        device: "auto" (CUDA if there is one, else CPU), "cpu" or "cuda".
        threads: CPU threads of torch; 0 leaves them.
        checkpoint_every: steps between checkpoints; 0 writes only the last.
        keep_checkpoints: how many are kept.
        validate_every: steps between validations; 0 for none.
        tensorboard: write TensorBoard event files.
        bundle_dtype: of the weights in the bundle.
    """

    out: Path
    seed: int = 42
    device: str = "auto"
    threads: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    validate_every: int = 0
    tensorboard: bool = True
    bundle_dtype: Precision = Precision.FLOAT32


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run."""

    data: DataSection
    run: RunSection
    model: ModelSection = field(default_factory=ModelSection)
    optim: OptimSection = field(default_factory=OptimSection)
    distill: DistillSection = field(default_factory=DistillSection)


def read_config(path: Path | str, overrides: typing.Sequence[str] = ()) -> TrainConfig:
    """Read a configuration file.

    Args:
        path: YAML; relative paths inside are taken from the working directory.
        overrides: "section.key=value" each, the value in YAML; they win over the file.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or illegal.
    """
    raw = read_sections(path, overrides, sections="data, run, model, optim, distill")
    return parse_config(raw, where=str(path))


def parse_config(raw: Mapping[str, Any], *, where: str = "configuration") -> TrainConfig:
    """Read a configuration from plain values.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    config = cast("TrainConfig", parse_section(TrainConfig, raw, path="", where=where))
    _check(config, where)
    return config


def _check(config: TrainConfig, where: str) -> None:
    """Check relations and bounds; types are right already."""
    optim = config.optim
    rules: tuple[Rule, ...] = (
        *common_rules(config.data, optim, config.run),
        (optim.video_weight >= 0, "optim.video_weight", optim.video_weight, "0 or more"),
        (config.distill.steps in (1, 2, 4), "distill.steps", config.distill.steps, "1, 2 or 4"),
        (
            "{task}" in config.model.instruction_template,
            "model.instruction_template",
            config.model.instruction_template,
            'text with "{task}"',
        ),
    )
    require_rules(rules, where=where)
    model = config.model
    if model.bundle is not None and (
        model.overrides or model.video_weights or model.vae_weights or model.action_backbone
    ):
        raise ConfigError(
            f"{where}: model.bundle gives sizes and weights, but overrides or other weights are set too",
            allowed="either model.bundle, or model.preset with overrides and weights",
            where=where,
        )
