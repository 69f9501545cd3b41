# SPDX-License-Identifier: Apache-2.0
"""The planner context: a header that anyone can read and a payload that only the policy reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

ALIGNMENT = 64
"""Tensors start at multiples of this many bytes inside a payload."""

MAX_MESSAGE_BYTES = 4096
"""Largest serialized KVContext message of a transport that carries no payload."""

MAX_TENSORS = 24
"""Most tensors one context may hold; layers are stacked, not listed."""


class Transport(enum.IntEnum):
    """How the payload reaches the executor; values are those of `wam_msgs/KVContext`."""

    IN_PROCESS = 1
    SHARED_MEMORY = 2
    CUDA_IPC = 3
    INLINE = 4


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Place and meaning of one tensor inside a payload.

    Attributes:
        name: unique within the context.
        dtype: numpy name of the element type, or "bfloat16".
        shape: elements per axis.
        byte_offset: first byte inside the payload, a multiple of `ALIGNMENT`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    byte_offset: int


@dataclass(frozen=True, slots=True)
class ContextHeader:
    """Metadata of a planner context.

    Attributes:
        stamp_ns: acquisition time of the newest image the planner used [ns].
        generation: reset counter of the planner, from 1.
        version: publications within the generation, from 1.
        contract_hash: SHA-256 (hex) of the policy bundle.
        instruction: text the context was computed for.
        horizon_rows: rows, counted from `stamp_ns`, that the context can serve.
        control_period_ns: time between two rows [ns].
        plan_ns: time the planner needed [ns].
    """

    stamp_ns: int
    generation: int
    version: int
    contract_hash: str
    instruction: str
    horizon_rows: int
    control_period_ns: int
    plan_ns: int = 0

    def age_ns(self, now_ns: int) -> int:
        """Return how old the newest image of the context is at `now_ns` [ns]."""
        return now_ns - self.stamp_ns

    def phase_offset_rows(self, stamp_ns: int) -> int:
        """Return the rows between the context's image and `stamp_ns`, rounded to the nearest.

        Negative where the observation is older than the context.
        """
        period = self.control_period_ns
        return (2 * (stamp_ns - self.stamp_ns) + period) // (2 * period)

    def newer_than(self, other: ContextHeader | None) -> bool:
        """Return whether this context supersedes `other` (generation first, then version)."""
        return other is None or (self.generation, self.version) > (other.generation, other.version)


@dataclass(frozen=True, slots=True)
class PlannerContext(Generic[T]):
    """Layerwise keys and values of the planner; read-only and versioned.

    Attributes:
        header: its metadata.
        payload: the tensors, in the policy's own container; only the policy reads it.
    """

    header: ContextHeader
    payload: T


@dataclass(frozen=True, slots=True)
class ContextHandle:
    """Name of a payload that is on its way to a reader; volatile, never latched.

    Attributes:
        transport: how to open it.
        name: opaque to everyone but the transport; checked before use.
        specs: table of the tensors.
        total_bytes: size of the payload [bytes].
        data: the payload itself for `Transport.INLINE`, else empty.
    """

    transport: Transport
    name: str
    specs: tuple[TensorSpec, ...]
    total_bytes: int
    data: bytes = b""
