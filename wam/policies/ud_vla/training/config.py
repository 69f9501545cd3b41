# SPDX-License-Identifier: Apache-2.0
"""Configuration of a UD-VLA training run: one YAML file, read as strictly as that of AHA-WAM.

model      where the weights start
data       a LeRobot data set
actions    how action chunks become tokens
objective  which stage is trained: (i) video world-modelling, (ii) JD3P masked prediction
optim      AdamW; the defaults are those of the published CALVIN run
run        the run as such (`wam.policies.aha_wam.training.config.RunSection`)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from wam.core.errors import ConfigError
from wam.policies.aha_wam.training.config import Precision, RunSection
from wam.policies.ud_vla.config import MaskMode
from wam.policies.ud_vla.training.objective import MaskLaw, Stage
from wam.training.config_reading import Rule, common_rules, parse_section, read_sections, require_rules


class TokenizerSource(enum.Enum):
    """Where the action vocabulary comes from."""

    AUTO = "auto"
    """That of the bundle that goes on; without one it is fitted."""
    FIT = "fit"
    """Fitted on the action chunks of the data set."""
    FILE = "file"
    """A published FAST folder, or `action_tokenizer.json` of a bundle."""


@dataclass(frozen=True, slots=True)
class UdVlaModelSection:
    """Where the weights start.

    Attributes:
        bundle: policy bundle to go on from (a converted UniVLA or Emu3, stage (i), an earlier run); sizes, cameras,
            image tokenizer and text are taken over.
        preset: of `wam.policies.ud_vla.config`; without a bundle, with random weights and bytes as text.
        overrides: fields of the network to replace; not with `bundle`.
        mask: attention mask of stage (ii); null takes the bundle's, or hybrid.
        instruction_template: "{task}" stands for the instruction; not with `bundle`.
        seed: of random weights.
    """

    bundle: Path | None = None
    preset: str = "tiny"
    overrides: dict[str, Any] = field(default_factory=dict)
    mask: MaskMode | None = None
    instruction_template: str = "{task}"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class UdVlaDataSection:
    """The data set.

    Attributes:
        root: folder of a LeRobot data set.
        cameras: picture feature of each policy camera, in the policy's order.
        camera_names: names of the cameras in the policy; empty takes the last part of each feature.
        sides: [height, width] that the policy sees of each camera [px], multiples of 8; empty takes 200 and 80 (32
            and 16 for tiny vocabularies). Not with `model.bundle`.
        state: column of the measured joints; null for videos without a robot. The network does not read it.
        action: column of the action rows; null for videos without a robot.
        joint_names: names of the action joints in the policy; empty takes the data set's.
        state_names: names of the state joints; empty takes the data set's.
        stride: rows of the data set per row of the policy (2 makes 15 Hz of 30).
        chunk_rows: rows of a chunk; the future image lies so many rows ahead. Not with `model.bundle`.
        episodes: numbers of the episodes to use; empty takes all that are on disk.
        min_std: least standard deviation where statistics are computed; 0 makes a joint that never moves an error.
        validation_fraction: share of episodes kept for validation.
        code_cache: folder for image codes; null encodes pictures in every step.
        workers: data loader processes.
    """

    root: Path
    cameras: tuple[str, ...]
    camera_names: tuple[str, ...] = ()
    sides: tuple[tuple[int, ...], ...] = ()
    state: str | None = "observation.state"
    action: str | None = "action"
    joint_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    stride: int = 1
    chunk_rows: int = 8
    episodes: tuple[int, ...] = ()
    min_std: float = 0.0
    validation_fraction: float = 0.0
    code_cache: Path | None = None
    workers: int = 0


@dataclass(frozen=True, slots=True)
class UdVlaActionSection:
    """How action chunks become tokens (FAST).

    Attributes:
        tokenizer: where the vocabulary comes from.
        file: published FAST folder or `action_tokenizer.json`; with `tokenizer: file`.
        scale: steps per unit of a coefficient, where one is fitted.
        vocab_size: most tokens, where one is fitted; null takes what the network has room for (256 for tiny
            vocabularies).
        action_len: sites of the action block with BOA; null takes the preset's, or as many as any chunk can need for
            tiny vocabularies. Not with `model.bundle`.
    """

    tokenizer: TokenizerSource = TokenizerSource.AUTO
    file: Path | None = None
    scale: float = 10.0
    vocab_size: int | None = None
    action_len: int | None = None


@dataclass(frozen=True, slots=True)
class UdVlaObjectiveSection:
    """What is minimised.

    Attributes:
        stage: video (i) or jd3p (ii).
        frames: images of a sequence in stage (i), `chunk_rows` apart.
        law: how the share of masked sites is drawn: independent for image and action (public code) or joint (paper).
        visual_weight: weight of image codes in the loss of stage (ii).
        protect_marks: never mask BOI, EOI and BOA, which are known when decoding.
    """

    stage: Stage = Stage.JD3P
    frames: int = 2
    law: MaskLaw = MaskLaw.INDEPENDENT
    visual_weight: float = 0.5
    protect_marks: bool = True


@dataclass(frozen=True, slots=True)
class UdVlaOptimSection:
    """Optimisation; the defaults are those of the published CALVIN run.

    Attributes:
        steps: optimiser steps; null takes `epochs`.
        epochs: passes over the data.
        batch_size: samples per process and forward pass.
        accumulate: forward passes per optimiser step.
        learning_rate: peak.
        final_fraction: learning rate at the end, as a share of the peak.
        warmup_fraction: share of the steps with a rising learning rate.
        weight_decay: of AdamW.
        beta1: of AdamW.
        beta2: of AdamW.
        clip_norm: largest norm of the gradient.
        dropout: of attention, embedding and each residual branch.
        precision: of the forward and backward pass.
        recompute_layers: keep no activations inside decoder layers; slower, needs far less memory.
    """

    steps: int | None = 24_000
    epochs: int = 1
    batch_size: int = 4
    accumulate: int = 4
    learning_rate: float = 8e-5
    final_fraction: float = 0.0625
    warmup_fraction: float = 0.0021
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 5.0
    dropout: float = 0.1
    precision: Precision = Precision.BFLOAT16
    recompute_layers: bool = False


@dataclass(frozen=True, slots=True)
class UdVlaTrainConfig:
    """A whole run."""

    data: UdVlaDataSection
    run: RunSection
    model: UdVlaModelSection = field(default_factory=UdVlaModelSection)
    actions: UdVlaActionSection = field(default_factory=UdVlaActionSection)
    objective: UdVlaObjectiveSection = field(default_factory=UdVlaObjectiveSection)
    optim: UdVlaOptimSection = field(default_factory=UdVlaOptimSection)


def read_ud_vla_config(path: Path | str, overrides: Sequence[str] = ()) -> UdVlaTrainConfig:
    """Read a configuration file.

    Args:
        path: YAML; relative paths inside are taken from the working directory.
        overrides: "section.key=value" each, the value in YAML; they win over the file.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or illegal.
    """
    raw = read_sections(path, overrides, sections="data, run, model, actions, objective, optim")
    return parse_ud_vla_config(raw, where=str(path))


def parse_ud_vla_config(raw: Mapping[str, Any], *, where: str = "configuration") -> UdVlaTrainConfig:
    """Read a configuration from plain values.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    config = cast("UdVlaTrainConfig", parse_section(UdVlaTrainConfig, raw, path="", where=where))
    _check(config, where)
    return config


def _check(config: UdVlaTrainConfig, where: str) -> None:
    """Check relations and bounds; types are right already."""
    data, actions, objective, model = config.data, config.actions, config.objective, config.model
    fresh, video = model.bundle is None, objective.stage is Stage.VIDEO
    robot = data.state is not None and data.action is not None
    sides_fit = not data.sides or (
        len(data.sides) == len(data.cameras) and all(len(side) == 2 for side in data.sides)
    )
    rules: tuple[Rule, ...] = (
        *common_rules(data, config.optim, config.run),
        (sides_fit, "data.sides", data.sides, "one [height, width] for each of data.cameras"),
        (data.stride > 0, "data.stride", data.stride, "a positive number"),
        (data.chunk_rows > 0, "data.chunk_rows", data.chunk_rows, "a positive number"),
        (
            robot or (video and data.state is None and data.action is None),
            "data.state, data.action",
            (data.state, data.action),
            "columns of the data set; both null only in stage video",
        ),
        (objective.frames > 1, "objective.frames", objective.frames, "at least 2"),
        (
            objective.visual_weight > 0,
            "objective.visual_weight",
            objective.visual_weight,
            "a positive number",
        ),
        (0 <= config.optim.dropout < 1, "optim.dropout", config.optim.dropout, "0 to below 1"),
        (actions.scale > 0, "actions.scale", actions.scale, "a positive number"),
        (
            (actions.file is not None) == (actions.tokenizer is TokenizerSource.FILE),
            "actions.file",
            actions.file,
            "a path with `tokenizer: file`, and only then",
        ),
        (model.mask is not MaskMode.CAUSAL, "model.mask", "causal", "hybrid or released"),
        (
            fresh or not (model.overrides or data.sides or actions.action_len is not None),
            "model.overrides, data.sides, actions.action_len",
            (model.overrides, data.sides, actions.action_len),
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


def require_same_cameras(given: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse cameras that a bundle does not have.

    Raises:
        ConfigError: names or order differ.
    """
    if tuple(given) != tuple(wanted):
        raise ConfigError(
            "data.cameras, data.camera_names",
            value=list(given),
            allowed=f"{list(wanted)}, as the bundle has",
            where="data.camera_names",
        )
