# SPDX-License-Identifier: Apache-2.0
"""Joint states and commands of one joint group's driver."""

from __future__ import annotations

from functools import partial
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from wam.core.clock import NS_PER_S
from wam.devices.jtc import ControllerState, Trajectory, TrajectoryPoint
from wam.devices.twin import JointFeedback
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.conversions import ns_to_time, time_to_ns
from wam.ros.qos import COMMAND, EVENT, JOINT_STATE_PUBLISHER
from wam.sim.cycle import Command, GroupOutput, SimCycle
from wam.sim.pace import Pace
from wam_sim_node.vendor import Vendor, controller_state_message

MERGED_RATE_HZ = 30.0
"""Rate of franka_ros2's `joint_states`, a merge of arm and hand."""


class ArmTopics:
    """What `piper_ctrl_single_node` publishes and subscribes to, for one joint group.

    Published at the state rate: the state topic of the robot file, and beside it `joint_states_feedback` and
    `joint_ctrl` (the echo of the target), these two only while somebody listens. Subscribed: the command topic and
    `enable_flag`.

    Args:
        node: lifecycle node that owns the entities.
        group: whose driver.
        cycle: takes commands and switches.
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle) -> None:
        self._node, self._group, self._cycle = node, group, cycle
        folder = group.state_topic.rpartition("/")[0]
        beside = f"{folder}/" if folder else ""
        publish = partial(node.create_lifecycle_publisher, JointState, qos_profile=JOINT_STATE_PUBLISHER)
        self._pace = Pace(round(NS_PER_S / group.state_rate))
        self._state = publish(group.state_topic)
        self._feedback = publish(f"{beside}joint_states_feedback")
        self._echo = publish(f"{beside}joint_ctrl")
        self._subscriptions = [
            node.create_subscription(JointState, group.command_topic, self._store_command, COMMAND),
            node.create_subscription(Bool, f"{beside}enable_flag", self._store_enable, EVENT),
        ]

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish one moment of the arm, if one is due."""
        if not self._pace.due(stamp_ns):
            return
        state = _message(output.feedback, stamp_ns)
        self._state.publish(state)
        if self._feedback.get_subscription_count():
            self._feedback.publish(state)
        if self._echo.get_subscription_count():
            self._echo.publish(_message(output.echo, stamp_ns))

    def close(self) -> None:
        """Remove publishers and subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self._state, self._feedback, self._echo):
            self._node.destroy_lifecycle_publisher(publisher)

    def _store_command(self, message: JointState) -> None:
        command = Command(message.name, message.position, message.velocity, message.effort)
        self._cycle.offer_command(self._group.name, command)

    def _store_enable(self, message: Bool) -> None:
        self._cycle.offer_enable(self._group.name, bool(message.data))


class ControllerTopics:
    """State and command topic of a group behind a trajectory controller or an adapter of the suite.

    A trajectory controller's own state goes out on `controller_state` beside its command topic where control_msgs is
    installed, and on `controller_reference` (sensor_msgs/JointState: what it commands) anywhere; both while somebody
    listens.

    Args:
        node: lifecycle node that owns the entities.
        group: whose driver.
        cycle: takes commands.
        vendor: finds message classes.
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> None:
        self._node, self._group, self._cycle = node, group, cycle
        self._pace = Pace(round(NS_PER_S / group.state_rate))
        self._state = node.create_lifecycle_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
        self._reference: Any = None
        self._controller: Any = None
        self._kind: Any = None
        if group.command_kind is CommandKind.JOINT_TRAJECTORY:
            arguments = (JointTrajectory, group.command_topic, self._store_trajectory, COMMAND)
            beside = group.command_topic.rpartition("/")[0]
            self._reference = node.create_lifecycle_publisher(
                JointState, f"{beside}/controller_reference", JOINT_STATE_PUBLISHER
            )
            self._kind = vendor("controller_state")
            if self._kind is not None:
                self._controller = node.create_lifecycle_publisher(
                    self._kind, f"{beside}/controller_state", JOINT_STATE_PUBLISHER
                )
        else:
            arguments = (JointState, group.command_topic, self._store_command, COMMAND)
        self._subscription = node.create_subscription(*arguments)

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish one moment of the group, if one is due."""
        if not self._pace.due(stamp_ns):
            return
        self._state.publish(_message(output.feedback, stamp_ns))
        state = output.controller
        if state is None or self._reference is None:
            return
        if self._reference.get_subscription_count():
            self._reference.publish(_reference(state, stamp_ns))
        if self._controller is not None and self._controller.get_subscription_count():
            self._controller.publish(controller_state_message(self._kind, state, stamp_ns))

    def close(self) -> None:
        """Remove publishers and subscription."""
        self._node.destroy_subscription(self._subscription)
        for publisher in (self._state, self._reference, self._controller):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _store_command(self, message: JointState) -> None:
        command = Command(message.name, message.position, message.velocity, message.effort)
        self._cycle.offer_command(self._group.name, command)

    def _store_trajectory(self, message: JointTrajectory) -> None:
        points = [
            TrajectoryPoint(
                point.time_from_start.sec * NS_PER_S + point.time_from_start.nanosec,
                point.positions,
                point.velocities,
                point.accelerations,
                point.effort,
            )
            for point in message.points
        ]
        trajectory = Trajectory(message.joint_names, points, time_to_ns(message.header.stamp))
        self._cycle.offer_command(self._group.name, trajectory)


class MergedStates:
    """`joint_states` of franka_ros2: the joints of arm and hand together, at 30 Hz.

    Args:
        node: lifecycle node that owns the publisher.
        robot: whose groups.
    """

    def __init__(self, node: Any, robot: RobotDescription) -> None:
        self._node = node
        self._groups = [group.name for group in robot.groups if group.driver in ("franka", "franka_gripper")]
        self._pace = Pace(round(NS_PER_S / MERGED_RATE_HZ))
        self._merged = node.create_lifecycle_publisher(JointState, "joint_states", JOINT_STATE_PUBLISHER)

    def publish(self, outputs: dict[str, GroupOutput], stamp_ns: int) -> None:
        """Publish one moment of the robot, if one is due."""
        if not self._pace.due(stamp_ns):
            return
        parts = [outputs[name].feedback for name in self._groups]
        merged = JointFeedback(
            names=tuple(name for part in parts for name in part.names),
            positions=tuple(value for part in parts for value in part.positions),
            velocities=tuple(value for part in parts for value in part.velocities),
            efforts=tuple(value for part in parts for value in part.efforts),
        )
        self._merged.publish(_message(merged, stamp_ns))

    def close(self) -> None:
        """Remove the publisher."""
        self._node.destroy_lifecycle_publisher(self._merged)


DriverTopics = ArmTopics | ControllerTopics


def make_topics(node: Any, group: JointGroup, cycle: SimCycle, vendor: Vendor) -> DriverTopics:
    """Return the topics of the group's driver."""
    if group.driver == "piper":
        return ArmTopics(node, group, cycle)
    return ControllerTopics(node, group, cycle, vendor)


def _message(feedback: JointFeedback, stamp_ns: int) -> JointState:
    message = JointState(name=list(feedback.names))
    message.header.stamp = ns_to_time(stamp_ns)
    message.position = list(feedback.positions)
    message.velocity = list(feedback.velocities)
    message.effort = list(feedback.efforts)
    return message


def _reference(state: ControllerState, stamp_ns: int) -> JointState:
    message = JointState(name=list(state.names))
    message.header.stamp = ns_to_time(stamp_ns)
    message.position = state.reference.tolist()
    message.velocity = state.reference_velocity.tolist()
    return message
