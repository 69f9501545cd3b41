# SPDX-License-Identifier: Apache-2.0
"""Depth images to metres: 16UC1 and 32FC1 of sensor_msgs/Image, and compressedDepth (PNG or RVL).

Conventions of REP 118 and of compressed_depth_image_transport: integers are millimetres and 0 means that nothing was
measured; floats are metres. A compressed map begins with 12 bytes: a format and the two numbers a, b with which floats
were quantised to 16 bits: depth = a / (value - b).

No policy of the suite takes depth, so no camera of a robot file is one; this is for programs that read recordings.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import DamagedImage, ImageError
from wam.robots.encodings import opencv

Depth = npt.NDArray[np.float32]
"""[H, W] [m]; NaN where nothing was measured."""

_HEADER = struct.Struct("<iff")
_SIZE = struct.Struct("<II")
_WHERE = "the camera driver"
MM_PER_M = 1000.0
MOST_PIXELS = 1 << 26


def decode_depth(message: Any, *, camera: str) -> Depth:
    """Return a depth image in metres.

    Args:
        message: sensor_msgs/Image (16UC1, mono16, 32FC1) or CompressedImage (compressedDepth), duck-typed.
        camera: name of the camera, for error texts.

    Returns:
        float32 [H, W] [m], NaN where nothing was measured.

    Raises:
        ImageError: it is no depth image.
        DamagedImage: bytes of it are missing or wrong.
        MissingDependency: OpenCV is not installed (compressedDepth).
    """
    if hasattr(message, "encoding"):
        return _raw(message, camera)
    return _compressed(str(message.format), memoryview(message.data).cast("B"), camera)


def _raw(message: Any, camera: str) -> Depth:
    encoding = str(message.encoding).upper()
    types = {"16UC1": "u2", "MONO16": "u2", "32FC1": "f4"}
    if encoding not in types:
        raise ImageError(
            f"image of camera {camera!r} is no depth image",
            value=str(message.encoding),
            allowed="16UC1, mono16, 32FC1",
            where=_WHERE,
        )
    dtype = np.dtype(types[encoding]).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = memoryview(message.data).cast("B")
    if height < 1 or width < 1 or step < width * dtype.itemsize:
        raise ImageError(
            f"depth image of camera {camera!r}: step",
            value=f"{step} bytes for {width}x{height} px",
            allowed=f"at least {width * dtype.itemsize} bytes",
            where=_WHERE,
        )
    if len(data) < (height - 1) * step + width * dtype.itemsize:
        raise _damaged(camera, len(data))
    rows = np.lib.stride_tricks.as_strided(
        np.frombuffer(data, dtype=np.uint8),
        shape=(height, width * dtype.itemsize),
        strides=(step, 1),
        writeable=False,
    )
    return _metres(np.ascontiguousarray(rows).view(dtype))


def _compressed(form: str, data: memoryview, camera: str) -> Depth:
    original, _, codec = (part.strip() for part in form.partition(";"))
    if "compresseddepth" not in codec.lower():
        raise ImageError(
            f"compressed image of camera {camera!r} is no depth image",
            value=form,
            allowed="16UC1; compressedDepth png, 32FC1; compressedDepth rvl, ...",
            where=_WHERE,
        )
    if len(data) < _HEADER.size:
        raise _damaged(camera, len(data))
    _, a, b = _HEADER.unpack_from(data)
    content = data[_HEADER.size :]
    if codec.lower().endswith("rvl"):
        values = _rvl(content, camera)
    else:
        cv2 = opencv("a compressed depth image")
        found = None
        try:
            found = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            pass
        if found is None or found.ndim != 2:
            raise _damaged(camera, len(data))
        values = found
    if original.upper() != "32FC1":
        return _metres(values)
    measured = values > 0
    with np.errstate(divide="ignore"):
        depth = a / (values.astype(np.float64) - b)
    return np.where(measured, depth, np.nan).astype(np.float32)


def _metres(values: npt.NDArray[Any]) -> Depth:
    if values.dtype.kind == "f":
        metres = values.astype(np.float32)
        metres[~np.isfinite(metres) | (metres <= 0.0)] = np.nan
        return metres
    return np.where(values > 0, values / MM_PER_M, np.nan).astype(np.float32)


def _rvl(data: memoryview, camera: str) -> npt.NDArray[np.uint16]:
    """Decode RVL (Wilson, "Fast Lossless Depth Image Compression"): runs of zeros, and zigzag differences in nibbles.

    A number is written in nibbles of three bits, lowest first, whose fourth bit tells that more follow; eight nibbles
    make a little-endian word, the first in its highest bits.
    """
    if len(data) < _SIZE.size:
        raise _damaged(camera, len(data))
    width, height = _SIZE.unpack_from(data)
    words = np.frombuffer(data[_SIZE.size : _SIZE.size + (len(data) - _SIZE.size) // 4 * 4], dtype="<u4")
    if not 0 < width * height <= MOST_PIXELS:
        raise _damaged(camera, len(data))
    shifts = np.arange(28, -4, -4, dtype=np.uint32)
    nibbles = ((words[:, None] >> shifts) & 0xF).ravel()
    # Every number ends with the first nibble without the fourth bit.
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        raise _damaged(camera, len(data))
    begins = np.concatenate(([0], ends[:-1] + 1))
    used = nibbles[: ends[-1] + 1].astype(np.int64)
    place = np.arange(len(used)) - np.repeat(begins, ends - begins + 1)
    numbers = np.add.reduceat((used & 7) << (3 * np.minimum(place, 20)), begins)
    out = np.zeros(width * height, dtype=np.int64)
    at, number, last = 0, 0, 0
    while at < len(out):
        if number + 1 >= len(numbers):
            if number < len(numbers) and at + numbers[number] >= len(out):
                break  # only zeros were left
            raise _damaged(camera, len(data))
        zeros, count = int(numbers[number]), int(numbers[number + 1])
        number += 2
        at += zeros
        steps = numbers[number : number + count]
        if len(steps) < count or at + count > len(out):
            raise _damaged(camera, len(data))
        values = last + np.cumsum((steps >> 1) ^ -(steps & 1))
        out[at : at + count] = values
        last = int(values[-1]) if count else last
        at, number = at + count, number + count
    return out.reshape(height, width).astype(np.uint16)


def _damaged(camera: str, size: int) -> DamagedImage:
    return DamagedImage(
        f"depth image of camera {camera!r} is damaged",
        value=f"{size} bytes",
        allowed="a complete map",
        where=_WHERE,
    )
