# SPDX-License-Identifier: Apache-2.0
"""One stream's half of a transformer block, and the output layer of a stream.

A joint block is two of these halves that meet in one softmax (`joint_attention`); a cross-attention block or a
block of a tail is one half alone. Two bodies exist (reading 1):

    sd3   LN(1e-6), shift and scale -> attention -> gate -> +     LN(1e-6), shift and scale -> FFN -> gate -> +
    n1    LN(1e-5), scale and shift -> attention -> +             LN(1e-5) -> FFN -> +

Shapes: B batch, R rows of a modulation (1 or B), T tokens of the stream, S feature rows, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.models.layers.attention import attend
from wam.policies.dust.readings import BlockStyle

FFN_FACTOR = 4
OUTPUT_EPS = 1e-6


class Qkv(NamedTuple):
    """Projections of one stream, each [B, T, D]."""

    q: Tensor
    k: Tensor
    v: Tensor


def normed(x: Tensor, *, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Return LayerNorm(x) * (1 + scale) + shift; no weights of its own."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


def joint_attention(streams: Sequence[Qkv], *, heads: int, own_only: bool = False) -> tuple[Tensor, ...]:
    """Let the tokens of all streams attend to each other in one softmax.

    Args:
        streams: projections of each.
        heads: attention heads.
        own_only: hide the other streams' keys: what the streams would do without each other.

    Returns:
        The attended values of each stream, [B, T, D].
    """
    if own_only:
        return tuple(attend(*stream, heads=heads) for stream in streams)
    q, k, v = (torch.cat(parts, dim=1) for parts in zip(*streams, strict=True))
    return torch.split(attend(q, k, v, heads=heads), [s.q.shape[1] for s in streams], dim=1)


class StreamBlock(nn.Module):
    """One stream's half of a block.

    Args:
        width: D.
        heads: attention heads.
        style: its body.
        extra_cross: it has a second, ungated attention to the features between attention and FFN.
        dropout: in training, at the four places of GR00T-N1: twice after attention, after GELU, after the FFN.
    """

    def __init__(
        self, width: int, *, heads: int, style: BlockStyle, extra_cross: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.style = style
        self.eps = 1e-6 if style is BlockStyle.SD3 else 1e-5
        self.ada = nn.Linear(width, (6 if style is BlockStyle.SD3 else 2) * width)
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_qkv: nn.Linear | None = None
        self.to_out = nn.Linear(width, width)
        self.extra_cross = extra_cross
        if extra_cross:
            self.x_q = nn.Linear(width, width)
            self.x_k = nn.Linear(width, width)
            self.x_v = nn.Linear(width, width)
            self.x_out = nn.Linear(width, width)
        self.ff1 = nn.Linear(width, FFN_FACTOR * width)
        self.ff2 = nn.Linear(FFN_FACTOR * width, width)
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) if dropout else nn.Identity() for _ in range(4))

    def modulation(self, silu_time_RD: Tensor) -> Tensor:
        """Return what conditions this half, [R, 1, 6 D] or [R, 1, 2 D]."""
        out: Tensor = self.ada(silu_time_RD)[:, None]
        return out

    def before(self, x_BTD: Tensor, mod: Tensor) -> Tensor:
        """Return the normalised, modulated tokens that attention projects."""
        if self.style is BlockStyle.SD3:
            shift, scale, *_ = mod.chunk(6, dim=-1)
        else:
            scale, shift = mod.chunk(2, dim=-1)
        return normed(x_BTD, scale=scale, shift=shift, eps=self.eps)

    def qkv(self, x_BTD: Tensor, mod: Tensor) -> Qkv:
        """Project the tokens for joint or self-attention."""
        y = self.before(x_BTD, mod)
        if self.to_qkv is not None:
            return Qkv(*self.to_qkv(y).chunk(3, dim=-1))
        return Qkv(self.to_q(y), self.to_k(y), self.to_v(y))

    def merge(self) -> None:
        """Join the three projections of the block's own tokens, for inference: one product instead of three.

        The block can no longer attend to features by them.
        """
        parts = [self.to_q, self.to_k, self.to_v]
        like = self.to_q.weight
        merged = nn.Linear(like.shape[1], 3 * like.shape[0], device=like.device, dtype=like.dtype)
        merged.requires_grad_(like.requires_grad)
        with torch.no_grad():
            merged.weight.copy_(torch.cat([part.weight for part in parts]))
            merged.bias.copy_(torch.cat([part.bias for part in parts]))
        self.to_qkv = merged
        del self.to_q, self.to_k, self.to_v

    def feature_kv(self, features_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Project the features to this half's keys and values, each [B, S, D]."""
        if self.extra_cross:
            return self.x_k(features_BSD), self.x_v(features_BSD)
        return self.to_k(features_BSD), self.to_v(features_BSD)

    def cross(self, x_BTD: Tensor, mod: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Run the block with attention to the features instead of to tokens."""
        attended = attend(self.to_q(self.before(x_BTD, mod)), k, v, heads=self.heads, mask=mask)
        return self.after(x_BTD, attended, mod)

    def self_attention(self, x_BTD: Tensor, mod: Tensor) -> Tensor:
        """Run the block with attention among the stream's own tokens."""
        return self.after(x_BTD, attend(*self.qkv(x_BTD, mod), heads=self.heads), mod)

    def after(
        self,
        x_BTD: Tensor,
        attended_BTD: Tensor,
        mod: Tensor,
        *,
        extra: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Finish the block.

        Args:
            x_BTD: tokens as they entered it.
            attended_BTD: result of the attention.
            mod: the same record as before.
            extra: features' keys and values of the second attention.
            mask: of the features.
        """
        drop_out, drop_attention, drop_gelu, drop_ffn = self.dropouts
        y = drop_attention(drop_out(self.to_out(attended_BTD)))
        if self.style is BlockStyle.SD3:
            _, _, gate, ffn_shift, ffn_scale, ffn_gate = mod.chunk(6, dim=-1)
            x = x_BTD + gate * y
        else:
            x = x_BTD + y
        if extra is not None:
            plain = F.layer_norm(x, x.shape[-1:], eps=self.eps)
            x = x + self.x_out(attend(self.x_q(plain), *extra, heads=self.heads, mask=mask))
        if self.style is BlockStyle.SD3:
            y = normed(x, scale=ffn_scale, shift=ffn_shift, eps=self.eps)
        else:
            y = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        y = drop_ffn(self.ff2(drop_gelu(F.gelu(self.ff1(y), approximate="tanh"))))
        out: Tensor = x + ffn_gate * y if self.style is BlockStyle.SD3 else x + y
        return out


REGIONS = (StreamBlock.qkv, StreamBlock.after)
"""What of a block is worth compiling; attention itself is a library's kernel."""


class OutputLayer(nn.Module):
    """Last norm of a stream and the projection to the decoder's width."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, hidden)

    def modulation(self, silu_time_RD: Tensor) -> Tensor:
        """Return [R, 1, 2 D]: shift, then scale."""
        out: Tensor = self.proj_out_1(silu_time_RD)[:, None]
        return out

    def forward(self, x_BTD: Tensor, mod: Tensor) -> Tensor:
        """Return [B, T, hidden]."""
        shift, scale = mod.chunk(2, dim=-1)
        out: Tensor = self.proj_out_2(normed(x_BTD, scale=scale, shift=shift, eps=OUTPUT_EPS))
        return out
