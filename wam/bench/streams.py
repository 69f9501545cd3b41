# SPDX-License-Identifier: Apache-2.0
"""Publishes a robot's camera and joint-state topics, for benches: `python -m wam.bench.streams ROBOT RATE`."""

from __future__ import annotations

import array
import sys
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState

from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import RobotDescription
from wam.ros.qos import IMAGE_PUBLISHER, JOINT_STATE_PUBLISHER


class Streams(Node):
    """Publishes noise images and the home position at the rates of the robot file.

    Args:
        robot: whose topics; its cameras must be raw.
        image_rate: images per second and camera [Hz].
    """

    def __init__(self, robot: RobotDescription, *, image_rate: float) -> None:
        super().__init__("wam_bench_streams")
        rng = np.random.default_rng(0)
        for camera in robot.cameras:
            if camera.transport is not CameraTransport.RAW:
                raise ValueError(f"camera {camera.name} of {robot.name} is not raw")
            pixels = rng.integers(0, 256, camera.height * camera.width * 3, dtype=np.uint8)
            image = Image(height=camera.height, width=camera.width, encoding="rgb8", step=3 * camera.width)
            image.data = array.array("B", pixels.tobytes())
            self._every(1.0 / image_rate, Image, camera.topic, image, IMAGE_PUBLISHER)
        for group in robot.groups:
            state = JointState(name=list(group.driver_names), position=[joint.home for joint in group.joints])
            self._every(1.0 / group.state_rate, JointState, group.state_topic, state, JOINT_STATE_PUBLISHER)

    def _every(
        self, period: float, kind: type[Any], topic: str, message: Image | JointState, qos: QoSProfile
    ) -> None:
        publisher: Publisher[Any] = self.create_publisher(kind, topic, qos)

        def publish() -> None:
            message.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(message)

        self.create_timer(period, publish)


def main() -> None:
    """Publish until the process is ended."""
    rclpy.init()
    node = Streams(load_robot(sys.argv[1]), image_rate=float(sys.argv[2]))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
