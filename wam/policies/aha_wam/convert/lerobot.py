# SPDX-License-Identifier: Apache-2.0
"""Fast-WAM policies as LeRobot saves them (`policy.type=fastwam`, lerobot 0.6) as policy bundles.

The folder has `config.json` (sizes, features, sampler), `model.safetensors` (the trained tensors; VAE and text encoder
are not among them) and two processor pipelines, whose files hold the statistics. Everything that LeRobot would do to an
observation or an action is either carried over or refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wam.core.errors import BundleError
from wam.models.bundle import Bundle
from wam.models.bundle.weights import DEFAULT_SHARD_BYTES, listed
from wam.models.container import read_tensors
from wam.models.images import Composite, ImageTile, standard_layout
from wam.models.normalisation import STATISTICS, FieldStats, NormMode, PolicyStats
from wam.policies.aha_wam.config import AhaWamConfig
from wam.policies.aha_wam.convert.source import (
    ConversionOptions,
    ForeignPolicy,
    sizes_of,
    without_branch_embedding,
    write_policy,
)
from wam.policies.units import SI_UNITS, UnitStatements

TYPE = "fastwam"
IMAGES = "observation.images."
STATE = "observation.state"
ACTION = "action"
FIRST_FRAME = "first_frame_causal"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"model\.mot\.layers\.(\d+)\.blocks\.(video|action)\.(.+)"), r"\2.blocks.\1.\3"),
    (re.compile(r"model\.mot\.mixtures\.(video|action)\.(.+)"), r"\1.\2"),
    (re.compile(r"model\.proprio_encoder\.(weight|bias)"), r"proprio.\1"),
)
"""(LeRobot's name, ours). The second rule is that of all tensors outside of the blocks, and of the blocks too in files
that were written before a layer owned the blocks of both experts."""

_NORM = {"MEAN_STD": NormMode.Z_SCORE, "MIN_MAX": NormMode.MIN_MAX, "QUANTILES": NormMode.QUANTILE}
_NEUTRAL = ("rename_observations_processor", "to_batch_processor", "device_processor")
_TOGGLE = "fastwam_action_toggle_processor"
EPS = 1e-8


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the names of LeRobot's file to ours.

    Raises:
        BundleError: a name is covered by no rule, or two name the same tensor.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        ours = next((rule.sub(to, name) for rule, to in _RULES if rule.fullmatch(name)), None)
        if ours is None or ours in renamed:
            unknown.append(name)
        else:
            renamed[ours] = tensor
    if unknown:
        raise BundleError(
            f"the file has {len(unknown)} tensors that Fast-WAM does not have, or has twice: {listed(sorted(unknown))}",
            allowed="model.mot.layers.N.blocks.*, model.mot.mixtures.* and model.proprio_encoder.*, video and action",
            where="model.safetensors; merge the weights first if they are an adapter (PEFT)",
        )
    return renamed


def convert_lerobot_fast_wam(
    folder: Path,
    out: Path,
    *,
    state_joints: tuple[str, ...],
    action_joints: tuple[str, ...],
    control_rate: float,
    cameras: tuple[str, ...] = (),
    options: ConversionOptions | None = None,
    vae: Path | None = None,
    units: UnitStatements = SI_UNITS,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> Bundle:
    """Turn a folder that LeRobot's `save_pretrained` wrote into a bundle.

    Args:
        folder: with config.json, model.safetensors, policy_preprocessor.json and policy_postprocessor.json.
        out: new or empty directory.
        state_joints: joint names of the columns of observation.state.
        action_joints: joint names of the columns of action.
        control_rate: rows per second of the data set that it was trained on [Hz].
        cameras: names in the robot file, in the order of `image_names`; empty keeps those. A policy with one image has
            one name, or those of a released composite.
        options: sizes of the VAE and the default instruction; what config.json states is taken from there.
        vae: the Wan 2.2 VAE; None leaves it out, to be added later.
        units: of the columns of the statistics.
        max_shard_bytes: size of a weights shard [bytes].

    Returns:
        The bundle. Its planner needs an embedding cache as well: see `add_text_embeddings`.

    Raises:
        BundleError: the folder is incomplete or damaged, or the policy does something that a bundle cannot.
        ConfigError: the units are malformed.
    """
    said = _Json(folder / "config.json")
    _require_representable(said)
    height, width = (said.integer("image_size", i) for i in (0, 1))
    options = replace(
        options or ConversionOptions(),
        state_joints=state_joints,
        action_joints=action_joints,
        control_rate=control_rate,
        image_height=height,
        image_width=width,
        head_dim=said.integer("video_dit_config", "attn_head_dim"),
        context_len=said.integer("context_len"),
        chunk_rows=said.integer("action_horizon"),
        horizon_rows=said.integer("action_horizon"),
        steps=said.integer("num_inference_steps"),
        seed=said.integer("inference_seed"),
    )
    tensors = without_branch_embedding(rename(read_tensors(folder / "model.safetensors")))
    shift = said.get("sigma_shift")
    config = replace(
        sizes_of(tensors, options, fast=True),
        train_shift=said.number("action_scheduler", "train_shift"),
        infer_shift=said.number("action_scheduler", "infer_shift") if shift is None else float(shift),
    )
    statistics, norms = _statistics(folder, config)
    return write_policy(
        ForeignPolicy(
            path=folder,
            tensors=tensors,
            values={
                "n_action_steps": said.integer("n_action_steps"),
                "layout": "LeRobot",
                "images": ", ".join(image_names(said.values)),
            },
            name="Fast-WAM",
        ),
        out,
        config=config,
        layout=_layout(said, cameras, height=height, width=width),
        statistics=statistics,
        options=options,
        vae=vae,
        units=units,
        norms=norms,
        template=said.text("prompt_template"),
        max_shard_bytes=max_shard_bytes,
    )


def image_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a policy's images in the order in which LeRobot lays them side by side."""
    return tuple(
        name.removeprefix(IMAGES) for name in sorted(config["input_features"]) if name.startswith(IMAGES)
    )


class _Json:
    """A JSON file of the folder; what is missing or of another type is refused with its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BundleError(
                f"{path} cannot be read: {error.strerror}",
                allowed="a folder that LeRobot's save_pretrained wrote (a checkpoint's pretrained_model)",
            ) from error
        except ValueError as error:
            raise BundleError(f"{path} is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise BundleError(f"{path} holds a {type(raw).__name__}", allowed="an object")
        self.values: dict[str, Any] = raw

    def get(self, *keys: str | int) -> Any:
        """Return the value at `keys`.

        Raises:
            BundleError: there is none.
        """
        value: Any = self.values
        for depth, key in enumerate(keys):
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                raise BundleError(f"{self.path} lacks {'.'.join(map(str, keys[: depth + 1]))}") from None
        return value

    def integer(self, *keys: str | int) -> int:
        value = self.get(*keys)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.illegal(keys, value, "a whole number")
        return value

    def number(self, *keys: str | int) -> float:
        value = self.get(*keys)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.illegal(keys, value, "a number")
        return float(value)

    def text(self, *keys: str | int) -> str:
        value = self.get(*keys)
        if not isinstance(value, str):
            raise self.illegal(keys, value, "a text")
        return value

    def require(self, allowed: tuple[Any, ...], *keys: str | int) -> None:
        """Refuse a value that is none of `allowed`."""
        value = self.get(*keys)
        if value not in allowed:
            raise self.illegal(keys, value, " or ".join(json.dumps(one) for one in allowed))

    def illegal(self, keys: tuple[str | int, ...], value: Any, allowed: str) -> BundleError:
        """Return the error about a value that a bundle cannot express."""
        place = ".".join(map(str, keys))
        return BundleError(f"{self.path}: {place}", value=value, allowed=allowed, where=place)


def _require_representable(said: _Json) -> None:
    said.require((TYPE,), "type")
    if said.values.get("use_peft"):
        raise said.illegal(("use_peft",), True, "false: merge the adapter into the weights first")
    if said.get("proprio_dim") is None:
        raise said.illegal(("proprio_dim",), None, "a number: a policy without the state cannot run here")
    if said.get("toggle_action_dimensions"):
        raise said.illegal(
            ("toggle_action_dimensions",),
            said.values["toggle_action_dimensions"],
            "[]: it turns a column into -1 or 1 (LIBERO's gripper), which is no position of a joint",
        )
    said.require((1,), "n_obs_steps")
    said.require((1, 1.0), "text_cfg_scale")
    said.require((FIRST_FRAME,), "video_dit_config", "video_attention_mask_mode")
    said.require((False,), "video_dit_config", "action_conditioned")
    if "{task}" not in said.text("prompt_template"):
        raise said.illegal(("prompt_template",), said.values["prompt_template"], "a text with {task}")
    if not isinstance(said.get("input_features"), dict) or not image_names(said.values):
        raise said.illegal(("input_features",), said.values["input_features"], f"{IMAGES}*")


def _layout(said: _Json, cameras: tuple[str, ...], *, height: int, width: int) -> Composite:
    images = image_names(said.values)
    names = cameras or images
    try:
        if len(images) == 1:
            return standard_layout(names, height=height, width=width)
        if len(names) != len(images) or width % len(images):
            raise ValueError(f"{len(names)} names for the images {', '.join(images)} in {width} columns")
        each = width // len(images)
        tiles = tuple(ImageTile(name, 0, i * each, height, each) for i, name in enumerate(names))
        return Composite(height, width, tiles)
    except ValueError as error:
        raise BundleError(f"camera layout: {error}", where="the option cameras") from error


def _statistics(folder: Path, config: AhaWamConfig) -> tuple[PolicyStats, tuple[NormMode, NormMode]]:
    before, after = (_Json(folder / f"policy_{name}processor.json") for name in ("pre", "post"))
    state, state_norm = _field(before, "normalizer_processor", STATE, "STATE", config.state_dim)
    action, action_norm = _field(after, "unnormalizer_processor", ACTION, "ACTION", config.action_dim)
    return PolicyStats(state, action), (state_norm, action_norm)


def _field(pipeline: _Json, step: str, feature: str, kind: str, width: int) -> tuple[FieldStats, NormMode]:
    steps = pipeline.get("steps")
    if not isinstance(steps, list) or not all(isinstance(one, dict) for one in steps):
        raise pipeline.illegal(("steps",), steps, "a list of steps")
    names = [str(one.get("registry_name", one.get("class", "?"))) for one in steps]
    for at, name in enumerate(names):
        toggles = name == _TOGGLE and pipeline.get("steps", at, "config", "toggle_dimensions")
        if name not in (*_NEUTRAL, step) and (name != _TOGGLE or toggles):
            raise pipeline.illegal(
                ("steps", at), name, f"{step}, {', '.join(_NEUTRAL)}: no other step can be carried over"
            )
    if names.count(step) != 1:
        raise BundleError(f"{pipeline.path} has {names.count(step)} steps {step}", allowed="one")
    at = names.index(step)
    pipeline.require((EPS,), "steps", at, "config", "eps")
    norms = pipeline.get("steps", at, "config", "norm_map")
    if not isinstance(norms, dict) or norms.get("VISUAL", "IDENTITY") != "IDENTITY":
        raise pipeline.illegal(("steps", at, "config", "norm_map"), norms, "VISUAL: IDENTITY")
    norm = norms.get(kind)
    if norm not in _NORM:
        raise pipeline.illegal(("steps", at, "config", "norm_map", kind), norm, ", ".join(_NORM))
    file = pipeline.path.parent / Path(pipeline.text("steps", at, "state_file")).name
    stored = read_tensors(file)
    found = {
        name: stored[f"{feature}.{name}"].double().tolist()
        for name in STATISTICS
        if f"{feature}.{name}" in stored
    }
    return FieldStats.from_dict(found, what=f"{file}: {feature}", width=width), _NORM[norm]
