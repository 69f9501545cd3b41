# SPDX-License-Identifier: Apache-2.0
"""Encoders of numbers as tokens: time, positions, and the state and action encoders of each embodiment.

Shapes: B batch, R rows of a time embedding (1, or B in training), T tokens, D width, I and O widths of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wam.policies.dust.readings import TIME_BUCKETS, TIME_CHANNELS

Embodiment = int | Tensor
"""Slot of every row of the batch, or one per row [B]. One number reads its weights in place."""


def time_bucket(tau: Tensor) -> Tensor:
    """Return the integer given to the network for a noise level in [0, 1]: floor(1000 tau), at most 999."""
    return (tau * TIME_BUCKETS).long().clamp(0, TIME_BUCKETS - 1)


LOG_BASE = math.log(10_000.0)


def time_channels(bucket_R: Tensor) -> Tensor:
    """Return the sinusoid that the time encoders see, float32 [R, 256]: cosines, then sines."""
    half = TIME_CHANNELS // 2
    # Single precision in the order of operations of GR00T-N1's code, here and in `sinusoid`: at bucket 999 another
    # order moves the phase by up to 1e-4.
    exponent = -LOG_BASE * torch.arange(half, dtype=torch.float32, device=bucket_R.device) / (half - 1)
    phase = bucket_R.float()[:, None] * exponent.exp()
    return torch.cat((phase.cos(), phase.sin()), dim=-1)


def sinusoid(values: Tensor, *, width: int) -> Tensor:
    """Return float32 [..., width]: sines, then cosines, at frequencies 10000^(-i / (width / 2))."""
    half = width // 2
    step = torch.tensor(LOG_BASE, device=values.device) / half
    exponent = -torch.arange(half, dtype=torch.float32, device=values.device) * step
    phase = values.float()[..., None] * exponent.exp()
    return torch.cat((phase.sin(), phase.cos()), dim=-1)


def grid_positions(rows: int, columns: int, *, width: int) -> Tensor:
    """Return positions of a rectangle of tokens in row-major order, [rows * columns, width].

    The first half of the channels holds the row, the second the column, each as `sinusoid`.
    """
    axis = sinusoid(torch.arange(max(rows, columns)), width=width // 2)
    down = axis[:rows, None].expand(rows, columns, -1)
    across = axis[None, :columns].expand(rows, columns, -1)
    return torch.cat((down, across), dim=-1).flatten(0, 1)


class TimeEncoder(nn.Module):
    """Noise level -> conditioning vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIME_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, bucket_R: Tensor) -> Tensor:
        """Return [R, D]."""
        channels = time_channels(bucket_R).to(self.linear_1.weight.dtype)
        out: Tensor = self.linear_2(F.silu(self.linear_1(channels)))
        return out


class EmbodimentLinear(nn.Module):
    """A linear layer with weights of its own for every robot.

    Args:
        slots: number of robots.
        inputs: I.
        outputs: O.
    """

    def __init__(self, slots: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(0.02 * torch.randn(slots, inputs, outputs))
        self.b = nn.Parameter(torch.zeros(slots, outputs))

    def forward(self, x_BTI: Tensor, slot: Embodiment) -> Tensor:
        """Return [B, T, O]."""
        if isinstance(slot, int):
            return x_BTI @ self.W[slot] + self.b[slot]
        return torch.bmm(x_BTI, self.W[slot]) + self.b[slot][:, None]

    def keep(self, slots: Sequence[int]) -> None:
        """Drop the weights of all other robots; `slots` become 0, 1, ..."""
        for name in ("W", "b"):
            kept = getattr(self, name).detach()[list(slots)].clone()
            setattr(self, name, nn.Parameter(kept, requires_grad=getattr(self, name).requires_grad))


class EmbodimentMlp(nn.Module):
    """Two layers with ReLU between, per robot: state encoder and action decoder."""

    def __init__(self, slots: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = EmbodimentLinear(slots, inputs, hidden)
        self.layer2 = EmbodimentLinear(slots, hidden, outputs)

    def forward(self, x_BTI: Tensor, slot: Embodiment) -> Tensor:
        """Return [B, T, O]."""
        out: Tensor = self.layer2(F.relu(self.layer1(x_BTI, slot)), slot)
        return out


class ActionEncoder(nn.Module):
    """Noisy action rows and their noise level -> tokens, per robot: W3 swish(W2 [W1 a; sinusoid(bucket)]).

    The half of W2 that reads the sinusoid depends on the noise level alone (`time_term`), so a sampler computes
    it once per level.
    """

    def __init__(self, slots: int, action_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.W1 = EmbodimentLinear(slots, action_dim, width)
        self.W2 = EmbodimentLinear(slots, 2 * width, width)
        self.W3 = EmbodimentLinear(slots, width, width)

    def time_term(self, bucket_R: Tensor, slot: Embodiment) -> Tensor:
        """Return the part of W2's result that the noise level alone decides, with its bias, [R or B, 1, D]."""
        wave = sinusoid(bucket_R, width=self.width).to(self.W2.W.dtype)[:, None]
        weight, bias = self.W2.W[:, self.width :][slot], self.W2.b[slot]
        if isinstance(slot, int):
            return wave @ weight + bias
        return torch.bmm(wave.expand(len(slot), -1, -1), weight) + bias[:, None]

    def forward(self, action_BTA: Tensor, time_term: Tensor, slot: Embodiment) -> Tensor:
        """Return [B, T, D]; `time_term` as that method returns it."""
        own = self.W1(action_BTA, slot) @ self.W2.W[:, : self.width][slot]
        out: Tensor = self.W3(F.silu(own + time_term), slot)
        return out
