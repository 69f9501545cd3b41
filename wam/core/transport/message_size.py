# SPDX-License-Identifier: Apache-2.0
"""Size of a serialized `wam_msgs/KVContext`, computed without ROS (OMG CDR 1.0, plain, 4-byte encapsulation)."""

from __future__ import annotations

from wam.core.context import MAX_MESSAGE_BYTES, ContextHandle, ContextHeader, Transport
from wam.core.errors import ContextError
from wam.core.observation import MAX_INSTRUCTION_CHARS

_ENCAPSULATION_BYTES = 4


def message_bytes(header: ContextHeader, handle: ContextHandle, *, frame_id: str = "") -> int:
    """Return the length of the serialized message [bytes], payload included."""
    at = _string(8, frame_id)  # header.stamp: int32, uint32
    at = _align(at, 8) + 16  # generation, version
    at = _string(at, header.contract_hash)
    at = _string(at, header.instruction[:MAX_INSTRUCTION_CHARS])
    at = _align(at, 4) + 4 + 8 + 8  # horizon, control_period, plan_time
    at = _align(at, 4) + 4  # number of tensors
    for spec in handle.specs:
        at = _string(at, spec.name)
        at = _string(at, spec.dtype)
        at = _align(at, 4) + 4 + 4 * len(spec.shape)
        at = _align(at, 8) + 8
    at = _align(at, 8) + 8 + 1  # total_bytes, transport
    at = _string(at, handle.name)
    at = _align(at, 4) + 4 + len(handle.data)
    return _ENCAPSULATION_BYTES + at


def check_message_size(header: ContextHeader, handle: ContextHandle, *, frame_id: str = "") -> None:
    """Refuse to send a handle that no longer is one.

    Raises:
        ContextError: the message would be longer than `MAX_MESSAGE_BYTES` without carrying a payload.
    """
    if handle.transport is Transport.INLINE:
        return
    size = message_bytes(header, handle, frame_id=frame_id)
    if size > MAX_MESSAGE_BYTES:
        raise ContextError(
            "planner context: message without payload",
            value=f"{size} bytes with {len(handle.specs)} tensors",
            allowed=f"at most {MAX_MESSAGE_BYTES} bytes",
            where="the policy's codec (stack the layers into fewer tensors, shorter names)",
        )


def _align(at: int, to: int) -> int:
    return -(-at // to) * to


def _string(at: int, text: str) -> int:
    return _align(at, 4) + 4 + len(text.encode()) + 1
