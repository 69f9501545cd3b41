# SPDX-License-Identifier: Apache-2.0
"""Options that every training run has: its data set, its optimisation, and the run itself.

A policy extends these sections by the options that only it has, and repeats a field to give it another default.
Sections are frozen dataclasses and the keys of the YAML file are their fields; a field without a default is required.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from wam.core.errors import ConfigError

Rule = tuple[bool, str, object, str]
"""Whether it holds, path of the key, its value, what is allowed."""


class Precision(enum.Enum):
    """What the networks compute in; weights and optimiser state stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True)
class DataSection:
    """The data set.

    Attributes:
        root: folder of a LeRobot v2.0, v2.1 or v3.0 data set.
        cameras: picture feature of each policy camera, in the policy's order.
        camera_names: names of the cameras in the policy (and robot file); empty takes the last part of each feature.
        state: column of the measured joints; null for videos without a robot, where the policy can train on them.
        action: column of the action rows; null like `state`.
        joint_names: names of the action joints in the policy; empty takes the data set's.
        state_names: names of the state joints in the policy; empty takes the data set's.
        episodes: numbers of the episodes to use; empty takes all that are on disk.
        min_std: lower bound of the standard deviation where statistics are computed [SI unit of the joint]; 0 makes a
            joint that never moves an error.
        skip_pauses: no training sample begins where the robot stands still and goes on doing so, as in the wait between
            a grasp and the lift, where a policy without memory learns to stay.
        validation_fraction: share of episodes kept for validation; at least one if it is not 0.
        workers: data loader processes; 0 reads in the training process.
    """

    root: Path
    cameras: tuple[str, ...]
    camera_names: tuple[str, ...] = ()
    state: str | None = "observation.state"
    action: str | None = "action"
    joint_names: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    episodes: tuple[int, ...] = ()
    min_std: float = 0.0
    skip_pauses: bool = False
    validation_fraction: float = 0.0
    workers: int = 0

    @property
    def policy_cameras(self) -> tuple[str, ...]:
        """The policy's name of each camera."""
        return self.camera_names or tuple(feature.rsplit(".", 1)[-1] for feature in self.cameras)


@dataclass(frozen=True, slots=True)
class OptimSection:
    """Optimisation: AdamW, a linear warm-up, then a cosine.

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
        clip_norm: upper bound of the gradient's norm.
        precision: of the forward and backward pass.
        average: share of a moving average of the weights that a step keeps (0.999); validation and bundle take the
            average. 0: none.
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
    average: float = 0.0


@dataclass(frozen=True, slots=True)
class RunSection:
    """The run itself.

    Attributes:
        out: folder of the run: checkpoints, logs, and at the end the bundle.
        seed: of the order of samples, the noise and the flow times.
        device: "auto" (CUDA if there is one, else CPU), "cpu" or "cuda".
        threads: CPU threads of torch; 0 keeps torch's own choice.
        checkpoint_every: steps between checkpoints; 0 writes only the last.
        keep_checkpoints: how many are kept.
        validate_every: steps between validations; 0 for none.
        tensorboard: write TensorBoard event files.
        bundle_dtype: of the weights in the bundle.
        task: name of the task that the bundle is trained for; empty takes what the data set states.
        eval_every: steps between evaluations in closed loop, on simulated episodes of the task; 0 for none.
        eval_episodes: of each evaluation.
        eval_seed: of the first of them; seeds of the data set are refused.
        eval_patience: the run ends after so many evaluations without a better one; 0 never.
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
    task: str = ""
    eval_every: int = 0
    eval_episodes: int = 10
    eval_seed: int = 500
    eval_patience: int = 0


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run; a policy extends it by its own sections.

    Attributes:
        MAY_CHANGE: keys that a resumed run may change although their section, like every one but `run`, must agree
            with the checkpoint's. They do not change what is computed; for `accumulate` the product with the number
            of processes is checked.
        data: the data set.
        run: the run itself.
        optim: optimisation.
    """

    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset({"workers", "accumulate"})

    data: DataSection
    run: RunSection
    optim: OptimSection = field(default_factory=OptimSection)

    def rules(self) -> tuple[Rule, ...]:
        """Return bounds and relations that the types do not express; a policy adds its own."""
        return (*_data_rules(self.data), *_optim_rules(self.optim), *_run_rules(self.run))


def _data_rules(data: DataSection) -> tuple[Rule, ...]:
    names, fraction = data.policy_cameras, data.validation_fraction
    return (
        (len(data.cameras) > 0, "data.cameras", list(data.cameras), "at least one picture feature"),
        (
            len(names) == len(data.cameras),
            "data.camera_names",
            list(names),
            f"one name for each of the {len(data.cameras)} data.cameras",
        ),
        (0 <= fraction < 1, "data.validation_fraction", fraction, "0 to below 1"),
        (data.min_std >= 0, "data.min_std", data.min_std, "0 or more"),
        (data.workers >= 0, "data.workers", data.workers, "0 or more"),
    )


def _optim_rules(optim: OptimSection) -> tuple[Rule, ...]:
    betas = (optim.beta1, optim.beta2)
    return (
        (optim.steps is None or optim.steps > 0, "optim.steps", optim.steps, "null or a positive number"),
        (optim.epochs > 0, "optim.epochs", optim.epochs, "a positive number"),
        (optim.batch_size > 0, "optim.batch_size", optim.batch_size, "a positive number"),
        (optim.accumulate > 0, "optim.accumulate", optim.accumulate, "a positive number"),
        (optim.learning_rate > 0, "optim.learning_rate", optim.learning_rate, "a positive number"),
        (0 <= optim.final_fraction <= 1, "optim.final_fraction", optim.final_fraction, "0 to 1"),
        (0 <= optim.warmup_fraction < 1, "optim.warmup_fraction", optim.warmup_fraction, "0 to below 1"),
        (optim.clip_norm > 0, "optim.clip_norm", optim.clip_norm, "a positive number"),
        (all(0 <= beta < 1 for beta in betas), "optim.beta1, beta2", betas, "0 to below 1"),
        (0 <= optim.average < 1, "optim.average", optim.average, "0 to below 1"),
        (optim.weight_decay >= 0, "optim.weight_decay", optim.weight_decay, "0 or more"),
    )


def _run_rules(run: RunSection) -> tuple[Rule, ...]:
    return (
        (run.device in ("auto", "cpu", "cuda"), "run.device", run.device, "auto, cpu or cuda"),
        (run.checkpoint_every >= 0, "run.checkpoint_every", run.checkpoint_every, "0 or more"),
        (run.keep_checkpoints > 0, "run.keep_checkpoints", run.keep_checkpoints, "at least 1"),
        (run.validate_every >= 0, "run.validate_every", run.validate_every, "0 or more"),
        (run.eval_every >= 0, "run.eval_every", run.eval_every, "0 or more"),
        (run.eval_episodes > 0, "run.eval_episodes", run.eval_episodes, "a positive number"),
        (run.eval_seed >= 0, "run.eval_seed", run.eval_seed, "0 or more"),
        (run.eval_patience >= 0, "run.eval_patience", run.eval_patience, "0 or more"),
    )


def template_rule(template: str) -> Rule:
    """Return the rule that an instruction template has a place for the instruction."""
    return ("{task}" in template, "model.instruction_template", template, 'text with "{task}"')


def require_rules(rules: Iterable[Rule], *, where: str) -> None:
    """Refuse a configuration that breaks a rule.

    Raises:
        ConfigError: names the first broken rule.
    """
    for holds, path, value, allowed in rules:
        if not holds:
            raise ConfigError(f"{where}: {path}", value=value, allowed=allowed, where=where)
