# SPDX-License-Identifier: Apache-2.0
"""Pictures from video files by time, and from encoded bytes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from wam.core.errors import RecordingError

SEEK_GAP_S = 2.0
"""A gap between two wanted pictures above which seeking is cheaper than decoding through."""


def read_frames(path: Path, times_s: Sequence[float], *, period_s: float) -> npt.NDArray[np.uint8]:
    """Decode the pictures shown at given times.

    Args:
        path: video file that PyAV can open.
        times_s: in any order, repeats allowed [s].
        period_s: time between two pictures; a picture further than half of it away is not taken [s].

    Returns:
        uint8 [len(times_s), H, W, 3], RGB.

    Raises:
        RecordingError: the file is missing, damaged, has no video, or has no picture at one of the times.
    """
    if not path.is_file():
        raise RecordingError(f"{path} is missing", where="a complete copy of the data set")
    order = sorted(set(times_s))
    found: dict[float, npt.NDArray[np.uint8]] = {}
    try:
        with av.open(str(path), mode="r") as container:
            if not container.streams.video:
                raise RecordingError(f"{path} has no video stream")
            stream = container.streams.video[0]
            # Data loaders run one process per core; threads inside each would only contend.
            stream.codec_context.thread_count = 1
            for run in _runs(order):
                found.update(_decode_run(container, stream, run, tolerance_s=period_s / 2))
    except av.error.FFmpegError as error:
        raise RecordingError(f"{path} cannot be decoded: {error}") from error
    missing = [t for t in order if t not in found]
    if missing:
        raise RecordingError(
            f"{path} has no picture at {missing[0]:.4f} s ({len(missing)} of {len(order)} missing)",
            allowed=f"a picture within {period_s / 2:.4f} s",
            where="a complete copy of the data set, or its fps",
        )
    return np.stack([found[t] for t in times_s])


def _runs(times_s: Sequence[float]) -> list[list[float]]:
    runs: list[list[float]] = []
    for t in times_s:
        if runs and t - runs[-1][-1] <= SEEK_GAP_S:
            runs[-1].append(t)
        else:
            runs.append([t])
    return runs


def _decode_run(
    container: InputContainer, stream: VideoStream, times_s: Sequence[float], *, tolerance_s: float
) -> dict[float, npt.NDArray[np.uint8]]:
    """Decode forward from the key picture before the first time to just past the last one."""
    base = stream.time_base
    if base is None:
        raise RecordingError(f"{container.name}: the video stream has no time base")
    container.seek(max(0, int((times_s[0] - tolerance_s) / base)), stream=stream, backward=True)
    found: dict[float, npt.NDArray[np.uint8]] = {}
    waiting = list(times_s)
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        now = float(frame.pts * base)
        # Stamps in a file are rounded to its time base, hence a margin that is small beside the tolerance.
        while waiting and waiting[0] < now - tolerance_s - 1e-6:
            waiting.pop(0)
        pixels = None
        while waiting and abs(waiting[0] - now) <= tolerance_s + 1e-6:
            pixels = _rgb(frame) if pixels is None else pixels
            found[waiting.pop(0)] = pixels
        if not waiting:
            break
    return found


def _rgb(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def decode_image(data: BytesIO, *, where: str) -> npt.NDArray[np.uint8]:
    """Decode one PNG or JPEG picture to uint8 [H, W, 3], RGB.

    Args:
        data: the encoded bytes.
        where: place for the error text.

    Raises:
        RecordingError: the bytes are no picture.
    """
    try:
        with av.open(data, mode="r") as container:
            for frame in container.decode(video=0):
                return _rgb(frame)
    except (av.error.FFmpegError, IndexError) as error:
        raise RecordingError(f"{where}: a picture cannot be decoded: {error}") from error
    raise RecordingError(f"{where}: a picture has no content")
