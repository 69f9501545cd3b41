# SPDX-License-Identifier: Apache-2.0
"""Drawing tokens and confidence noise. Two ways to draw from the same law; tests inject stored draws.

Shapes: R rows (sites that are unknown), V allowed ids, G generated sites.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SMALLEST = 1e-20
"""Under both logarithms of a Gumbel number, as released."""


class DrawMethod(enum.Enum):
    """How a token is drawn."""

    GUMBEL = "gumbel"
    """Gumbel-max: one random number per allowed id."""
    INVERSE = "inverse"
    """Inverse of the distribution function: one random number per site. The same law, far less noise."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Tokens of some sites.

    Attributes:
        columns: int64 [R], which column of the vocabulary.
        log_p: float32 [R], log probability of the drawn id among the allowed ones.
        max_p: float32 [R], probability of the likeliest allowed id.
    """

    columns: Tensor
    log_p: Tensor
    max_p: Tensor


class TokenDraws(Protocol):
    """Source of randomness of one chunk. Called for some sites at a time, in their order, image first."""

    def tokens(self, logits_RV: Tensor, *, step: int, image: bool, sites: Tensor) -> Drawn:
        """Draw a token per row.

        Args:
            logits_RV: of the allowed ids.
            step: from 0.
            image: whether the sites are image sites.
            sites: int64 [R], their places in the generated part.
        """
        ...

    def gumbel(self, sites: int, *, step: int) -> Tensor:
        """Return one Gumbel number per generated site [G]."""
        ...


def gumbel_of(uniform: Tensor) -> Tensor:
    """Return Gumbel numbers of uniform ones."""
    return -torch.log((-torch.log(uniform.clamp(min=SMALLEST))).clamp(min=SMALLEST))


def drawn_at(logits_RV: Tensor, columns: Tensor) -> Drawn:
    """Return probabilities of columns that were chosen elsewhere."""
    log_p = logits_RV.log_softmax(-1)
    return Drawn(columns, log_p.gather(1, columns[:, None])[:, 0], log_p.amax(-1).exp())


def race(logits_RV: Tensor, exponential_RV: Tensor) -> Drawn:
    """Draw by the largest of p / noise (Gumbel-max).

    Args:
        logits_RV: of the allowed ids.
        exponential_RV: numbers of the unit exponential law.
    """
    log_p = logits_RV.log_softmax(-1)
    columns = (log_p - exponential_RV.log()).argmax(-1)
    return Drawn(columns, log_p.gather(1, columns[:, None])[:, 0], log_p.amax(-1).exp())


def invert(logits_RV: Tensor, uniform_R: Tensor) -> Drawn:
    """Draw by the inverse of the distribution function, in two levels.

    Args:
        logits_RV: of the allowed ids.
        uniform_R: numbers in [0, 1).
    """
    p_RV = logits_RV.softmax(-1)
    width = p_RV.shape[1]
    block = max(1, math.isqrt(width))
    whole = width // block * block
    sums = p_RV[:, :whole].reshape(len(p_RV), -1, block).sum(-1)
    if whole < width:
        sums = torch.cat((sums, p_RV[:, whole:].sum(-1, keepdim=True)), dim=1)
    upto = sums.cumsum(-1)
    target = uniform_R * upto[:, -1]
    chosen = (upto <= target[:, None]).sum(-1).clamp(max=sums.shape[1] - 1)[:, None]
    rest = target - (upto.gather(1, chosen) - sums.gather(1, chosen))[:, 0]
    at = chosen * block + torch.arange(block, device=p_RV.device)
    inside = torch.where(at < width, p_RV.gather(1, at.clamp(max=width - 1)), 0.0)
    offset = (inside.cumsum(-1) <= rest[:, None]).sum(-1)
    # Rounding may step past the last id with any weight; it is the one that was meant.
    last = torch.where(inside > 0, torch.arange(block, device=p_RV.device), -1).amax(-1)
    offset = torch.minimum(offset, last.clamp(min=0))[:, None]
    p = inside.gather(1, offset)[:, 0]
    return Drawn(at.gather(1, offset)[:, 0], p.log(), p_RV.amax(-1))


class RandomDraws:
    """Draws from a generator.

    Args:
        generator: of the device that the logits are on.
        method: how tokens are drawn.
    """

    def __init__(self, generator: torch.Generator, *, method: DrawMethod = DrawMethod.INVERSE) -> None:
        self._generator = generator
        self._method = method

    def tokens(self, logits_RV: Tensor, *, step: int, image: bool, sites: Tensor) -> Drawn:
        """Draw a token per row."""
        if self._method is DrawMethod.INVERSE:
            uniform = torch.rand(
                len(logits_RV), generator=self._generator, device=logits_RV.device, dtype=torch.float32
            )
            return invert(logits_RV, uniform)
        noise = torch.empty_like(logits_RV).exponential_(generator=self._generator)
        return race(logits_RV, noise)

    def gumbel(self, sites: int, *, step: int) -> Tensor:
        """Return one Gumbel number per generated site."""
        device = self._generator.device
        return gumbel_of(torch.rand(sites, generator=self._generator, device=device))


@dataclass(frozen=True, slots=True)
class SiteDraws:
    """One number per step and site, drawn before the first step: nothing depends on how many sites are unknown.

    Attributes:
        uniform: float32 [T, G] in [0, 1), of the tokens (the inverse of the distribution function).
        gumbels: float32 [T, G], of the confidence noise.
    """

    uniform: Tensor
    gumbels: Tensor

    @staticmethod
    def draw(generator: torch.Generator, *, steps: int, sites: int) -> SiteDraws:
        """Draw for a chunk, on the generator's device."""
        numbers = torch.rand(2, steps, sites, generator=generator, device=generator.device)
        return SiteDraws(numbers[0], gumbel_of(numbers[1]))

    def tokens(self, logits_RV: Tensor, *, step: int, image: bool, sites: Tensor) -> Drawn:
        """Draw a token per row."""
        return invert(logits_RV, self.uniform[step, sites.to(self.uniform.device)])

    def gumbel(self, sites: int, *, step: int) -> Tensor:
        """Return one Gumbel number per generated site."""
        return self.gumbels[step]


class GreedyDraws:
    """Takes the likeliest id and no confidence noise."""

    def tokens(self, logits_RV: Tensor, *, step: int, image: bool, sites: Tensor) -> Drawn:
        """Return the likeliest id of each row."""
        return drawn_at(logits_RV, logits_RV.argmax(-1))

    def gumbel(self, sites: int, *, step: int) -> Tensor:
        """Return zeros."""
        return torch.zeros(sites)
