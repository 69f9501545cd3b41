# SPDX-License-Identifier: Apache-2.0
"""What a vendor's driver says of its device beside the joint states, whatever of it this environment can read."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool, Float64

from wam.devices.franka import arm as franka
from wam.devices.optional import find_type
from wam.devices.piper import arm as piper
from wam.devices.ur import arm as ur
from wam.robots.description import JointGroup
from wam.ros.qos import JOINT_STATE

LATCHED = QoSProfile(
    depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)
READ_PERIOD_S = 0.1
"""A status that comes at 1 kHz is decoded this seldom: decoding all of it would cost a core."""


class VendorEar:
    """Listens to the vendor's status topics of one joint group. In the thread of the node's rclpy executor.

    Args:
        node: owns the subscriptions.
        group: whose driver.
        find: returns a type of `wam.devices.optional.VENDOR_TYPES`, or None where its package is not installed.
    """

    def __init__(
        self, node: Node, group: JointGroup, *, find: Callable[[str], Any | None] = find_type
    ) -> None:
        self._node, self._group, self._find = node, group, find
        self.values: dict[str, Any] = {}
        self.lacking: list[str] = []
        self._scaling = ur.SpeedScaling()
        self._read_at = self._heard_at = 0.0
        self._subscriptions: list[Any] = []
        listen = {
            "piper": self._listen_piper,
            "franka": self._listen_franka,
            "ur": self._listen_ur,
        }.get(group.driver)
        if listen is not None:
            listen()

    @property
    def silent_s(self) -> float:
        """Time since the last status; since the machine started where there was none [s]."""
        return time.monotonic() - self._heard_at

    def close(self) -> None:
        """Remove the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _subscribe(self, kind: Any, topic: str, take: Callable[[Any], None], qos: Any, **how: Any) -> None:
        def heard(message: Any) -> None:
            self._heard_at = time.monotonic()
            take(message)

        self._subscriptions.append(self._node.create_subscription(kind, topic, heard, qos, **how))

    def _vendor(
        self, key: str, topic: str, take: Callable[[Any], None], qos: Any, *, seldom: bool = False
    ) -> None:
        found = self._find(key)
        if found is None:
            self.lacking.append(key)
        elif seldom:
            self._subscribe(found, topic, partial(self._read_seldom, found, take), qos, raw=True)
        else:
            self._subscribe(found, topic, take, qos)

    def _read_seldom(self, kind: Any, take: Callable[[Any], None], data: bytes) -> None:
        now = time.monotonic()
        if now - self._read_at >= READ_PERIOD_S:
            self._read_at = now
            take(deserialize_message(data, kind))

    def _listen_piper(self) -> None:
        topics, folder = piper.driver_of(self._group.state_topic)
        if topics is not piper.PIPER_ROS:
            return

        def take(message: Any) -> None:
            status = piper.read_status(message)
            self.values |= {
                "arm_status": status.arm_status,
                "ctrl_mode": status.ctrl_mode,
                "limited_joints": status.limited_joints,
                "silent_joints": status.silent_joints,
            }

        topic = f"{folder}/{topics.status}" if folder else topics.status
        self._vendor("piper_status", topic, take, JOINT_STATE)

    def _listen_franka(self) -> None:
        def take(message: Any) -> None:
            state = franka.read_state(message)
            self.values |= {
                "robot_mode": state.robot_mode,
                "success_rate": state.success_rate,
                "errors": state.errors,
                "last_errors": state.last_errors,
            }

        self._vendor("franka_state", franka.STATE_TOPIC, take, JOINT_STATE, seldom=True)

    def _listen_ur(self) -> None:
        def take_scaling(message: Float64) -> None:
            self.values["scaling"] = self._scaling.read(message.data)

        def take(key: str, message: Any) -> None:
            self.values[key] = message.data if isinstance(message, Bool) else message.mode

        self._subscribe(Float64, ur.SCALING_TOPIC, take_scaling, JOINT_STATE)
        self._subscribe(Bool, ur.PROGRAM_TOPIC, partial(take, "program_running"), LATCHED)
        self._vendor("ur_robot_mode", ur.ROBOT_MODE_TOPIC, partial(take, "robot_mode"), LATCHED)
        self._vendor("ur_safety_mode", ur.SAFETY_MODE_TOPIC, partial(take, "safety_mode"), LATCHED)
