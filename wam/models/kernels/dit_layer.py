# SPDX-License-Identifier: Apache-2.0
"""A whole `DitBlock` in eight launches: the action DiT at M = 16, the video DiT's prefill at M = 120.

    1 norm_project       LN, modulate -> q, k, v [M, 3 I]       + sums of squares
    2 attention          RMSNorm, rotation -> S context + M own rows
    3 project_residual   o -> gate -> + x
    4 norm_project       LN (affine) -> cross q [M, I]          + sums of squares
    5 attention          RMSNorm -> T text rows
    6 project_residual   cross o -> + x
    7 norm_project       LN, modulate -> GELU [M, F]
    8 project_residual   -> gate -> + x

With many rows a ninth small kernel, `row_statistics`, runs before 1, 4 and 7.

Shapes: M rows, D width, I attention width, F feed-forward, S context rows, T text rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from wam.models.kernels.attention import ContextRows, OwnRows, Projected, attention
from wam.models.kernels.kinds import Activation, Norm
from wam.models.kernels.run import LayerRun
from wam.models.kernels.weights import Affine, merge
from wam.models.layers.dit_block import DitBlock
from wam.models.layers.rope import Rope


@dataclass(frozen=True, slots=True)
class DitLayerWeights:
    """Weights of one block; q, k and v are copied (merged), all others are the block's own tensors."""

    qkv: Affine
    norm_q: Tensor
    norm_k: Tensor
    out: Affine
    cross_norm: Affine
    cross_q: Affine
    cross_norm_q: Tensor
    cross_out: Affine
    up: Affine
    down: Affine
    heads: int
    eps: float

    @classmethod
    def of(cls, block: DitBlock) -> DitLayerWeights:
        """Take the weights of a block."""
        own, cross = block.self_attn, block.cross_attn
        return cls(
            qkv=merge(own.q, own.k, own.v),
            norm_q=own.norm_q.weight.detach(),
            norm_k=own.norm_k.weight.detach(),
            out=merge(own.o),
            cross_norm=Affine(block.norm3.weight.detach(), block.norm3.bias.detach()),
            cross_q=merge(cross.q),
            cross_norm_q=cross.norm_q.weight.detach(),
            cross_out=merge(cross.o),
            up=merge(cast(nn.Linear, block.ffn[0])),
            down=merge(cast(nn.Linear, block.ffn[2])),
            heads=block.heads,
            eps=block.eps,
        )

    def run(self, rows: int, *, columns: int = 64, pdl: bool = False) -> LayerRun:
        """Make the buffers for M rows of layers of this size; see `LayerRun.of`."""
        return LayerRun.of(
            rows,
            width=self.out.outputs,
            inner=self.cross_q.outputs,
            keys=self.cross_q.outputs,
            hidden=self.up.outputs,
            like=self.up.weight,
            columns=columns,
            pdl=pdl,
        )


def dit_layer(
    weights: DitLayerWeights,
    x_MD: Tensor,
    run: LayerRun,
    *,
    modulation_6D: Tensor,
    rope: Rope,
    text: ContextRows,
    context: ContextRows | None = None,
    mask: Tensor | None = None,
    keys_out: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Run one block on one sequence.

    Args:
        weights: of the block.
        x_MD: tokens, contiguous; may be the result of the layer before.
        run: buffers, of `weights.run(M)` of any of the layers.
        modulation_6D: in the order of `Modulation`, scales with their one.
        rope: rotation of the M rows.
        text: cross-attention keys (normalised) and values.
        context: rows before the own ones in the self-attention; None has none.
        mask: bool [M or 1, S + M], True = visible; None shows everything.
        keys_out: two of [M, I] that receive the normalised keys before and after rotation; None stores none.

    Returns:
        [M, D], a buffer of `run` that the next call overwrites. The values of the self-attention are
        `run.qkv[:, 2 * I :]` until then.
    """
    w, inner, tiles = weights, run.attended.shape[1], run.query_squares.shape[1]
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation_6D.unbind(0)
    after_attention, after_cross, result = run.tokens
    plain_k, final_k = keys_out or (None, None)

    run.project(
        x_MD,
        w.qkv,
        run.qkv,
        norm=Norm.LAYER,
        eps=w.eps,
        scale=scale_a,
        shift=shift_a,
        squares=run.squares,
    )
    keys = Projected(run.qkv[:, inner : 2 * inner], w.norm_k, run.squares[:, tiles : 2 * tiles])
    attention(
        Projected(run.qkv[:, :inner], w.norm_q, run.squares[:, :tiles]),
        run.attended,
        heads=w.heads,
        eps=w.eps,
        context=context,
        own=OwnRows(keys, run.qkv[:, 2 * inner :], plain_k, final_k),
        rope=rope,
        mask=mask,
        pdl=run.pdl,
    )
    run.residual(run.attended, w.out, x_MD, after_attention, gate=gate_a)

    run.project(
        after_attention,
        w.cross_q,
        run.query,
        norm=Norm.LAYER,
        eps=w.eps,
        scale=w.cross_norm.weight,
        shift=w.cross_norm.bias,
        squares=run.query_squares,
    )
    query = Projected(run.query, w.cross_norm_q, run.query_squares)
    attention(query, run.attended, heads=w.heads, eps=w.eps, context=text, pdl=run.pdl)
    run.residual(run.attended, w.cross_out, after_attention, after_cross)

    run.project(
        after_cross,
        w.up,
        run.hidden,
        norm=Norm.LAYER,
        eps=w.eps,
        scale=scale_m,
        shift=shift_m,
        activation=Activation.GELU,
    )
    run.residual(run.hidden, w.down, after_cross, result, gate=gate_m)
    return result
