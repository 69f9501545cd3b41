# SPDX-License-Identifier: Apache-2.0
"""Sinusoidal embedding of the flow time."""

from __future__ import annotations

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, *, dim: int, dtype: torch.dtype, base: float = 10_000.0) -> Tensor:
    """Embed network times in [0, 1000]: cosines first, then sines, made in float64.

    Args:
        t: [...], network time = 1000 * sigma.
        dim: channels of the result, even.
        dtype: of the result.
        base: of the geometric sequence of frequencies.

    Returns:
        [..., dim].
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float64, device=t.device) / half
    phase = t.to(torch.float64)[..., None] * base**-exponent
    return torch.cat((phase.cos(), phase.sin()), dim=-1).to(dtype)
