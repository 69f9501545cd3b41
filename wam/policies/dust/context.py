# SPDX-License-Identifier: Apache-2.0
"""What a DUST planner hands to the executor: the features as keys and values, projected once.

Shapes: C cross-attention layers (`DustConfig.cross_layers`), S feature rows, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from wam.models.context_codec import TorchCodec

EMBEDDING = "embedding"
"""Name of the world-model target among the features that are imagined and perceived."""


@dataclass(frozen=True, slots=True)
class DustContext:
    """Payload of a planner context. There is one prompt and so no padding.

    Attributes:
        k: [C, 1, S, D] keys.
        v: [C, 1, S, D] values.
    """

    k: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class DustRouted:
    """Payload of a routed context. DUST has no routing: it is the context, on the executor's device.

    Attributes:
        k: [C, 1, S, D] keys.
        v: [C, 1, S, D] values.
        offset_rows: control rows between the planner's image and the observation.
        started_ns: monotonic time at which the chunk began [ns].
    """

    k: Tensor
    v: Tensor
    offset_rows: int
    started_ns: int


def _to_tensors(payload: DustContext) -> Mapping[str, Tensor]:
    return {"k": payload.k, "v": payload.v}


def _from_tensors(tensors: Mapping[str, Tensor]) -> DustContext:
    return DustContext(k=tensors["k"], v=tensors["v"])


def codec() -> TorchCodec[DustContext]:
    """Return the codec of planner contexts."""
    return TorchCodec(_to_tensors, _from_tensors)
