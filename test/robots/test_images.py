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


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "nv24", "bayer_rggb12", ""])
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
    "text", ["16UC1; compressedDepth png", "16UC1; png compressed ", "32FC1; compressedDepth"]
)
def test_depth_maps_are_refused_by_name(text: str) -> None:
    with pytest.raises(ImageError, match="is a depth map"):
        check_image(compressed(RGB, ".png", text), camera="head")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("text", ["", "mjpeg", "jpg", "video/x-jpeg", "h264"])
def test_the_bytes_decide_what_a_compressed_image_is_whatever_its_format_says(suffix: str, text: str) -> None:
    """A camera whose driver leaves `format` empty, or writes "mjpeg" into it, was refused."""
    decoded = decode_image(compressed(CARD, suffix, text), camera="head", size=CARD.shape[:2])
    assert_is_the_card(decoded)


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_WEBP_QUALITY, 50], [cv2.IMWRITE_WEBP_QUALITY, 101]])
def test_a_webp_that_is_cut_off_is_refused(options: list[int]) -> None:
    data = cv2.imencode(".webp", CARD[:, :, ::-1], options)[1].tobytes()
    assert check_image(SimpleNamespace(format="webp", data=data), camera="head") == CARD.shape[:2]
    with pytest.raises(ImageError, match="is damaged"):
        decode_image(SimpleNamespace(format="webp", data=data[:-8]), camera="head")


def yuv(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, U and V of BT.601 in the limited range, by the formula of the standard."""
    r, g, b = (pixels[..., i].astype(float) for i in range(3))
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def four_two_two(pixels: np.ndarray, order: str) -> np.ndarray:
    y, u, v = yuv(pixels)
    parts = {"Y": y[:, 0::2], "y": y[:, 1::2], "U": u[:, 0::2], "V": v[:, 0::2]}
    return np.stack([parts[letter] for letter in order], axis=2).reshape(len(pixels), -1)


def four_two_zero(pixels: np.ndarray, kind: str) -> np.ndarray:
    y, u, v = yuv(pixels)
    u, v = u[::2, ::2], v[::2, ::2]
    width = pixels.shape[1]
    if kind == "i420":
        colours = np.concatenate([u.ravel(), v.ravel()])
    else:
        colours = np.stack([u, v] if kind == "nv12" else [v, u], axis=2)
    return np.concatenate([y, colours.reshape(-1, width)])


def mosaic(pixels: np.ndarray, pattern: str) -> np.ndarray:
    out = np.empty(pixels.shape[:2], np.uint8)
    for i, letter in enumerate(pattern):
        out[i // 2 :: 2, i % 2 :: 2] = pixels[i // 2 :: 2, i % 2 :: 2, "rgb".index(letter)]
    return out


def wide(values: np.ndarray, byte_order: str) -> np.ndarray:
    return (values.astype(np.uint16) * 257).astype(byte_order + "u2").view(np.uint8)


CARD = np.zeros((16, 24, 3), np.uint8)
CARD[:8, :12], CARD[:8, 12:] = (200, 20, 30), (20, 30, 200)
CARD[8:, :12], CARD[8:, 12:] = (30, 180, 40), (90, 90, 90)
"""Red, blue, green and grey."""


def assert_is_the_card(decoded: np.ndarray) -> None:
    assert (decoded.shape, decoded.dtype) == (CARD.shape, np.uint8)
    assert decoded.flags.c_contiguous
    for rows, columns in ((3, 5), (3, 18), (12, 5), (12, 18)):
        assert np.abs(decoded[rows, columns].astype(int) - CARD[rows, columns]).max() <= 8


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("8UC3", CARD[:, :, ::-1].reshape(16, -1)),
        ("8UC4", with_alpha(CARD[:, :, ::-1]).reshape(16, -1)),
        ("yuv422", four_two_two(CARD, "UYVy")),
        ("uyvy", four_two_two(CARD, "UYVy")),
        ("yuv422_yuy2", four_two_two(CARD, "YUyV")),
        ("yuyv", four_two_two(CARD, "YUyV")),
        *((kind, four_two_zero(CARD, kind)) for kind in ("nv12", "nv21", "i420")),
        *((f"bayer_{p}8", mosaic(CARD, p)) for p in ("rggb", "bggr", "gbrg", "grbg")),
        ("bayer_rggb16", wide(mosaic(CARD, "rggb"), "<")),
        ("rgb16", wide(CARD.reshape(16, -1), "<")),
        ("bgr16", wide(CARD[:, :, ::-1].reshape(16, -1), "<")),
    ],
)
def test_a_card_of_four_colours_keeps_them_in_every_encoding_that_drivers_send(
    encoding: str, pixels: np.ndarray
) -> None:
    """The encodings were refused, among them the default of usb_cam."""
    message = raw(CARD, encoding)
    message.step, message.data = pixels.shape[1], pixels.tobytes()
    assert check_image(message, camera="head", size=(16, 24)) == (16, 24)
    assert_is_the_card(decode_image(message, camera="head"))
    message.data = message.data[:-1]
    with pytest.raises(ImageError, match="is truncated"):
        check_image(message, camera="head")


@pytest.mark.parametrize("big", [False, True])
def test_of_grey_with_16_bits_the_upper_eight_are_used(big: bool) -> None:
    grey = CARD[:, :, 0].copy()
    message = raw(CARD, "mono16")
    data = wide(grey, ">" if big else "<")
    message.is_bigendian, message.step, message.data = int(big), data.shape[1], data.tobytes()
    np.testing.assert_array_equal(decode_image(message, camera="head")[:, :, 1], grey)


@pytest.mark.parametrize(("encoding", "side"), [("yuv422_yuy2", "width"), ("nv12", "height")])
def test_colours_that_two_pixels_share_need_an_even_side(encoding: str, side: str) -> None:
    odd = np.zeros((5, 4, 3) if side == "height" else (4, 5, 3), np.uint8)
    with pytest.raises(ImageError, match=f"has an odd {side}"):
        check_image(raw(odd, encoding), camera="head")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
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
