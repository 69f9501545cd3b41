# SPDX-License-Identifier: Apache-2.0
"""Planner contexts as bytes: named torch tensors at aligned offsets of one buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from wam.core.context import TensorSpec
from wam.core.errors import ContextError
from wam.core.transport.layout import check_table, pack, payload_bytes, tensor_bytes

T = TypeVar("T")

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_NAME_OF = {dtype: name for name, dtype in DTYPES.items()}


def specs_of(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    """Lay tensors out one after another, each at a multiple of the transports' alignment."""
    return pack([(name, _NAME_OF[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()])


def write_tensors(tensors: Mapping[str, Tensor], into: memoryview) -> None:
    """Copy every tensor to its offset in `into`, from whatever device it is on.

    Raises:
        ContextError: the buffer is read-only or too small.
    """
    specs = specs_of(tensors)
    if into.readonly or into.nbytes < payload_bytes(specs):
        raise ContextError(
            f"a context of {payload_bytes(specs)} bytes does not fit a buffer", value=f"{into.nbytes} bytes"
        )
    for spec, tensor in zip(specs, tensors.values(), strict=True):
        if tensor.numel():
            _view(spec, into).copy_(tensor)


def read_tensors(specs: tuple[TensorSpec, ...], data: memoryview) -> dict[str, Tensor]:
    """Return tensors that are views of `data`; they must not be written to.

    Raises:
        HandleRefused: a tensor lies outside the buffer, is misaligned, or the table is illegal.
        ContextError: a dtype is one that torch does not have.
    """
    check_table(specs, data.nbytes)
    return {spec.name: _view(spec, data) for spec in specs}


def _view(spec: TensorSpec, data: memoryview) -> Tensor:
    if spec.dtype not in DTYPES:
        raise ContextError(
            f"tensor {spec.name!r} of a context", value=spec.dtype, allowed=f"one of {sorted(DTYPES)}"
        )
    dtype, nbytes = DTYPES[spec.dtype], tensor_bytes(spec)
    if nbytes == 0:
        return torch.empty(spec.shape, dtype=dtype)
    room = _Bytes(data[spec.byte_offset : spec.byte_offset + nbytes])
    return torch.from_numpy(np.asarray(room)).view(dtype).view(spec.shape)


class _Bytes:
    """Bytes that are declared writable: torch has no read-only tensors and warns about read-only buffers."""

    def __init__(self, data: memoryview) -> None:
        self._data = np.frombuffer(data, dtype=np.uint8)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        whole = self._data.__array_interface__
        return {**whole, "data": (whole["data"][0], False)}


class TorchCodec(Generic[T]):
    """Codec of a payload that is a flat record of tensors (`wam.core.policy.TensorCodec`).

    Args:
        to_tensors: payload -> name -> tensor, always in the same order.
        from_tensors: the way back.
    """

    def __init__(
        self,
        to_tensors: Callable[[T], Mapping[str, Tensor]],
        from_tensors: Callable[[Mapping[str, Tensor]], T],
    ) -> None:
        self.to_tensors = to_tensors
        self.from_tensors = from_tensors

    def specs(self, payload: T) -> tuple[TensorSpec, ...]:
        """Return the table of the payload's tensors."""
        return specs_of(self.to_tensors(payload))

    def write(self, payload: T, into: memoryview) -> None:
        """Copy the payload into `into`."""
        write_tensors(self.to_tensors(payload), into)

    def read(self, specs: tuple[TensorSpec, ...], data: memoryview) -> T:
        """Return a payload of views into `data`.

        Raises:
            ContextError: the table does not describe such a payload.
        """
        tensors = read_tensors(specs, data)
        try:
            return self.from_tensors(tensors)
        except KeyError as error:
            raise ContextError(f"a context lacks the tensor {error}", value=sorted(tensors)) from error
