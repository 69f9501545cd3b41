# SPDX-License-Identifier: Apache-2.0
"""Camera messages to uint8 [H, W, 3], red first: numpy for plain channels, OpenCV for all else.

Of a compressed image the bytes decide what it is; its `format` only says which colour is first, and whether it is a
depth map. Messages are duck-typed: those of rclpy and those that rosbags deserialises both work. `check_image` looks at
the header alone, so that a subscription can refuse a message at once and decode only the frame that is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from wam.core.errors import DamagedImage, ImageError
from wam.core.observation import Rgb
from wam.robots.encodings import CODED_ENCODINGS, decode_coded, opencv

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
"""What a robot file may name; a message may be WebP as well."""

VIDEO_CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mjpeg")
"""What a robot file may name for a camera that sends packets; the packets themselves say what they are."""

Size = tuple[int, int]
"""Height and width [px]."""

_WHERE = "the camera driver, or the camera's entry in the robot file (config/robots)"
_JPEG_START, _JPEG_END, _PNG_START = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_DEPTH = ("16uc1", "32fc1")
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
        ImageError: encoding, size or row step do not fit, or it is a depth map.
        DamagedImage: bytes are missing at its end.
    """
    if _is_compressed(message):
        _require_colour(message, camera)
        data = _bytes(message.data)
        actual = _compressed_size(data, camera)
        if not _is_whole(data):
            raise _damaged(data, camera)
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
        ImageError: as `check_image`.
        DamagedImage: the data are damaged.
        MissingDependency: OpenCV is not installed (all but plain channels of one byte).
    """
    height, width = check_image(message, camera=camera, size=size)
    if _is_compressed(message):
        return _decode_compressed(message, camera, (height, width))
    data, step = np.frombuffer(_bytes(message.data), dtype=np.uint8), int(message.step)
    if message.encoding in CODED_ENCODINGS:
        big = bool(message.is_bigendian)
        return decode_coded(data, message.encoding, height=height, width=width, step=step, big_endian=big)
    channels, order = RAW_ENCODINGS[message.encoding]
    # The last row may end without its padding, so rows are addressed by stride.
    pixels = np.lib.stride_tricks.as_strided(
        data, shape=(height, width, channels), strides=(step, channels, 1), writeable=False
    )
    if channels == 3 and order == (0, 1, 2):
        return np.array(pixels, order="C")
    return np.ascontiguousarray(pixels[:, :, list(order)])


def _is_compressed(message: Any) -> bool:
    return not hasattr(message, "encoding")


def _check_raw(message: Any, camera: str) -> Size:
    encoding = message.encoding
    coded = CODED_ENCODINGS.get(encoding)
    if coded is None and encoding not in RAW_ENCODINGS:
        is_depth = str(encoding).lower() in _DEPTH
        raise ImageError(
            f"image of camera {camera!r} has an encoding that is no colour or grey image"
            + (", but a depth map, which no policy here takes" if is_depth else ""),
            value=str(encoding),
            # Without a guess: what a camera sends is no slip of a finger.
            allowed=", ".join((*RAW_ENCODINGS, *CODED_ENCODINGS)),
            where=_WHERE + ("; wam.robots.depth.decode_depth gives its metres" if is_depth else ""),
        )
    height, width, step = int(message.height), int(message.width), int(message.step)
    row = width * (RAW_ENCODINGS[encoding][0] if coded is None else coded.pixel_bytes)
    rows = height if coded is None else coded.rows(height)
    if height <= 0 or width <= 0:
        raise ImageError(
            f"image of camera {camera!r} is empty",
            value=_shown((height, width)),
            allowed="at least 1x1 px",
            where=_WHERE,
        )
    for name, side in (("height", height), ("width", width)):
        if coded is not None and name in coded.even and side % 2:
            raise ImageError(
                f"image of camera {camera!r} has an odd {name}",
                value=f"{_shown((height, width))} of {encoding}",
                allowed=f"an even {name}: two pixels share a colour",
                where=_WHERE,
            )
    if step < row:
        raise ImageError(
            f"row step of camera {camera!r} is too small",
            value=f"{step} bytes",
            allowed=f"at least {row} bytes ({width} px of {encoding})",
            where=_WHERE,
        )
    needed = (rows - 1) * step + row
    if len(message.data) < needed:
        raise DamagedImage(
            f"image of camera {camera!r} is truncated",
            value=f"{len(message.data)} bytes",
            allowed=f"{needed} bytes ({_shown((height, width))} of {encoding}, step {step})",
            where=_WHERE,
        )
    return height, width


def _require_colour(message: Any, camera: str) -> None:
    """Refuse a depth map, which may look like a grey image once it is decoded."""
    original, _, rest = str(message.format).lower().partition(";")
    if original.strip() in _DEPTH or "compresseddepth" in original + rest:
        raise ImageError(
            f"compressed image of camera {camera!r} is a depth map",
            value=str(message.format),
            allowed="a colour or grey image: no policy here takes depth",
            where=f"{_WHERE}; wam.robots.depth.decode_depth gives its metres",
        )


def _is_red_first(message: Any) -> bool:
    """Return whether red comes first in what was compressed: "<original>; jpeg compressed <compressed>"."""
    return str(message.format).lower().split()[-1:] in (["rgb8"], ["rgba8"])


def _compressed_size(data: memoryview, camera: str) -> Size:
    """Return the size written in the header: it is checked before any pixel is allocated."""
    size = _png_size(data) or _jpeg_size(data) or _webp_size(data)
    if size is None or min(size) <= 0:
        raise DamagedImage(
            f"compressed image of camera {camera!r} is damaged, or no JPEG, PNG or WebP",
            value=f"{len(data)} bytes that begin {bytes(data[:4]).hex(' ')}",
            allowed="a complete JPEG, PNG or WebP",
            where=_WHERE,
        )
    return size


def _png_size(data: memoryview) -> Size | None:
    if len(data) < 24 or bytes(data[:8]) != _PNG_START:
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


def _webp_size(data: memoryview) -> Size | None:
    """Return the size of a WebP: lossy (VP8), lossless (VP8L) or extended (VP8X)."""
    if len(data) < 30 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WEBP":
        return None
    kind = bytes(data[12:16])
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    return None


def _is_whole(data: memoryview) -> bool:
    """Return whether a compressed image ends where it says; OpenCV fills the rest of some with grey."""
    if bytes(data[:2]) == _JPEG_START:
        return bytes(data).rfind(_JPEG_END) >= 0
    return bytes(data[:4]) != b"RIFF" or len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _damaged(data: memoryview, camera: str) -> DamagedImage:
    return DamagedImage(
        f"compressed image of camera {camera!r} is damaged",
        value=f"{len(data)} bytes",
        allowed="a complete JPEG, PNG or WebP",
        where=_WHERE,
    )


def _decode_compressed(message: Any, camera: str, size: Size) -> Rgb:
    cv2 = opencv("a compressed image")
    red_first = _is_red_first(message)
    # The pixels count, not what a camera wrote about its orientation.
    # From 4.11 on OpenCV writes red first by itself, which spares a pass over the pixels.
    to_rgb = 0 if red_first else getattr(cv2, "IMREAD_COLOR_RGB", 0)
    flags = (to_rgb or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
    data = _bytes(message.data)
    decoded = None
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        pass
    if decoded is None or decoded.shape[:2] != size:
        raise _damaged(data, camera)
    rgb = decoded if red_first or to_rgb else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    rgb = rgb.astype(np.uint8, copy=False)
    return rgb  # type: ignore[no-any-return]


def _bytes(data: Any) -> memoryview:
    return memoryview(data).cast("B")


def _shown(size: Size) -> str:
    return f"{size[1]}x{size[0]} px"
