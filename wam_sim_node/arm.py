# SPDX-License-Identifier: Apache-2.0
"""Topics of one joint group's driver."""

from __future__ import annotations

from functools import partial
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from wam.core.clock import NS_PER_S
from wam.robots.description import CommandKind, DriverKind, JointGroup
from wam.ros.conversions import ns_to_time, time_to_ns
from wam.ros.qos import COMMAND, EVENT, JOINT_STATE_PUBLISHER
from wam.sim.driver import JointFeedback
from wam.sim.jtc import Trajectory, TrajectoryPoint
from wam_sim_node.cycle import Command, GroupOutput, SimCycle


class ArmTopics:
    """What `piper_ctrl_single_node` publishes and subscribes to, for one joint group.

    Published at the state rate: the state topic of the robot file, and beside it `joint_states_feedback` and
    `joint_ctrl` (the echo of the target), these two only while somebody listens. Subscribed: the command topic and
    `enable_flag`. `arm_status` and `enable_srv` need piper_msgs, which no registry has, and are left out.

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
        self._state = publish(group.state_topic)
        self._feedback = publish(f"{beside}joint_states_feedback")
        self._echo = publish(f"{beside}joint_ctrl")
        self._subscriptions = [
            node.create_subscription(JointState, group.command_topic, self._store_command, COMMAND),
            node.create_subscription(Bool, f"{beside}enable_flag", self._store_enable, EVENT),
        ]

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish one moment of the arm."""
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

    The state is published at the group's own rate where that is slower than the physics. The controller's own state
    needs control_msgs, which no registry has, and is left out.

    Args:
        node: lifecycle node that owns the entities.
        group: whose driver.
        cycle: takes commands.
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle) -> None:
        self._node, self._group, self._cycle = node, group, cycle
        self._period_ns, self._due_ns = int(NS_PER_S / group.state_rate), 0
        self._state = node.create_lifecycle_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
        if group.command_kind is CommandKind.JOINT_TRAJECTORY:
            arguments = (JointTrajectory, group.command_topic, self._store_trajectory, COMMAND)
        else:
            arguments = (JointState, group.command_topic, self._store_command, COMMAND)
        self._subscription = node.create_subscription(*arguments)

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish one moment of the group, if one is due."""
        if 0 < self._due_ns - stamp_ns <= self._period_ns:
            return
        # Counted from the moment that was due, which keeps the mean rate; anew after a pause or a clock that was set.
        late_ns = stamp_ns - self._due_ns
        self._due_ns = (self._due_ns if 0 <= late_ns < self._period_ns else stamp_ns) + self._period_ns
        self._state.publish(_message(output.feedback, stamp_ns))

    def close(self) -> None:
        """Remove publisher and subscription."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_lifecycle_publisher(self._state)

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
            )
            for point in message.points
        ]
        trajectory = Trajectory(message.joint_names, points, time_to_ns(message.header.stamp))
        self._cycle.offer_command(self._group.name, trajectory)


DriverTopics = ArmTopics | ControllerTopics


def make_topics(node: Any, group: JointGroup, cycle: SimCycle) -> DriverTopics:
    """Return the topics of the group's driver."""
    kind = ArmTopics if group.driver is DriverKind.PIPER else ControllerTopics
    return kind(node, group, cycle)


def _message(feedback: JointFeedback, stamp_ns: int) -> JointState:
    message = JointState(name=list(feedback.names))
    message.header.stamp = ns_to_time(stamp_ns)
    message.position = list(feedback.positions)
    message.velocity = list(feedback.velocities)
    message.effort = list(feedback.efforts)
    return message
