# SPDX-License-Identifier: Apache-2.0
"""A decoder layer of the Llama kind in five launches, as UD-VLA's Emu3 has them: RMSNorm, grouped heads, SwiGLU.

    1 norm_project       RMSNorm -> q, k, v [M, I + 2 J]
    2 attention          rotation of halves -> P kept prefix rows + M own rows, under a mask
    3 project_residual   -> + x
    4 norm_project       RMSNorm -> silu(gate) * up [M, F]
    5 project_residual   -> + x

With many rows `row_statistics` runs before 1 and 4.

Shapes: M rows, D width, I = heads * H, J = key heads * H, F feed-forward, P prefix rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wam.models.kernels.attention import ContextRows, OwnRows, Projected, attention
from wam.models.kernels.kinds import Activation, Norm, RotaryPairing
from wam.models.kernels.run import LayerRun
from wam.models.kernels.weights import Affine, merge
from wam.models.layers.rope import Rope


@dataclass(frozen=True, slots=True)
class GatedLayerWeights:
    """Weights of one layer; what reads the same rows is copied (merged), all others are the layer's own tensors."""

    norm: Tensor
    qkv: Affine
    out: Affine
    ffn_norm: Tensor
    gate_up: Affine
    down: Affine
    heads: int
    key_heads: int
    eps: float

    @classmethod
    def of(
        cls,
        *,
        norm: Tensor,
        qkv: tuple[nn.Linear, nn.Linear, nn.Linear],
        out: nn.Linear,
        ffn_norm: Tensor,
        gate: nn.Linear,
        up: nn.Linear,
        down: nn.Linear,
        heads: int,
        key_heads: int,
        eps: float,
    ) -> GatedLayerWeights:
        """Take the weights of a layer by their roles.

        Args:
            norm: [D], RMSNorm before the attention.
            qkv: its three projections.
            out: its output.
            ffn_norm: [D], RMSNorm before the feed-forward.
            gate: projection under the silu.
            up: projection that it multiplies.
            down: output of the feed-forward.
            heads: of the queries.
            key_heads: of keys and values.
            eps: of both norms.
        """
        return cls(
            norm=norm.detach(),
            qkv=merge(*qkv),
            out=merge(out),
            ffn_norm=ffn_norm.detach(),
            gate_up=merge(gate, up),
            down=merge(down),
            heads=heads,
            key_heads=key_heads,
            eps=eps,
        )

    def run(self, rows: int, *, columns: int = 64, pdl: bool = False) -> LayerRun:
        """Make the buffers for M rows of layers of this size; see `LayerRun.of`."""
        inner = self.out.weight.shape[1]
        return LayerRun.of(
            rows,
            width=self.out.outputs,
            inner=inner,
            keys=(self.qkv.outputs - inner) // 2,
            hidden=self.down.weight.shape[1],
            like=self.qkv.weight,
            columns=columns,
            pdl=pdl,
        )


def halves(cos_RH: Tensor, sin_RH: Tensor) -> Rope:
    """Turn the tables of a language model into those of the kernels, whose sine carries the channel's sign.

    Args:
        cos_RH: cosine of every channel.
        sin_RH: sine of every channel, unsigned: both halves alike.
    """
    signs = torch.ones(sin_RH.shape[-1], device=sin_RH.device)
    signs[: sin_RH.shape[-1] // 2] = -1
    return Rope(cos_RH[:, None].float().contiguous(), (sin_RH.float() * signs)[:, None].contiguous())


def gated_layer(
    weights: GatedLayerWeights,
    x_MD: Tensor,
    run: LayerRun,
    *,
    rope: Rope,
    prefix: ContextRows | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Run one layer on one sequence.

    Args:
        weights: of the layer.
        x_MD: hidden rows, contiguous; may be the result of the layer before.
        run: buffers; the result lies in them.
        rope: rotation of the M rows, from `halves`.
        prefix: kept keys (rotated) and values; None has none.
        mask: bool [M or 1, P + M], True = visible; None shows everything.

    Returns:
        [M, D], a buffer of `run` that the next call overwrites.
    """
    w, inner, merged = weights, run.attended.shape[1], run.qkv.shape[1]
    keys = (merged - inner) // 2
    after_attention, _, result = run.tokens
    run.project(x_MD, w.qkv, run.qkv, norm=Norm.RMS, eps=w.eps, scale=w.norm)
    attention(
        Projected(run.qkv[:, :inner]),
        run.attended,
        heads=w.heads,
        key_heads=w.key_heads,
        eps=w.eps,
        context=prefix,
        own=OwnRows(Projected(run.qkv[:, inner : inner + keys]), run.qkv[:, inner + keys :]),
        rope=rope,
        pairing=RotaryPairing.HALVES,
        mask=mask,
        pdl=run.pdl,
    )
    run.residual(run.attended, w.out, x_MD, after_attention)
    run.project(
        after_attention,
        w.gate_up,
        run.hidden,
        norm=Norm.RMS,
        eps=w.eps,
        scale=w.ffn_norm,
        activation=Activation.SWIGLU,
    )
    run.residual(run.hidden, w.down, after_attention, result)
    return result
