# SPDX-License-Identifier: Apache-2.0
"""What a UD-VLA planner hands to the executor: the prefix, and under the hybrid mask its keys and values.

Shapes: N layers, K key/value heads, P prefix sites, H head width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from wam.models.context_codec import TorchCodec


@dataclass(frozen=True, slots=True)
class UdVlaContext:
    """Payload of a planner context.

    Attributes:
        ids: int64 [P], BOS, text and the images of now.
        k: [N, 1, K, P, H] keys; N is 0 under the released mask, where they cannot be kept.
        v: [N, 1, K, P, H] values.
    """

    ids: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class UdVlaRouted:
    """Payload of a routed context: the context on the executor's device. UD-VLA has no routing.

    Attributes:
        ids: int64 [P].
        k: [N, 1, K, P, H].
        v: [N, 1, K, P, H].
        offset_rows: control rows between the planner's image and the observation.
        started_ns: monotonic time at which the chunk began [ns].
    """

    ids: Tensor
    k: Tensor
    v: Tensor
    offset_rows: int
    started_ns: int


def _to_tensors(payload: UdVlaContext) -> Mapping[str, Tensor]:
    return {"ids": payload.ids, "k": payload.k, "v": payload.v}


def _from_tensors(tensors: Mapping[str, Tensor]) -> UdVlaContext:
    return UdVlaContext(ids=tensors["ids"], k=tensors["k"], v=tensors["v"])


def codec() -> TorchCodec[UdVlaContext]:
    """Return the codec of planner contexts."""
    return TorchCodec(_to_tensors, _from_tensors)
