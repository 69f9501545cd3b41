# SPDX-License-Identifier: Apache-2.0
"""Configuration of a training run: one YAML file, read strictly into frozen values.

Sections are dataclasses, keys are their fields; an unknown, missing or illegal key is an error that names
its dotted path. A field without a default is required.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from wam.core.errors import ConfigError
from wam.training.ablation import Ablation
from wam.training.distill import AnchorBias
from wam.training.forward import NoiseTimes

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
        preset: of `wam.models.aha_wam.config`; without a bundle.
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


def read_sections(path: Path | str, overrides: typing.Sequence[str], *, sections: str) -> dict[str, Any]:
    """Read the sections of a configuration file as plain values.

    Args:
        path: YAML.
        overrides: "section.key=value" each, the value in YAML.
        sections: that there may be, for error texts.

    Raises:
        ConfigError: the file is missing, no YAML or no mapping, or an override has another form.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"the configuration {path} is missing", where="--config") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} is no mapping of sections", allowed=sections)
    for text in overrides:
        _apply(raw, text)
    return raw


def parse_config(raw: Mapping[str, Any], *, where: str = "configuration") -> TrainConfig:
    """Read a configuration from plain values.

    Raises:
        ConfigError: a key is unknown, missing or illegal.
    """
    config = cast("TrainConfig", parse_section(TrainConfig, raw, path="", where=where))
    _check(config, where)
    return config


def to_plain(value: Any) -> Any:
    """Return plain values that `parse_config` reads back."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    return value


def _apply(raw: dict[str, Any], text: str) -> None:
    path, separator, value = text.partition("=")
    *sections, key = path.split(".")
    if not separator or not sections:
        raise ConfigError("an override", value=text, allowed="section.key=value", where="--set")
    target = raw
    for name in sections:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError("an override", value=text, allowed="a key inside a section", where="--set")
    target[key] = yaml.safe_load(value)


def parse_section(cls: type[Any], raw: Any, *, path: str, where: str) -> Any:
    """Read a dataclass from plain values, its fields as their types say.

    Raises:
        ConfigError: a key is unknown, missing or of another type.
    """
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: {path or 'the file'}", value=raw, allowed="a mapping")
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {_join(path, str(unknown[0]))}", allowed=f"{sorted(known)}", where=where
        )
    types_of = typing.get_type_hints(cls)
    values = {}
    for name, spec in known.items():
        place = _join(path, name)
        if name in raw:
            values[name] = _value(types_of[name], raw[name], path=place, where=where)
        elif spec.default is MISSING and spec.default_factory is MISSING:
            raise ConfigError(f"{where}: {place} is missing", where=where)
    return cls(**values)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value(kind: Any, raw: Any, *, path: str, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if raw is None:
            return None
        return _value(next(a for a in arguments if a is not type(None)), raw, path=path, where=where)
    if is_dataclass(kind):
        return parse_section(cast("type[Any]", kind), raw, path=path, where=where)
    if origin is tuple and isinstance(raw, list):
        return tuple(
            _value(arguments[0], item, path=f"{path}[{i}]", where=where) for i, item in enumerate(raw)
        )
    if origin is dict and isinstance(raw, dict):
        return dict(raw)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        allowed = [member.value for member in kind]
        if raw in allowed:
            return kind(raw)
        raise ConfigError(f"{where}: {path}", value=raw, allowed=f"one of {allowed}", where=where)
    if kind is Path and isinstance(raw, str):
        return Path(raw).expanduser()
    # YAML 1.1 reads "1e-4" as text.
    if kind is float and isinstance(raw, (int, float, str)) and not isinstance(raw, bool):
        try:
            return float(raw)
        except ValueError:
            pass
    if kind in (int, str, bool) and type(raw) is kind:
        return raw
    name = "list" if origin is tuple else getattr(kind, "__name__", str(kind))
    raise ConfigError(f"{where}: {path}", value=raw, allowed=f"a value of type {name}", where=where)


Rule = tuple[bool, str, object, str]
"""Whether it holds, path of the key, its value, what is allowed."""


def common_rules(data: Any, optim: Any, run: RunSection) -> tuple[Rule, ...]:
    """Return the bounds that every training configuration has.

    Args:
        data: section with cameras, camera_names, validation_fraction, min_std and workers.
        optim: section with the fields of AdamW and of the schedule.
        run: the run.
    """
    names = data.camera_names or data.cameras
    return (
        (len(data.cameras) > 0, "data.cameras", list(data.cameras), "at least one picture feature"),
        (
            len(names) == len(data.cameras),
            "data.camera_names",
            list(names),
            f"one name for each of the {len(data.cameras)} data.cameras",
        ),
        (
            0 <= data.validation_fraction < 1,
            "data.validation_fraction",
            data.validation_fraction,
            "0 to below 1",
        ),
        (data.min_std >= 0, "data.min_std", data.min_std, "0 or more"),
        (data.workers >= 0, "data.workers", data.workers, "0 or more"),
        (optim.steps is None or optim.steps > 0, "optim.steps", optim.steps, "null or a positive number"),
        (optim.epochs > 0, "optim.epochs", optim.epochs, "a positive number"),
        (optim.batch_size > 0, "optim.batch_size", optim.batch_size, "a positive number"),
        (optim.accumulate > 0, "optim.accumulate", optim.accumulate, "a positive number"),
        (optim.learning_rate > 0, "optim.learning_rate", optim.learning_rate, "a positive number"),
        (0 <= optim.final_fraction <= 1, "optim.final_fraction", optim.final_fraction, "0 to 1"),
        (0 <= optim.warmup_fraction < 1, "optim.warmup_fraction", optim.warmup_fraction, "0 to below 1"),
        (optim.clip_norm > 0, "optim.clip_norm", optim.clip_norm, "a positive number"),
        (
            0 <= optim.beta1 < 1 and 0 <= optim.beta2 < 1,
            "optim.beta1, beta2",
            (optim.beta1, optim.beta2),
            "0 to below 1",
        ),
        (optim.weight_decay >= 0, "optim.weight_decay", optim.weight_decay, "0 or more"),
        (run.device in ("auto", "cpu", "cuda"), "run.device", run.device, "auto, cpu or cuda"),
        (run.checkpoint_every >= 0, "run.checkpoint_every", run.checkpoint_every, "0 or more"),
        (run.keep_checkpoints > 0, "run.keep_checkpoints", run.keep_checkpoints, "at least 1"),
        (run.validate_every >= 0, "run.validate_every", run.validate_every, "0 or more"),
    )


def require_rules(rules: typing.Iterable[Rule], *, where: str) -> None:
    """Refuse a configuration that breaks a rule.

    Raises:
        ConfigError: names the first one.
    """
    for good, path, value, allowed in rules:
        if not good:
            raise ConfigError(f"{where}: {path}", value=value, allowed=allowed, where=where)


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
