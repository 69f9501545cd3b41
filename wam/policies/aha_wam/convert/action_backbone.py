# SPDX-License-Identifier: Apache-2.0
"""The initialisation file of the action DiT: the video DiT, shrunk, in the released layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from wam.core.errors import BundleError
from wam.models.container import read_pt
from wam.policies.aha_wam.config import AhaWamConfig
from wam.policies.aha_wam.convert.wan_weights import read_video_dit
from wam.policies.aha_wam.initialise import RANDOM_PREFIXES, action_from_video, backbone_meta
from wam.policies.aha_wam.key_map import require_same_keys
from wam.policies.aha_wam.policy import expected_shapes


def write_action_backbone(
    video: Path, out: Path, config: AhaWamConfig, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Make the released kind of initialisation file for the action DiT from Wan weights.

    Args:
        video: the video DiT, original or diffusers layout.
        out: the `.pt` file.
        config: sizes.
        dtype: of the tensors.

    Returns:
        The file, with "policy", "backbone_state_dict" and "meta" as the release writes them.
    """
    backbone = action_from_video(read_video_dit(video, config), config)
    payload = {
        "policy": {
            "skip_prefixes": list(RANDOM_PREFIXES),
            "alpha_scaling": True,
            "interpolation": "sequential_1d_linear_align_corners_true",
        },
        "backbone_state_dict": {name: tensor.to(dtype) for name, tensor in backbone.items()},
        "meta": backbone_meta(config),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(payload, out)
    return out


def read_action_backbone(path: Path, config: AhaWamConfig) -> dict[str, Tensor]:
    """Read an initialisation file of the action DiT.

    Raises:
        BundleError: it was made for other sizes, or a tensor is missing or left over.
    """
    container = read_pt(path)
    prefix = "backbone_state_dict."
    tensors = {n.removeprefix(prefix): t for n, t in container.tensors.items() if n.startswith(prefix)}
    meta = {n.removeprefix("meta."): v for n, v in container.values.items() if n.startswith("meta.")}
    want = backbone_meta(config)
    if meta != want:
        raise BundleError(
            f"{path} was made for other sizes", value=meta, allowed=f"{want}", where="the preset"
        )
    shapes = expected_shapes(config)
    names = [n.removeprefix("action.") for n in shapes if n.startswith("action.")]
    require_same_keys(
        have=tensors,
        want=[n for n in names if not n.startswith(RANDOM_PREFIXES)],
        what=f"action backbone {path}",
    )
    return tensors
