# SPDX-License-Identifier: Apache-2.0
"""Camera messages to uint8 [H, W, 3], red first: numpy for raw images, OpenCV for JPEG and PNG.

Messages are duck-typed: those of rclpy and those that rosbags deserialises both work. `check_image` looks at the
header alone, so that a subscription can refuse a message at once and decode only the frame that is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from wam.core.errors import ImageError, MissingDependency
from wam.core.observation import Rgb

RAW_ENCODINGS: Mapping[str, tuple[int, tuple[int, int, int]]] = MappingProxyType(
    {
        "rgb8": (3, (0, 1, 2)),
        "bgr8": (3, (2, 1, 0)),
        "rgba8": (4, (0, 1, 2)),
        "bgra8": (4, (2, 1, 0)),
        "mono8": (1, (0, 0, 0)),
    }
)
"""Encoding of sensor_msgs/Image -> bytes per pixel and where red, green and blue stand in them."""

COMPRESSED_FORMATS = ("jpeg", "png")

Size = tuple[int, int]
"""Height and width [px]."""

_WHERE = "the camera driver, or the camera's entry in the robot file (config/robots)"
_JPEG_START, _JPEG_END, _PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE_MARKERS = frozenset((0x01, *range(0xD0, 0xDA)))


def check_image(message: Any, *, camera: str, size: Size | None = None) -> Size:
    """Check a camera message without decoding its pixels.

    Args:
        message: sensor_msgs/Image or sensor_msgs/CompressedImage.
        camera: name of the camera, for error texts.
        size: height and width expected [px]; None accepts any.

    Returns:
        Height and width [px].

    Raises:
        ImageError: encoding, size, row step or amount of data do not fit.
    """
    if _is_compressed(message):
        _format_of(message, camera)
        actual = _compressed_size(_bytes(message.data), camera)
    else:
        actual = _check_raw(message, camera)
    if size is not None and actual != size:
        raise ImageError(
            f"image of camera {camera!r} has another size",
            value=_shown(actual),
            allowed=_shown(size),
            where=_WHERE,
        )
    return actual


def decode_image(message: Any, *, camera: str, size: Size | None = None) -> Rgb:
    """Return the pixels of a camera message as a new array.

    Args:
        message: sensor_msgs/Image or sensor_msgs/CompressedImage.
        camera: name of the camera, for error texts.
        size: height and width expected [px]; None accepts any.

    Returns:
        uint8 [H, W, 3], red first, C-contiguous.

    Raises:
        ImageError: encoding, size, row step or data do not fit, or the data are damaged.
        MissingDependency: OpenCV is not installed (compressed images only).
    """
    height, width = check_image(message, camera=camera, size=size)
    if _is_compressed(message):
        return _decode_compressed(message, camera, (height, width))
    channels, order = RAW_ENCODINGS[message.encoding]
    data = np.frombuffer(_bytes(message.data), dtype=np.uint8)
    # The last row may end without its padding, so rows are addressed by stride.
    pixels = np.lib.stride_tricks.as_strided(
        data, shape=(height, width, channels), strides=(int(message.step), channels, 1), writeable=False
    )
    if channels == 3 and order == (0, 1, 2):
        return np.array(pixels, order="C")
    return np.ascontiguousarray(pixels[:, :, list(order)])


def _is_compressed(message: Any) -> bool:
    return not hasattr(message, "encoding")


def _check_raw(message: Any, camera: str) -> Size:
    # `is_bigendian` says nothing about encodings of one byte per channel.
    if message.encoding not in RAW_ENCODINGS:
        raise ImageError(
            f"image of camera {camera!r} has an encoding that is no colour or grey image of 8 bits",
            value=str(message.encoding),
            allowed=", ".join(RAW_ENCODINGS),
            where=_WHERE,
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * RAW_ENCODINGS[message.encoding][0]
    if height <= 0 or width <= 0:
        raise ImageError(
            f"image of camera {camera!r} is empty",
            value=_shown((height, width)),
            allowed="at least 1x1 px",
            where=_WHERE,
        )
    if step < row:
        raise ImageError(
            f"row step of camera {camera!r} is too small",
            value=f"{step} bytes",
            allowed=f"at least {row} bytes ({width} px of {message.encoding})",
            where=_WHERE,
        )
    needed = (height - 1) * step + row
    if len(message.data) < needed:
        raise ImageError(
            f"image of camera {camera!r} is truncated",
            value=f"{len(message.data)} bytes",
            allowed=f"{needed} bytes ({_shown((height, width))} of {message.encoding}, step {step})",
            where=_WHERE,
        )
    return height, width


def _format_of(message: Any, camera: str) -> tuple[str, bool]:
    """Return "jpeg" or "png", and whether red comes first in what was compressed.

    `format` is "jpeg", "png", or, from image_transport, "<original>; jpeg compressed <compressed>".
    """
    text = str(message.format).lower()
    original, _, rest = text.partition(";")
    words = (rest or original).replace("compresseddepth", "compressed_depth").split()
    kind = next((word for word in words if word in ("jpeg", "jpg", *COMPRESSED_FORMATS)), "")
    depth = "compressed_depth" in words or original.strip().startswith(("16", "32", "mono16"))
    if not kind or depth:
        raise ImageError(
            f"compressed image of camera {camera!r} has a format that is no colour image of 8 bits",
            value=str(message.format),
            allowed="jpeg, png, or e.g. 'rgb8; jpeg compressed bgr8'",
            where=_WHERE,
        )
    return ("jpeg" if kind == "jpg" else kind), words[-1] in ("rgb8", "rgba8")


def _compressed_size(data: memoryview, camera: str) -> Size:
    """Return the size written in a JPEG or PNG header: it is checked before any pixel is allocated."""
    size = _png_size(data) if bytes(data[:8]) == _PNG_START else _jpeg_size(data)
    if size is None or min(size) <= 0:
        raise ImageError(
            f"compressed image of camera {camera!r} is damaged: no size in its header",
            value=f"{len(data)} bytes",
            allowed="a complete JPEG or PNG",
            where=_WHERE,
        )
    return size


def _png_size(data: memoryview) -> Size | None:
    if len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return int(height), int(width)


def _jpeg_size(data: memoryview) -> Size | None:
    if bytes(data[:2]) != _JPEG_START:
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SOF_MARKERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(height), int(width)
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _BARE_MARKERS:
            at += 2
        else:
            at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _decode_compressed(message: Any, camera: str, size: Size) -> Rgb:
    try:
        import cv2
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        raise MissingDependency(
            "compressed images need OpenCV", where="the environment: pip install opencv-python-headless"
        ) from None
    _, red_first = _format_of(message, camera)
    # The pixels count, not what a camera wrote about its orientation.
    # From 4.11 on OpenCV writes red first by itself, which spares a pass over the pixels.
    to_rgb = 0 if red_first else getattr(cv2, "IMREAD_COLOR_RGB", 0)
    flags = (to_rgb or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    data = np.frombuffer(_bytes(message.data), dtype=np.uint8)
    decoded = None
    # OpenCV before 5 fills the rest of a truncated JPEG with grey and returns it.
    if bytes(data[:8]) == _PNG_START or data.tobytes().rfind(_JPEG_END) >= 0:
        try:
            decoded = cv2.imdecode(data, flags)
        except cv2.error:
            pass
    if decoded is None or decoded.shape[:2] != size:
        raise ImageError(
            f"compressed image of camera {camera!r} is damaged",
            value=f"{len(data)} bytes",
            allowed="a complete JPEG or PNG",
            where=_WHERE,
        )
    rgb = decoded if red_first or to_rgb else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return rgb.astype(np.uint8, copy=False)


def _bytes(data: Any) -> memoryview:
    return memoryview(data).cast("B")


def _shown(size: Size) -> str:
    return f"{size[1]}x{size[0]} px"
