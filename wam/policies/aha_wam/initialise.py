# SPDX-License-Identifier: Apache-2.0
"""Random weights for tests and demos, and the action DiT's start from the video DiT.

The released initialisation shrinks every Wan tensor to the action expert's shape by linear interpolation
along each axis in turn (end points kept); where the last axis of a matrix changes from n to m, values are
multiplied by sqrt(n / m), which keeps the scale of its output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.core.errors import BundleError
from wam.models.bundle.weights import listed
from wam.policies.aha_wam.action_dit import ActionDit
from wam.policies.aha_wam.config import AhaWamConfig, VaeConfig
from wam.policies.aha_wam.key_map import require_same_keys
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.vae import FrameEncoder

RANDOM_PREFIXES = ("action_encoder.", "head.")
"""Parts of the action DiT that have no counterpart in the video DiT and stay random."""

CONTRACTION = 3.0
"""Random networks get a velocity of about this times the noisy rows, so that their actions are calm."""


def interpolate_axis(tensor: Tensor, *, axis: int, size: int) -> Tensor:
    """Resample one axis linearly; first and last entries stay."""
    if tensor.shape[axis] == size:
        return tensor
    moved = tensor.movedim(axis, -1)
    flat = moved.reshape(1, -1, moved.shape[-1])
    out = F.interpolate(flat, size=size, mode="linear", align_corners=True)
    return out.reshape(*moved.shape[:-1], size).movedim(-1, axis)


def shrink(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring one tensor of the video DiT to the shape it has in the action DiT, float32."""
    if tensor.dim() != len(shape):
        raise ValueError(f"cannot bring shape {tuple(tensor.shape)} to {shape}")
    out = tensor.float()
    for axis, size in enumerate(shape):
        out = interpolate_axis(out, axis=axis, size=size)
    if tensor.dim() >= 2 and tensor.shape[-1] != shape[-1]:
        out = out * math.sqrt(tensor.shape[-1] / shape[-1])
    return out.contiguous()


def action_from_video(video: Mapping[str, Tensor], config: AhaWamConfig) -> dict[str, Tensor]:
    """Make the backbone of the action DiT from the video DiT.

    Args:
        video: tensors of the video DiT, original Wan names.
        config: sizes.

    Returns:
        Tensors of the action DiT but for `RANDOM_PREFIXES`, float32.

    Raises:
        BundleError: the video DiT lacks a tensor.
    """
    with torch.device("meta"):
        network = ActionDit(config)
    want = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.startswith(RANDOM_PREFIXES)}
    if missing := sorted(set(want) - set(video)):
        raise BundleError(f"the video DiT lacks {len(missing)} tensors: {listed(missing)}")
    return {name: shrink(video[name], shape) for name, shape in want.items()}


def backbone_meta(config: AhaWamConfig) -> dict[str, Any]:
    """Return the `meta` record of a released action-backbone file."""
    a = config.action
    return {
        "hidden_dim": a.width,
        "ffn_dim": a.ffn,
        "num_layers": a.layers,
        "num_heads": a.heads,
        "attn_head_dim": a.head_dim,
        "text_dim": config.text_dim,
        "freq_dim": a.freq_dim,
        "eps": a.eps,
    }


def load_action_backbone(model: AhaWam, backbone: Mapping[str, Tensor]) -> None:
    """Put a backbone into the action DiT; its encoder and head keep their random start.

    Raises:
        BundleError: names are missing or left over.
    """
    if model.action is None:
        raise ValueError("this model was built without its executor half")
    want = [n for n in model.action.state_dict() if not n.startswith(RANDOM_PREFIXES)]
    require_same_keys(have=backbone, want=want, what="action backbone")
    model.action.load_state_dict(dict(backbone), strict=False)


def random_model(config: AhaWamConfig, *, seed: int) -> AhaWam:
    """Build a network with random weights in which every part has an effect and actions stay calm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AhaWam(config)
        action = model.action
        assert action is not None
        if model.editor is not None:
            for last in model.editor.last_maps():
                nn.init.normal_(last.weight, std=0.02)
            nn.init.zeros_(model.editor.delta_gate)
        for network in (model.video, action):
            assert network is not None
            for name, parameter in network.named_parameters():
                if name.endswith(".modulation"):
                    nn.init.normal_(parameter, std=0.5)
        basis = torch.linalg.qr(torch.randn(config.action.width, config.action.width))[0][
            :, : config.action_dim
        ]
        if config.action_dim <= config.action.width:
            with torch.no_grad():
                action.action_encoder.weight.copy_(basis)
                action.action_encoder.bias.zero_()
                action.head.weight.copy_(CONTRACTION * basis.T)
    return model.eval().requires_grad_(False)


def random_vae(config: VaeConfig, *, seed: int) -> dict[str, Tensor]:
    """Return random weights of the VAE's encoder under the names of `AutoencoderKLWan` (no decoder)."""
    with torch.device("meta"):
        frame = FrameEncoder(config)
    generator = torch.Generator().manual_seed(seed)

    def conv(*shape: int) -> dict[str, Tensor]:
        bound = 1.0 / math.sqrt(math.prod(shape[1:]))
        weight = (torch.rand(shape, generator=generator) * 2 - 1) * bound * math.sqrt(3.0)
        return {"weight": weight, "bias": (torch.rand(shape[0], generator=generator) * 2 - 1) * bound}

    state: dict[str, Tensor] = {}
    for name, parameter in frame.state_dict().items():
        shape = tuple(parameter.shape)
        theirs = _causal_name(name)
        if name.endswith(".gamma"):
            state[theirs] = (
                torch.ones(shape[0], 1, 1) if "attentions" in theirs else torch.ones(shape[0], 1, 1, 1)
            )
        elif name == "conv_out.weight":
            values = conv(2 * config.z_dim, shape[1], 3, 3, 3)
            state.update({f"encoder.conv_out.{k}": v for k, v in values.items()})
        elif name.endswith(".weight"):
            flat = "to_qkv" in name or "attentions" in theirs or "resample" in theirs
            depth = () if flat else (shape[-1],)
            values = conv(shape[0], shape[1], *depth, *shape[2:])
            state.update({theirs.removesuffix("weight") + k: v for k, v in values.items()})
    for i, halve in enumerate(config.temporal_downsample):
        if halve:
            width = config.base_dim * config.dim_mult[i]
            values = conv(width, width, 3, 1, 1)
            state.update({f"encoder.down_blocks.{i}.downsampler.time_conv.{k}": v for k, v in values.items()})
    state["quant_conv.weight"] = torch.eye(2 * config.z_dim)[:, :, None, None, None]
    state["quant_conv.bias"] = torch.zeros(2 * config.z_dim)
    return state


def _causal_name(name: str) -> str:
    name = name.replace("middle.0", "mid_block.resnets.0").replace("middle.1", "mid_block.attentions.0")
    name = name.replace("middle.2", "mid_block.resnets.1").replace("downsampler.", "downsampler.resample.1.")
    return f"encoder.{name}"
