# SPDX-License-Identifier: Apache-2.0
"""Listens to a robot's drivers for a moment and prints what it heard as JSON: the eyes of `wam doctor --robot`.

python -m wam_driver_node.look ROBOT SECONDS [--ros-args ...]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64

from wam.core.errors import JointError
from wam.drivers import franka, piper, ur
from wam.drivers.optional import find_type
from wam.robots.description import DriverKind, JointGroup
from wam.robots.joint_reader import JointReader
from wam.robots.loader import load_robot
from wam.ros.conversions import time_to_ns
from wam.ros.qos import JOINT_STATE

LATCHED = QoSProfile(
    depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)


DISCOVERY_S = 5.0
"""Longest wait for a first message of every group."""


class GroupEar:
    """What is heard of one joint group.

    Args:
        node: owns the subscriptions.
        group: whose topics.
    """

    def __init__(self, node: Node, group: JointGroup) -> None:
        self._node, self._group = node, group
        self._reader = JointReader(group)
        self._stamps: list[int] = []
        self._last_age_ns = 0
        self._error = ""
        self._values: dict[str, Any] = {}
        self._scaling = ur.SpeedScaling()
        self._lacking: list[str] = []
        self._folder = group.state_topic.rpartition("/")[0]
        node.create_subscription(JointState, group.state_topic, self._on_state, JOINT_STATE)
        listen = {
            DriverKind.PIPER: self._listen_piper,
            DriverKind.FRANKA: self._listen_franka,
            DriverKind.UR: self._listen_ur,
        }.get(group.driver)
        if listen is not None:
            listen()

    @property
    def hears(self) -> bool:
        """Whether a joint state has arrived."""
        return bool(self._stamps)

    def start_over(self) -> None:
        """Forget what was counted; latched values stay."""
        self._stamps.clear()

    def heard(self, seconds: float) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        publishers = self._node.get_publishers_info_by_topic(
            self._node.resolve_topic_name(self._group.state_topic)
        )
        return {
            "group": self._group.name,
            "driver": self._group.driver.value,
            "state_topic": self._group.state_topic,
            "publishers": [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in publishers],
            "same_name_elsewhere": self._elsewhere(),
            "messages": len(self._stamps),
            "distinct_stamps": len(set(self._stamps)),
            "rate": len(self._stamps) / seconds,
            "age_ns": self._last_age_ns,
            "error": self._error,
            "lacking": self._lacking,
            "values": self._values,
        }

    def _elsewhere(self) -> list[str]:
        """Return topics that end like the one wanted: a namespace that does not match."""
        wanted = self._node.resolve_topic_name(self._group.state_topic)
        tail = "/" + wanted.rpartition("/")[2]
        kinds = "sensor_msgs/msg/JointState"
        return sorted(
            name
            for name, types in self._node.get_topic_names_and_types()
            if name.endswith(tail) and name != wanted and kinds in types and self._node.count_publishers(name)
        )

    def _on_state(self, message: JointState) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        self._stamps.append(stamp_ns)
        self._last_age_ns = self._node.get_clock().now().nanoseconds - stamp_ns
        try:
            self._reader.read(message)
        except JointError as error:
            self._error = self._error or str(error)

    def _beside(self, topic: str) -> str:
        return f"{self._folder}/{topic}" if self._folder else topic

    def _vendor(self, key: str, topic: str, take: Any, qos: Any = 10) -> None:
        found = find_type(key)
        if found is None:
            self._lacking.append(key)
        else:
            self._node.create_subscription(found, topic, take, qos)

    def _listen_piper(self) -> None:
        def take(message: Any) -> None:
            status = piper.read_status(message)
            self._values |= {
                "arm_status": status.arm_status,
                "ctrl_mode": status.ctrl_mode,
                "limited_joints": status.limited_joints,
                "silent_joints": status.silent_joints,
            }

        self._vendor("piper_status", self._beside(piper.PIPER_ROS.status), take)

    def _listen_franka(self) -> None:
        def take(message: Any) -> None:
            state = franka.read_state(message)
            self._values |= {
                "robot_mode": state.robot_mode,
                "success_rate": state.success_rate,
                "errors": state.errors,
                "last_errors": state.last_errors,
            }

        self._vendor("franka_state", franka.STATE_TOPIC, take)

    def _listen_ur(self) -> None:
        def take_scaling(message: Float64) -> None:
            self._values["scaling"] = self._scaling.read(message.data)

        def take(key: str, message: Any) -> None:
            self._values[key] = message.data if isinstance(message, Bool) else message.mode

        self._node.create_subscription(Float64, ur.SCALING_TOPIC, take_scaling, 10)
        self._node.create_subscription(Bool, ur.PROGRAM_TOPIC, partial(take, "program_running"), LATCHED)
        self._vendor("ur_robot_mode", ur.ROBOT_MODE_TOPIC, partial(take, "robot_mode"), LATCHED)
        self._vendor("ur_safety_mode", ur.SAFETY_MODE_TOPIC, partial(take, "safety_mode"), LATCHED)


def _spin(executor: SingleThreadedExecutor, seconds: float, *, until: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        executor.spin_once(timeout_sec=0.1)


def look(robot_name: str, seconds: float, args: list[str] | None = None) -> list[dict[str, Any]]:
    """Listen for `seconds` [s] and return what was heard, group by group."""
    robot = load_robot(robot_name)
    rclpy.init(args=args)
    node = Node("wam_doctor")
    executor = SingleThreadedExecutor()
    try:
        executor.add_node(node)
        ears = [GroupEar(node, group) for group in robot.groups if group.driver is not DriverKind.NONE]
        # Discovery takes its time on a loaded machine, and counts for no rate.
        _spin(executor, DISCOVERY_S, until=lambda: all(ear.hears for ear in ears))
        for ear in ears:
            ear.start_over()
        _spin(executor, seconds, until=lambda: False)
        return [ear.heard(seconds) for ear in ears]
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def main() -> None:
    """Print what is heard of the robot named on the command line."""
    print(json.dumps(look(sys.argv[1], float(sys.argv[2]), sys.argv[3:])))


if __name__ == "__main__":
    main()
