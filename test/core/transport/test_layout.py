# SPDX-License-Identifier: Apache-2.0
"""Element sizes, packing, the numpy codec, and the size of the message."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.core.context import ALIGNMENT, ContextHandle, TensorSpec, Transport
from wam.core.errors import ContextError
from wam.core.transport.layout import DTYPE_BYTES, check_table, pack, payload_bytes, table_checksum
from wam.core.transport.message_size import check_message_size, message_bytes
from wam.core.transport.numpy_codec import NumpyCodec


def test_element_sizes_are_those_of_numpy() -> None:
    numpy_types = {name: size for name, size in DTYPE_BYTES.items() if name != "bfloat16"}
    assert numpy_types == {name: np.dtype(name).itemsize for name in numpy_types}
    assert DTYPE_BYTES["bfloat16"] == 2


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPE_BYTES)), st.lists(st.integers(0, 9), max_size=4).map(tuple)),
        min_size=1,
        max_size=24,
    )
)
def test_packed_tensors_are_aligned_and_pass_the_check(tensors: Any) -> None:
    specs = pack([(f"t{i}", dtype, shape) for i, (dtype, shape) in enumerate(tensors)])
    assert all(spec.byte_offset % ALIGNMENT == 0 for spec in specs)
    if payload_bytes(specs):
        check_table(specs, payload_bytes(specs))


def test_an_unknown_type_is_not_packed() -> None:
    with pytest.raises(ValueError, match="complex64"):
        pack([("k", "complex64", (1,))])


def test_the_checksum_tells_tables_apart() -> None:
    spec = TensorSpec("k", "float32", (2, 3), 0)
    others = [
        dataclasses.replace(spec, name="v"),
        dataclasses.replace(spec, dtype="int32"),
        dataclasses.replace(spec, shape=(3, 2)),
        dataclasses.replace(spec, byte_offset=64),
    ]
    assert len({table_checksum([one]) for one in [spec, *others]}) == 5


@pytest.mark.parametrize("dtype", sorted(set(DTYPE_BYTES) - {"bfloat16"}))
def test_every_type_survives_the_codec(dtype: Any) -> None:
    codec = NumpyCodec()
    array = (np.arange(24) % 2).astype(dtype).reshape(2, 3, 4)
    specs = codec.specs({"a": array})
    data = bytearray(payload_bytes(specs))
    codec.write({"a": array}, memoryview(data))
    received = codec.read(specs, memoryview(data))["a"]
    assert received.dtype == array.dtype
    np.testing.assert_array_equal(received, array)


def test_bfloat16_travels_as_two_byte_elements_under_its_name(codec: Any) -> None:
    array = np.array([0x3F80, 0x4000], dtype=np.uint16)
    specs = codec.specs({"v": array})
    assert specs == (TensorSpec("v", "bfloat16", (2,), 0),)
    data = bytearray(payload_bytes(specs))
    codec.write({"v": array}, memoryview(data))
    np.testing.assert_array_equal(codec.read(specs, memoryview(data))["v"], array)


def test_arrays_that_are_not_contiguous_are_written_in_row_order(codec: Any) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    specs = codec.specs({"k": array})
    data = bytearray(payload_bytes(specs))
    codec.write({"k": array}, memoryview(data))
    np.testing.assert_array_equal(codec.read(specs, memoryview(data))["k"], array)


def test_what_cannot_travel_is_named(codec: Any) -> None:
    with pytest.raises(ValueError, match="'k' has dtype object"):
        codec.specs({"k": np.array([None])})
    with pytest.raises(ValueError, match="'v' is bfloat16 by name and float32 by type"):
        codec.specs({"v": np.zeros(1, np.float32)})
    with pytest.raises(ValueError, match=">f4"):
        codec.specs({"k": np.zeros(1, ">f4")})


def test_a_message_that_outgrew_a_handle_is_not_sent(header: Any) -> None:
    specs = pack([(f"layer_{i:02d}_" + "x" * 54, "bfloat16", (1,) * 8) for i in range(24)])
    long = dataclasses.replace(header(1), instruction="🤖" * 256)
    handle = ContextHandle(Transport.SHARED_MEMORY, "n" * 100, specs, payload_bytes(specs))
    assert message_bytes(long, handle) > 4096
    with pytest.raises(ContextError, match="24 tensors"):
        check_message_size(long, handle)
    check_message_size(header(1), dataclasses.replace(handle, specs=specs[:8]))
    check_message_size(long, dataclasses.replace(handle, transport=Transport.INLINE, data=b"x" * 10_000))
