# SPDX-License-Identifier: Apache-2.0
"""Flow matching: noise levels, the path, the sampler and the loss weight.

Convention: sigma = 1 is pure noise, sigma = 0 is data; x_sigma = (1 - sigma) x_0 + sigma eps; the network
predicts v = eps - x_0 (paper Eq. 4 and 5) and gets the network time t = 1000 sigma.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TRAIN_TIMESTEPS = 1000

VelocityField = Callable[[Tensor, int], Tensor]
"""(x, step index) -> v, same shape as x. The index is the position of x's sigma in the grid."""


def shift(u: float | Tensor, factor: float) -> float | Tensor:
    """Move uniform times towards noise: phi(u) = s u / (1 + (s - 1) u)."""
    return factor * u / (1 + (factor - 1) * u)


def sigma_grid(steps: int, *, shift_factor: float) -> tuple[float, ...]:
    """Return the noise levels of an N-step sampler, from 1 to 0.

    Args:
        steps: N >= 1.
        shift_factor: s of `shift`; 1 leaves the grid uniform.

    Returns:
        N + 1 values phi(1 - i / N).
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, must be at least 1")
    return tuple(float(shift(1 - i / steps, shift_factor)) for i in range(steps + 1))


def integrate(velocity: VelocityField, x: Tensor, *, sigmas: Sequence[float]) -> Tensor:
    """Integrate dx / dsigma = v from the first to the last sigma with Euler steps.

    The state is kept in float32 whatever the network computes in; `x` is never written to.

    Args:
        velocity: called once per step with the state and the index of its sigma.
        x: state at `sigmas[0]`, any shape.
        sigmas: decreasing noise levels; one more than there are steps.

    Returns:
        float32, same shape as `x`: the state at `sigmas[-1]`.
    """
    x = x.float()
    for i in range(len(sigmas) - 1):
        x = torch.add(x, velocity(x, i).float(), alpha=sigmas[i + 1] - sigmas[i])
    return x


def interpolate(x0: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
    """Return the point of the path at `sigma` (paper Eq. 4); `sigma` broadcasts against `x0`."""
    return (1 - sigma) * x0 + sigma * eps


def velocity_target(x0: Tensor, eps: Tensor) -> Tensor:
    """Return what the network should predict (paper Eq. 5)."""
    return eps - x0


def predict_x0(x: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return the data point that lies at the end of the line through `x` with slope `velocity`."""
    return x - sigma * velocity


def _bell(t: Tensor) -> Tensor:
    return torch.exp(-2 * ((t - TRAIN_TIMESTEPS / 2) / TRAIN_TIMESTEPS) ** 2)


@functools.lru_cache(maxsize=8)
def _bell_mean(shift_factor: float) -> float:
    # On the CPU even where the caller's default device is another, such as meta.
    u = torch.linspace(1, 0, TRAIN_TIMESTEPS + 1, dtype=torch.float64, device="cpu")[:-1]
    grid = TRAIN_TIMESTEPS * torch.as_tensor(shift(u, shift_factor))
    return float((_bell(grid) - math.exp(-0.5)).mean())


def loss_weight(t: Tensor, *, shift_factor: float = 5.0) -> Tensor:
    """Return the weight of a sample with network time t: a bell around 500, zero at 0 and 1000.

    w(t) = (exp(-2 ((t - 500) / 1000)^2) - exp(-1/2)) / m, where m makes the mean over the shifted grid of
    1000 training times equal to one.

    Args:
        t: network times in [0, 1000].
        shift_factor: shift of the training grid.
    """
    return (_bell(t) - math.exp(-0.5)) / _bell_mean(shift_factor)
