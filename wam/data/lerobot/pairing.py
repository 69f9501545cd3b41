# SPDX-License-Identifier: Apache-2.0
"""Which image of a video belongs to which row of an episode: one rule, for training, conversion and replay.

Where a video has as many images as the episode has rows, image i is that of row i, whatever the stamps of either say:
tables may start at one period, have measured times, or a video may run at 29.97 Hz. Else the times decide, both counted
from the first row.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.data.lerobot.metadata import VideoPart
from wam.data.lerobot.pointers import refuse_pointer

Times = npt.NDArray[np.float64]

BY_INDEX, BY_STAMP = "by index", "by stamp"


@dataclass(frozen=True, slots=True)
class ImagePairing:
    """The time of each row's image in the file of a video.

    Attributes:
        times_s: float64 [N], on the clock of the file [s]; one without an image nearby has none.
        rule: `BY_INDEX` or `BY_STAMP`.
        images: images of the episode in the file.
    """

    times_s: Times
    rule: str
    images: int


def pair(part: VideoPart, *, rows: int, fps: float, stamps: Callable[[], Times]) -> ImagePairing:
    """Return when the image of each row is shown.

    Args:
        part: video of the episode.
        rows: N.
        fps: declared rate of the rows [Hz].
        stamps: returns the times of the rows, float64 [N] [s]; called only where they decide.

    Raises:
        RecordingError: the video is missing or damaged.
    """
    shown = image_times(part.path)
    margin_s = 0.5 / fps
    end_s = math.inf if part.end_s is None else part.end_s - margin_s
    own = shown[(shown >= part.start_s - margin_s) & (shown < end_s)]
    if len(own) == rows:
        return ImagePairing(own, BY_INDEX, rows)
    times = stamps()
    return ImagePairing(part.start_s + times - times[0], BY_STAMP, len(own))


def image_times(path: Path) -> Times:
    """Return when the images of a video are shown, float64 [K], in order [s]; nothing is decoded.

    Raises:
        RecordingError: the file is missing, damaged or holds no video.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise RecordingError(f"{path} is missing", where="a complete copy of the data set") from error
    return _image_times(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=4096)
def _image_times(path: Path, _changed_ns: int, _size: int) -> Times:
    try:
        with av.open(str(path), mode="r") as container:
            stream = container.streams.video[0]
            base = stream.time_base
            times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    except (av.error.FFmpegError, IndexError) as error:
        refuse_pointer(path)
        raise RecordingError(f"video {path} cannot be decoded ({error})", where="the data set") from error
    if base is None:
        raise RecordingError(f"the video stream of {path} has no time base", where="the data set")
    return np.sort(np.array(times, dtype=np.float64)) * float(base)
