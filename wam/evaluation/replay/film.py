# SPDX-License-Identifier: Apache-2.0
"""Small videos of the cameras of a replay, encoded while it runs, whose time is the time of the report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from wam.core.errors import WamError
from wam.core.observation import Rgb
from wam.data.lerobot.video_writer import VideoEncoder

WIDTH = 320
"""Most columns of a video [px]."""

STEP_S = 0.095
"""Least time between two images [s]: ten a second, with room for jitter."""

FROM_START_S = 0.2
"""A first image within this time is shown from the start on; before a later one the video is grey [s]."""

MP4_BYTES = 5_000_000
"""Most bytes of all videos of a page; images are left out where they would not fit."""

AHEAD = 0.2
"""Share of its bytes that a video may use at any time; the others become free as the recording passes."""

OPTIONS = {"preset": "ultrafast", "crf": "26", "g": "20", "tune": "zerolatency"}
"""About 2 kB an image; a key image every two seconds, since a person jumps to and fro. Slower presets take twice the
time for the same images."""

GREY = 226
_MS = 1000


@dataclass(frozen=True, slots=True)
class FilmedCamera:
    """The video of one camera.

    Attributes:
        camera: its name.
        width: columns [px]; 0 without a video.
        height: rows [px].
        mp4: the file, H.264; empty without one.
        images_ms: time of every image in it, ascending [ms].
        problem: why there is no video or why it ends early; "" where there is none.
    """

    camera: str
    width: int
    height: int
    mp4: bytes
    images_ms: tuple[int, ...]
    problem: str = ""


class CameraFilm:
    """Films one camera. An image that cannot be encoded ends the film and nothing else.

    Args:
        camera: its name.
        expected: images of it in the recording.
        limit: most bytes of the video, about.
    """

    def __init__(self, camera: str, *, expected: int, limit: int) -> None:
        self._camera, self._expected, self._limit = camera, max(1, expected), limit
        self._buffer = io.BytesIO()
        self._encoder: VideoEncoder | None = None
        self._last: Rgb | None = None
        self._bytes = 0
        self._passed = 0
        self._problem = ""
        self._images: list[int] = []

    def count(self) -> None:
        """Note that an image of the camera has passed, used or not."""
        self._passed += 1

    def wants(self, seconds: float, *, after: float = STEP_S) -> bool:
        """Whether an image of that time would be shown.

        Args:
            seconds: its time in the report [s].
            after: only where there was none for so long [s].
        """
        if self._problem or seconds < 0:
            return False
        if self._images and seconds - self._images[-1] / _MS < after:
            return False
        share = min(1.0, self._passed / self._expected)
        return self._bytes <= self._limit * (AHEAD + (1.0 - AHEAD) * share)

    def add(self, rgb: Rgb, seconds: float) -> None:
        """Show an image from `seconds` on, if it is wanted.

        Args:
            rgb: uint8 [H, W, 3].
            seconds: its time in the report [s].
        """
        if not self.wants(seconds):
            return
        try:
            self._add(rgb, round(seconds * _MS))
        except (WamError, ValueError, cv2.error) as error:
            self._give_up(str(error))

    def finish(self, end: float) -> FilmedCamera:
        """Return the video, which lasts up to `end` [s]."""
        if self._encoder is not None and self._last is not None:
            try:
                if end * _MS > self._images[-1] + 1:
                    # The last image lasts to the end: a player stops where the last one begins.
                    self._encoder.encode(self._last, time=round(end * _MS))
                self._encoder.flush()
            except WamError as error:
                self._give_up(str(error))
        self.close()
        if self._encoder is None or self._last is None:
            problem = self._problem or "no image of it was used"
            return FilmedCamera(self._camera, 0, 0, b"", (), problem)
        height, width = self._last.shape[:2]
        return FilmedCamera(self._camera, width, height, self._buffer.getvalue(), tuple(self._images))

    def close(self) -> None:
        """Release the encoder; safe to call twice."""
        if self._encoder is not None:
            self._encoder.close()

    def _add(self, rgb: Rgb, time_ms: int) -> None:
        if self._encoder is None:
            # One thread: several would cost more time in all, and a replay counts the processor's.
            self._encoder = VideoEncoder(
                self._buffer, rate=Fraction(10), time_base=Fraction(1, _MS), options=OPTIONS, threads=1
            )
        small = _fitted(rgb, None if self._last is None else self._last.shape[:2])
        if self._last is None and time_ms > 0:
            late = time_ms > FROM_START_S * _MS
            self._bytes += self._encoder.encode(np.full_like(small, GREY) if late else small, time=0)
        self._bytes += self._encoder.encode(small, time=time_ms)
        self._last = small
        self._images.append(time_ms)

    def _give_up(self, problem: str) -> None:
        self._problem = f"it could not be filmed: {problem}"
        self.close()
        self._encoder = None


def films(expected: Mapping[str, int]) -> dict[str, CameraFilm]:
    """Return a film for every camera; they share `MP4_BYTES`.

    Args:
        expected: camera -> images of it in the recording.
    """
    limit = MP4_BYTES // max(1, len(expected))
    return {camera: CameraFilm(camera, expected=count, limit=limit) for camera, count in expected.items()}


def _fitted(rgb: Rgb, size: tuple[int, ...] | None) -> Rgb:
    """Return an image of even sides, at most `WIDTH` columns, or of the height and width given [px]."""
    if size is None:
        scale = min(1.0, WIDTH / rgb.shape[1])
        size = tuple(max(2, round(side * scale / 2) * 2) for side in rgb.shape[:2])
    if rgb.shape[:2] == size:
        return rgb
    small: Rgb = cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(
        np.uint8, copy=False
    )
    return small
