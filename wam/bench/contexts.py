# SPDX-License-Identifier: Apache-2.0
"""Contexts of the size that AHA-WAM hands over, and their way through a pipe; shared by the context bench."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.context import ContextHandle, ContextHeader, PlannerContext, TensorSpec, Transport
from wam.core.transport.numpy_codec import NumpyCodec

Payload = dict[str, npt.NDArray[Any]]

LAYERS, HEADS, HEAD_WIDTH = 30, 24, 128
TOKENS_44MB, TOKENS_400MB = 120, 1085
"""Tokens of one 384x320 latent frame (44.2 MB of bfloat16 keys and values), and of about nine (400 MB)."""

CODEC = NumpyCodec(bfloat16=frozenset({"k", "v"}))


def make_payload(tokens: int) -> Payload:
    """Return keys and values, bfloat16 [LAYERS, tokens, HEADS, HEAD_WIDTH] each, with every page touched."""
    shape = (LAYERS, tokens, HEADS, HEAD_WIDTH)
    return {"k": np.full(shape, 0x3F80, dtype=np.uint16), "v": np.full(shape, 0x4000, dtype=np.uint16)}


def make_context(version: int, payload: Payload) -> PlannerContext[Payload]:
    """Return `payload` as the `version`-th publication."""
    header = ContextHeader(
        stamp_ns=1_700_000_000_000_000_000 + version,
        generation=1,
        version=version,
        contract_hash="a" * 64,
        instruction="stack the cups on the tray",
        horizon_rows=64,
        control_period_ns=33_333_333,
        plan_ns=34_590_000,
    )
    return PlannerContext(header, payload)


def use(payload: Payload) -> int:
    """Read the first and the last element of every tensor: an invalid mapping shows here."""
    return sum(int(tensor.flat[0]) + int(tensor.flat[-1]) for tensor in payload.values())


def to_line(header: ContextHeader, handle: ContextHandle) -> str:
    """Return version and handle as one line of JSON."""
    specs = [[s.name, s.dtype, s.shape, s.byte_offset] for s in handle.specs]
    return json.dumps([header.version, int(handle.transport), handle.name, specs, handle.total_bytes])


def from_line(line: str) -> tuple[ContextHeader, ContextHandle]:
    """Return header and handle of a line made by `to_line`."""
    version, transport, name, table, total_bytes = json.loads(line)
    specs = tuple(TensorSpec(n, dtype, tuple(shape), offset) for n, dtype, shape, offset in table)
    return make_context(version, {}).header, ContextHandle(Transport(transport), name, specs, total_bytes)
