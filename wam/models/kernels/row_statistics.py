# SPDX-License-Identifier: Apache-2.0
"""Mean and 1 / deviation of rows, for layers with so many rows that no projection should compute them again.

    x [M, D] --one program per 16 rows--> statistics [M, 2] = (mean, 1 / deviation)

With 16 rows every program of `norm_project` reads 32 kB twice more, which is free; with 120 rows of width 3072
it would read 1.5 MB twice more.
"""

import torch
import triton
import triton.language as tl

from wam.models.kernels.device import await_predecessor, row_moments
from wam.models.kernels.kinds import Norm
from wam.models.kernels.launch import KernelLaunch, launch

ROWS = 16


@triton.jit
def row_statistics_kernel(
    x_MD,
    statistics_M2,
    M,
    eps,
    D: tl.constexpr,
    NORM: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
    PDL: tl.constexpr,
):
    """Write the statistics of BM rows."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    await_predecessor(PDL)
    mean, inverse = row_moments(x_MD, m, m < M, eps, D, BK, NORM)
    tl.store(statistics_M2 + 2 * m, mean, mask=m < M)
    tl.store(statistics_M2 + 2 * m + 1, inverse, mask=m < M)


def row_statistics(
    x_MD: torch.Tensor, statistics_M2: torch.Tensor, *, norm: Norm, eps: float, pdl: bool = False
) -> None:
    """Write mean and 1 / deviation of every row.

    Args:
        x_MD: contiguous.
        statistics_M2: float32, written.
        norm: which.
        eps: of the norm.
        pdl: launch before the kernel ahead has ended.
    """
    M, D = x_MD.shape
    launch(
        KernelLaunch(
            row_statistics_kernel,
            (triton.cdiv(M, ROWS),),
            {
                "x_MD": x_MD,
                "statistics_M2": statistics_M2,
                "M": M,
                "eps": eps,
                "D": D,
                "NORM": int(norm),
                "BM": ROWS,
                "BK": min(128, triton.next_power_of_2(D)),
            },
            warps=4,
            stages=2,
            pdl=pdl,
        )
    )
