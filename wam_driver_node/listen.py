# SPDX-License-Identifier: Apache-2.0
"""Listens to a robot's drivers for a few seconds and prints what arrived as JSON, for `wam doctor --robot`.

python -m wam_driver_node.listen ROBOT SECONDS [--ros-args ...]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import JointState

from wam.core.errors import JointError
from wam.devices.doctor import of_this_group
from wam.devices.loader import load_robot
from wam.devices.registry import make_watch
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import NO_DRIVER, JointGroup
from wam.robots.joint_reader import JointReader
from wam.ros.camera_messages import message_kind
from wam.ros.conversions import time_to_ns
from wam.ros.environment import PROFILE
from wam.ros.ingest import image_contract
from wam.ros.inputs import Inputs, publisher_nodes
from wam.ros.lifecycle import RosClock
from wam.ros.qos import IMAGE, JOINT_STATE
from wam.ros.status_feeds import StatusListener

DISCOVERY_S = 5.0
"""Longest wait for a first message of every group."""
ANSWER_S = 1.0
"""Longest wait for the driver's parameters: a driver that is busy enabling the arm does not answer."""
SAMPLE = 20
"""Stamps that are handed on: enough to tell where they come from."""


class StreamAges:
    """Stamps of one stream, and how old they are on arrival by this computer's clock."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen: list[int] = []
        self._ages: list[int] = []

    def __bool__(self) -> bool:
        """Return whether a message has arrived."""
        return bool(self._seen)

    def take(self, header: Any) -> None:
        """Note the stamp of a message that has just arrived."""
        stamp_ns = time_to_ns(header.stamp)
        self._seen.append(stamp_ns)
        self._ages.append(self._node.get_clock().now().nanoseconds - stamp_ns)

    def start_over(self) -> None:
        """Reset the counts."""
        self._seen.clear()
        self._ages.clear()

    def some(self, count: int) -> list[int]:
        """Return the first `count` stamps that differ [ns]."""
        return list(dict.fromkeys(self._seen))[:count]

    def heard(self, seconds: float) -> dict[str, Any]:
        """Return count, rate [Hz] and ages [ns] as JSON-ready values."""
        return {
            "messages": len(self._seen),
            "distinct_stamps": len(set(self._seen)),
            "rate": len(self._seen) / seconds,
            "age_ns": round(statistics.median(self._ages)) if self._ages else 0,
            "least_age_ns": min(self._ages, default=0),
        }


class GroupListener:
    """What arrives of one joint group.

    Args:
        node: owns the subscriptions.
        group: whose topics.
        others: the robot's other groups.
    """

    def __init__(self, node: Node, group: JointGroup, others: Iterable[JointGroup]) -> None:
        self._node, self._group = node, group
        self._other_topics = [other.state_topic for other in others]
        self._reader = JointReader(group)
        self._stamps = StreamAges(node)
        self._names: tuple[str, ...] = ()
        self._error = ""
        self._parameters: dict[str, Any] = {}
        inputs = Inputs(node, RosClock(node))
        inputs.listen(JointState, group.state_topic, self._on_state, JOINT_STATE)
        watch = make_watch(group)
        self._wanted = watch.parameters
        self._status = StatusListener(inputs, watch.feeds)

    @property
    def has_arrived(self) -> bool:
        """Whether a joint state has arrived."""
        return bool(self._stamps)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the driver's node that tell its release, once `ask` has read them."""
        return self._parameters

    def start_over(self) -> None:
        """Reset the counts; latched values are kept."""
        self._stamps.start_over()

    def ask(self, spin: Callable[[float, Callable[[], bool]], None]) -> None:
        """Read the parameters of the driver's node that tell its release, where there is one node and it answers.

        Args:
            spin: runs the executor for a time [s], or until a condition holds.
        """
        names = publisher_nodes(self._node, self._node.resolve_topic_name(self._group.state_topic))
        if not self._wanted or len(names) != 1 or names[0] is None:
            return
        listed = self._call(ListParameters, f"{names[0]}/list_parameters", spin)
        known = [] if listed is None else [name for name in self._wanted if name in listed.result.names]
        if known:
            found = self._call(GetParameters, f"{names[0]}/get_parameters", spin, names=known)
            values = () if found is None else found.values
            self._parameters = {
                name: parameter_value_to_python(value) for name, value in zip(known, values, strict=False)
            }

    def _call(
        self, kind: Any, name: str, spin: Callable[[float, Callable[[], bool]], None], **request: Any
    ) -> Any:
        client: Any = self._node.create_client(kind, name)
        try:
            spin(ANSWER_S, client.service_is_ready)
            if not client.service_is_ready():
                return None
            answer = client.call_async(kind.Request(**request))
            spin(ANSWER_S, answer.done)
            return answer.result() if answer.done() else None
        finally:
            self._node.destroy_client(client)

    def heard(self, seconds: float) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        publishers = publisher_nodes(self._node, self._node.resolve_topic_name(self._group.state_topic))
        return {
            "group": self._group.name,
            "driver": self._group.driver,
            "state_topic": self._group.state_topic,
            "publishers": [name or "a node of unknown name" for name in publishers],
            "same_name_elsewhere": self._elsewhere(),
            **self._stamps.heard(seconds),
            "names": list(self._names),
            "first_stamps_ns": self._stamps.some(SAMPLE),
            "error": self._error,
            "lacking": self._status.lacking,
            "values": self._status.values,
        }

    def _elsewhere(self) -> list[str]:
        """Return topics that end like the one wanted: a namespace that does not match."""
        wanted = self._node.resolve_topic_name(self._group.state_topic)
        kinds = "sensor_msgs/msg/JointState"
        names = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if name != wanted and kinds in types and self._node.count_publishers(name)
        ]
        return of_this_group(names, self._group.state_topic, self._other_topics)

    def _on_state(self, message: JointState) -> None:
        self._stamps.take(message.header)
        self._names = tuple(message.name)
        try:
            self._reader.read(message)
        except JointError as error:
            self._error = self._error or str(error)


class CameraListener:
    """What arrives of one camera.

    Args:
        node: owns the subscription.
        camera: whose topic.
    """

    def __init__(self, node: Node, camera: CameraSpec) -> None:
        self._node, self._camera = node, camera
        self._stamps = StreamAges(node)
        kind = message_kind(camera)
        contract = image_contract(camera)
        Inputs(node, RosClock(node)).listen(kind, camera.topic, self._on_image, IMAGE, contract=contract)

    def start_over(self) -> None:
        """Reset the counts."""
        self._stamps.start_over()

    def heard(self, seconds: float) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        publishers = publisher_nodes(self._node, self._node.resolve_topic_name(self._camera.topic))
        return {
            "camera": self._camera.name,
            "profile": bool(os.environ.get(PROFILE)),
            "publishers": [name or "a node of unknown name" for name in publishers],
            **self._stamps.heard(seconds),
        }

    def _on_image(self, message: Any) -> None:
        self._stamps.take(message.header)


def _spin(executor: SingleThreadedExecutor, seconds: float, *, until: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        executor.spin_once(timeout_sec=0.1)


def look(robot_name: str, seconds: float, args: list[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Listen for `seconds` [s] and return what arrived, by joint group and by camera."""
    robot = load_robot(robot_name)
    rclpy.init(args=args)
    node = Node("wam_doctor")
    executor = SingleThreadedExecutor()
    try:
        executor.add_node(node)
        groups = [
            GroupListener(node, group, [other for other in robot.groups if other is not group])
            for group in robot.groups
            if group.driver != NO_DRIVER
        ]
        cameras = [CameraListener(node, camera) for camera in robot.cameras]
        # Discovery may be slow on a loaded machine and must not lower the rates.
        _spin(executor, DISCOVERY_S, until=lambda: all(one.has_arrived for one in groups))
        listeners: list[GroupListener | CameraListener] = [*groups, *cameras]
        for one in listeners:
            one.start_over()
        _spin(executor, seconds, until=lambda: False)
        heard, pictures = [one.heard(seconds) for one in groups], [one.heard(seconds) for one in cameras]
        for one, answer in zip(groups, heard, strict=True):
            one.ask(lambda seconds, until: _spin(executor, seconds, until=until))
            answer["parameters"] = one.parameters
        return {"groups": heard, "cameras": pictures}
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def main() -> None:
    """Print what arrives from the robot named on the command line."""
    print(json.dumps(look(sys.argv[1], float(sys.argv[2]), sys.argv[3:])))


if __name__ == "__main__":
    main()
