# SPDX-License-Identifier: Apache-2.0
"""The one path from driver messages to observations, for live nodes and for replay.

    put_*     in a callback: check the header, store message and stamp      (microseconds; any thread)
    assemble  in a worker: pick one sample per stream by stamp, decode them (milliseconds; any thread)

Samples are selected by acquisition stamp. The reference time is the stamp of the newest image of the first camera, or
without cameras of the newest ground truth, or without either of the newest joint states; every other stream contributes
its newest sample at or before it. A stream is fresh when its newest sample is within `max_age` of now, and in step when
its chosen sample is within `max_age` of the reference time.

Nothing is logged here: events are collected as notices, one per fault and one for its recovery.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.errors import DamagedImage, ImageError, InputError, JointError
from wam.core.observation import CameraFrame, EnvironmentState, Observation, RobotState, Vector, index_of
from wam.robots.description import RobotDescription
from wam.robots.images import check_image, decode_image
from wam.robots.joint_merge import JointMerge
from wam.runtime.ingest.stream import FUTURE_TOLERANCE_NS, IngestStream, Notice, NoticeKind, StreamStatus
from wam.runtime.ingest.stream_buffer import Pushed, Stamped

__all__ = ["FUTURE_TOLERANCE_NS", "RECOVERED_AFTER", "Notice", "NoticeKind", "StreamIngest", "StreamStatus"]

TRUTH_TOPIC = "wam_sim/truth"
"""Where the simulated robot publishes the ground truth of its task."""

TRUTH_RATE_HZ = 30.0
TRUTH_MAX_AGE_NS = NS_PER_S // 5

RECOVERED_AFTER = 3
"""Good messages in a row that end a fault; with fewer, two publishers on one topic would fill the log."""

MAX_NOTICES = 100


@dataclass(slots=True)
class _Image:
    """An undecoded image; `frame` is filled by the first reader."""

    message: Any
    decoding: threading.Lock = field(default_factory=threading.Lock)
    frame: CameraFrame | None = None


@dataclass(slots=True)
class _Joints:
    positions: Vector
    velocities: Vector


class StreamIngest:
    """Turns the messages of a robot's streams into observations. Every method may be called from any thread.

    Args:
        robot: whose streams.
        cameras: names of the cameras, the reference camera first; without cameras the ground truth is the reference,
            without either the joint states.
        environment: names of the ground truth that observations hold; empty for none.

    Raises:
        KeyError: a camera is not one of the robot's (`require_fit` refuses such a policy before).
    """

    def __init__(
        self, robot: RobotDescription, *, cameras: tuple[str, ...], environment: tuple[str, ...] = ()
    ) -> None:
        specs = [robot.camera(name) for name in cameras]
        # The time that an observation is made for is at most so old.
        image_age_ns = max(
            (TRUTH_MAX_AGE_NS if environment else 0, *(camera.max_age_ns for camera in specs)), default=0
        )
        self._cameras = {camera.name: camera for camera in specs}
        self._images = {
            camera.name: IngestStream(
                "camera",
                camera.name,
                topic=camera.topic,
                rate=camera.rate,
                max_age_ns=camera.max_age_ns,
                history_ns=camera.max_age_ns + image_age_ns,
                heavy=True,
            )
            for camera in specs
        }
        self._joints = {
            group.name: IngestStream(
                "joint group",
                group.name,
                topic=group.state_topic,
                rate=group.state_rate,
                max_age_ns=group.state_max_age_ns,
                history_ns=group.state_max_age_ns + image_age_ns,
            )
            for group in robot.groups
        }
        self._environment = environment
        self._truth: IngestStream | None = None
        if environment:
            self._truth = IngestStream(
                "ground truth",
                "truth",
                topic=TRUTH_TOPIC,
                rate=TRUTH_RATE_HZ,
                max_age_ns=TRUTH_MAX_AGE_NS,
                history_ns=TRUTH_MAX_AGE_NS + image_age_ns,
            )
        self._merges = {group.name: JointMerge(group) for group in robot.groups}
        self._joint_names = robot.joint_names
        self._lock = threading.Lock()
        self._notices: deque[Notice] = deque(maxlen=MAX_NOTICES)
        self._damaged: deque[tuple[str, int]] = deque(maxlen=MAX_NOTICES)

    def put_image(self, camera: str, message: Any, *, receive_ns: int | None = None) -> None:
        """Store an image; its pixels are decoded only when it is used. The message must not be changed afterwards.

        Args:
            camera: name of the camera.
            message: sensor_msgs/Image or CompressedImage, of rclpy or of rosbags.
            receive_ns: time of receipt [ns], for the latency in `status`.
        """
        spec, stream = self._cameras[camera], self._images[camera]
        stamp_ns = 0
        try:
            stamp_ns = _stamp_ns(message, stream)
            check_image(message, camera=camera, size=(spec.height, spec.width))
        except InputError as error:
            self._refuse(stream, error, stamp_ns=stamp_ns)
            return
        self._store(stream, stamp_ns, _Image(message), receive_ns)

    def refuse_image(self, camera: str, error: ImageError) -> None:
        """Refuse an image for a reason that the image itself does not show."""
        self._refuse(self._images[camera], error)

    def put_joint_state(self, group: str, message: Any, *, receive_ns: int | None = None) -> None:
        """Store a joint state, merged with what other messages have of the group; one of other joints is left out.

        Args:
            group: name of the joint group.
            message: sensor_msgs/JointState, of rclpy or of rosbags.
            receive_ns: time of receipt [ns], for the latency in `status`.
        """
        stream = self._joints[group]
        try:
            stamp_ns = _stamp_ns(message, stream)
            with self._lock:
                state = self._merges[group].take(message, stamp_ns=stamp_ns)
                stream.waits_for = self._merges[group].waits_for if state is None else ""
        except InputError as error:
            self._refuse(stream, error)
            return
        if state is not None:
            # Messages of several joints may have one stamp: each makes the state of that time fuller.
            completes = self._merges[group].merged
            self._store(stream, stamp_ns, _Joints(*state), receive_ns, completes=completes)

    def put_truth(self, message: Any, *, receive_ns: int | None = None) -> None:
        """Store the ground truth of a simulation; dropped where no observation holds it.

        Args:
            message: sensor_msgs/JointState with a name and a position per value, of rclpy or of rosbags.
            receive_ns: time of receipt [ns], for the latency in `status`.
        """
        stream = self._truth
        if stream is None:
            return
        try:
            stamp_ns = _stamp_ns(message, stream)
            values = self._read_truth(message)
        except InputError as error:
            self._refuse(stream, error)
            return
        self._store(stream, stamp_ns, EnvironmentState(stamp_ns, self._environment, values), receive_ns)

    def _read_truth(self, message: Any) -> Vector:
        """Return the values that are wanted, float64 [E].

        Raises:
            JointError: one is missing, or the numbers are not finite or not as many as names.
        """
        names, values = tuple(message.name), np.asarray(message.position, dtype=np.float64)
        if len(values) != len(names) or not np.isfinite(values).all():
            raise JointError(
                "ground truth",
                value=f"{len(values)} numbers for {len(names)} names",
                allowed="a finite number for every name",
                where=f"the node that publishes {TRUTH_TOPIC}",
            )
        wanted: Vector = values[index_of(names, self._environment, what="ground truth")]
        return wanted

    def assemble(self, *, now_ns: int) -> Observation:
        """Return an observation of all streams at one reference time.

        Args:
            now_ns: present time on the clock of the stamps [ns].

        Raises:
            StaleObservation: a stream is silent, stale or out of step; the text names it, its age and its budget,
                and the refused message behind it where there is one (also as `__cause__`).
        """
        while True:
            with self._lock:
                reference_ns, images = self._pick_images(now_ns)
                state = self._state(
                    {name: stream.at(reference_ns, now_ns) for name, stream in self._joints.items()}
                )
                truth = None if self._truth is None else self._truth.at(reference_ns, now_ns).value
            try:
                frames = {name: self._decode(name, sample) for name, sample in images.items()}
            except _Undecodable as damaged:
                # The damaged image leaves the buffer, so the loop ends; the one before it may still be fresh.
                stream = self._images[damaged.camera]
                with self._lock:
                    stream.buffer.discard(damaged.stamp_ns)
                self._refuse(stream, damaged.error, in_pixels=True, stamp_ns=damaged.stamp_ns)
                continue
            return Observation(reference_ns, frames, state, truth)

    def robot_state(self, *, now_ns: int) -> RobotState:
        """Return the newest joint state of every group, independent of the cameras.

        Raises:
            StaleObservation: a group is silent or stale.
        """
        with self._lock:
            return self._state({name: stream.newest(now_ns) for name, stream in self._joints.items()})

    def take_notices(self) -> tuple[Notice, ...]:
        """Return the notices since the last call, oldest first, and clear them."""
        if not self._notices:
            return ()
        with self._lock:
            notices = tuple(self._notices)
            self._notices.clear()
            return notices

    def take_damaged(self) -> tuple[tuple[str, int], ...]:
        """Return camera and stamp [ns] of the damaged images since the last call, oldest first, and clear them."""
        if not self._damaged:
            return ()
        with self._lock:
            damaged = tuple(self._damaged)
            self._damaged.clear()
            return damaged

    def status(self) -> tuple[StreamStatus, ...]:
        """Return the counters of every stream, cameras first, ground truth last."""
        with self._lock:
            return tuple(
                StreamStatus(
                    stream=stream.name,
                    topic=stream.topic,
                    received=stream.received,
                    refused=stream.refused,
                    newest_ns=stream.buffer.newest.stamp_ns if stream.buffer.newest else None,
                    latency_ns=stream.latency_ns,
                    fault=str(stream.fault) if stream.fault else "",
                )
                for stream in self._streams()
            )

    def clear(self) -> None:
        """Remove all samples, e.g. between two recordings; counters and faults stay."""
        with self._lock:
            for stream in self._streams():
                stream.buffer.clear()

    def _streams(self) -> tuple[IngestStream, ...]:
        truth = () if self._truth is None else (self._truth,)
        return (*self._images.values(), *self._joints.values(), *truth)

    def _pick_images(self, now_ns: int) -> tuple[int, dict[str, Stamped[_Image]]]:
        if not self._images and self._truth is not None:
            return self._truth.newest(now_ns).stamp_ns, {}
        if not self._images:
            return min(stream.newest(now_ns).stamp_ns for stream in self._joints.values()), {}
        first = next(iter(self._images.values()))
        reference_ns = first.newest(now_ns).stamp_ns
        return reference_ns, {name: stream.at(reference_ns, now_ns) for name, stream in self._images.items()}

    def _state(self, samples: Mapping[str, Stamped[_Joints]]) -> RobotState:
        values = [sample.value for sample in samples.values()]
        return RobotState(
            stamp_ns=min(sample.stamp_ns for sample in samples.values()),
            joint_names=self._joint_names,
            positions=np.concatenate([value.positions for value in values]),
            velocities=np.concatenate([value.velocities for value in values]),
        )

    def _decode(self, camera: str, sample: Stamped[_Image]) -> CameraFrame:
        image, spec = sample.value, self._cameras[camera]
        # Planner and executor may share the ingest: the second one waits for the frame of the first.
        with image.decoding:
            if image.frame is None:
                try:
                    rgb = decode_image(image.message, camera=camera, size=(spec.height, spec.width))
                except ImageError as error:
                    raise _Undecodable(camera, sample.stamp_ns, error) from None
                image.frame = CameraFrame(camera, sample.stamp_ns, rgb)
                image.message = None
                with self._lock:
                    self._count_good(self._images[camera], in_pixels=True)
            return image.frame

    def _store(
        self,
        stream: IngestStream,
        stamp_ns: int,
        value: object,
        receive_ns: int | None,
        *,
        completes: bool = False,
    ) -> None:
        with self._lock:
            before = stream.buffer.newest
            pushed = stream.buffer.push(stamp_ns, value, completes=completes)
            stream.received += 1
            stream.latency_ns = None if receive_ns is None else receive_ns - stamp_ns
            if pushed is Pushed.RESET and before is not None:
                step = (before.stamp_ns - stamp_ns) / NS_PER_S
                self._note(
                    NoticeKind.CLOCK_RESET,
                    stream,
                    f"{stream.label}: its clock went back by {step:.3f} s; older samples were dropped",
                )
            self._count_good(stream, in_pixels=False)

    def _count_good(self, stream: IngestStream, *, in_pixels: bool) -> None:
        # Damaged pixels are noticed only when they are decoded, so a good header does not end such a fault.
        if stream.fault is None or stream.fault_in_pixels is not in_pixels:
            return
        stream.good_in_a_row += 1
        if stream.good_in_a_row >= RECOVERED_AFTER:
            self._note(
                NoticeKind.RECOVERED,
                stream,
                f"{stream.label}: usable again after {stream.fault_refused} refused messages",
            )
            stream.fault, stream.fault_refused = None, 0

    def _refuse(
        self, stream: IngestStream, error: InputError, *, in_pixels: bool = False, stamp_ns: int = 0
    ) -> None:
        with self._lock:
            if isinstance(error, DamagedImage):
                self._damaged.append((stream.name, stamp_ns))
            stream.fault_in_pixels = in_pixels
            stream.refused += 1
            stream.fault_refused += 1
            stream.good_in_a_row = 0
            known = stream.fault
            stream.fault = error
            # The same fault with another value is not reported again.
            if known is None or type(known) is not type(error) or known.what != error.what:
                self._note(NoticeKind.REFUSED, stream, f"message refused: {error}", error)

    def _note(
        self, kind: NoticeKind, stream: IngestStream, text: str, error: InputError | None = None
    ) -> None:
        self._notices.append(Notice(kind, stream.name, stream.topic, text, error))


class _Undecodable(Exception):
    """The pixels of a stored image are damaged."""

    def __init__(self, camera: str, stamp_ns: int, error: ImageError) -> None:
        super().__init__(str(error))
        self.camera, self.stamp_ns, self.error = camera, stamp_ns, error


def _stamp_ns(message: Any, stream: IngestStream) -> int:
    stamp = message.header.stamp
    stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
    if stamp_ns <= 0:
        kind = ImageError if hasattr(message, "data") else JointError
        raise kind(
            f"{stream.label}: header.stamp is not set",
            value=f"{stamp_ns} ns",
            allowed="the acquisition time",
            where="the driver (it must stamp its messages)",
        )
    return stamp_ns
