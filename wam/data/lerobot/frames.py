# SPDX-License-Identifier: Apache-2.0
"""Images of an episode: from a video file (AV1, H.264, ...) through PyAV, or stored one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.errors import MissingDependency, RecordingError
from wam.core.observation import Rgb

FPS_TOLERANCE = 0.02


def decode_video(
    path: Path,
    *,
    stamps: npt.NDArray[np.float64],
    fps: float,
    size: tuple[int, int],
    on_fault: Callable[[RecordingError], None],
    lenient: bool = False,
) -> Iterator[tuple[int, Rgb]]:
    """Decode the image of every stamp, in order; memory stays at one image.

    Args:
        path: video file.
        stamps: float64 [T], times in the file's own clock, increasing [s].
        fps: frame rate that the data set declares [Hz].
        size: height and width that the data set declares [px].
        on_fault: takes a wrong rate, and raises it or lets it pass.
        lenient: leave out stamps without an image.

    Yields:
        index of the stamp and its image, uint8 [H, W, 3], red first; fewer than T where the video ends early.

    Raises:
        RecordingError: the file cannot be decoded, has another size or rate, or no image near a stamp.
        MissingDependency: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingDependency("decoding video needs PyAV", where="pip install av") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise RecordingError(f"{path} holds no video", where="the data set")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            _check_stream(path, stream, fps=fps, size=size, on_fault=on_fault)
            if stamps[0] > 1.0 / fps:
                container.seek(int(stamps[0] / stream.time_base), stream=stream, backward=True)
            yield from _aligned(path, container.decode(stream), stamps=stamps, fps=fps, lenient=lenient)
    except av.error.FFmpegError as error:
        raise RecordingError(f"video {path} cannot be decoded ({error})", where="the data set") from error


def decode_stored(
    images: Iterable[bytes | None], *, size: tuple[int, int], where: str
) -> Iterator[tuple[int, Rgb]]:
    """Decode images that are stored as PNG or JPEG bytes; gives row and uint8 [H, W, 3], red first.

    Raises:
        RecordingError: one is missing, cannot be decoded, or has another size.
    """
    for row, data in enumerate(images):
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if bgr is None:
            raise RecordingError(f"image in row {row} of {where} is missing or cannot be decoded")
        if bgr.shape[:2] != size:
            raise _wrong_size(f"image in row {row} of {where}", bgr.shape[:2], size)
        yield row, np.ascontiguousarray(bgr[..., ::-1])


def _aligned(
    path: Path, frames: Iterable[Any], *, stamps: npt.NDArray[np.float64], fps: float, lenient: bool
) -> Iterator[tuple[int, Rgb]]:
    """Pick the frame of every stamp; a frame belongs to a stamp when they are at most half a period apart."""
    half = 0.5 / fps
    row = 0
    for frame in frames:
        time = float(frame.time)
        while row < len(stamps) and time > stamps[row] + half:
            if not lenient:
                raise RecordingError(
                    f"video {path} has no image for row {row} of the table",
                    value=f"next image at {time:.3f} s",
                    allowed=f"one within {half * 1e3:.0f} ms of {stamps[row]:.3f} s",
                    where="the data set, or pass --lenient to keep the rows that have an image",
                )
            row += 1
        if row == len(stamps):
            return
        if time >= stamps[row] - half:
            yield row, frame.to_ndarray(format="rgb24")
            row += 1


def _check_stream(
    path: Path, stream: Any, *, fps: float, size: tuple[int, int], on_fault: Callable[[RecordingError], None]
) -> None:
    if (stream.height, stream.width) != size:
        raise _wrong_size(f"video {path}", (stream.height, stream.width), size)
    rate = float(stream.average_rate) if stream.average_rate else fps
    if abs(rate - fps) > FPS_TOLERANCE * fps:
        on_fault(
            RecordingError(
                f"video {path} has another frame rate than meta/info.json declares",
                value=f"{rate:.2f} Hz",
                allowed=f"{fps:g} Hz, within {100 * FPS_TOLERANCE:.0f} %",
                where="meta/info.json: fps, or pass --lenient",
            )
        )


def _wrong_size(what: str, have: tuple[int, ...], want: tuple[int, int]) -> RecordingError:
    return RecordingError(
        f"{what} has another size than meta/info.json declares",
        value=f"{have[1]}x{have[0]}",
        allowed=f"{want[1]}x{want[0]}",
        where="meta/info.json: features",
    )
