# SPDX-License-Identifier: Apache-2.0
"""The messages of a camera's topic: images, or packets of a video, which become images here.

Packets come from `ffmpeg_image_transport` or as Foxglove's `CompressedVideo`. Their packages are not in every
installation, so they are imported by name, and only for a camera that needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from sensor_msgs.msg import CompressedImage, Image

from wam.core.errors import ConfigError, MissingDependency
from wam.data.bag.topics import COMPRESSED_VIDEO, FFMPEG_PACKET
from wam.data.bag.video_packets import VideoDecoder
from wam.robots.camera_spec import CameraSpec, CameraTransport

_PACKETS = MappingProxyType(
    {CameraTransport.FFMPEG: FFMPEG_PACKET, CameraTransport.FOXGLOVE: COMPRESSED_VIDEO}
)
"""Transport -> type of its packets."""


def sends_packets(camera: CameraSpec) -> bool:
    """Return whether a camera sends the packets of a video instead of images."""
    return camera.transport in _PACKETS


def message_kind(camera: CameraSpec) -> type[Any]:
    """Return the class of a camera's messages.

    Raises:
        MissingDependency: their package is not installed; the text names it.
    """
    kind: type[Any]
    if not sends_packets(camera):
        kind = Image if camera.transport is CameraTransport.RAW else CompressedImage
        return kind
    package, _, name = _PACKETS[camera.transport].split("/")
    try:
        kind = getattr(importlib.import_module(f"{package}.msg"), name)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"camera {camera.name!r} sends {package}/{name}, and {package} is not installed",
            where=f"the package ros-$ROS_DISTRO-{package.replace('_', '-')}, or the camera's `transport` in the robot "
            "file (raw or compressed, with a topic of image_transport's republish)",
        ) from error
    return kind


def require_images(camera: CameraSpec, *, what: str) -> None:
    """Refuse a camera that sends packets.

    Args:
        camera: of a robot.
        what: sends images in its place, for the text.

    Raises:
        ConfigError: it does.
    """
    if sends_packets(camera):
        raise ConfigError(
            f"camera {camera.name!r}: {what} sends images and no packets of a video",
            value=camera.transport.value,
            allowed="raw or compressed",
            where="the camera's `transport` in the robot file",
        )


class PacketStream:
    """Turns the packets of a camera into images. Every packet must come here, in order; not thread-safe.

    Args:
        camera: whose packets.
        store: called with every image (sensor_msgs/Image, duck-typed).
    """

    def __init__(self, camera: CameraSpec, store: Callable[[Any], None]) -> None:
        self._decoder = VideoDecoder(camera.topic)
        self._store = store
        self.lost = 0

    def take(self, message: Any) -> None:
        """Store the images that a packet completes; none after a gap until the next key image.

        Raises:
            RecordingError: the codec is unknown.
        """
        for image in self._decoder.take(message):
            self._store(image)
        self.lost += len(self._decoder.take_lost())
