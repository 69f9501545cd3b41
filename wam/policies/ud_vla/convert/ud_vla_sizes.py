# SPDX-License-Identifier: Apache-2.0
"""Sizes and statistics as they are published beside UD-VLA, UniVLA and Emu3 weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wam.core.errors import BundleError
from wam.models.normalisation import FieldStats, PolicyStats
from wam.policies.ud_vla.config import VisionConfig

CONFIG = "config.json"
DECODER_FIELDS = {
    "hidden_size": "hidden",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn",
    "max_position_embeddings": "max_positions",
    "rms_norm_eps": "rms_eps",
}
_VISION_FIELDS = {
    "base_channels": ("base_channels", "ch"),
    "channel_multiplier": ("channel_multiplier", "ch_mult"),
    "res_blocks": ("num_res_blocks",),
    "temporal_factor": ("temporal_downsample_factor",),
    "embed_dim": ("embed_dim",),
}
"""Our field -> names in the library's and in the authors' configuration."""


def read_json(path: Path, *, where: str) -> Mapping[str, Any]:
    """Read an object from a JSON file.

    Raises:
        BundleError: it is missing, no JSON or no object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}", where=where) from error
    if not isinstance(raw, Mapping):
        raise BundleError(f"{path} holds a {type(raw).__name__}", allowed="an object", where=where)
    return raw


def read_vision_config(folder: Path, *, codes: int) -> VisionConfig:
    """Read the sizes of an image tokenizer from the configuration beside it.

    Args:
        folder: of the image tokenizer in its authors' layout, or of a whole model in the library's.
        codes: size of the code book that the vocabulary has room for.

    Returns:
        The published sizes where there is no configuration.

    Raises:
        BundleError: the file is damaged, or the code book has another size.
    """
    path = folder / CONFIG
    if not path.is_file():
        return VisionConfig()
    raw = read_json(path, where="--vision")
    raw = raw.get("vq_config", raw)
    if raw.get("codebook_size", codes) != codes:
        raise BundleError(
            f"{path}: codebook_size", value=raw["codebook_size"], allowed=f"{codes}", where="--vision"
        )
    given: dict[str, Any] = {}
    for ours, names in _VISION_FIELDS.items():
        for name in names:
            if name in raw:
                given[ours] = tuple(raw[name]) if isinstance(raw[name], list) else raw[name]
    try:
        return VisionConfig(**given)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: {error}", where="--vision") from error


def read_statistics(path: Path, *, state_width: int, action_width: int) -> PolicyStats:
    """Read the statistics that actions are normalised with.

    The published `norm_stats.json` has one vector, that of the actions, under a name of its own. The network reads
    no joint state, so the state gets the same numbers where the widths agree and neutral ones elsewhere.

    Args:
        path: published `norm_stats.json`, or `stats.json` of a bundle.
        state_width: joints of the state.
        action_width: joints of the action.

    Raises:
        BundleError: it is another file, or has another width.
    """
    raw = read_json(path, where="--stats")
    if "norm_stats" in raw:
        groups = raw["norm_stats"]
        if not isinstance(groups, Mapping) or len(groups) != 1:
            found = sorted(groups) if isinstance(groups, Mapping) else groups
            raise BundleError(f"{path}: norm_stats", value=found, allowed="one set of statistics")
        (name, values), *_ = groups.items()
        action = FieldStats.from_dict(values, what=f"{path}: {name}", width=action_width)
        return PolicyStats(action if state_width == action_width else FieldStats.unit(state_width), action)
    if {"state", "action"} <= set(raw):
        return PolicyStats(
            FieldStats.from_dict(raw["state"], what=f"{path}: state", width=state_width),
            FieldStats.from_dict(raw["action"], what=f"{path}: action", width=action_width),
        )
    raise BundleError(
        f"{path} holds no statistics",
        value=sorted(raw)[:6],
        allowed='norm_stats.json as published ("norm_stats"), or stats.json of a bundle ("state", "action")',
        where="--stats",
    )
