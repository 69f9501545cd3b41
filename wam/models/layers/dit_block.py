# SPDX-License-Identifier: Apache-2.0
"""The transformer block that the video DiT and the action DiT share (Wan 2.2).

    x -> LN, modulate -> self-attention -> gate -> +
      -> LN (affine)  -> cross-attention to text  -> +
      -> LN, modulate -> feed-forward  -> gate    -> +

The block is cut before and after the self-attention, because a mixture of transformers exchanges keys and
values there (layerwise joint attention, paper Eq. 3).

Shapes: B batch, S tokens, T text rows, D width, I attention width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.models.layers.attention import Attention, attend
from wam.models.layers.rope import Rope, rotate

MODULATIONS = 6


class Modulation(NamedTuple):
    """Shift, scale and gate of both modulated branches; each [B or 1, S or 1, D].

    The scales already contain the one that is added to them: y * scale + shift.
    """

    shift_attention: Tensor
    scale_attention: Tensor
    gate_attention: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor


class SelfQkv(NamedTuple):
    """Projections of one self-attention, each [B, S, I].

    Attributes:
        q: normalised and rotated queries.
        k: normalised and rotated keys.
        v: values.
        k_unrotated: normalised keys before rotation, for a memory whose positions may move.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    k_unrotated: Tensor


def modulate(x: Tensor, *, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Return LayerNorm(x) * scale + shift, where scale contains the added one."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=eps), scale)


class DitBlock(nn.Module):
    """One block; both halves are called by the DiT that owns it.

    Args:
        width: D.
        inner: I.
        ffn: hidden width of the feed-forward.
        heads: attention heads that share I.
        eps: of all norms.
    """

    def __init__(self, *, width: int, inner: int, ffn: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.eps = eps
        self.modulation = nn.Parameter(torch.randn(1, MODULATIONS, width) / width**0.5)
        self.self_attn = Attention(width, inner, eps=eps)
        self.cross_attn = Attention(width, inner, eps=eps)
        self.norm3 = nn.LayerNorm(width, eps=eps)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, width))

    def modulations(self, time_mod: Tensor) -> Tensor:
        """Add this block's table to the time embedding.

        Args:
            time_mod: [..., 6, D], the projected time embedding.

        Returns:
            [..., 6, D] in the order of `Modulation`; one is added to both scales.
        """
        mods = self.modulation[0] + time_mod
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = mods.unbind(-2)
        return torch.stack((shift_a, 1 + scale_a, gate_a, shift_m, 1 + scale_m, gate_m), dim=-2)

    def before_attention(self, x_BSD: Tensor, mod: Modulation, rope: Rope) -> SelfQkv:
        """Project the tokens for self-attention."""
        y = modulate(x_BSD, shift=mod.shift_attention, scale=mod.scale_attention, eps=self.eps)
        k, v = self.self_attn.keys_values(y)
        q = self.self_attn.queries(y)
        return SelfQkv(rotate(q, rope, heads=self.heads), rotate(k, rope, heads=self.heads), v, k)

    def after_attention(
        self,
        x_BSD: Tensor,
        attended_BSI: Tensor,
        mod: Modulation,
        *,
        text_k: Tensor,
        text_v: Tensor,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Finish the block.

        Args:
            x_BSD: tokens as they entered the block.
            attended_BSI: result of the self-attention (joint or not).
            mod: the same record as for `before_attention`.
            text_k: keys of the text rows [B, T, I].
            text_v: values of the text rows [B, T, I].
            text_mask: boolean, broadcastable to [B, heads, S, T]; None shows every row.

        Returns:
            [B, S, D].
        """
        x = torch.addcmul(x_BSD, self.self_attn.o(attended_BSI), mod.gate_attention)
        q = self.cross_attn.queries(self.norm3(x))
        x = x + self.cross_attn.o(attend(q, text_k, text_v, heads=self.heads, mask=text_mask))
        y = modulate(x, shift=mod.shift_mlp, scale=mod.scale_mlp, eps=self.eps)
        return torch.addcmul(x, self.ffn(y), mod.gate_mlp)


REGIONS = (DitBlock.before_attention, DitBlock.after_attention)
"""What of a block is worth compiling; attention itself is a library's kernel."""
