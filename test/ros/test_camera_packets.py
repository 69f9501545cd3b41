# SPDX-License-Identifier: Apache-2.0
"""Live cameras that send the packets of a video: every packet goes through one decoder, and images come out.

The packages of the packets are not on PyPI, so messages that are there stand in for them: a packet lies in the data of
a `sensor_msgs/CompressedImage`, whose `format` is the codec, as in `foxglove_msgs/CompressedVideo`.
"""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from wam.core.clock import ManualClock
from wam.core.errors import ConfigError, MissingDependency
from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.images import decode_image
from wam.ros.camera_messages import PacketStream, message_kind, require_images
from wam.ros.conversions import ns_to_time
from wam.ros.ingest import CameraSubscription
from wam.ros.inputs import Inputs
from wam.ros.qos import PACKETS_RELIABLE

pytestmark = pytest.mark.ros
RATE = 30
KEY = 10


def camera(transport: CameraTransport) -> CameraSpec:
    spec = load_robot("g1_inspire").cameras[0]
    return dataclasses.replace(
        spec, topic="packets", transport=transport, encoding="h264", height=48, width=64
    )


def packets(count: int) -> list[bytes]:
    """Encode grey images, each darker than the one before, with a key image every tenth."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 64, 48, "yuv420p"
    codec.time_base = codec.framerate = RATE
    codec.options = {
        "tune": "zerolatency",
        "x264-params": f"scenecut=0:keyint={KEY}:min-keyint={KEY}",
    }
    made: list[bytes] = []
    for i in range(count):
        image = np.full((48, 64, 3), 200 - 4 * i, dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = i
        made += [bytes(packet) for packet in codec.encode(frame.reformat(format="yuv420p"))]
    return made


def message(number: int, data: bytes) -> CompressedImage:
    made = CompressedImage(format="h264", data=list(data))
    made.header.stamp = ns_to_time(10**9 + number * 10**9 // RATE)
    return made


def number_of(image: Any) -> int:
    stamp_ns = int(image.header.stamp.sec) * 10**9 + int(image.header.stamp.nanosec)
    return round((stamp_ns - 10**9) * RATE / 10**9)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of Foxglove's messages, with one that is installed in place of its own."""
    package, module = ModuleType("foxglove_msgs"), ModuleType("foxglove_msgs.msg")
    module.CompressedVideo = CompressedImage  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "foxglove_msgs", package)
    monkeypatch.setitem(sys.modules, "foxglove_msgs.msg", module)


def test_packets_over_dds_become_the_images_of_the_camera(stage: Any, stand_in: None) -> None:
    """The live nodes took no packets: such a camera needed a second node that republished it."""
    spec = camera(CameraTransport.FOXGLOVE)
    node, sender = stage.add(Node("listener")), stage.add(Node("sender"))
    images: list[Any] = []
    subscription = CameraSubscription(Inputs(node, ManualClock()), spec, images.append)
    publisher = sender.create_publisher(CompressedImage, spec.topic, PACKETS_RELIABLE)
    stage.until(lambda: publisher.get_subscription_count() == 1, "the subscription")
    subscription.match()
    stage.until(lambda: publisher.get_subscription_count() == 1, "the subscription")
    made = packets(25)
    for number, data in enumerate(made):
        if number != 13:  # one that is lost on its way
            publisher.publish(message(number, data))
            stage.until(
                lambda n=number: any(number_of(image) == n for image in images) or 13 < n < 20,
                f"image {number}",
            )
    assert [number_of(image) for image in images] == [*range(13), *range(20, 25)]
    for image in images:
        rgb = decode_image(image, camera=spec.name, size=(48, 64))
        assert abs(int(rgb[20, 20, 0]) - (200 - 4 * number_of(image))) < 8
    subscription.close()


@pytest.mark.parametrize(
    ("transport", "package"),
    [
        (CameraTransport.FFMPEG, "ffmpeg_image_transport_msgs"),
        (CameraTransport.FOXGLOVE, "foxglove_msgs"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_to_install(
    transport: CameraTransport, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependency, match=f"{package} is not installed.*ros-.ROS_DISTRO-{package.replace('_', '-')}"
    ):
        message_kind(camera(transport))


def test_what_sends_images_refuses_a_camera_of_packets() -> None:
    require_images(camera(CameraTransport.COMPRESSED), what="the simulation")
    with pytest.raises(ConfigError, match="the simulation sends images and no packets"):
        require_images(camera(CameraTransport.FFMPEG), what="the simulation")


def test_lost_packets_are_counted() -> None:
    stream = PacketStream(camera(CameraTransport.FFMPEG), lambda image: None)
    for number, data in enumerate(packets(25)):
        if number != 13:
            packet = message(number, data)
            stream.take(packet)
    assert stream.lost == 6
