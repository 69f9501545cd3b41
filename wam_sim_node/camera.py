# SPDX-License-Identifier: Apache-2.0
"""A simulated camera's messages, rendered and published in a thread of its own."""

from __future__ import annotations

import array
import math
import threading
from collections.abc import Callable
from typing import Any

import cv2
import mujoco
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wam.core.errors import MissingDependency
from wam.core.latency import LatencyWindow, monotonic_ns
from wam.core.observation import Rgb
from wam.robots.description import CameraSpec
from wam.ros.conversions import ns_to_time
from wam.ros.qos import IMAGE_PUBLISHER
from wam.ros.worker import Worker
from wam.sim.rendering import CameraRenderer
from wam.sim.world import Snapshot

OPEN_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 3.0


class CameraStream:
    """Publishes one camera as raw and compressed picture with its calibration.

    Args:
        node: lifecycle node that owns the publishers.
        model: model of the world.
        camera: which camera.
        rate: pictures per second [Hz].
        jpeg_quality: 1..100.
        snapshot: returns the newest moment of the world, or None.
        on_error: called in the camera's thread once it has been ready; no picture follows.
    """

    def __init__(
        self,
        node: Any,
        model: mujoco.MjModel,
        camera: CameraSpec,
        *,
        rate: float,
        jpeg_quality: int,
        snapshot: Callable[[], Snapshot | None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._node, self._camera, self._rate, self._quality = node, camera, rate, jpeg_quality
        self._snapshot, self._on_error = snapshot, on_error
        self._renderer = CameraRenderer(model, camera)
        self._last_ns = -1
        self._opened, self._closing, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._worker: Worker | None = None
        self.render_time = LatencyWindow()
        self.pictures = 0
        publish = node.create_lifecycle_publisher
        self._raw = publish(Image, camera.raw_topic, IMAGE_PUBLISHER)
        self._compressed = publish(CompressedImage, camera.compressed_topic, IMAGE_PUBLISHER)
        self._info = publish(CameraInfo, camera.info_topic, IMAGE_PUBLISHER)

    def start(self) -> None:
        """Start rendering; returns when the camera is ready, so that opening it does not delay the physics.

        Raises:
            MissingDependency: EGL cannot be used on this machine, or the renderer did not open in time.
        """
        for event in (self._opened, self._closing, self._closed):
            event.clear()
        self._failure = None
        self._worker = Worker(
            f"camera {self._camera.name}", self._step, period=1.0 / self._rate, on_error=self._fail
        )
        self._worker.start()
        opened = self._opened.wait(OPEN_TIMEOUT_S)
        if self._failure is not None:
            raise self._failure
        if not opened:
            raise MissingDependency(
                f"camera {self._camera.name} could not be opened within {OPEN_TIMEOUT_S:.0f} s",
                where="the machine (is it overloaded?), or the parameter `cameras` of wam_sim",
            )

    def stop(self) -> bool:
        """Stop rendering and free the context, which only its own thread may do; return whether it has ended."""
        worker, self._worker = self._worker, None
        if worker is None:
            return True
        self._closing.set()
        worker.wake()
        closed = self._closed.wait(CLOSE_TIMEOUT_S)
        return worker.stop(timeout=CLOSE_TIMEOUT_S) and closed

    def close(self) -> None:
        """Remove the publishers."""
        for publisher in (self._raw, self._compressed, self._info):
            self._node.destroy_lifecycle_publisher(publisher)

    def _step(self) -> None:
        if self._closing.is_set():
            self._renderer.close()
            self._closed.set()
            return
        if not self._opened.is_set():
            self._renderer.open()
            self._opened.set()
        snapshot = self._snapshot()
        if snapshot is None or snapshot.stamp_ns == self._last_ns:
            return
        self._last_ns = snapshot.stamp_ns
        started = monotonic_ns()
        rgb = self._renderer.render(snapshot)
        self.render_time.add(monotonic_ns() - started)
        self._publish(rgb, snapshot.stamp_ns)
        self.pictures += 1

    def _publish(self, rgb: Rgb, stamp_ns: int) -> None:
        stamp, camera = ns_to_time(stamp_ns), self._camera
        raw = Image(height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width)
        # Any other type is checked byte by byte by the message class.
        raw.data = array.array("B", rgb.tobytes())
        messages = [(self._raw, raw), (self._info, camera_info(camera))]
        if self._compressed.get_subscription_count():
            coded = cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1]
            jpeg = CompressedImage(format="rgb8; jpeg compressed bgr8")
            jpeg.data = array.array("B", coded.tobytes())
            messages.append((self._compressed, jpeg))
        for publisher, message in messages:
            message.header.stamp = stamp
            message.header.frame_id = camera.frame_id
            publisher.publish(message)

    def _fail(self, error: Exception) -> None:
        self._renderer.close()
        self._closed.set()
        if self._opened.is_set():
            self._on_error(error)
        else:
            self._failure = error
            self._opened.set()


def camera_info(camera: CameraSpec) -> CameraInfo:
    """Return the calibration of a simulated camera: square pixels, no distortion."""
    focal = camera.height / 2 / math.tan((camera.vertical_fov or 1.0) / 2)
    cx, cy = (camera.width - 1) / 2, (camera.height - 1) / 2
    return CameraInfo(
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
