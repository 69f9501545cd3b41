# SPDX-License-Identifier: Apache-2.0
"""`wam_msgs/KVContext` to (header, handle) and back; what comes in is checked here, once."""

from __future__ import annotations

import re
from typing import Any

from wam.core.clock import NS_PER_S
from wam.core.context import MAX_TENSORS, ContextHandle, ContextHeader, TensorSpec, Transport
from wam.core.errors import HandleRefused
from wam.core.observation import MAX_INSTRUCTION_CHARS
from wam.core.transport.layout import MAX_AXES, check_table
from wam.core.transport.message_size import check_message_size
from wam.ros.conversions import duration_to_ns, ns_to_duration, ns_to_time, time_to_ns

MAX_HORIZON_ROWS = 100_000
MAX_HANDLE_CHARS = 255
MAX_PERIOD_NS = 60 * NS_PER_S

_HASH = re.compile(r"[0-9a-f]{64}")
_SENDER = "the planner that publishes it"


def context_to_message(
    header: ContextHeader,
    handle: ContextHandle,
    message_type: type[Any],
    *,
    tensor_type: type[Any] | None = None,
) -> Any:
    """Return a `wam_msgs/KVContext` for a handle that was just published.

    Args:
        header: header of the context.
        handle: its handle; the bytes of an INLINE handle are copied into the message.
        message_type: `wam_msgs.msg.KVContext` (passed in, since the package is built apart).
        tensor_type: `wam_msgs.msg.TensorInfo`; imported where it is not given.

    Raises:
        ContextError: the message would be longer than 4096 bytes without carrying a payload.
    """
    check_message_size(header, handle)
    if tensor_type is None:
        from wam_msgs.msg import TensorInfo

        tensor_type = TensorInfo
    message = message_type()
    message.header.stamp = ns_to_time(header.stamp_ns)
    message.generation = header.generation
    message.version = header.version
    message.contract_hash = header.contract_hash
    message.instruction = header.instruction[:MAX_INSTRUCTION_CHARS]
    message.horizon = header.horizon_rows
    message.control_period = ns_to_duration(header.control_period_ns)
    message.plan_time = ns_to_duration(header.plan_ns)
    message.tensors = [
        tensor_type(name=s.name, dtype=s.dtype, shape=list(s.shape), byte_offset=s.byte_offset)
        for s in handle.specs
    ]
    message.total_bytes = handle.total_bytes
    message.transport = int(handle.transport)
    message.handle = handle.name
    if handle.data:
        # Into the array that the message already has: assigning bytes checks them one by one in Python.
        message.data.frombytes(handle.data)
    return message


def message_to_context(message: Any) -> tuple[ContextHeader, ContextHandle]:
    """Return header and handle of a `wam_msgs/KVContext`.

    The handle's name is checked by the transport that opens it; all else is checked here.

    Raises:
        HandleRefused: a field is out of range, or two fields do not fit together.
    """
    if not 1 <= len(message.tensors) <= MAX_TENSORS:
        raise _refused("tensors", f"{len(message.tensors)} entries", f"1 to {MAX_TENSORS}")
    if any(len(tensor.shape) > MAX_AXES for tensor in message.tensors):
        raise _refused("tensors", "a shape of too many axes", f"at most {MAX_AXES}")
    specs = tuple(
        TensorSpec(str(t.name), str(t.dtype), tuple(int(n) for n in t.shape), int(t.byte_offset))
        for t in message.tensors
    )
    transport = _transport(int(message.transport))
    total_bytes, data_bytes = int(message.total_bytes), len(message.data)
    check_table(specs, total_bytes)
    expected = total_bytes if transport is Transport.INLINE else 0
    if data_bytes != expected:
        raise _refused("data", f"{data_bytes} bytes", f"{expected} bytes for {transport.name}")
    if not 1 <= len(message.handle) <= MAX_HANDLE_CHARS:
        raise _refused("handle", f"{len(message.handle)} characters", f"1 to {MAX_HANDLE_CHARS}")
    return _header(message), ContextHandle(
        transport=transport,
        name=str(message.handle),
        specs=specs,
        total_bytes=total_bytes,
        data=bytes(message.data),
    )


def _header(message: Any) -> ContextHeader:
    if not _HASH.fullmatch(message.contract_hash):
        raise _refused("contract_hash", message.contract_hash[:80], "64 hexadecimal digits")
    if len(message.instruction) > MAX_INSTRUCTION_CHARS:
        raise _refused(
            "instruction", f"{len(message.instruction)} characters", f"at most {MAX_INSTRUCTION_CHARS}"
        )
    return ContextHeader(
        stamp_ns=_within("header.stamp", _time_ns(message.header.stamp), 1, 2**62),
        generation=_within("generation", int(message.generation), 1, 2**63),
        version=_within("version", int(message.version), 1, 2**63),
        contract_hash=str(message.contract_hash),
        instruction=str(message.instruction),
        horizon_rows=_within("horizon", int(message.horizon), 1, MAX_HORIZON_ROWS),
        control_period_ns=_within(
            "control_period", duration_to_ns(message.control_period), 1, MAX_PERIOD_NS, unit="ns"
        ),
        plan_ns=_within("plan_time", duration_to_ns(message.plan_time), 0, 2**62, unit="ns"),
    )


def _time_ns(stamp: Any) -> int:
    if not 0 <= stamp.nanosec < NS_PER_S:
        raise _refused("header.stamp.nanosec", str(stamp.nanosec), f"0 to {NS_PER_S - 1}")
    return time_to_ns(stamp)


def _transport(value: int) -> Transport:
    try:
        return Transport(value)
    except ValueError:
        known = ", ".join(f"{one.value} ({one.name})" for one in Transport)
        raise _refused("transport", str(value), known) from None


def _within(field: str, value: int, lowest: int, highest: int, *, unit: str = "") -> int:
    if not lowest <= value <= highest:
        raise _refused(field, f"{value} {unit}".strip(), f"{lowest} to {highest} {unit}".strip())
    return value


def _refused(field: str, value: str, allowed: str) -> HandleRefused:
    return HandleRefused(f"KVContext.{field}", value=value, allowed=allowed, where=_SENDER)
