# SPDX-License-Identifier: Apache-2.0
"""How noise levels are drawn in DUST's training (readings 12 and 16).

tau = 0 is noise, tau = 1 is data. GR00T-N1's code and the text of the paper agree on a Beta law that prefers
noise (mean 0.40); Algorithm 1 says uniform.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

BETA_ALPHA = 1.5
NOISE_S = 0.999


class TimeLaw(enum.Enum):
    """Distribution of a noise level."""

    N1 = "n1"
    """tau = (s - b) / s with b ~ Beta(1.5, 1), as GR00T-N1's code; clamped at 0."""
    PI0 = "pi0"
    """tau = s (1 - b), as pi-0 and the text of the paper; differs from N1 by at most 0.001."""
    UNIFORM = "uniform"
    """tau ~ U(0, 1), as Algorithm 1."""


def tau_from_beta(b: Tensor, law: TimeLaw) -> Tensor:
    """Map draws of Beta(1.5, 1) to noise levels; N1's form may be negative by 0.001."""
    if law is TimeLaw.PI0:
        return NOISE_S * (1 - b)
    return (NOISE_S - b) / NOISE_S


def draw_tau(count: int, law: TimeLaw, generator: torch.Generator) -> Tensor:
    """Draw one noise level per sample, float32 [count] in [0, 1], on the generator's device."""
    u = torch.rand(count, generator=generator, device=generator.device)
    if law is TimeLaw.UNIFORM:
        return u
    # The distribution function of Beta(a, 1) is b^a.
    return tau_from_beta(u ** (1 / BETA_ALPHA), law).clamp_min(0)
