# SPDX-License-Identifier: Apache-2.0
"""Projection of few rows, gate and residual in one kernel; the sum over the depth is shared, in a fixed order.

    a [M, K] @ weight [N, K]^T + bias [N] --> * gate [N] --> + x [M, N] --> out [M, N]

            K                           N = 1024 gives 16 tiles of 64 columns, a GPU has over 100 processors:
       +--+--+--+--+                    so SPLIT programs share a tile, each with its own part of K.
     N |s0|s1|s2|s3|  BN rows
       +--+--+--+--+                    parts [SPLIT, M, N] float32, done [tiles] int32
       |  |  |  |  |

Each program writes its part and counts up `done` of the tile; the one that finds all others finished adds the
parts from the first to the last, whatever order they came in. So the result is the same bit for bit every time.
"""

import torch
import triton
import triton.language as tl

from wam.models.kernels.device import await_predecessor, prefetch
from wam.models.kernels.launch import KernelLaunch, launch
from wam.models.kernels.tiles import Tiles


@triton.jit
def project_residual_kernel(
    a_MK,
    weight_NK,
    bias_N,
    gate_N,
    x_MN,
    out_MN,
    parts_SMN,
    done_T,
    M,
    K: tl.constexpr,
    N: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    SPLIT: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write one part of a tile, and the tile if all its parts are there."""
    PART: tl.constexpr = (K + BK * SPLIT - 1) // (BK * SPLIT) * BK
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    m = tl.program_id(2) * BM + tl.arange(0, BM)
    live_m, live_n = m < M, n < N
    live = live_m[:, None] & live_n[None, :]
    here = m[:, None] * N + n[None, :]
    first = tl.program_id(1) * PART
    if PDL:
        prefetch(weight_NK, tl.minimum(n, N - 1), K, tl.minimum(first, K - PART), PART)
    await_predecessor(PDL)

    sums = tl.zeros((BM, BN), tl.float32)
    for k0 in range(0, PART, BK):
        k = first + k0 + tl.arange(0, BK)
        live_k = k < K
        a = tl.load(a_MK + m[:, None] * K + k[None, :], mask=live_m[:, None] & live_k[None, :], other=0.0)
        w = tl.load(
            weight_NK + n[None, :] * K + k[:, None], mask=live_n[None, :] & live_k[:, None], other=0.0
        )
        sums += tl.dot(a, w, input_precision="ieee")

    last = True
    if SPLIT > 1:
        tile = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
        tl.store(parts_SMN + tl.program_id(1) * M * N + here, sums, mask=live)
        # One thread counts up for all: the parts of the other threads must be written before it does.
        tl.debug_barrier()
        last = tl.atomic_add(done_T + tile, 1, sem="acq_rel") == SPLIT - 1
        if last:
            sums = tl.zeros((BM, BN), tl.float32)
            for part in range(SPLIT):
                # Past the first-level cache, which other processors do not share.
                sums += tl.load(parts_SMN + part * M * N + here, mask=live, other=0.0, cache_modifier=".cg")
            tl.store(done_T + tile, 0)
    if last:
        if bias_N is not None:
            sums += tl.load(bias_N + n, mask=live_n, other=0.0).to(tl.float32)[None, :]
        if gate_N is not None:
            sums *= tl.load(gate_N + n, mask=live_n, other=0.0).to(tl.float32)[None, :]
        sums += tl.load(x_MN + here, mask=live, other=0.0).to(tl.float32)
        tl.store(out_MN + here, sums.to(out_MN.dtype.element_ty), mask=live)


def project_residual(
    a_MK: torch.Tensor,
    weight_NK: torch.Tensor,
    x_MN: torch.Tensor,
    out_MN: torch.Tensor,
    *,
    tiles: Tiles,
    parts: torch.Tensor,
    done: torch.Tensor,
    bias_N: torch.Tensor | None = None,
    gate_N: torch.Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Write out = x + gate * (a @ weight^T + bias).

    Args:
        a_MK: contiguous, as all others.
        weight_NK: of the projection.
        x_MN: residual; not written.
        out_MN: written.
        tiles: block sizes and split.
        parts: float32, room for split * M * N numbers.
        done: int32 zeros, one per tile of the result; zeros again afterwards.
        bias_N: None is 0.
        gate_N: None is 1.
        pdl: launch before the kernel ahead has ended.
    """
    M, K = a_MK.shape
    N = out_MN.shape[1]
    launch(
        KernelLaunch(
            project_residual_kernel,
            (triton.cdiv(N, tiles.columns), tiles.split, triton.cdiv(M, tiles.rows)),
            {
                "a_MK": a_MK,
                "weight_NK": weight_NK,
                "bias_N": bias_N,
                "gate_N": gate_N,
                "x_MN": x_MN,
                "out_MN": out_MN,
                "parts_SMN": parts,
                "done_T": done,
                "M": M,
                "K": K,
                "N": N,
                "BM": tiles.rows,
                "BN": tiles.columns,
                "BK": tiles.depth,
                "SPLIT": tiles.split,
            },
            warps=tiles.warps,
            stages=tiles.stages,
            pdl=pdl,
        )
    )
