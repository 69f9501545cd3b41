# SPDX-License-Identifier: Apache-2.0
"""Encodings of sensor_msgs/Image that are more than channels of one byte: how large they are, and how they are read.

YUV is taken as BT.601 in the limited range (16..235), which is what USB cameras send. Of 16 bits, the upper eight are
used: 65535 is white. `8UC3` and `8UC4` are blue first, as OpenCV keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.extras import missing
from wam.core.observation import Rgb

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class CodedPixels:
    """How the pixels of one encoding lie in memory.

    Attributes:
        pixel_bytes: bytes per pixel of a row.
        conversion: name of OpenCV's conversion to RGB, without `COLOR_`; "" where it is a matter of order.
        order: where red, green and blue stand in a pixel, for encodings without a conversion.
        channels: numbers per pixel.
        is_wide: numbers have 16 bits.
        planes: rows below one another per two rows of the image: 2, or 3 with the colour planes of YUV 4:2:0.
        even: height or width must be even: ("width",), ("height", "width") or ().
    """

    pixel_bytes: int
    conversion: str = ""
    order: tuple[int, int, int] = (0, 0, 0)
    channels: int = 1
    is_wide: bool = False
    planes: int = 2
    even: tuple[str, ...] = ()

    def rows(self, height: int) -> int:
        """Return the rows in memory of an image of `height` [px]."""
        return height * self.planes // 2


def _bayer(pattern: str, opencv: str) -> dict[str, CodedPixels]:
    # OpenCV names a pattern by its second row, ROS by its first.
    even, conversion = ("height", "width"), f"Bayer{opencv}2RGB"
    return {
        f"bayer_{pattern}8": CodedPixels(1, conversion, even=even),
        f"bayer_{pattern}16": CodedPixels(2, conversion, is_wide=True, even=even),
    }


_UYVY = CodedPixels(2, "YUV2RGB_UYVY", channels=2, even=("width",))
_YUY2 = CodedPixels(2, "YUV2RGB_YUY2", channels=2, even=("width",))
_BOTH = ("height", "width")

CODED_ENCODINGS: Mapping[str, CodedPixels] = MappingProxyType(
    {
        "8UC1": CodedPixels(1),
        "8UC3": CodedPixels(3, order=(2, 1, 0), channels=3),
        "8UC4": CodedPixels(4, order=(2, 1, 0), channels=4),
        "mono16": CodedPixels(2, is_wide=True),
        "rgb16": CodedPixels(6, order=(0, 1, 2), channels=3, is_wide=True),
        "bgr16": CodedPixels(6, order=(2, 1, 0), channels=3, is_wide=True),
        "yuv422": _UYVY,
        "uyvy": _UYVY,
        "yuv422_yuy2": _YUY2,
        "yuyv": _YUY2,
        "nv12": CodedPixels(1, "YUV2RGB_NV12", planes=3, even=_BOTH),
        "nv21": CodedPixels(1, "YUV2RGB_NV21", planes=3, even=_BOTH),
        "i420": CodedPixels(1, "YUV2RGB_I420", planes=3, even=_BOTH),
        **_bayer("rggb", "BG"),
        **_bayer("bggr", "RG"),
        **_bayer("gbrg", "GR"),
        **_bayer("grbg", "GB"),
    }
)
"""Encoding -> its pixels. `yuv422`, `yuv422_yuy2` are the names of ROS, `uyvy`, `yuyv` those of Video4Linux."""


def decode_coded(data: Bytes, encoding: str, *, height: int, width: int, step: int, big_endian: bool) -> Rgb:
    """Return the pixels of an image.

    Args:
        data: uint8 [B], at least as long as `step` and `rows` ask for.
        encoding: a key of `CODED_ENCODINGS`.
        height: of the image [px].
        width: of the image [px].
        step: bytes from one row to the next.
        big_endian: byte order of numbers of 16 bits.

    Returns:
        uint8 [H, W, 3], red first, C-contiguous.

    Raises:
        MissingDependency: OpenCV is not installed.
    """
    coded = CODED_ENCODINGS[encoding]
    used = np.lib.stride_tricks.as_strided(
        data, (coded.rows(height), width * coded.pixel_bytes), (step, 1), writeable=False
    )
    pixels = np.ascontiguousarray(used)
    if coded.is_wide:
        pixels = np.ascontiguousarray(pixels[:, 0 if big_endian else 1 :: 2])  # the upper byte of each number
    pixels = pixels.reshape(len(pixels), width, coded.channels)
    if not coded.conversion:
        return np.ascontiguousarray(pixels[:, :, list(coded.order)])
    cv2 = opencv("the encoding " + encoding)
    rgb: Rgb = cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{coded.conversion}"))
    return rgb


def opencv(what: str) -> Any:
    """Return OpenCV, which is imported only where it is needed.

    Raises:
        MissingDependency: it is not installed; the message names `what` needs it.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        raise missing(f"{what} needs OpenCV", "cv2") from None
    return cv2
