# SPDX-License-Identifier: Apache-2.0
"""Block sizes of the kernels, chosen from the sizes of a layer."""

from __future__ import annotations

from dataclasses import dataclass

MANY_ROWS = 32
"""From more rows than this on, the statistics of a norm are computed once by a kernel of their own."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Block sizes of one product.

    Attributes:
        rows: BM, of the result.
        columns: BN, of the result.
        depth: BK, columns of both factors per turn of the loop.
        split: programs that share the depth of one tile (`project_residual`).
        warps: of 32 threads, per program.
        stages: blocks in flight.
    """

    rows: int
    columns: int
    depth: int
    split: int = 1
    warps: int = 4
    stages: int = 4


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 1).bit_length()


def choose(rows: int, *, depth: int, columns: int, split: int = 1) -> Tiles:
    """Return block sizes for a product of `rows` rows.

    Args:
        rows: M.
        depth: length of the sums.
        columns: BN.
        split: programs per tile where the rows are few and the depth has as many blocks.
    """
    block = min(128, max(16, _power_of_two(depth)))
    if rows <= MANY_ROWS:
        return Tiles(16 if rows <= 16 else 32, columns, block, split=max(1, min(split, depth // block)))
    block = min(64, block)
    return Tiles(64, columns, block, split=max(1, min(split // 2, depth // block)), stages=3)
