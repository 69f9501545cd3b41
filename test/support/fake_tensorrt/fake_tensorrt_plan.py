# SPDX-License-Identifier: Apache-2.0
"""Plans of the fake TensorRT: a header, the graph with its weights, and a checksum."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

import onnx

MAGIC = b"fake-trt"
TIMINGS = b"timings "


@dataclass(frozen=True)
class Parsed:
    """What a plan says."""

    model: onnx.ModelProto
    version: str
    gpu: str
    settings: dict[str, Any]


def pack(model: onnx.ModelProto, *, version: str, gpu: str, settings: dict[str, Any]) -> bytes:
    """Return a plan."""
    header = json.dumps({"version": version, "gpu": gpu, "settings": settings}).encode()
    body = model.SerializeToString()
    data = b"".join((MAGIC, len(header).to_bytes(4, "little"), header, body))
    return data + zlib.crc32(data).to_bytes(4, "little")


def unpack(data: bytes) -> Parsed:
    """Return what a plan says.

    Raises:
        ValueError: it is none, or damaged.
    """
    if not data.startswith(MAGIC):
        raise ValueError("Magic tag does not match")
    data, check = data[:-4], data[-4:]
    if zlib.crc32(data).to_bytes(4, "little") != check:
        raise ValueError("the plan is truncated")
    size = int.from_bytes(data[8:12], "little")
    header = json.loads(data[12 : 12 + size])
    model = onnx.load_from_string(data[12 + size :], format="protobuf")
    return Parsed(model, header["version"], header["gpu"], header["settings"])


def timings(data: bytes) -> str | None:
    """Return the GPU of serialised timings; None where they are none."""
    return data[len(TIMINGS) :].decode() if data.startswith(TIMINGS) else None
