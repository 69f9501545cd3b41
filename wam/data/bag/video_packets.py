# SPDX-License-Identifier: Apache-2.0
"""Cameras that were recorded as packets of a video: each packet becomes the image that it completes.

A packet can only be decoded after all those since the last key image, so the packets of a topic go through one decoder,
in the order of the recording. Its images are messages of sensor_msgs/Image in rgb8 with the stamps of their packets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any

import av
import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.topics import COMPRESSED_IMAGE, COMPRESSED_VIDEO, FFMPEG_PACKET, IMAGE, JPEG_QUALITY

VIDEO_PACKETS = (FFMPEG_PACKET, COMPRESSED_VIDEO)

_CODECS = {
    "h264": "h264",
    "h265": "hevc",
    "hevc": "hevc",
    "av1": "av1",
    "vp8": "vp8",
    "vp9": "vp9",
    "mjpeg": "mjpeg",
}
"""What messages call a codec -> what FFmpeg calls it."""

INTERVALS = 15
LEAST_INTERVALS = 3
GAP_INTERVALS = 1.6
"""Packets are missing where the time between two is longer than so many usual ones (the median of the last 15)."""

MOST_WAITING = 64
"""Packets whose images may be outstanding; more means that the decoder has lost them."""


class VideoDecoder:
    """Decodes the packets of one topic.

    Args:
        topic: for error texts.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._codec: Any = None
        self._name = ""
        self._waiting: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._number = 0
        self._types = get_typestore(Stores.ROS2_JAZZY).types
        self._lost: list[int] = []
        self._shown = False
        self._intervals: deque[int] = deque(maxlen=INTERVALS)
        self._stamp_ns: int | None = None

    def take_lost(self) -> list[int]:
        """Return the times of the packets that have turned out to give no image since the last call [ns]."""
        lost, self._lost = self._lost, []
        return lost

    def finish(self) -> list[Any]:
        """Return the images that the decoder still holds; to be called behind the last packet, or before a gap."""
        images = []
        if self._codec is not None:
            try:
                images = self._take_frames(self._codec.decode(None))
            except av.error.FFmpegError:
                pass  # there is nothing more
        while self._waiting:
            self._drop()
        self._codec, self._name, self._shown = None, "", False
        return images

    def take(self, message: Any, *, time_ns: int = 0) -> list[Any]:
        """Return the images that a packet completes: none before the first key image, seldom more than one.

        After missing packets there are none until the next key image: what is between would be wrong.

        Args:
            message: of one of `VIDEO_PACKETS`.
            time_ns: when it was received [ns], for `take_lost`.

        Raises:
            RecordingError: the codec is unknown.
        """
        header = message.header if hasattr(message, "header") else self._header(message)
        # What the decoder still holds belongs before the gap.
        images = self.finish() if self._is_gap(header.stamp) else []
        self._open(_codec_of(message))
        packet = av.Packet(bytes(message.data))
        packet.pts = packet.dts = self._number
        self._waiting[self._number] = (header, time_ns)
        self._number += 1
        try:
            frames = self._codec.decode(packet)
        except av.error.FFmpegError:
            frames = []  # before the first key image, or a damaged packet
            self._drop(last=True)
            if self._shown:
                images += self.finish()  # what comes next builds on what is damaged
        images += self._take_frames(frames)
        while len(self._waiting) > MOST_WAITING:
            self._drop()
        return images

    def _take_frames(self, frames: list[Any]) -> list[Any]:
        images = []
        for frame in frames:
            # A packet that is older than the one of an image will give none any more.
            while self._waiting and next(iter(self._waiting)) < frame.pts:
                self._drop()
            found = self._waiting.pop(frame.pts, None)
            if found is not None:
                images.append(self._image(found[0], frame))
        self._shown = self._shown or bool(images)
        return images

    def _drop(self, *, last: bool = False) -> None:
        _, (_, time_ns) = self._waiting.popitem(last=last)
        self._lost.append(time_ns)

    def _is_gap(self, stamp: Any) -> bool:
        """Return whether packets are missing before one with this stamp.

        A decoder would not notice: it goes on with the picture that it has, and shows what never was.
        """
        stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
        before, self._stamp_ns = self._stamp_ns, stamp_ns
        step_ns = 0 if before is None else stamp_ns - before
        if step_ns <= 0:
            return False
        known = sorted(self._intervals)
        self._intervals.append(step_ns)
        return len(known) >= LEAST_INTERVALS and step_ns > GAP_INTERVALS * known[len(known) // 2]

    def _open(self, name: str) -> None:
        if name == self._name:
            return
        known = _CODECS.get(name)
        if known is None:
            raise RecordingError(
                f"the video of {self._topic} has an unknown codec",
                value=name,
                allowed=", ".join(_CODECS),
                where="the camera's driver; `ros2 run image_transport republish` makes compressed images of it",
            )
        self._codec = av.CodecContext.create(known, "r")
        # Threads would hold images back.
        self._codec.thread_count = 1
        self._name = name

    def _header(self, message: Any) -> Any:
        return self._types["std_msgs/msg/Header"](stamp=message.timestamp, frame_id=message.frame_id)

    def _image(self, header: Any, frame: Any) -> Any:
        rgb = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
        return self._types[IMAGE](
            header=header,
            height=rgb.shape[0],
            width=rgb.shape[1],
            encoding="rgb8",
            is_bigendian=0,
            step=3 * rgb.shape[1],
            data=rgb.reshape(-1),
        )


def as_camera_sends(image: Any, *, compressed: bool) -> tuple[Any, str]:
    """Return an image of `VideoDecoder` as a camera would have published it, and its type.

    Args:
        image: sensor_msgs/Image in rgb8.
        compressed: as sensor_msgs/CompressedImage (JPEG).
    """
    if not compressed:
        return image, IMAGE
    rgb = image.data.reshape(image.height, image.width, 3)
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    kind = get_typestore(Stores.ROS2_JAZZY).types[COMPRESSED_IMAGE]
    return kind(
        header=image.header, format="rgb8; jpeg compressed bgr8", data=data.reshape(-1)
    ), COMPRESSED_IMAGE


def _codec_of(message: Any) -> str:
    """Return the codec's name; FFMPEGPacket may add the pixels' format: "h264;yuv420p;bgr8;bgr8"."""
    text = message.encoding if hasattr(message, "encoding") else message.format
    return str(text).lower().split(";")[0].removeprefix("lib").replace(".", "").strip()
