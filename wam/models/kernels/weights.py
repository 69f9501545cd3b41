# SPDX-License-Identifier: Apache-2.0
"""Weights as the kernels read them: layers that read the same rows are merged once, the others are not copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Affine:
    """A projection.

    Attributes:
        weight: [N, K], contiguous.
        bias: [N]; None is 0.
    """

    weight: Tensor
    bias: Tensor | None

    @property
    def outputs(self) -> int:
        """N."""
        return int(self.weight.shape[0])


def merge(*layers: nn.Linear) -> Affine:
    """Stack linear layers of one input, in their order; one layer alone is handed on without a copy.

    Raises:
        ValueError: some have a bias and others have none.
    """
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    if biases and len(biases) != len(layers):
        raise ValueError(f"{len(biases)} of {len(layers)} layers to merge have a bias; all or none must")
    weights = [layer.weight.detach() for layer in layers]
    if len(layers) == 1:
        return Affine(weights[0], biases[0] if biases else None)
    return Affine(torch.cat(weights), torch.cat(biases) if biases else None)
