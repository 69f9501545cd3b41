# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of a payload lie: element sizes, packing, and the check of a table that came from outside."""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Sequence

from wam.core.context import ALIGNMENT, MAX_TENSORS, TensorSpec
from wam.core.errors import HandleRefused

DTYPE_BYTES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of one element of every type that may travel; numpy names, and "bfloat16"."""

MAX_AXES = 8
"""Most axes of one tensor."""

MAX_NAME_CHARS = 63
"""Longest name of a tensor."""

MAX_PAYLOAD_BYTES = 1 << 33
"""Largest payload that any transport accepts (8 GiB): beyond every policy, well below any overflow."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/]*")


def align(offset: int) -> int:
    """Return the first multiple of `ALIGNMENT` at or after `offset` [bytes]."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def tensor_bytes(spec: TensorSpec) -> int:
    """Return the size of the tensor [bytes]; its dtype must be one of `DTYPE_BYTES`."""
    return DTYPE_BYTES[spec.dtype] * math.prod(spec.shape)


def payload_bytes(specs: Sequence[TensorSpec]) -> int:
    """Return the end of the last tensor [bytes]: the size of the payload."""
    return max((spec.byte_offset + tensor_bytes(spec) for spec in specs), default=0)


def pack(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[TensorSpec, ...]:
    """Lay out tensors one after the other, each at a multiple of `ALIGNMENT`.

    Args:
        tensors: name, dtype and shape of each, in the order of the payload.

    Raises:
        ValueError: a dtype is not one of `DTYPE_BYTES`.
    """
    return _pack(tuple(tensors))


@functools.lru_cache(maxsize=64)
def _pack(tensors: tuple[tuple[str, str, tuple[int, ...]], ...]) -> tuple[TensorSpec, ...]:
    """Pack; cached, since a planner publishes the same shapes again and again."""
    specs: list[TensorSpec] = []
    offset = 0
    for name, dtype, shape in tensors:
        if dtype not in DTYPE_BYTES:
            raise ValueError(f"tensor {name!r} has dtype {dtype!r}; allowed: {', '.join(DTYPE_BYTES)}")
        spec = TensorSpec(name=name, dtype=dtype, shape=shape, byte_offset=offset)
        specs.append(spec)
        offset = align(offset + tensor_bytes(spec))
    return tuple(specs)


def table_checksum(specs: Sequence[TensorSpec]) -> int:
    """Return the CRC-32 of the table, so that a reader can tell that it holds the one that was written."""
    text = "\n".join(f"{s.name}|{s.dtype}|{s.shape}|{s.byte_offset}" for s in specs)
    return zlib.crc32(text.encode())


def check_table(
    specs: Sequence[TensorSpec], total_bytes: int, *, limit_bytes: int = MAX_PAYLOAD_BYTES
) -> None:
    """Refuse a tensor table that does not describe disjoint tensors inside `total_bytes`.

    Args:
        specs: the table as it arrived.
        total_bytes: size of the payload as it arrived [bytes].
        limit_bytes: largest payload the caller accepts [bytes].

    Raises:
        HandleRefused: a name, dtype, shape, offset or size is illegal, or two tensors overlap.
    """
    if not 1 <= total_bytes <= limit_bytes:
        raise HandleRefused(
            "context handle: total_bytes", value=total_bytes, allowed=f"1 to {limit_bytes} bytes"
        )
    if not 1 <= len(specs) <= MAX_TENSORS:
        raise HandleRefused(
            "context handle: number of tensors", value=len(specs), allowed=f"1 to {MAX_TENSORS}"
        )
    names: set[str] = set()
    for spec in specs:
        _check_tensor(spec, total_bytes)
        if spec.name in names:
            raise HandleRefused(f"context handle: tensor {spec.name!r} is named twice")
        names.add(spec.name)
    end, previous = 0, ""
    for spec in sorted(specs, key=lambda s: s.byte_offset):
        if spec.byte_offset < end:
            raise HandleRefused(f"context handle: tensors {previous!r} and {spec.name!r} overlap")
        end, previous = spec.byte_offset + tensor_bytes(spec), spec.name


def _check_tensor(spec: TensorSpec, total_bytes: int) -> None:
    if len(spec.name) > MAX_NAME_CHARS or not _NAME.fullmatch(spec.name):
        raise HandleRefused(
            "context handle: tensor name",
            value=spec.name[:80],
            allowed=f"1 to {MAX_NAME_CHARS} of letters, digits, '_', '.', '-', '/'",
        )
    place = f"context handle: tensor {spec.name!r}"
    if spec.dtype not in DTYPE_BYTES:
        raise HandleRefused(f"{place}: dtype", value=spec.dtype[:80], allowed=", ".join(DTYPE_BYTES))
    if len(spec.shape) > MAX_AXES:
        raise HandleRefused(f"{place}: axes", value=len(spec.shape), allowed=f"at most {MAX_AXES}")
    # An empty tensor may have long axes beside the empty one; numpy still multiplies those.
    extent_bytes = DTYPE_BYTES[spec.dtype] * math.prod(extent or 1 for extent in spec.shape)
    if any(extent < 0 for extent in spec.shape) or extent_bytes > MAX_PAYLOAD_BYTES:
        raise HandleRefused(
            f"{place}: shape", value=spec.shape, allowed=f"axes from 0, {MAX_PAYLOAD_BYTES} bytes together"
        )
    if spec.byte_offset < 0 or spec.byte_offset % ALIGNMENT:
        raise HandleRefused(
            f"{place}: byte_offset", value=spec.byte_offset, allowed=f"a multiple of {ALIGNMENT} from 0"
        )
    if spec.byte_offset + tensor_bytes(spec) > total_bytes:
        raise HandleRefused(
            f"{place}: ends at byte {spec.byte_offset + tensor_bytes(spec)}",
            allowed=f"at most {total_bytes}, the size of the payload",
        )
