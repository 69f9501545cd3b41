# SPDX-License-Identifier: Apache-2.0
"""Writing H.264 videos image by image through PyAV, with the statistics of their pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.core.extras import missing
from wam.core.observation import Rgb

CODEC = "libx264"
CODEC_OPTIONS = {"crf": "18", "preset": "veryfast", "g": "2"}
"""Nearly lossless; every second image is a key image, since training reads images in any order."""

SMALL_OPTIONS = {"crf": "28", "preset": "veryfast", "movflags": "+faststart"}
"""For people: a few hundred kilobytes."""

STATISTICS_IMAGES = 100

Table = npt.NDArray[Any]

Statistics = dict[str, list[Any]]
"""Of one feature: minimum, maximum, mean, standard deviation and count, in LeRobot's shapes."""


class VideoEncoder:
    """Encodes images, each with its time.

    Args:
        target: file to make, or where its bytes go.
        rate: images per second, about [Hz].
        time_base: unit of the times [s]; None takes one over `rate`.
        options: of the encoder.
        threads: of the encoder; 0 lets it choose.

    Raises:
        MissingDependency: PyAV is not installed.
        RecordingError: the file cannot be made.
    """

    def __init__(
        self,
        target: Path | BinaryIO,
        *,
        rate: Fraction,
        time_base: Fraction | None = None,
        options: dict[str, str],
        threads: int = 0,
    ) -> None:
        try:
            import av
        except ModuleNotFoundError as error:
            raise missing("encoding video needs PyAV", "av") from error
        self._av = av
        self._name = str(target) if isinstance(target, Path) else "in memory"
        self._rate, self._time_base = rate, time_base or 1 / rate
        self._options, self._threads = options, threads
        self._stream: Any = None
        self._container: Any = None
        self._container = self._guard(
            av.open, str(target) if isinstance(target, Path) else target, "w", "mp4"
        )

    def encode(self, rgb: Rgb, *, time: int) -> int:
        """Encode an image and return the bytes that were written.

        Args:
            rgb: uint8 [H, W, 3]; all images of a video have one size.
            time: when it is shown, in units of the time base; greater than that of the image before.

        Raises:
            RecordingError: it could not be encoded, or the disk is full or fails.
        """
        return int(self._guard(self._encode, rgb, time))

    def flush(self) -> None:
        """Write what the encoder holds back, and close the file.

        Raises:
            RecordingError: there was no image, or the disk is full or fails.
        """
        if self._stream is None:
            raise RecordingError(f"video {self._name} has no image")
        self._guard(self._flush)

    def close(self) -> None:
        """Close the file, whether or not it is complete; safe to call twice."""
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except OSError:
                # The file is abandoned, and the reason has been reported.
                pass

    def _encode(self, rgb: Rgb, time: int) -> int:
        if self._stream is None:
            self._stream = self._container.add_stream(CODEC, rate=self._rate, options=dict(self._options))
            self._stream.height, self._stream.width = rgb.shape[:2]
            self._stream.pix_fmt = pixel_format(*rgb.shape[:2])
            self._stream.codec_context.time_base = self._time_base
            self._stream.codec_context.thread_count = self._threads
        frame = self._av.VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = time, self._time_base
        packets = self._stream.encode(frame)
        self._container.mux(packets)
        return sum(packet.size for packet in packets)

    def _flush(self) -> None:
        self._container.mux(self._stream.encode())
        container, self._container = self._container, None
        container.close()

    def _guard(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except (self._av.error.FFmpegError, OSError) as error:
            self.close()
            raise RecordingError(
                f"video {self._name} could not be encoded ({error})", where="OUT, and the space on its disk"
            ) from error


class VideoWriter:
    """Writes one video of evenly spaced images, and takes the statistics of their pixels.

    Args:
        path: file to make.
        fps: images per second [Hz].
        length: number of images, where it is known; statistics are then taken from evenly spaced ones.
        options: of the encoder.

    Raises:
        MissingDependency: PyAV is not installed.
        RecordingError: the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        length: int | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._encoder = VideoEncoder(
            path,
            rate=Fraction(fps).limit_denominator(1001),
            options=CODEC_OPTIONS if options is None else options,
        )
        self._step = max(1, (length or 0) // STATISTICS_IMAGES)
        self._thinning = length is None
        self._samples: list[Table] = []
        self._rows = 0

    def add(self, rgb: Rgb) -> None:
        """Write the next image, uint8 [H, W, 3].

        Raises:
            RecordingError: it could not be encoded, or the disk is full or fails.
        """
        self._encoder.encode(rgb, time=self._rows)
        if self._rows % self._step == 0:
            # Every fourth pixel is enough for statistics.
            self._samples.append(rgb[::4, ::4].copy())
            if self._thinning and len(self._samples) == 2 * STATISTICS_IMAGES:
                self._samples, self._step = self._samples[::2], 2 * self._step
        self._rows += 1

    def finish(self) -> Statistics:
        """Close the file and return the statistics of its images, per colour in 0..1.

        Raises:
            RecordingError: there was no image, or the disk is full or fails.
        """
        self._encoder.flush()
        pixels = column_statistics(np.concatenate([one.reshape(-1, 3) for one in self._samples]) / 255.0)
        shaped = {name: [[[value]] for value in pixels[name]] for name in ("min", "max", "mean", "std")}
        return {**shaped, "count": [len(self._samples)]}

    def close(self) -> None:
        """Close the file, whether or not it is complete; safe to call twice."""
        self._encoder.close()


def pixel_format(height: int, width: int) -> str:
    """Return the pixel format of a video of this size [px]."""
    # Halved chroma needs even sides.
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"


def column_statistics(values: Table) -> Statistics:
    """Return minimum, maximum, mean, standard deviation and count of each column of [T] or [T, N]."""
    table = values.reshape(len(values), -1).astype(np.float64)
    return {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": table.mean(axis=0).tolist(),
        "std": table.std(axis=0).tolist(),
        "count": [len(table)],
    }
