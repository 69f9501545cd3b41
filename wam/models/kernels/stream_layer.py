# SPDX-License-Identifier: Apache-2.0
"""A stream's half of a DUST block: joint, self- or feature attention in five launches, eight with a second one.

    1 norm_project       LN, modulate -> q, k, v [M, 3 D]  (or q alone, where keys are the features')
    2 attention          -> the other stream's rows + own rows, or the features
    3 project_residual   -> gate -> + x
    (4-6                 LN -> q -> features -> + x, where a block has a second attention)
    4 norm_project       LN, modulate -> GELU [M, F]
    5 project_residual   -> gate -> + x

No norm of q and k, no rotation; a head's width (48) is padded to a power of two in registers. In a joint block the
other stream's projections are the context rows, so that nothing is concatenated: both streams call `stream_qkv`,
then each calls `stream_layer` with the other's `run`.

Shapes: M rows, D width, F feed-forward, S feature rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from wam.models.kernels.attention import ContextRows, OwnRows, Projected, attention
from wam.models.kernels.kinds import Activation, Norm
from wam.models.kernels.run import LayerRun
from wam.models.kernels.weights import Affine, merge


class StreamModule(Protocol):
    """The layers of a stream's half of a block, as `wam.policies.dust.blocks.StreamBlock` names them."""

    heads: int
    eps: float
    to_q: nn.Linear
    to_k: nn.Linear
    to_v: nn.Linear
    to_qkv: nn.Linear | None
    to_out: nn.Linear
    ff1: nn.Linear
    ff2: nn.Linear


@dataclass(frozen=True, slots=True)
class StreamLayerWeights:
    """Weights of one half; q, k and v are copied (merged) if the module has not merged them, all others are its own.

    Attributes:
        extra: q and output of a second attention to the features; None has none.
    """

    qkv: Affine
    out: Affine
    up: Affine
    down: Affine
    heads: int
    eps: float
    extra: tuple[Affine, Affine] | None = None

    @classmethod
    def of(
        cls,
        block: StreamModule,
        *,
        extra: tuple[nn.Linear, nn.Linear] | None = None,
        crosses: bool = False,
    ) -> StreamLayerWeights:
        """Take the weights of a half.

        Args:
            block: the half.
            extra: its `x_q` and `x_out`, where it has a second attention.
            crosses: it attends to features instead of tokens: its q alone is read.
        """
        if block.to_qkv is not None:
            qkv = merge(block.to_qkv)
        else:
            qkv = merge(block.to_q) if crosses else merge(block.to_q, block.to_k, block.to_v)
        return cls(
            qkv=qkv,
            out=merge(block.to_out),
            up=merge(block.ff1),
            down=merge(block.ff2),
            heads=block.heads,
            eps=block.eps,
            extra=None if extra is None else (merge(extra[0]), merge(extra[1])),
        )

    @property
    def query(self) -> Affine:
        """The projection of q alone, a view."""
        width = self.out.weight.shape[1]
        return Affine(self.qkv.weight[:width], None if self.qkv.bias is None else self.qkv.bias[:width])

    def run(self, rows: int, *, columns: int = 64, pdl: bool = False) -> LayerRun:
        """Make the buffers for M rows of layers of this size; see `LayerRun.of`."""
        width = self.out.outputs
        return LayerRun.of(
            rows,
            width=width,
            inner=width,
            keys=width,
            hidden=self.up.outputs,
            like=self.up.weight,
            columns=columns,
            pdl=pdl,
        )


@dataclass(frozen=True, slots=True)
class StreamModulationRows:
    """What conditions one half at one noise level, each [D]; scales contain their one, None is absent."""

    scale: Tensor
    shift: Tensor
    gate: Tensor | None
    ffn_scale: Tensor | None
    ffn_shift: Tensor | None
    ffn_gate: Tensor | None

    @classmethod
    def of(cls, mod: Tensor, *, width: int) -> StreamModulationRows:
        """Cut the modulation of a half: 6 D of an SD3 body, or 2 D (scale, shift) of a GR00T-N1 body.

        Args:
            mod: [..., 6 D or 2 D] of one noise level.
            width: D.
        """
        rows = mod.reshape(-1, width)
        if len(rows) == 2:
            return cls(1 + rows[0], rows[1], None, None, None, None)
        if len(rows) != 6:
            raise ValueError(f"a modulation has 2 or 6 rows of width {width}, this has {len(rows)}")
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = rows.unbind(0)
        return cls(1 + scale, shift, gate, 1 + ffn_scale, ffn_shift, ffn_gate)


def stream_qkv(
    weights: StreamLayerWeights, x_MD: Tensor, run: LayerRun, *, mod: StreamModulationRows
) -> None:
    """Project the tokens for joint or self-attention, into `run.qkv`."""
    run.project(
        x_MD, weights.qkv, run.qkv, norm=Norm.LAYER, eps=weights.eps, scale=mod.scale, shift=mod.shift
    )


def stream_layer(
    weights: StreamLayerWeights,
    x_MD: Tensor,
    run: LayerRun,
    *,
    mod: StreamModulationRows,
    joint: LayerRun | None = None,
    features: ContextRows | None = None,
    extra: ContextRows | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Run one half; `stream_qkv` has been called before, unless it attends to the features.

    Args:
        weights: of the half.
        x_MD: tokens as they entered it, contiguous.
        run: its buffers; the result lies in them.
        mod: of its noise level.
        joint: the other stream's buffers after its `stream_qkv`; None attends to the own rows alone.
        features: keys and values of the features, attended instead of tokens.
        extra: keys and values of the second attention.
        mask: bool [1, S], real feature rows; None shows all.

    Returns:
        [M, D], a buffer of `run` that the next call overwrites.
    """
    w, width = weights, x_MD.shape[1]
    after_attention, after_extra, result = run.tokens
    if features is not None:
        run.project(x_MD, w.query, run.query, norm=Norm.LAYER, eps=w.eps, scale=mod.scale, shift=mod.shift)
        query = Projected(run.query)
        attention(query, run.attended, heads=w.heads, eps=w.eps, context=features, mask=mask, pdl=run.pdl)
    else:
        own = OwnRows(Projected(run.qkv[:, width : 2 * width]), run.qkv[:, 2 * width :])
        other = ContextRows(joint.qkv[:, width : 2 * width], joint.qkv[:, 2 * width :]) if joint else None
        query = Projected(run.qkv[:, :width])
        attention(query, run.attended, heads=w.heads, eps=w.eps, context=other, own=own, pdl=run.pdl)
    run.residual(run.attended, w.out, x_MD, after_attention, gate=mod.gate)
    x = after_attention
    if w.extra is not None and extra is not None:
        run.project(x, w.extra[0], run.query, norm=Norm.LAYER, eps=w.eps)
        query = Projected(run.query)
        attention(query, run.attended, heads=w.heads, eps=w.eps, context=extra, mask=mask, pdl=run.pdl)
        run.residual(run.attended, w.extra[1], x, after_extra)
        x = after_extra
    run.project(
        x,
        w.up,
        run.hidden,
        norm=Norm.LAYER,
        eps=w.eps,
        scale=mod.ffn_scale,
        shift=mod.ffn_shift,
        activation=Activation.GELU,
    )
    run.residual(run.hidden, w.down, x, result, gate=mod.ffn_gate)
    return result
