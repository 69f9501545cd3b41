# SPDX-License-Identifier: Apache-2.0
"""Values passed between the parts of a forward pass.

Shapes: B batch, S feature rows, D width, N action rows, A action values, P vision tokens, O vision channels,
C cross-attention layers (`DustConfig.cross_layers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from wam.policies.dust.blocks import Qkv


class FeatureKv(NamedTuple):
    """Keys and values of the features for every cross-attention layer: the planner's result.

    Attributes:
        k: [C, B, S, D], or C tensors [B, S, D].
        v: the same.
        mask: bool [B, S], True = a real row; None where every row is.
    """

    k: Tensor | Sequence[Tensor]
    v: Tensor | Sequence[Tensor]
    mask: Tensor | None = None


class StreamModulation(NamedTuple):
    """Everything that depends on one noise level in one stream.

    Attributes:
        blocks: of the trunk, then of the tail.
        out: of the output layer.
        encoder: `ActionEncoder.time_term` for the action stream, else None.
    """

    blocks: tuple[Tensor, ...]
    out: Tensor
    encoder: Tensor | None


class Prefix(NamedTuple):
    """A stream up to its first joint block.

    Attributes:
        x: tokens as they enter that block (or leave the trunk, where there is none).
        qkv: their projections for it, or None.
    """

    x: Tensor
    qkv: Qkv | None


class StreamVelocities(NamedTuple):
    """Predicted velocities; None where it was not requested.

    Attributes:
        action: [B, N, A].
        vision: [B, P, O].
    """

    action: Tensor | None
    vision: Tensor | None
