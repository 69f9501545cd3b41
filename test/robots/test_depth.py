# SPDX-License-Identifier: Apache-2.0
"""Depth images as cameras send them become metres; what was not measured is not a number."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from wam.core.errors import DamagedImage, ImageError
from wam.robots.depth import decode_depth

SCENE_MM = np.array([[0, 500, 1250, 0], [0, 0, 0, 65535], [4000, 4001, 3999, 0]], dtype=np.uint16)
SCENE = np.where(SCENE_MM > 0, SCENE_MM / 1000.0, np.nan)
NO_QUANTISATION = struct.pack("<iff", 0, 0.0, 0.0)


def raw(
    values: np.ndarray[Any, Any], encoding: str, *, big: bool = False, padding: int = 0
) -> SimpleNamespace:
    ordered = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    rows = [row.tobytes() + b"\xff" * padding for row in ordered]
    return SimpleNamespace(
        height=values.shape[0],
        width=values.shape[1],
        step=len(rows[0]),
        encoding=encoding,
        is_bigendian=int(big),
        data=b"".join(rows),
    )


def compressed(form: str, data: bytes) -> SimpleNamespace:
    return SimpleNamespace(format=form, data=data)


def rvl(values: np.ndarray[Any, Any]) -> bytes:
    """Encode as the paper's program does, one nibble after another."""
    nibbles: list[int] = []

    def write(number: int) -> None:
        while True:
            low, number = number & 7, number >> 3
            nibbles.append(low | (8 if number else 0))
            if not number:
                return

    flat = values.ravel().tolist()
    at, before = 0, 0
    while at < len(flat):
        zeros = next((i for i, value in enumerate(flat[at:]) if value), len(flat) - at)
        write(zeros)
        at += zeros
        count = next((i for i, value in enumerate(flat[at:]) if not value), len(flat) - at)
        write(count)
        for value in flat[at : at + count]:
            step = value - before
            write((step << 1) ^ (step >> 31))
            before = value
        at += count
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(nibble << (28 - 4 * i) for i, nibble in enumerate(nibbles[k : k + 8]))
        for k in range(0, len(nibbles), 8)
    ]
    return struct.pack("<II", values.shape[1], values.shape[0]) + struct.pack(f"<{len(words)}I", *words)


def png(values: np.ndarray[Any, Any]) -> bytes:
    return bytes(cv2.imencode(".png", values)[1])


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_integers_are_millimetres(encoding: str, big: bool, padding: int) -> None:
    depth = decode_depth(raw(SCENE_MM, encoding, big=big, padding=padding), camera="head")
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, SCENE, rtol=1e-6)


def test_floats_are_metres() -> None:
    values = np.array([[0.5, np.nan, np.inf], [0.0, -np.inf, 12.25]], dtype=np.float32)
    depth = decode_depth(raw(values, "32FC1"), camera="head")
    np.testing.assert_array_equal(depth, [[0.5, np.nan, np.nan], [np.nan, np.nan, 12.25]])


@pytest.mark.parametrize(("codec", "encode"), [("png", png), ("rvl", rvl)])
def test_compressed_integers_are_millimetres(codec: str, encode: Any) -> None:
    message = compressed(f"16UC1; compressedDepth {codec}", NO_QUANTISATION + encode(SCENE_MM))
    np.testing.assert_allclose(decode_depth(message, camera="head"), SCENE, rtol=1e-6)


@pytest.mark.parametrize(("codec", "encode"), [("png", png), ("rvl", rvl)])
def test_compressed_floats_are_metres_again(codec: str, encode: Any) -> None:
    """Quantised as by compressed_depth_image_transport: depth_max 10 m, depth_quantization 100."""
    metres = np.array([[0.5, 1.0, 2.5], [np.nan, 5.0, 9.0]])
    a = 100.0 * 101.0
    b = 1.0 - a / 10.0
    values = np.where(np.isnan(metres), 0, np.rint(a / metres + b)).astype(np.uint16)
    header = struct.pack("<iff", 0, a, b)
    message = compressed(f"32FC1; compressedDepth {codec}", header + encode(values))
    np.testing.assert_allclose(decode_depth(message, camera="head"), metres, rtol=2e-3)


@pytest.mark.parametrize("seed", range(5))
def test_rvl_gives_back_any_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 65536, (37, 53)).astype(np.uint16)
    values[rng.random(values.shape) < 0.1 * seed * 2] = 0
    message = compressed("16UC1; compressedDepth rvl", NO_QUANTISATION + rvl(values))
    depth = decode_depth(message, camera="head")
    np.testing.assert_allclose(np.nan_to_num(depth) * 1000.0, values, rtol=1e-6)


@pytest.mark.parametrize(
    "message",
    [
        raw(SCENE_MM, "rgb8"),
        compressed("rgb8; jpeg compressed bgr8", b""),
    ],
)
def test_what_is_no_depth_image_is_refused(message: Any) -> None:
    with pytest.raises(ImageError, match="camera 'head' is no depth image"):
        decode_depth(message, camera="head")


@pytest.mark.parametrize("encode", [png, rvl])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_a_map_that_was_cut_off_is_damaged(encode: Any, share: float) -> None:
    values = np.random.default_rng(0).integers(1, 65536, (20, 30)).astype(np.uint16)
    codec = "png" if encode is png else "rvl"
    data = NO_QUANTISATION + encode(values)
    message = compressed(f"16UC1; compressedDepth {codec}", data[: int(share * len(data))])
    with pytest.raises(DamagedImage):
        decode_depth(message, camera="head")


def test_a_raw_image_that_was_cut_off_is_damaged() -> None:
    message = raw(SCENE_MM, "16UC1")
    message.data = message.data[:-1]
    with pytest.raises(DamagedImage):
        decode_depth(message, camera="head")
