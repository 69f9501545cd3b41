# SPDX-License-Identifier: Apache-2.0
"""A simulated camera's messages, rendered and published in its own thread."""

from __future__ import annotations

import array
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import mujoco
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wam.core.clock import NS_PER_S
from wam.core.errors import MissingDependency
from wam.core.latency import LatencyWindow, monotonic_ns
from wam.core.observation import Rgb
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.ros.camera_messages import require_images
from wam.ros.conversions import ns_to_time
from wam.ros.qos import IMAGE_PUBLISHER
from wam.ros.worker import Worker
from wam.sim.pace import Pace
from wam.sim.pixels import Degradation, compress, encode
from wam.sim.quality import Quality
from wam.sim.rendering import CameraRenderer
from wam.sim.world import Snapshot

OPEN_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 3.0
RENDER_TIMEOUT_S = 10.0


class CameraStream:
    """Publishes one camera as its driver does: image, compressed image, calibration.

    The thread of the physics reports the time with `tick`; the camera's own thread renders what is due and
    publishes it when its latency has passed.

    Args:
        node: lifecycle node that owns the publishers.
        model: model of the world.
        camera: which camera.
        rate: images per second [Hz].
        latency_ns: time from an image's stamp to its publication [ns]; rendering takes place within it.
        quality: of the images.
        jpeg_quality: 1..100.
        degradation: noise and losses.
        lockstep: `tick` waits until the image before has been rendered, so that none is left out; without, an image
            that is due while one is rendered is taken after it, and left out when the next one is due by then.
        on_error: called in the camera's thread once it has been ready; no image follows.
    """

    def __init__(
        self,
        node: Any,
        model: mujoco.MjModel,
        camera: CameraSpec,
        *,
        rate: float,
        latency_ns: int,
        quality: Quality,
        jpeg_quality: int,
        degradation: Degradation,
        lockstep: bool,
        on_error: Callable[[Exception], None],
    ) -> None:
        require_images(camera, what="the simulation")
        self._node, self._camera, self._quality = node, camera, jpeg_quality
        self._latency_ns, self._degradation = latency_ns, degradation
        self._lockstep, self._on_error = lockstep, on_error
        self._renderer = CameraRenderer(model, camera, quality=quality)
        self._pace = Pace(round(NS_PER_S / rate))
        self._index = 0
        self._owed: int | None = None  # number of the image that is due and was not taken yet
        self._slot: tuple[Snapshot, int] | None = None
        self._idle = threading.Event()
        self._changed = threading.Condition()
        self._now_ns = 0
        self._waiting: deque[tuple[int, list[tuple[Any, Any]]]] = deque()
        self._due_ns: int | None = None  # when the first of those is due, for the thread of the physics
        self._opened, self._closing, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._worker: Worker | None = None
        self.render_time = LatencyWindow()
        self.pictures = 0
        self.left_out = 0
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
        self._idle.set()
        self._failure, self._slot, self._owed = None, None, None
        self._waiting.clear()
        self._due_ns = None
        self._worker = Worker(f"camera {self._camera.name}", self._step, period=None, on_error=self._fail)
        self._worker.start()
        self._worker.wake()
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
        self._idle.set()
        worker.wake()
        closed = self._closed.wait(CLOSE_TIMEOUT_S)
        return worker.stop(timeout=CLOSE_TIMEOUT_S) and closed

    def close(self) -> None:
        """Remove the publishers."""
        for publisher in (self._raw, self._compressed, self._info):
            self._node.destroy_lifecycle_publisher(publisher)

    def tick(self, now_ns: int, snapshot: Callable[[], Snapshot | None]) -> None:
        """Take an image where one is due, and let those be published whose latency has passed.

        Args:
            now_ns: time of the world [ns].
            snapshot: returns the world at that time.
        """
        worker = self._worker
        if worker is None or self._closed.is_set():
            return
        self._now_ns = now_ns
        if self._pace.due(now_ns):
            if not self._degradation.lost(self._index):
                self.left_out += self._owed is not None
                self._owed = self._index
            self._index += 1
        if self._owed is not None:
            if self._lockstep:
                self._idle.wait(RENDER_TIMEOUT_S)
            taken = snapshot() if self._idle.is_set() else None
            if taken is not None:
                self._idle.clear()
                self._slot, self._owed = (taken, self._owed), None
        due_ns = self._due_ns
        if self._slot is not None or (due_ns is not None and due_ns <= now_ns):
            worker.wake()

    def drain(self) -> None:
        """Wait until what was due at the last `tick` has been rendered and published."""
        if self._worker is None or self._closed.is_set():
            return
        with self._changed:
            self._changed.wait_for(self._is_drained, RENDER_TIMEOUT_S)

    def _is_drained(self) -> bool:
        due_ns = self._due_ns
        return self._closed.is_set() or (self._slot is None and (due_ns is None or due_ns > self._now_ns))

    def _step(self) -> None:
        if self._closing.is_set():
            self._renderer.close()
            self._end()
            return
        if not self._opened.is_set():
            self._renderer.open()
            self._opened.set()
        slot = self._slot
        if slot is not None:
            snapshot, index = slot
            started = monotonic_ns()
            rgb = self._renderer.render(snapshot)
            self.render_time.add(monotonic_ns() - started)
            messages = self._messages(self._degradation.apply(rgb, index), snapshot.stamp_ns)
            self._waiting.append((snapshot.stamp_ns + self._latency_ns, messages))
            self._slot = None
            self._idle.set()
        while self._waiting and self._waiting[0][0] <= self._now_ns:
            for publisher, message in self._waiting.popleft()[1]:
                publisher.publish(message)
            self.pictures += 1
        with self._changed:
            self._due_ns = self._waiting[0][0] if self._waiting else None
            self._changed.notify_all()

    def _messages(self, rgb: Rgb, stamp_ns: int) -> list[tuple[Any, Any]]:
        camera = self._camera
        is_raw = camera.transport is CameraTransport.RAW
        messages: list[tuple[Any, Any]] = [(self._info, camera_info(camera))]
        if is_raw or self._raw.get_subscription_count():
            encoding = camera.encoding if is_raw else "rgb8"
            data, step = encode(rgb, encoding)
            raw = Image(height=camera.height, width=camera.width, encoding=encoding, step=step)
            # Any other type is checked byte by byte by the message class.
            raw.data = array.array("B", data)
            messages.append((self._raw, raw))
        if not is_raw or self._compressed.get_subscription_count():
            data, text = compress(rgb, "jpeg" if is_raw else camera.encoding, quality=self._quality)
            compressed = CompressedImage(format=text)
            compressed.data = array.array("B", data)
            messages.append((self._compressed, compressed))
        stamp = ns_to_time(stamp_ns)
        for _, message in messages:
            message.header.stamp = stamp
            message.header.frame_id = camera.frame_id
        return messages

    def _fail(self, error: Exception) -> None:
        self._renderer.close()
        self._end()
        self._idle.set()
        if self._opened.is_set():
            self._on_error(error)
        else:
            self._failure = error
            self._opened.set()

    def _end(self) -> None:
        with self._changed:
            self._closed.set()
            self._changed.notify_all()


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
