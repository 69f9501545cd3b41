# SPDX-License-Identifier: Apache-2.0
"""What an AHA-WAM planner hands to the executor, and what routing makes of it.

Shapes: L layers, S planner tokens, T text rows, E text width, I attention width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from wam.models.context_codec import TorchCodec
from wam.policies.aha_wam.video_dit import LayerKv


@dataclass(frozen=True, slots=True)
class AhaContext:
    """Payload of a planner context.

    Attributes:
        k: [L, 1, S, I] keys, normalised and rotated.
        v: [L, 1, S, I] values.
        text: [T, E] embedding of the instruction (zero rows after its end), so that an executor needs no
            text encoder.
    """

    k: Tensor
    v: Tensor
    text: Tensor


@dataclass(frozen=True, slots=True)
class AhaRouted:
    """Payload of a routed context.

    Attributes:
        context: routed K/V of every layer.
        text: executor's cross-attention K/V of the instruction.
        offset_rows: control rows between the planner's image and the observation.
        started_ns: monotonic time at which routing began [ns].
    """

    context: LayerKv
    text: LayerKv
    offset_rows: int
    started_ns: int


def _to_tensors(payload: AhaContext) -> Mapping[str, Tensor]:
    return {"k": payload.k, "v": payload.v, "text": payload.text}


def _from_tensors(tensors: Mapping[str, Tensor]) -> AhaContext:
    return AhaContext(k=tensors["k"], v=tensors["v"], text=tensors["text"])


def codec() -> TorchCodec[AhaContext]:
    """Return the codec of planner contexts."""
    return TorchCodec(_to_tensors, _from_tensors)
