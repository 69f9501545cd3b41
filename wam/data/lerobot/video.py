# SPDX-License-Identifier: Apache-2.0
"""Reading images: from video files (AV1, H.264, ...) by time, and from PNG or JPEG bytes.

`VideoFile.images_at` is the only decoder. Conversion follows it through an episode, one image in memory;
`read_images` serves the random access of training on top of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.lerobot.pointers import refuse_pointer

SEEK_GAP_S = 2.0
"""A gap between two wanted images above which seeking is cheaper than decoding all images in between."""

ROUNDING_S = 1e-6
"""Stamps in a file are rounded to its time base."""


class VideoFile:
    """An open video file. Use it in a `with` block; not thread-safe.

    Args:
        path: file that PyAV can open.
        threads: False decodes in one thread: data loaders run one process per core, where more would only contend.

    Raises:
        RecordingError: the file is missing, damaged or holds no video.
    """

    def __init__(self, path: Path, *, threads: bool) -> None:
        self.path = path
        if not path.is_file():
            raise RecordingError(f"{path} is missing", where="a complete copy of the data set")
        try:
            self._container = av.open(str(path), mode="r")
        except av.error.FFmpegError as error:
            refuse_pointer(path)
            raise self._damaged(error) from error
        if not self._container.streams.video:
            self.close()
            raise RecordingError(f"{path} holds no video stream", where="the data set")
        self._stream = self._container.streams.video[0]
        if threads:
            self._stream.thread_type = "AUTO"
        else:
            self._stream.codec_context.thread_count = 1

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._container.close()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [px]."""
        return self._stream.height, self._stream.width

    @property
    def rate(self) -> float | None:
        """Average frame rate [Hz], or None where the file does not say."""
        rate = self._stream.average_rate
        return float(rate) if rate else None

    def images_at(self, times_s: Sequence[float], *, tolerance_s: float) -> Iterator[tuple[int, Rgb]]:
        """Decode the image shown at each time, in order; memory stays at one image.

        Args:
            times_s: increasing, on the file's own clock [s].
            tolerance_s: an image further away from a time than this is not taken for it [s].

        Yields:
            Index of the time, and its image, uint8 [H, W, 3], RGB. Times without an image are left out.

        Raises:
            RecordingError: the file cannot be decoded.
        """
        margin_s = tolerance_s + ROUNDING_S
        for first, last in _runs(times_s):
            try:
                yield from self._decode(times_s, first, last, margin_s)
            except av.error.FFmpegError as error:
                raise self._damaged(error) from error

    def _decode(
        self, times_s: Sequence[float], first: int, last: int, margin_s: float
    ) -> Iterator[tuple[int, Rgb]]:
        """Decode from the key image before time number `first` to just past time number `last` - 1."""
        base = self._stream.time_base
        if base is None:
            raise RecordingError(f"the video stream of {self.path} has no time base", where="the data set")
        self._container.seek(
            max(0, int((times_s[first] - margin_s) / base)), stream=self._stream, backward=True
        )
        index = first
        for frame in self._container.decode(self._stream):
            if frame.pts is None:
                continue
            now = float(frame.pts * base)
            while index < last and times_s[index] < now - margin_s:
                index += 1
            if index < last and times_s[index] <= now + margin_s:
                rgb = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                while index < last and times_s[index] <= now + margin_s:
                    yield index, rgb
                    index += 1
            if index == last:
                return

    def _damaged(self, error: Exception) -> RecordingError:
        return RecordingError(f"video {self.path} cannot be decoded ({error})", where="the data set")


def read_images(path: Path, times_s: Sequence[float], *, period_s: float) -> npt.NDArray[np.uint8]:
    """Decode the images shown at given times.

    Args:
        path: video file that PyAV can open.
        times_s: in any order, repeats allowed [s].
        period_s: time between two images; an image further than half of it away is not taken [s].

    Returns:
        uint8 [len(times_s), H, W, 3], RGB.

    Raises:
        RecordingError: the file is missing, damaged, has no video, or has no image at one of the times.
    """
    order = sorted(set(times_s))
    with VideoFile(path, threads=False) as video:
        found = {order[i]: rgb for i, rgb in video.images_at(order, tolerance_s=period_s / 2)}
    missing = [t for t in order if t not in found]
    if missing:
        raise RecordingError(
            f"{path} has no image at {missing[0]:.4f} s ({len(missing)} of {len(order)} missing)",
            allowed=f"an image within {period_s / 2:.4f} s",
            where="a complete copy of the data set, or its fps",
        )
    return np.stack([found[t] for t in times_s])


def decode_stored(data: bytes | None, *, what: str) -> Rgb:
    """Decode one image that is stored as PNG or JPEG.

    Args:
        data: the encoded bytes, None where there are none.
        what: the image, for the error text.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        RecordingError: there are no bytes, or they are no image.
    """
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise RecordingError(f"{what} is missing or cannot be decoded", where="the data set")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _runs(times_s: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Return first and one past the last index of every stretch of times that is decoded without seeking."""
    first = 0
    for i in range(1, len(times_s) + 1):
        if i == len(times_s) or times_s[i] - times_s[i - 1] > SEEK_GAP_S:
            yield first, i
            first = i
