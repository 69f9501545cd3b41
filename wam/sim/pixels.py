# SPDX-License-Identifier: Apache-2.0
"""Effects of a camera's driver on a rendered image: encoding, noise, dropped frames."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from wam.core.observation import Rgb
from wam.robots.images import RAW_ENCODINGS


def encode(rgb: Rgb, encoding: str) -> tuple[bytes, int]:
    """Return the pixels of sensor_msgs/Image in `encoding`, and its row step [bytes].

    Args:
        rgb: uint8 [H, W, 3], red first.
        encoding: a key of `RAW_ENCODINGS`.
    """
    height, width, _ = rgb.shape
    channels, order = RAW_ENCODINGS[encoding]
    if channels == 1:
        pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    else:
        pixels = np.full(
            (height, width, channels), 255, dtype=np.uint8
        )  # alpha, where there is one, is opaque
        pixels[:, :, list(order)] = rgb
    return pixels.tobytes(), channels * width


def compress(rgb: Rgb, kind: str, *, quality: int) -> tuple[bytes, str]:
    """Return the data and the format text of sensor_msgs/CompressedImage, as image_transport writes them.

    Args:
        rgb: uint8 [H, W, 3], red first.
        kind: "jpeg" or "png".
        quality: of a JPEG, 1..100.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    coded = cv2.imencode(".jpg" if kind == "jpeg" else ".png", rgb[:, :, ::-1], options)[1]
    return coded.tobytes(), f"rgb8; {kind} compressed bgr8"


@dataclass(frozen=True, slots=True)
class Degradation:
    """Noise and dropped frames of a camera; the same seed gives the same ones.

    Attributes:
        seed: of noise and losses.
        camera: name of the camera: two cameras do not lose the same.
        noise: standard deviation of each value [grey levels].
        drop_rate: share of frames that are lost, 0..1.
    """

    seed: int
    camera: str
    noise: float = 0.0
    drop_rate: float = 0.0

    def lost(self, index: int) -> bool:
        """Return whether frame number `index` is lost."""
        return self.drop_rate > 0.0 and float(self._random(index).random()) < self.drop_rate

    def apply(self, rgb: Rgb, index: int) -> Rgb:
        """Return frame number `index`, uint8 [H, W, 3], with its noise."""
        if self.noise <= 0.0:
            return rgb
        random = self._random(index)
        random.random()  # the number that decides about the loss
        noise = random.standard_normal(rgb.shape, dtype=np.float32) * np.float32(self.noise)
        return np.clip(np.rint(rgb + noise), 0, 255).astype(np.uint8)

    def _random(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, zlib.crc32(self.camera.encode()), index))
