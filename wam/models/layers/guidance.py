# SPDX-License-Identifier: Apache-2.0
"""Guidance of a flow towards rows that are executed anyway: real-time chunking without training.

Black, Galliker, Levine, "Real-Time Execution of Action Chunking Flow Policies" (arXiv 2506.07339), Eq. 2-5, in the
convention of `flow`: sigma = 1 is noise, v = eps - x_0.

Shapes: B batch, R rows, A values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from wam.models.layers.flow import VelocityField, predict_x0

Evaluation = TypeVar("Evaluation")
"""What a network says at one step of the sampler."""

DEFAULT_LIMIT = 5.0
"""Largest weight of the guidance, beta of the paper."""


def prefix_weights(rows: int, *, fixed: int, covered: int) -> Tensor:
    """Return how much each row has to agree with the last chunk (Eq. 5), float32 [R].

    Args:
        rows: of a chunk.
        fixed: rows that are executed before the new chunk can take over; they count fully.
        covered: rows that the last chunk still has; from there on nothing is asked.
    """
    covered = min(covered, rows)
    fixed = min(fixed, covered)
    weights = torch.zeros(rows)
    weights[:fixed] = 1.0
    for i in range(fixed, covered):
        c = (covered - i) / (covered - fixed + 1)
        weights[i] = c * math.expm1(c) / (math.e - 1)
    return weights


def guided(
    velocity: VelocityField,
    *,
    sigmas: Sequence[float],
    target_BRA: Tensor,
    weights_R: Tensor,
    limit: float = DEFAULT_LIMIT,
) -> VelocityField:
    """Return a velocity field whose samples end near `target_BRA` where the weights ask for it (Eq. 2-4).

    Every step needs the gradient of the network: about three times the time of a plain one, outside inference mode.

    Args:
        velocity: of the policy; its tensors must not be inference tensors.
        sigmas: noise levels of the sampler.
        target_BRA: rows of the last chunk at the times of this one, model units.
        weights_R: from `prefix_weights`.
        limit: largest weight of the guidance.
    """
    weights_R1 = weights_R.to(target_BRA)[:, None]

    def field(x_BRA: Tensor, i: int) -> Tensor:
        sigma = sigmas[i]

        def clean(x: Tensor) -> tuple[Tensor, Tensor]:
            v = velocity(x, i).float()
            return v, predict_x0(x, v, torch.tensor(sigma))

        v, pull = pulled(clean, x_BRA, target=target_BRA, weights=weights_R1, sigma=sigma, limit=limit)
        return v.detach() - pull

    return field


def pulled(
    clean: Callable[[Tensor], tuple[Evaluation, Tensor]],
    x_BRA: Tensor,
    *,
    target: Tensor,
    weights: Tensor,
    sigma: float,
    limit: float,
) -> tuple[Evaluation, Tensor]:
    """Return what the network says at `x_BRA`, and how much faster the clean rows have to go to the target (Eq. 2-4).

    Args:
        clean: evaluates the network at noisy rows [B, R, A]; returns what it says and the clean rows that follow.
        x_BRA: noisy rows.
        target: rows of the last chunk at the times of this one, model units, [B, R, A] or [R, A].
        weights: [R, 1], from `prefix_weights`.
        sigma: noise level of the step.
        limit: largest weight of the guidance.
    """
    with torch.enable_grad():
        x = x_BRA.detach().requires_grad_()
        said, clean_BRA = clean(x)
        error = (target - clean_BRA.detach()) * weights
        (pull,) = torch.autograd.grad(clean_BRA, x, error)
    return said, guidance_weight(sigma, limit=limit) * pull


def guidance_weight(sigma: float, *, limit: float) -> float:
    """Return min(beta, (1 - tau) / (tau r^2)) with tau = 1 - sigma and r^2 = sigma^2 / (tau^2 + sigma^2)."""
    tau = 1.0 - sigma
    if tau * sigma == 0.0:
        return limit
    return min(limit, (tau**2 + sigma**2) / (tau * sigma))
