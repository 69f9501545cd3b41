# SPDX-License-Identifier: Apache-2.0
"""What a simulated camera makes of a picture is what the suite's decoder reads, and its losses repeat."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wam.robots.images import COMPRESSED_FORMATS, RAW_ENCODINGS, decode_image
from wam.sim.pixels import Degradation, compress, encode

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
GREY = np.repeat(RGB[:, :, :1], 3, axis=2)


@pytest.mark.parametrize("encoding", list(RAW_ENCODINGS))
def test_every_encoding_is_read_back_as_it_was(encoding: str) -> None:
    rgb = GREY if encoding == "mono8" else RGB
    data, step = encode(rgb, encoding)
    message = SimpleNamespace(encoding=encoding, height=12, width=16, step=step, data=data)
    np.testing.assert_array_equal(decode_image(message, camera="a"), rgb)


def test_a_picture_with_alpha_is_opaque() -> None:
    data, _ = encode(RGB, "bgra8")
    assert set(data[3::4]) == {255}


@pytest.mark.parametrize("kind", COMPRESSED_FORMATS)
def test_both_compressed_formats_are_read_back(kind: str) -> None:
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    data, text = compress(smooth, kind, quality=95)
    assert kind in text
    decoded = decode_image(SimpleNamespace(format=text, data=data), camera="a").astype(int)
    assert np.abs(decoded - smooth).max() <= (0 if kind == "png" else 12)


def test_noise_and_losses_repeat_with_the_seed_and_differ_between_cameras_and_frames() -> None:
    flat = np.full((40, 40, 3), 128, dtype=np.uint8)
    one, again = (Degradation(3, "head", noise=5.0, drop_rate=0.3) for _ in range(2))
    noisy = one.apply(flat, 7)
    np.testing.assert_array_equal(noisy, again.apply(flat, 7))
    assert noisy.std() == pytest.approx(5.0, abs=0.3)
    for other in (
        one.apply(flat, 8),
        Degradation(3, "wrist", 5.0).apply(flat, 7),
        Degradation(4, "head", 5.0).apply(flat, 7),
    ):
        assert not np.array_equal(noisy, other)
    lost = [one.lost(index) for index in range(400)]
    assert lost == [again.lost(index) for index in range(400)]
    assert np.mean(lost) == pytest.approx(0.3, abs=0.07)


def test_without_noise_a_picture_is_passed_through() -> None:
    assert Degradation(0, "head").apply(RGB, 0) is RGB
    assert not any(Degradation(0, "head").lost(index) for index in range(100))
