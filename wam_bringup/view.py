# SPDX-License-Identifier: Apache-2.0
"""Executable `wam_view`: joint states of all drivers as those of the model, for robot_state_publisher and RViz."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from wam.core.errors import ConfigError, InputError
from wam.devices.loader import load_robot
from wam.robots.description import JointGroup, RobotDescription
from wam.robots.joint_reader import JointReader
from wam.ros.lifecycle import WamNode
from wam.ros.parameters import parameter
from wam.ros.process import run
from wam.ros.qos import JOINT_STATE, JOINT_STATE_PUBLISHER

RATE_HZ = 30.0


@dataclass(frozen=True, slots=True)
class ViewParameters:
    """What the view can be told."""

    robot: str = parameter(
        description="robot: a name in config/robots or the path of a YAML file; it needs a model"
    )


class ModelState:
    """Positions of the model's joints from what the drivers report, in the order of the robot file. No rclpy.

    A driver's joint may move several joints of the model (fingers), and two drivers may use the same names.

    Args:
        robot: a robot with a model.
    """

    def __init__(self, robot: RobotDescription) -> None:
        if robot.urdf is None:
            raise ConfigError(f"robot {robot.name} has no model to show", where=str(robot.source))
        self._readers = {group.name: JointReader(group) for group in robot.groups}
        self._groups = {group.name: group for group in robot.groups}
        self._positions: dict[str, float] = {}

    def offer(self, group: str, message: Any) -> None:
        """Take a driver's sensor_msgs/JointState.

        Raises:
            InputError: it does not fit the group.
        """
        positions, _ = self._readers[group].read(message)
        for joint, position in zip(self._groups[group].joints, np.asarray(positions).tolist(), strict=True):
            for coupled in joint.model_joints:
                self._positions[coupled.name] = coupled.ratio * position + coupled.offset

    def read(self) -> dict[str, float]:
        """Return model joint -> position [rad or m] for every joint that has been reported."""
        return dict(self._positions)


class ViewNode(WamNode[ViewParameters]):
    """Lifecycle node `wam_view`: publishes `~/joint_states` with the model's joint names at 30 Hz.

    Args:
        node_args: passed to the lifecycle node.
    """

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_view", ViewParameters, **node_args)
        self._state: ModelState | None = None
        self._told: set[str] = set()

    def setup(self) -> None:
        """Make the topics."""
        robot = load_robot(self.p.robot)
        self._state = ModelState(robot)
        self._publisher = self.create_lifecycle_publisher(JointState, "~/joint_states", JOINT_STATE_PUBLISHER)
        self._subscriptions_here = [
            self.create_subscription(JointState, group.state_topic, partial(self._take, group), JOINT_STATE)
            for group in robot.groups
        ]
        self._timer = self.create_timer(1.0 / RATE_HZ, self._publish)

    def start(self) -> None:
        """Nothing moves: publishing follows the state of the node."""

    def stop(self) -> None:
        """Nothing was moved."""

    def teardown(self) -> None:
        """Remove the topics."""
        self.destroy_timer(self._timer)
        for subscription in self._subscriptions_here:
            self.destroy_subscription(subscription)
        self.destroy_lifecycle_publisher(self._publisher)
        self._state = None

    def _take(self, group: JointGroup, message: Any) -> None:
        if self._state is None:
            return
        try:
            self._state.offer(group.name, message)
        except InputError as error:
            if group.name not in self._told:
                self._told.add(group.name)
                self.get_logger().warning(str(error))

    def _publish(self) -> None:
        positions = {} if self._state is None else self._state.read()
        if not positions:
            return
        message = JointState(name=list(positions), position=list(positions.values()))
        message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(message)


def main() -> None:
    """Show until SIGINT or SIGTERM."""
    sys.exit(run(lambda: [ViewNode()]))


if __name__ == "__main__":
    main()
