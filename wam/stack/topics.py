# SPDX-License-Identifier: Apache-2.0
"""The topics of running nodes and the values their messages decode to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState

from wam.core.chunk import ActionChunk
from wam.core.context import ContextHeader
from wam.core.observation import index_of
from wam.core.verdict import Event as LadderMove
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import JointGroup, RobotDescription
from wam.robots.images import decode_image
from wam.ros.camera_messages import message_kind, require_images
from wam.ros.context_channel import message_to_context
from wam.ros.conversions import event_to_finding, message_to_chunk, time_to_ns
from wam.ros.imagination import message_to_error
from wam.ros.qos import CHUNK, CONTEXT, EVENT, EVENT_KEPT, IMAGE, IMAGINED, JOINT_STATE, STATUS
from wam.runtime.imagination import ImaginationError
from wam.stack.samples import ImageSample, JointSample, NodeDiagnostics, SafetyMove
from wam_msgs.msg import ActionChunk as ActionChunkMessage
from wam_msgs.msg import ExecutorStatus, KVContext, PlannerStatus, SafetyEvent, TaskStatus

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class StackTopic(Generic[Value]):
    """A topic and how its messages are decoded.

    Attributes:
        name: of the topic, relative to the namespace.
        kind: class of its messages.
        qos: quality of service to request.
        decode: from message to value; raises `WamError` for one that does not fit.
    """

    name: str
    kind: type[Any]
    qos: QoSProfile
    decode: Callable[[Any], Value]


CHUNKS: StackTopic[ActionChunk] = StackTopic(
    "wam_executor/chunk", ActionChunkMessage, CHUNK, message_to_chunk
)
CONTEXTS: StackTopic[ContextHeader] = StackTopic(
    "wam_planner/context", KVContext, CONTEXT, lambda message: message_to_context(message)[0]
)
# The status messages are flat and stamped; they are handed on as they are.
PLANNER_STATUS: StackTopic[PlannerStatus] = StackTopic(
    "wam_planner/status", PlannerStatus, STATUS, lambda message: message
)
EXECUTOR_STATUS: StackTopic[ExecutorStatus] = StackTopic(
    "wam_executor/status", ExecutorStatus, STATUS, lambda message: message
)
TASK_STATUS: StackTopic[TaskStatus] = StackTopic("wam_sim/task", TaskStatus, STATUS, lambda message: message)
IMAGINED_IMAGES: StackTopic[ImageSample] = StackTopic(
    "wam_executor/imagined_image",
    Image,
    IMAGINED,
    lambda message: ImageSample(
        str(message.header.frame_id),
        time_to_ns(message.header.stamp),
        lambda: decode_image(message, camera=str(message.header.frame_id)),
    ),
)


def imagination_errors(node: str) -> StackTopic[ImaginationError]:
    """Return the topic on which a node tells how far off the policy's imagination was."""
    return StackTopic(f"{node}/imagination_error", DiagnosticStatus, EVENT, message_to_error)


def _safety_move(message: Any) -> SafetyMove:
    finding, before, after = event_to_finding(message)
    move = LadderMove(finding, before, after, int(message.chunk_sequence))
    return SafetyMove(time_to_ns(message.header.stamp), move)


SAFETY_EVENTS: StackTopic[SafetyMove] = StackTopic("wam_safety/event", SafetyEvent, EVENT_KEPT, _safety_move)


def _diagnostics(message: Any) -> tuple[NodeDiagnostics, ...]:
    stamp_ns = time_to_ns(message.header.stamp)
    return tuple(
        NodeDiagnostics(stamp_ns, str(status.name), {str(one.key): str(one.value) for one in status.values})
        for status in message.status
    )


DIAGNOSTICS: StackTopic[tuple[NodeDiagnostics, ...]] = StackTopic(
    "/diagnostics", DiagnosticArray, EVENT, _diagnostics
)


def joint_states(group: JointGroup) -> StackTopic[JointSample]:
    """Return the topic of a group's measured positions, in SI units."""
    return _joints(group.state_topic, JOINT_STATE, group.driver_names, group.state_factors)


def joint_commands(group: JointGroup) -> StackTopic[JointSample]:
    """Return the topic of a group's command stream (sensor_msgs/JointState), in SI units."""
    return _joints(group.command_topic, JOINT_STATE, group.driver_names, 1.0 / group.command_factors)


def command_preview(robot: RobotDescription) -> StackTopic[JointSample]:
    """Return the topic on which a safety node in a dry run shows its commands: all joints, in SI units."""
    names = robot.joint_names
    return _joints("wam_safety/command_preview", STATUS, names, np.ones(len(names)))


def world_positions(names: tuple[str, ...]) -> StackTopic[JointSample]:
    """Return the topic of all positions of the simulated world, in the order of `names` (`position_names`)."""
    return _joints("wam_sim/world", JOINT_STATE, names, np.ones(len(names)))


def images(camera: CameraSpec) -> StackTopic[ImageSample]:
    """Return the topic of a camera."""

    def decode(message: Any) -> ImageSample:
        return ImageSample(
            camera.name,
            time_to_ns(message.header.stamp),
            lambda: decode_image(message, camera=camera.name, size=(camera.height, camera.width)),
        )

    require_images(camera, what="the simulated robot")
    kind = message_kind(camera)
    return StackTopic(camera.topic, kind, IMAGE, decode)


def _joints(
    topic: str, qos: QoSProfile, wanted: tuple[str, ...], factors: npt.NDArray[np.float64]
) -> StackTopic[JointSample]:
    columns: dict[tuple[str, ...], npt.NDArray[np.intp]] = {}

    def decode(message: Any) -> JointSample:
        names = tuple(message.name)
        if names not in columns:
            columns[names] = index_of(names, wanted, what=f"joint topic {topic}")
        positions = np.asarray(message.position, dtype=np.float64)[columns[names]] * factors
        return JointSample(time_to_ns(message.header.stamp), positions)

    return StackTopic(topic, JointState, qos, decode)
