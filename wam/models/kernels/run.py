# SPDX-License-Identifier: Apache-2.0
"""Buffers of a run of equal layers, made once, so that a captured graph allocates nothing; and the two products.

Shapes: M rows, D width, I attention width of queries, J of keys, F feed-forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wam.models.kernels.availability import require
from wam.models.kernels.kinds import Activation, Norm
from wam.models.kernels.norm_project import norm_project
from wam.models.kernels.project_residual import project_residual
from wam.models.kernels.row_statistics import row_statistics
from wam.models.kernels.tiles import MANY_ROWS, choose
from wam.models.kernels.weights import Affine

SPLIT = 8


@dataclass(frozen=True, slots=True)
class LayerRun:
    """What layers of one size share at one number of rows.

    Attributes:
        rows: M.
        columns: BN of every product; divides I and J.
        pdl: overlap the start of each kernel with the end of the one ahead.
        qkv: [M, I + 2 J] projections.
        squares: float32 [M, tiles of qkv], sums of squares of each tile.
        query: [M, I] projection of a second attention, whose sums of squares are `query_squares`.
        query_squares: float32 [M, tiles of query].
        attended: [M, I].
        tokens: three of [M, D], the rows between a layer's parts; the last one is its result.
        hidden: [M, F].
        parts: float32, partial sums.
        done: int32 zeros, one per tile.
        statistics: float32 [M, 2] where the rows are many, else None.
    """

    rows: int
    columns: int
    pdl: bool
    qkv: Tensor
    squares: Tensor
    query: Tensor
    query_squares: Tensor
    attended: Tensor
    tokens: tuple[Tensor, Tensor, Tensor]
    hidden: Tensor
    parts: Tensor
    done: Tensor
    statistics: Tensor | None

    @classmethod
    def of(
        cls,
        rows: int,
        *,
        width: int,
        inner: int,
        keys: int,
        hidden: int,
        like: Tensor,
        columns: int = 64,
        pdl: bool = False,
    ) -> LayerRun:
        """Make the buffers.

        Args:
            rows: M.
            width: D.
            inner: I.
            keys: J.
            hidden: F.
            like: gives dtype and device.
            columns: at most so many columns per tile.
            pdl: see the attribute; needs compute capability 9.0.

        Raises:
            MissingDependency: the kernels cannot run on the device of `like`.
            ValueError: no tile divides I and J.
        """
        if like.device.type != "meta":
            require(like.device)
        fits = [c for c in (64, 32, 16) if c <= columns and inner % c == 0 and keys % c == 0]
        if not fits:
            raise ValueError(f"attention widths {inner} and {keys} must be multiples of 16")
        merged, tile = inner + 2 * keys, fits[0]

        def rounded(*shape: int) -> Tensor:
            return like.new_empty(shape)

        def exact(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32, device=like.device)

        return cls(
            rows=rows,
            columns=tile,
            pdl=pdl,
            qkv=rounded(rows, merged),
            squares=exact(rows, merged // tile),
            query=rounded(rows, inner),
            query_squares=exact(rows, inner // tile),
            attended=rounded(rows, inner),
            tokens=(rounded(rows, width), rounded(rows, width), rounded(rows, width)),
            hidden=rounded(rows, hidden),
            parts=exact(SPLIT * rows * width),
            done=torch.zeros(-(-width // tile) * -(-rows // 16), dtype=torch.int32, device=like.device),
            statistics=exact(rows, 2) if rows > MANY_ROWS else None,
        )

    def project(
        self,
        x_MD: Tensor,
        layer: Affine,
        out_MN: Tensor,
        *,
        norm: Norm,
        eps: float,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        activation: Activation = Activation.LINEAR,
        squares: Tensor | None = None,
    ) -> None:
        """Norm, modulate, project; see `norm_project`. Many rows have their statistics computed first."""
        statistics = None if norm is Norm.NONE else self.statistics
        if statistics is not None:
            row_statistics(x_MD, statistics, norm=norm, eps=eps, pdl=self.pdl)
        norm_project(
            x_MD,
            layer.weight,
            out_MN,
            tiles=choose(self.rows, depth=x_MD.shape[1], columns=self.columns),
            norm=norm,
            eps=eps,
            scale_D=scale,
            shift_D=shift,
            bias_N=layer.bias,
            activation=activation,
            squares_MT=squares,
            statistics_M2=statistics,
            pdl=self.pdl,
        )

    def residual(
        self, a_MK: Tensor, layer: Affine, x_MN: Tensor, out_MN: Tensor, *, gate: Tensor | None = None
    ) -> None:
        """Project, gate and add to `x_MN`; see `project_residual`."""
        project_residual(
            a_MK,
            layer.weight,
            x_MN,
            out_MN,
            tiles=choose(self.rows, depth=a_MK.shape[1], columns=self.columns, split=SPLIT),
            parts=self.parts,
            done=self.done,
            bias_N=layer.bias,
            gate_N=gate,
            pdl=self.pdl,
        )
