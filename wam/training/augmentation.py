# SPDX-License-Identifier: Apache-2.0
"""Small random changes of training samples; the same draw gives the same change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from wam.training.options import Rule


@dataclass(frozen=True, slots=True)
class AugmentSection:
    """How much training samples are changed; 0 leaves them as they are.

    Attributes:
        shift: largest shift of a camera's view along each axis, the same for all images of a sample [px].
        colour: largest change of brightness, contrast and the gain of a colour, as a share.
        state_noise: standard deviation of noise on the measured joints, as a share of their own. Rows that are relative
            to the state lead from the disturbed state to where the episode went, so a policy learns to come back.
    """

    shift: int = 0
    colour: float = 0.0
    state_noise: float = 0.0

    @property
    def changes_pictures(self) -> bool:
        """Whether images are changed."""
        return self.shift > 0 or self.colour > 0


def augment_rule(augment: AugmentSection) -> Rule:
    """Return the rule that amounts are not negative."""
    amounts = (augment.shift, augment.colour, augment.state_noise)
    return (min(amounts) >= 0, "data.augment", amounts, "numbers of 0 or more")


Box = tuple[int, int, int, int]
"""Top, left, height and width of a camera's view in the composite image [px]."""


def augment_pictures(
    pictures_3NHW: Tensor, boxes: tuple[Box, ...], options: AugmentSection, rng: np.random.Generator
) -> Tensor:
    """Return the pictures of one sample, all changed alike.

    Args:
        pictures_3NHW: float32 in [-1, 1].
        boxes: views of the cameras; each is shifted by itself.
        options: how much.
        rng: decides.
    """
    out = pictures_3NHW.clone()
    for top, left, height, width in boxes:
        view = out[:, :, top : top + height, left : left + width]
        dy, dx = rng.integers(-options.shift, options.shift + 1, size=2).tolist()
        if dy or dx:
            pad = (max(dx, 0), max(-dx, 0), max(dy, 0), max(-dy, 0))
            padded = F.pad(view, pad, mode="replicate")
            view = padded[:, :, max(-dy, 0) : max(-dy, 0) + height, max(-dx, 0) : max(-dx, 0) + width]
        if options.colour > 0:
            gain = 1 + options.colour * rng.uniform(-1, 1) + options.colour / 2 * rng.uniform(-1, 1, size=3)
            offset = options.colour * rng.uniform(-1, 1)
            view = view * torch.as_tensor(gain, dtype=view.dtype).view(3, 1, 1, 1) + offset
        out[:, :, top : top + height, left : left + width] = view.clamp(-1, 1)
    return out


def state_noise(
    shape: tuple[int, ...],
    std: npt.NDArray[np.float64],
    options: AugmentSection,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return noise for measured joints, float64 [..., J], in the units of `std` [J]."""
    return rng.standard_normal(shape) * (options.state_noise * std)
