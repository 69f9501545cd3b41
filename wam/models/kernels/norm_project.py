# SPDX-License-Identifier: Apache-2.0
"""Norm, modulation, projection and activation of few rows in one kernel.

    x [M, D] -- norm over D --> * scale [D] + shift [D] --> @ weight [N, D]^T + bias [N] --> activation --> out [M, N]

                 N
        +----+----+----+----+      one program per tile [BM, BN]; it walks along D in blocks of BK
      M |    | BN |    |    |      and normalises each block of x on its way into the product
        +----+----+----+----+
    squares [M, N / BN]: sum of out^2 over a tile's columns, before rounding; whoever reads `out` under an
    RMSNorm over several tiles adds these few numbers instead of reading all columns first.

SwiGLU reads two tiles of a weight [2 N, D] (gate rows, then up rows) and writes silu(gate) * up.
"""

import torch
import triton
import triton.language as tl

from wam.models.kernels.device import (
    GELU,
    NO_NORM,
    SWIGLU,
    await_predecessor,
    gelu_tanh,
    prefetch,
    row_moments,
    silu,
)
from wam.models.kernels.kinds import Activation, Norm
from wam.models.kernels.launch import KernelLaunch, launch
from wam.models.kernels.tiles import Tiles


@triton.jit
def norm_project_kernel(
    x_MD,
    statistics_M2,
    scale_D,
    shift_D,
    weight_ND,
    bias_N,
    out_MN,
    squares_MT,
    M,
    eps,
    D: tl.constexpr,
    N: tl.constexpr,
    NORM: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write one tile of the result; a pointer that is None leaves its term out."""
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    live_m, live_n = m < M, n < N
    if PDL:
        prefetch(weight_ND, tl.minimum(n, N - 1), D, 0, D)
        if ACTIVATION == SWIGLU:
            prefetch(weight_ND, tl.minimum(n, N - 1) + N, D, 0, D)
    await_predecessor(PDL)

    if NORM != NO_NORM:
        if statistics_M2 is not None:
            mean = tl.load(statistics_M2 + 2 * m, mask=live_m, other=0.0)
            inverse = tl.load(statistics_M2 + 2 * m + 1, mask=live_m, other=0.0)
        else:
            mean, inverse = row_moments(x_MD, m, live_m, eps, D, BK, NORM)
    sums = tl.zeros((BM, BN), tl.float32)
    ups = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, D, BK):
        k = k0 + tl.arange(0, BK)
        live_k = k < D
        y = tl.load(x_MD + m[:, None] * D + k[None, :], mask=live_m[:, None] & live_k[None, :], other=0.0)
        if NORM != NO_NORM:
            y = (y.to(tl.float32) - mean[:, None]) * inverse[:, None]
            if scale_D is not None:
                y = y * tl.load(scale_D + k, mask=live_k, other=0.0).to(tl.float32)[None, :]
            if shift_D is not None:
                y = y + tl.load(shift_D + k, mask=live_k, other=0.0).to(tl.float32)[None, :]
        where = weight_ND + n[None, :] * D + k[:, None]
        live = live_n[None, :] & live_k[:, None]
        w = tl.load(where, mask=live, other=0.0)
        y = y.to(w.dtype)
        sums += tl.dot(y, w, input_precision="ieee")
        if ACTIVATION == SWIGLU:
            ups += tl.dot(y, tl.load(where + N * D, mask=live, other=0.0), input_precision="ieee")
    if bias_N is not None:
        sums += tl.load(bias_N + n, mask=live_n, other=0.0).to(tl.float32)[None, :]
    if ACTIVATION == GELU:
        sums = gelu_tanh(sums)
    if ACTIVATION == SWIGLU:
        sums = silu(sums) * ups
    if squares_MT is not None:
        tl.store(squares_MT + m * (N // BN) + tl.program_id(0), tl.sum(sums * sums, 1), mask=live_m)
    tl.store(
        out_MN + m[:, None] * N + n[None, :],
        sums.to(out_MN.dtype.element_ty),
        mask=live_m[:, None] & live_n[None, :],
    )


def norm_project(
    x_MD: torch.Tensor,
    weight_ND: torch.Tensor,
    out_MN: torch.Tensor,
    *,
    tiles: Tiles,
    norm: Norm,
    eps: float,
    scale_D: torch.Tensor | None = None,
    shift_D: torch.Tensor | None = None,
    bias_N: torch.Tensor | None = None,
    activation: Activation = Activation.LINEAR,
    squares_MT: torch.Tensor | None = None,
    statistics_M2: torch.Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Write out = activation((norm(x) * scale + shift) @ weight^T + bias).

    Args:
        x_MD: contiguous, as `out_MN` and the weight.
        weight_ND: [N, D]; for SWIGLU [2 N, D], gate rows before up rows.
        out_MN: written.
        tiles: block sizes.
        norm: in front of the projection.
        eps: of the norm.
        scale_D: factor behind the norm; None is 1.
        shift_D: added behind it; None is 0.
        bias_N: None is 0.
        activation: behind it.
        squares_MT: float32 [M, N / BN], written; None writes none.
        statistics_M2: from `row_statistics`; None lets every program compute those of its rows.
        pdl: launch before the kernel ahead has ended.

    Raises:
        ValueError: sums of squares are asked for, and N is no multiple of the tile.
    """
    M, D = x_MD.shape
    N = out_MN.shape[1]
    if squares_MT is not None and N % tiles.columns:
        raise ValueError(f"{N} columns are no multiple of the tile of {tiles.columns}")
    launch(
        KernelLaunch(
            norm_project_kernel,
            (triton.cdiv(N, tiles.columns), triton.cdiv(M, tiles.rows)),
            {
                "x_MD": x_MD,
                "statistics_M2": statistics_M2,
                "scale_D": scale_D,
                "shift_D": shift_D,
                "weight_ND": weight_ND,
                "bias_N": bias_N,
                "out_MN": out_MN,
                "squares_MT": squares_MT,
                "M": M,
                "eps": eps,
                "D": D,
                "N": N,
                "NORM": int(norm),
                "ACTIVATION": int(activation),
                "BM": tiles.rows,
                "BN": tiles.columns,
                "BK": tiles.depth,
            },
            warps=tiles.warps,
            stages=tiles.stages,
            pdl=pdl,
        )
    )
