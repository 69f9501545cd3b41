# SPDX-License-Identifier: Apache-2.0
"""A camera of a robot: topic, transport, size, rate, budget."""

from __future__ import annotations

import enum
from dataclasses import dataclass

COMPRESSED_SUFFIX = "/compressed"


class CameraTransport(enum.Enum):
    """Message type of a camera topic."""

    RAW = "raw"  # sensor_msgs/Image
    COMPRESSED = "compressed"  # sensor_msgs/CompressedImage
    FFMPEG = "ffmpeg"  # ffmpeg_image_transport_msgs/FFMPEGPacket
    FOXGLOVE = "foxglove"  # foxglove_msgs/CompressedVideo


class Reliability(enum.Enum):
    """How a topic is subscribed to."""

    AUTO = "auto"  # as it is published: a reliable camera is heard reliably, so that no large image is dropped whole
    RELIABLE = "reliable"
    BEST_EFFORT = "best_effort"


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera of the robot.

    Attributes:
        name: e.g. "head"; policies name it in their contract.
        topic: image topic, relative to the robot's namespace.
        transport: message type of the topic.
        encoding: encoding of the raw image ("rgb8"), or format of the compressed one ("jpeg").
        height: rows of the driver's image [px].
        width: columns of the driver's image [px].
        rate: nominal rate [Hz].
        max_age_ns: an older image is not acted on [ns].
        frame_id: optical frame (z forward, x right), a link of the URDF where there is one.
        vertical_fov: vertical field of view [rad], or None where it is not simulated.
        latency_ns: time from a picture's stamp to its publication by the simulated twin [ns].
        reliability: how its topic is subscribed to.
        preset: its make, a name in config/cameras, or "".
    """

    name: str
    topic: str
    transport: CameraTransport
    encoding: str
    height: int
    width: int
    rate: float
    max_age_ns: int
    frame_id: str
    vertical_fov: float | None = None
    latency_ns: int = 0
    reliability: Reliability = Reliability.AUTO
    preset: str = ""

    @property
    def raw_topic(self) -> str:
        """Topic of sensor_msgs/Image, by the convention of image_transport."""
        return self.topic.removesuffix(COMPRESSED_SUFFIX)

    @property
    def compressed_topic(self) -> str:
        """Topic of sensor_msgs/CompressedImage, by the convention of image_transport."""
        return self.raw_topic + COMPRESSED_SUFFIX

    @property
    def info_topic(self) -> str:
        """Topic of sensor_msgs/CameraInfo: `camera_info` beside the raw image."""
        return "/".join([*self.raw_topic.split("/")[:-1], "camera_info"])
