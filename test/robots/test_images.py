# SPDX-License-Identifier: Apache-2.0
"""Images of every supported encoding become the same pixels; all others are refused by name."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from wam.core.errors import ImageError
from wam.robots.images import check_image, decode_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def raw(pixels: np.ndarray, encoding: str, *, pad: int = 0) -> SimpleNamespace:
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, pixels.size // max(height, 1))
    padded = np.concatenate([rows, np.full((height, pad), 77, np.uint8)], axis=1)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=padded.tobytes(),
    )


def compressed(rgb: np.ndarray, suffix: str, text: str) -> SimpleNamespace:
    return SimpleNamespace(format=text, data=cv2.imencode(suffix, rgb[:, :, ::-1])[1].tobytes())


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 9, np.uint8)], axis=2)


@pytest.mark.parametrize("pad", [0, 3])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[:, :, ::-1]),
        ("rgba8", with_alpha(RGB)),
        ("bgra8", with_alpha(RGB[:, :, ::-1])),
    ],
)
def test_every_colour_encoding_gives_red_first_whatever_the_row_padding(
    encoding: str, pixels: np.ndarray, pad: int
) -> None:
    decoded = decode_image(raw(pixels, encoding, pad=pad), camera="head")
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.flags.c_contiguous


def test_grey_is_repeated_over_the_channels() -> None:
    decoded = decode_image(raw(RGB[:, :, 0], "mono8", pad=2), camera="head")
    np.testing.assert_array_equal(decoded, np.repeat(RGB[:, :, :1], 3, axis=2))


def test_the_decoded_image_does_not_share_the_messages_memory() -> None:
    message = raw(RGB, "rgb8")
    message.data = bytearray(message.data)
    decoded = decode_image(message, camera="head")
    message.data[:] = bytes(len(message.data))
    np.testing.assert_array_equal(decoded, RGB)


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, lambda b: array.array("B", b), lambda b: np.frombuffer(b, np.uint8)]
)
def test_rclpy_and_rosbags_byte_containers_both_work(kind: type) -> None:
    message = raw(RGB, "rgb8")
    message.data = kind(message.data)
    np.testing.assert_array_equal(decode_image(message, camera="head"), RGB)


def test_the_last_row_may_end_without_its_padding() -> None:
    message = raw(RGB, "rgb8", pad=4)
    message.data = message.data[:-4]
    np.testing.assert_array_equal(decode_image(message, camera="head"), RGB)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "mono16", "8UC3", "yuv422_yuy2", ""])
def test_other_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"got '{encoding}'; allowed: rgb8, bgr8") as caught:
        check_image(raw(RGB, encoding), camera="head")
    assert "'head'" in str(caught.value)


def test_another_size_names_both_sizes() -> None:
    with pytest.raises(ImageError, match="got '5x6 px'; allowed: 320x240 px"):
        check_image(raw(RGB, "rgb8"), camera="head", size=(240, 320))


def test_a_row_step_below_the_width_is_refused() -> None:
    message = raw(RGB, "rgb8")
    message.step = 14
    with pytest.raises(
        ImageError, match=r"row step of camera 'head' is too small: got '14 bytes'; .*at least 15"
    ):
        check_image(message, camera="head")


def test_missing_rows_are_refused() -> None:
    message = raw(RGB, "rgb8")
    message.data = message.data[:-1]
    with pytest.raises(ImageError, match="is truncated: got '89 bytes'; allowed: 90 bytes"):
        check_image(message, camera="head")


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ImageError, match="is empty"):
        check_image(raw(np.zeros((0, 5, 3), np.uint8), "rgb8"), camera="head")


@pytest.mark.parametrize("text", ["png", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8"])
def test_png_is_decoded_exactly(text: str) -> None:
    np.testing.assert_array_equal(decode_image(compressed(RGB, ".png", text), camera="head"), RGB)


def test_a_format_that_says_red_first_is_not_swapped() -> None:
    message = compressed(RGB[:, :, ::-1], ".png", "rgb8; png compressed rgb8")
    np.testing.assert_array_equal(decode_image(message, camera="head"), RGB)


@pytest.mark.parametrize("text", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "rgb8; jpeg compressed "])
def test_jpeg_is_decoded_red_first(text: str) -> None:
    red = np.zeros((32, 48, 3), np.uint8)
    red[:, :, 0] = 200
    decoded = decode_image(compressed(red, ".jpg", text), camera="head", size=(32, 48))
    assert np.abs(decoded.astype(int) - red).max() < 8


def test_a_grey_jpeg_has_three_channels() -> None:
    data = cv2.imencode(".jpg", RGB[:, :, 0])[1].tobytes()
    message = SimpleNamespace(format="mono8; jpeg compressed mono8", data=data)
    assert decode_image(message, camera="head").shape == (6, 5, 3)


@pytest.mark.parametrize(
    "text", ["16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1; compressedDepth", "h264", ""]
)
def test_formats_without_colour_are_refused_by_name(text: str) -> None:
    with pytest.raises(ImageError, match="has a format that is no colour image"):
        check_image(compressed(RGB, ".png", text), camera="head")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_size_of_a_compressed_image_is_checked_before_it_is_decoded(suffix: str) -> None:
    message = compressed(RGB, suffix, suffix[1:])
    assert check_image(message, camera="head") == (6, 5)
    with pytest.raises(ImageError, match="got '5x6 px'; allowed: 640x480 px"):
        decode_image(message, camera="head", size=(480, 640))


def test_a_progressive_jpeg_tells_its_size() -> None:
    data = cv2.imencode(".jpg", RGB, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert check_image(SimpleNamespace(format="jpeg", data=data), camera="head") == (6, 5)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.6, 0.98])
def test_truncated_compressed_data_are_refused(suffix: str, keep: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    message = compressed(noise, suffix, suffix[1:])
    message.data = message.data[: int(keep * len(message.data))]
    with pytest.raises(ImageError, match="is damaged"):
        decode_image(message, camera="head")


def test_random_bytes_are_refused() -> None:
    data = np.random.default_rng(2).integers(0, 256, 500, dtype=np.uint8).tobytes()
    for head in (b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(ImageError):
            decode_image(SimpleNamespace(format="jpeg", data=head + data), camera="head", size=(6, 5))
