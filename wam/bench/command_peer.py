# SPDX-License-Identifier: Apache-2.0
"""Joint states and chunks for `wam bench command`: `python -m wam.bench.command_peer ROBOT ROWS PERIOD_NS RATE`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import JointState

from wam.core.chunk import ActionChunk as Chunk
from wam.devices.loader import load_robot
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.conversions import chunk_to_message
from wam.ros.qos import CHUNK, COMMAND, JOINT_STATE_PUBLISHER
from wam_msgs.msg import ActionChunk

SWING = 0.1
OMEGA = 1.5


class Peer(Node):
    """A robot whose joints are where they were commanded to be, and an executor that swings them.

    Args:
        robot: whose topics.
        rows: of a chunk.
        period_ns: time between two rows [ns].
        rate: chunks per second.
    """

    def __init__(self, robot: RobotDescription, *, rows: int, period_ns: int, rate: float) -> None:
        super().__init__("wam_bench_peer")
        self._rows, self._period_ns = rows, period_ns
        self._robot = robot
        self._home = np.array([joint.home for joint in robot.joints])
        span = np.array([joint.upper - joint.lower for joint in robot.joints])
        self._swing = np.minimum(SWING, 0.2 * span)
        self._measured = {group.name: [joint.home for joint in group.joints] for group in robot.groups}
        self._chunks = self.create_publisher(ActionChunk, "wam_executor/chunk", CHUNK)
        self._sequence = 0
        for group in robot.groups:
            topic = self.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
            self.create_timer(1.0 / group.state_rate, partial(self._report, group, topic))
            if group.command_kind is CommandKind.JOINT_STATE_STREAM:
                self.create_subscription(JointState, group.command_topic, partial(self._move, group), COMMAND)
        self.create_timer(1.0 / rate, self._act)

    def _report(self, group: JointGroup, topic: Any) -> None:
        message = JointState(name=list(group.driver_names), position=self._measured[group.name])
        message.header.stamp = self.get_clock().now().to_msg()
        topic.publish(message)

    def _move(self, group: JointGroup, message: JointState) -> None:
        self._measured[group.name] = list(message.position)

    def _act(self) -> None:
        self._sequence += 1
        stamp_ns = int(self.get_clock().now().nanoseconds) - 50_000_000
        times = (stamp_ns % 10**12 + np.arange(self._rows) * self._period_ns) * 1e-9
        chunk = Chunk(
            stamp_ns=stamp_ns,
            generation=1,
            sequence=self._sequence,
            contract_hash="b" * 64,
            context_version=1,
            context_age_ns=0,
            phase_offset_rows=0,
            row_period_ns=self._period_ns,
            joint_names=self._robot.joint_names,
            rows=self._home + np.sin(OMEGA * times)[:, None] * self._swing,
        )
        self._chunks.publish(chunk_to_message(chunk, ActionChunk))


def main() -> None:
    """Publish until the process is ended."""
    rclpy.init(args=[])
    robot, rows, period_ns, rate = sys.argv[1:]
    node = Peer(load_robot(robot), rows=int(rows), period_ns=int(period_ns), rate=float(rate))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
