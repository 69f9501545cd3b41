# SPDX-License-Identifier: Apache-2.0
"""KVContext message to value and back, on the real message types."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
try:
    from wam_msgs.msg import KVContext
except ImportError:
    pytest.skip("wam_msgs is not built (make setup)", allow_module_level=True)

from rclpy.serialization import deserialize_message, serialize_message

from wam.core.context import ContextHandle, ContextHeader, TensorSpec, Transport
from wam.core.errors import ContextError, HandleRefused
from wam.core.transport.layout import pack, payload_bytes
from wam.core.transport.message_size import message_bytes
from wam.ros.context_channel import context_to_message, message_to_context

pytestmark = pytest.mark.ros

HEADER = ContextHeader(
    stamp_ns=1_700_000_000_123_456_789,
    generation=3,
    version=41,
    contract_hash="0123456789abcdef" * 4,
    instruction="stack the cups",
    horizon_rows=64,
    control_period_ns=33_333_333,
    plan_ns=34_590_000,
)
SPECS = pack([("k", "bfloat16", (30, 120, 24, 128)), ("v", "bfloat16", (30, 120, 24, 128))])
HANDLE = ContextHandle(
    Transport.SHARED_MEMORY, "wam_ctx.0.1.1.0123456789abcdef.0", SPECS, payload_bytes(SPECS)
)
INLINE = ContextHandle(
    Transport.INLINE, "inline.0123456789abcdef.3.41", pack([("k", "uint8", (3,))]), 3, b"\x01\x02\xff"
)


def over_the_wire(message: Any) -> Any:
    return deserialize_message(serialize_message(message), KVContext)


@pytest.mark.parametrize("handle", [HANDLE, INLINE])
def test_a_context_survives_the_message(handle: Any) -> None:
    message = over_the_wire(context_to_message(HEADER, handle, KVContext))
    assert message_to_context(message) == (HEADER, handle)


def test_the_message_of_44_megabytes_is_a_few_hundred_bytes() -> None:
    assert HANDLE.total_bytes == 44_236_800
    assert len(serialize_message(context_to_message(HEADER, HANDLE, KVContext))) < 512


@given(
    tensors=st.lists(
        st.tuples(
            st.text(alphabet="abk_0", min_size=1, max_size=63),
            st.sampled_from(["float32", "bfloat16", "uint8", "int64"]),
            st.lists(st.integers(0, 5), max_size=8).map(tuple),
        ),
        min_size=1,
        max_size=24,
    ),
    instruction=st.text(alphabet="aäΩ机🤖 ", max_size=256),
    name=st.text(alphabet="in.0f", min_size=1, max_size=255),
    data=st.binary(max_size=50),
)
@settings(max_examples=200)
def test_the_computed_size_is_that_of_the_serialized_message(
    tensors: Any, instruction: Any, name: Any, data: Any
) -> None:
    specs = pack(tensors)
    handle = ContextHandle(Transport.INLINE, name, specs, payload_bytes(specs), data)
    header = dataclasses.replace(HEADER, instruction=instruction)
    serialized = serialize_message(context_to_message(header, handle, KVContext))
    # Fast CDR pads the end of the message to four bytes.
    assert 0 <= len(serialized) - message_bytes(header, handle) <= 3


def test_a_message_that_outgrew_4096_bytes_is_not_made() -> None:
    specs = pack([(f"{i:02d}" + "x" * 61, "bfloat16", (1,) * 8) for i in range(24)])
    handle = ContextHandle(Transport.IN_PROCESS, "in_process", specs, payload_bytes(specs))
    with pytest.raises(ContextError, match="at most 4096 bytes"):
        context_to_message(dataclasses.replace(HEADER, instruction="🤖" * 256), handle, KVContext)


def test_a_long_instruction_is_cut_in_the_message() -> None:
    header = dataclasses.replace(HEADER, instruction="x" * 300)
    assert context_to_message(header, HANDLE, KVContext).instruction == "x" * 256


def damaged(field: str, value: Any) -> Any:
    message = context_to_message(HEADER, HANDLE, KVContext)
    target: Any = message
    *path, last = field.split(".")
    for step in path:
        target = target[int(step)] if step.isdigit() else getattr(target, step)
    setattr(target, last, value)
    return message


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("header.stamp.sec", 0, None),
        ("header.stamp.sec", -1, "header.stamp"),
        ("header.stamp.nanosec", 1_000_000_000, "nanosec"),
        ("generation", 0, "generation"),
        ("generation", 2**64 - 1, "generation"),
        ("version", 0, "version"),
        ("contract_hash", "", "contract_hash"),
        ("contract_hash", "0123456789ABCDEF" * 4, "contract_hash"),
        ("contract_hash", "a" * 65, "contract_hash"),
        ("contract_hash", "a" * 64 + "\n", "contract_hash"),
        ("instruction", "x" * 257, "instruction"),
        ("horizon", 0, "horizon"),
        ("horizon", 2**32 - 1, "horizon"),
        ("control_period.nanosec", 0, "control_period"),
        ("control_period.sec", -1, "control_period"),
        ("control_period.sec", 61, "control_period"),
        ("plan_time.sec", -1, "plan_time"),
        ("tensors", [], "tensors"),
        ("tensors.0.name", "", "name"),
        ("tensors.0.name", "v", "twice"),
        ("tensors.0.dtype", "object", "dtype"),
        ("tensors.0.shape", [1] * 9, "axes"),
        ("tensors.0.shape", [2**32 - 1] * 8, "shape"),
        ("tensors.1.byte_offset", 0, "overlap"),
        ("tensors.1.byte_offset", 2**64 - 64, "ends at"),
        ("tensors.1.byte_offset", 63, "byte_offset"),
        ("total_bytes", 0, "total_bytes"),
        ("total_bytes", 44_236_799, "ends at"),
        ("total_bytes", 2**64 - 1, "total_bytes"),
        ("transport", 0, "transport"),
        ("transport", 5, "transport"),
        ("transport", 4, "data"),
        ("handle", "", "handle"),
        ("handle", "x" * 256, "handle"),
        ("data", b"\0", "data"),
    ],
)
def test_a_field_out_of_range_is_refused_by_name(field: Any, value: Any, named: Any) -> None:
    message = damaged(field, value)
    if named is None:
        assert message_to_context(message)[0].stamp_ns == 123_456_789
        return
    with pytest.raises(HandleRefused, match=named):
        message_to_context(message)


def test_a_message_that_nobody_filled_is_refused() -> None:
    with pytest.raises(HandleRefused):
        message_to_context(KVContext())


def test_a_table_of_too_many_tensors_is_refused() -> None:
    message = context_to_message(HEADER, HANDLE, KVContext)
    message.tensors = list(message.tensors) * 13
    with pytest.raises(HandleRefused, match=r"KVContext\.tensors.*26"):
        message_to_context(message)


@given(data=st.binary(min_size=1, max_size=400))
@settings(max_examples=300)
def test_random_fields_give_a_context_or_a_refusal(data: Any) -> None:
    message = context_to_message(HEADER, HANDLE, KVContext)
    numbers = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    for index, number in enumerate(numbers):
        match index % 6:
            case 0:
                message.generation = number % 2**64
            case 1:
                message.tensors[index % 2].byte_offset = number % 2**64
            case 2:
                message.tensors[index % 2].shape = [number % 2**32] * (number % 12)
            case 3:
                message.total_bytes = number % 2**64
            case 4:
                message.transport = number % 256
            case 5:
                message.horizon = number % 2**32
    try:
        header, handle = message_to_context(message)
    except HandleRefused:
        return
    assert header.generation >= 1
    assert all(isinstance(spec, TensorSpec) for spec in handle.specs)
