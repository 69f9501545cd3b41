# SPDX-License-Identifier: Apache-2.0
"""The recording read once more for a viewer: images of the policy's cameras and the measured joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.errors import ImageError, RecordingError
from wam.data.bag.binding import Role
from wam.data.bag.commands import CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.viewer_sink import Times
from wam.robots.images import decode_image

MAX_BYTES = 128 << 20
"""Most bytes of images; where there are more, every second one of all cameras is left out, as often as needed."""

JPEG_WIDTH = 480
JPEG_QUALITY = 75
_JPEG = b"\xff\xd8"


@dataclass(slots=True)
class KeptFrames:
    """Images of one camera.

    Attributes:
        times_ns: when each was taken [ns].
        jpegs: encoded.
        total: images in the recording.
        every: only every so-many-th is kept.
    """

    times_ns: list[int] = field(default_factory=list)
    jpegs: list[bytes] = field(default_factory=list)
    total: int = 0
    every: int = 1


@dataclass(frozen=True, slots=True)
class RecordedView:
    """What was recorded.

    Attributes:
        frames: camera -> images.
        times_ns: int64 [T], of the positions [ns].
        positions: float64 [T, N], measured joints of the robot in its order; NaN where a joint was not yet reported.
    """

    frames: Mapping[str, KeptFrames]
    times_ns: Times
    positions: npt.NDArray[np.float64]


def read_again(data: ReplayData, *, max_bytes: int = MAX_BYTES) -> RecordedView:
    """Read cameras and joint states of a replay's recording.

    Args:
        data: the replay; its recording is open.
        max_bytes: most bytes of images.

    Raises:
        RecordingError: the recording cannot be read.
    """
    feeds = {
        feed.topic: feed for feed in data.binding.feeds.values() if feed.role in (Role.CAMERA, Role.JOINTS)
    }
    joints = RecordedJoints(data.robot, wanted=data.robot.joint_names)
    album = Album(max_bytes)
    now = np.full(len(data.robot.joint_names), np.nan)
    times: list[int] = []
    rows: list[npt.NDArray[np.float64]] = []
    for message in data.recording.messages(list(feeds), use_stamps=data.options.use_stamps):
        feed = feeds[message.topic]
        if message.msgtype != feed.msgtype:
            continue
        if feed.role is Role.CAMERA:
            album.add(feed.camera, message.time_ns, message.message)
            continue
        content = message.message
        try:
            index, positions = joints.read(
                CommandSample(message.time_ns, tuple(content.name), content.position), feed
            )
        except RecordingError:
            continue  # the replay has said so, or was told to be lenient
        now[index] = positions
        if times and message.time_ns - times[-1] < data.contract.control_period_ns // 2:
            rows[-1] = now.copy()
            continue
        times.append(message.time_ns)
        rows.append(now.copy())
    return RecordedView(
        album.frames,
        np.array(times, dtype=np.int64),
        np.array(rows) if rows else np.empty((0, len(now))),
    )


class Album:
    """Keeps images of cameras as JPEG, evenly spread and never more than a number of bytes.

    Args:
        max_bytes: most bytes of all images.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._every = 1
        self.frames: dict[str, KeptFrames] = {}

    def add(self, camera: str, time_ns: int, message: Any) -> None:
        """Take an image message; one that cannot be decoded is counted alone."""
        frames = self.frames.setdefault(camera, KeptFrames(every=self._every))
        frames.total += 1
        if (frames.total - 1) % self._every:
            return
        try:
            jpeg = small_jpeg(message, camera)
        except ImageError:
            jpeg = b""  # an empty place keeps the rest evenly spread
        frames.times_ns.append(time_ns)
        frames.jpegs.append(jpeg)
        self._bytes += len(jpeg)
        while self._bytes > self._max_bytes and any(len(one.jpegs) > 1 for one in self.frames.values()):
            self._thin()

    def _thin(self) -> None:
        self._every *= 2
        self._bytes = 0
        for frames in self.frames.values():
            frames.times_ns, frames.jpegs = frames.times_ns[::2], frames.jpegs[::2]
            frames.every = self._every
            self._bytes += sum(map(len, frames.jpegs))


def small_jpeg(message: Any, camera: str) -> bytes:
    """Return an image message as a JPEG of at most 480 pixels' width; one that is so already is taken as it is.

    Raises:
        ImageError: it cannot be decoded or encoded.
    """
    raw = bytes(message.data) if hasattr(message, "format") else b""
    rgb = decode_image(message, camera=camera)
    height, width = rgb.shape[:2]
    if raw.startswith(_JPEG) and width <= JPEG_WIDTH:
        return raw
    if width > JPEG_WIDTH:
        size = (JPEG_WIDTH, max(1, round(height * JPEG_WIDTH / width)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ImageError(f"image of {camera} could not be encoded", value=str(rgb.shape))
    return data.tobytes()
