# SPDX-License-Identifier: Apache-2.0
"""Optimiser and learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from wam.policies.aha_wam.training.config import OptimSection


def learning_rate(step: int, *, total: int, options: OptimSection) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine down to a share of the peak.

    Args:
        step: 0 for the first.
        total: steps of the run.
        options: peak, share of the rise, share that is left at the end.
    """
    warmup = math.ceil(options.warmup_fraction * total)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - 1 - warmup))
    shape = 0.5 * (1 + math.cos(math.pi * progress))
    return options.learning_rate * (options.final_fraction + (1 - options.final_fraction) * shape)


def make_optimiser(parameters: Iterable[nn.Parameter], options: OptimSection) -> torch.optim.AdamW:
    """Return AdamW over the parameters that learn."""
    return torch.optim.AdamW(
        [p for p in parameters if p.requires_grad],
        lr=options.learning_rate,
        betas=(options.beta1, options.beta2),
        weight_decay=options.weight_decay,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = value
