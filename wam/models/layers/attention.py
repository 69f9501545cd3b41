# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention whose projections and softmax are separate, so that K/V can be kept and exchanged.

Shapes: B batch, Q query tokens, K key tokens, D model width, I = heads * head_dim attention width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(q_BQI: Tensor, k_BKI: Tensor, v_BKI: Tensor, *, heads: int, mask: Tensor | None = None) -> Tensor:
    """Softmax attention with scale 1 / sqrt(head_dim).

    Args:
        q_BQI: queries [B, Q, I].
        k_BKI: keys [B, K, I].
        v_BKI: values [B, K, I].
        heads: number of heads that share I.
        mask: boolean, True = visible, broadcastable to [B, heads, Q, K]; None shows everything.

    Returns:
        [B, Q, I].
    """
    B, Q, width = q_BQI.shape
    K, head = k_BKI.shape[1], width // heads
    q = q_BQI.view(B, Q, heads, head).transpose(1, 2)
    k = k_BKI.view(B, K, heads, head).transpose(1, 2)
    v = v_BKI.view(B, K, heads, head).transpose(1, 2)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).reshape(B, Q, width)


class RmsNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32."""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) * weight in the dtype of `x`."""
        if x.dtype == self.weight.dtype and x.dtype.itemsize >= 4:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight


class Attention(nn.Module):
    """Projections of one attention: q, k, v, o with bias, RMSNorm over the full width of q and k.

    Args:
        width: D.
        inner: I, a multiple of the number of heads; need not equal `width`.
        eps: of the two norms.
    """

    def __init__(self, width: int, inner: int, *, eps: float) -> None:
        super().__init__()
        self.q = nn.Linear(width, inner)
        self.k = nn.Linear(width, inner)
        self.v = nn.Linear(width, inner)
        self.o = nn.Linear(inner, width)
        self.norm_q = RmsNorm(inner, eps=eps)
        self.norm_k = RmsNorm(inner, eps=eps)

    def queries(self, x_BQD: Tensor) -> Tensor:
        """Return normalised queries [B, Q, I]."""
        out: Tensor = self.norm_q(self.q(x_BQD))
        return out

    def keys_values(self, x_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised keys and plain values, each [B, K, I]."""
        return self.norm_k(self.k(x_BKD)), self.v(x_BKD)
