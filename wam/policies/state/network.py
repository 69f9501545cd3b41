# SPDX-License-Identifier: Apache-2.0
"""The network: a perceptron with layer norms, shared by all rows of a chunk.

Shapes: B batch, J state joints, E numbers of the ground truth, R rows, A action joints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wam.policies.state.config import StateConfig

CLAMP = 5.0
"""Normalised ground truth stays within this: an object out of its places must not drive the network anywhere."""


class StateNetwork(nn.Module):
    """Maps normalised joint positions and ground truth in SI units to normalised rows.

    The statistics of the ground truth are buffers, because `stats.json` knows joints alone.

    Args:
        config: sizes.
    """

    environment_mean: Tensor
    environment_std: Tensor

    def __init__(self, config: StateConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        width = config.state + config.environment
        for _ in range(config.depth):
            layers += [nn.Linear(width, config.width), nn.LayerNorm(config.width), nn.GELU()]
            width = config.width
        self.layers = nn.Sequential(*layers, nn.Linear(width, config.rows * config.action))
        self.register_buffer("environment_mean", torch.zeros(config.environment))
        self.register_buffer("environment_std", torch.ones(config.environment))

    def forward(self, state_BJ: Tensor, environment_BE: Tensor) -> Tensor:
        """Return the rows, [B, R, A]."""
        seen = ((environment_BE - self.environment_mean) / self.environment_std).clamp(-CLAMP, CLAMP)
        flat: Tensor = self.layers(torch.cat((state_BJ, seen), dim=-1))
        return flat.view(-1, self.config.rows, self.config.action)


def parameter_counts(config: StateConfig) -> dict[str, int]:
    """Return part -> number of parameters, and "total"; nothing is allocated."""
    with torch.device("meta"):
        count = sum(p.numel() for p in StateNetwork(config).parameters())
    return {"layers": count, "total": count}
