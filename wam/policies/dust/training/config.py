# SPDX-License-Identifier: Apache-2.0
"""Configuration of a DUST training run: one YAML file, read as strictly as that of AHA-WAM.

model      where the weights start, which reading and ablation is trained
data       a LeRobot data set
objective  what is minimised: joint, videos without actions, alignment baseline, or actions alone
optim      AdamW; the defaults are the paper's
run        the run as such (`wam.policies.aha_wam.training.config.RunSection`)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from wam.policies.aha_wam.training.config import Precision, RunSection
from wam.policies.dust.training.losses import ActionFreeTime
from wam.policies.dust.training.time import TimeLaw
from wam.training.config_reading import Rule, common_rules, parse_section, read_sections, require_rules


class ObjectiveKind(enum.Enum):
    """What a run minimises."""

    JOINT = "joint"
    """L_A + lambda L_WM (paper Eq. 4)."""
    ACTION_FREE = "action-free"
    """lambda L_WM on videos without actions (paper 5.2)."""
    ALIGNMENT = "alignment"
    """Actions, and an inner layer aligned with the future embedding: the FLARE baseline; GR00T-N1's head."""
    ACTION_ONLY = "action-only"
    """Actions alone: the GR00T-N1 baseline."""


class HeadAblation(enum.Enum):
    """Variants of the head in Table 6."""

    NONE = "none"
    SINGLE_STREAM = "single-stream"
    """One stream of blocks over the tokens of both modalities."""


@dataclass(frozen=True, slots=True)
class DustModelSection:
    """Where the weights start.

    Attributes:
        bundle: policy bundle to go on from (after videos, or a converted GR00T-N1); sizes, backbone, head and joints
            are taken over.
        backbone: policy bundle whose backbone is taken while the head starts anew, as the paper trains; sizes of the
            head come from it too, changed by `overrides`.
        preset: of `wam.policies.dust.config`; without a bundle.
        overrides: fields of the network to replace (readings of the paper, depth); not with `bundle`.
        ablation: variant of the head (Table 6a); not with `bundle`.
        mm_layers: blocks of the trunk (Table 6b), the rest of the depth goes to the tails; null keeps it. Not with
            `bundle`.
        embodiment: slot of the encoders that is trained.
        zero_gates: blocks of a new head begin as the identity (AdaLN-Zero).
        freeze_linear: the projection of the features stays as it is.
        text: how instructions become tokens, as `text` in policy.yaml; without a bundle.
        instruction_template: "{task}" stands for the instruction.
        seed: of random weights.
    """

    bundle: Path | None = None
    backbone: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    ablation: HeadAblation = HeadAblation.NONE
    mm_layers: int | None = None
    embodiment: int = 0
    zero_gates: bool = True
    freeze_linear: bool = False
    text: dict[str, Any] = field(default_factory=lambda: {"kind": "hash"})
    instruction_template: str = "{task}"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DustDataSection:
    """The data set.

    Attributes:
        root: folder of a LeRobot data set.
        cameras: picture feature of each policy camera, in the policy's order.
        camera_names: names of the cameras in the policy; empty takes the last part of each feature.
        state: column of the measured joints; null for videos without a robot.
        action: column of the action rows; null for videos without a robot.
        joint_names: names of the action joints in the policy; empty takes the data set's.
        state_names: names of the state joints; empty takes the data set's.
        binary_joints: action joints with two positions.
        episodes: numbers of the episodes to use; empty takes all that are on disk.
        min_std: least standard deviation where statistics are computed; 0 makes a joint that never moves an error.
        crop: part of each side of a picture that is kept.
        augment: random place of the crop and colour jitter of the current pictures; not with a feature cache.
        count_past_end: the world-model loss counts rows whose future lies past the episode (its last picture).
        validation_fraction: share of episodes kept for validation.
        feature_cache: folder for the backbone's states and targets; null runs the backbone in every step.
        workers: data loader processes.
    """

    root: Path
    cameras: tuple[str, ...]
    camera_names: tuple[str, ...] = ()
    state: str | None = "observation.state"
    action: str | None = "action"
    joint_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    binary_joints: tuple[str, ...] = ()
    episodes: tuple[int, ...] = ()
    min_std: float = 0.0
    crop: float = 0.95
    augment: bool = False
    count_past_end: bool = True
    validation_fraction: float = 0.0
    feature_cache: Path | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class DustObjectiveSection:
    """What is minimised.

    Attributes:
        kind: which losses.
        world_weight: lambda of Eq. 4 (Table 6c), or the weight of the alignment.
        action_law: distribution of the actions' noise level.
        vision_law: distribution of the future embedding's noise level.
        joint_noise: one noise level for both modalities (Table 6a).
        action_free_time: noise level told for missing actions.
        alignment_layer: block after which the alignment baseline reads its tokens, from 1.
    """

    kind: ObjectiveKind = ObjectiveKind.JOINT
    world_weight: float = 1.0
    action_law: TimeLaw = TimeLaw.N1
    vision_law: TimeLaw = TimeLaw.N1
    joint_noise: bool = False
    action_free_time: ActionFreeTime = ActionFreeTime.ZERO
    alignment_layer: int = 6


@dataclass(frozen=True, slots=True)
class DustOptimSection:
    """Optimisation; the defaults are the paper's (A.2) and, where it is silent, GR00T-N1's.

    Attributes:
        steps: optimiser steps; null takes `epochs`.
        epochs: passes over the data.
        batch_size: samples per process and forward pass.
        accumulate: forward passes per optimiser step.
        learning_rate: peak.
        final_fraction: learning rate at the end, as a share of the peak.
        warmup_fraction: share of the steps with a rising learning rate.
        weight_decay: of AdamW; biases of linear layers and LayerNorm are exempt.
        beta1: of AdamW.
        beta2: of AdamW.
        clip_norm: largest norm of the gradient.
        precision: of the forward and backward pass.
    """

    steps: int | None = None
    epochs: int = 5
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-4
    final_fraction: float = 0.0
    warmup_fraction: float = 0.05
    weight_decay: float = 1e-5
    beta1: float = 0.95
    beta2: float = 0.999
    clip_norm: float = 1.0
    precision: Precision = Precision.BFLOAT16


@dataclass(frozen=True, slots=True)
class DustTrainConfig:
    """A whole run."""

    data: DustDataSection
    run: RunSection
    model: DustModelSection = field(default_factory=DustModelSection)
    objective: DustObjectiveSection = field(default_factory=DustObjectiveSection)
    optim: DustOptimSection = field(default_factory=DustOptimSection)


def read_dust_config(path: Path | str, overrides: Sequence[str] = ()) -> DustTrainConfig:
    """Read a configuration file.

    Args:
        path: YAML; relative paths inside are taken from the working directory.
        overrides: "section.key=value" each, the value in YAML; they win over the file.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or illegal.
    """
    raw = read_sections(path, overrides, sections="data, run, model, objective, optim")
    return parse_dust_config(raw, where=str(path))


def parse_dust_config(raw: Mapping[str, Any], *, where: str = "configuration") -> DustTrainConfig:
    """Read a configuration from plain values.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    config = cast("DustTrainConfig", parse_section(DustTrainConfig, raw, path="", where=where))
    _check(config, where)
    return config


def _check(config: DustTrainConfig, where: str) -> None:
    """Check relations and bounds; types are right already."""
    data, objective, model = config.data, config.objective, config.model
    action_free = objective.kind is ObjectiveKind.ACTION_FREE
    fresh = model.bundle is None
    rules: tuple[Rule, ...] = (
        *common_rules(data, config.optim, config.run),
        (0 < data.crop <= 1, "data.crop", data.crop, "above 0, at most 1"),
        (
            not (data.augment and data.feature_cache),
            "data.augment",
            True,
            "false with data.feature_cache: what is cached cannot change",
        ),
        (
            action_free or (data.action is not None and data.state is not None),
            "data.action, data.state",
            (data.action, data.state),
            "columns of the data set, unless objective.kind is action-free",
        ),
        (objective.world_weight >= 0, "objective.world_weight", objective.world_weight, "0 or more"),
        (
            not action_free or objective.world_weight > 0,
            "objective.world_weight",
            objective.world_weight,
            "above 0 where there are no actions to learn",
        ),
        (fresh or model.backbone is None, "model.backbone", model.backbone, "null beside model.bundle"),
        (
            fresh
            or not (
                model.overrides or model.mm_layers is not None or model.ablation is not HeadAblation.NONE
            ),
            "model.overrides, mm_layers, ablation",
            model.overrides,
            "nothing beside model.bundle, whose network goes on",
        ),
        (
            "{task}" in model.instruction_template,
            "model.instruction_template",
            model.instruction_template,
            "text with {task}",
        ),
    )
    require_rules(rules, where=where)
