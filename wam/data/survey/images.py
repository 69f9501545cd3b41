# SPDX-License-Identifier: Apache-2.0
"""What the first image of a topic says: size, encoding, and whether it can be decoded."""

from __future__ import annotations

from typing import Any

from wam.core.errors import WamError
from wam.data.bag.topics import COMPRESSED_IMAGE, IMAGE
from wam.data.bag.video_packets import VIDEO_PACKETS, VideoDecoder
from wam.data.survey.values import CameraSurvey
from wam.robots.images import decode_image

IMAGE_TYPES = (IMAGE, COMPRESSED_IMAGE, *VIDEO_PACKETS)
"""Types of the topics that have images."""

_STARTS = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"RI": "webp"}


class CameraWatch:
    """Takes the messages of a topic until an image could be decoded.

    Args:
        topic: name.
        msgtype: one of `IMAGE_TYPES`.
    """

    def __init__(self, topic: str, msgtype: str) -> None:
        self._topic = topic
        self._video = VideoDecoder(topic) if msgtype in VIDEO_PACKETS else None
        self._compressed = msgtype != IMAGE
        self.found: CameraSurvey | None = None
        self._done = False

    def take(self, message: Any) -> None:
        """Take one message."""
        if self._done:
            return
        encoding = _encoding(message)
        try:
            images = [message] if self._video is None else self._video.take(message)
            if images:
                pixels = decode_image(images[0], camera=self._topic)
                self.found = CameraSurvey(pixels.shape[0], pixels.shape[1], encoding, self._compressed)
                self._done = True
            elif self.found is None:
                self.found = CameraSurvey(0, 0, encoding, True, "no key image in what was read")
        except WamError as error:
            height, width = (int(getattr(message, name, 0) or 0) for name in ("height", "width"))
            self.found = CameraSurvey(height, width, encoding, self._compressed, str(error))
            self._done = self._video is None


def _encoding(message: Any) -> str:
    """Return what an image is encoded as; of compressed images, what their bytes are, where that is known."""
    told = str(getattr(message, "encoding", "") or getattr(message, "format", ""))
    if hasattr(message, "encoding") or not hasattr(message, "header"):
        return told.split(";")[0].strip()
    return _STARTS.get(bytes(message.data[:2]), told)
