# SPDX-License-Identifier: Apache-2.0
"""Joint states and commands of the joint groups' drivers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from wam.core.clock import NS_PER_S
from wam.devices.jtc import ControllerState, Trajectory, TrajectoryPoint
from wam.devices.optional import Find
from wam.devices.piper.generations import of_a_float
from wam.devices.registry import kind_of
from wam.devices.simulated import MergedStates, Simulated, beside
from wam.devices.twin import JointFeedback
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.conversions import ns_to_time, time_to_ns
from wam.ros.inputs import GuardedInput
from wam.ros.qos import COMMAND, EVENT, JOINT_STATE_PUBLISHER
from wam.sim.cycle import Command, GroupOutput, SimCycle
from wam.sim.pace import Pace
from wam_sim_node.vendor import controller_state_message


class JointTopics:
    """State and command topics of one group's driver.

    Published at the state rate: the state topic of the robot file, and, while it has subscribers, what the kind of
    device adds: a copy of it, and an echo of the target in force. A trajectory controller's own state goes out on
    `controller_state` beside its command topic where control_msgs is installed, and on `controller_reference`
    (sensor_msgs/JointState: what it commands) anywhere.

    Args:
        node: lifecycle node that owns the entities.
        group: whose driver.
        cycle: takes commands and switches.
        find: returns message types.
        tick_ns: time between two cycles of the physics [ns].
    """

    def __init__(self, node: Any, group: JointGroup, cycle: SimCycle, find: Find, *, tick_ns: int) -> None:
        self._node, self._group, self._cycle = node, group, cycle
        period_ns = round(NS_PER_S / group.state_rate)
        # As fast as the cycles, a state goes out with each: by its own count of time, one that comes a little early
        # would be left out, and after a late one every second.
        self._pace = Pace(period_ns) if period_ns > tick_ns else None
        self._publishers: list[Any] = []
        self._subscriptions: list[Any] = []
        self._state = self._publish(JointState, group.state_topic)
        offered = offer_of(group)
        self._copy, self._echo = (
            self._publish(JointState, topic) if topic else None
            for topic in (offered.copy_topic, offered.echo_topic)
        )
        self._reference: Any = None
        self._controller: Any = None
        self._kind: Any = None
        on_demand, topic = not node.p.lock_step, group.command_topic
        if group.command_kind is CommandKind.JOINT_TRAJECTORY:
            self._reference = self._publish(JointState, beside(group.command_topic, "controller_reference"))
            self._kind = find("controller_state")
            if self._kind is not None:
                self._controller = self._publish(self._kind, beside(group.command_topic, "controller_state"))
            commands = self._listen(
                JointTrajectory, topic, self._store_trajectory, COMMAND, on_demand=on_demand
            )
        else:
            commands = self._listen(JointState, topic, self._store_command, COMMAND, on_demand=on_demand)
        self._commands = commands if on_demand else None
        if offered.enable_topic:
            self._listen(Bool, offered.enable_topic, self._store_enable, EVENT)

    def read(self) -> None:
        """Take the newest command, before the physics go on."""
        if self._commands is not None:
            self._commands.drain()

    def publish(self, output: GroupOutput, stamp_ns: int) -> None:
        """Publish one moment of the group, if one is due."""
        if self._pace is not None and not self._pace.due(stamp_ns):
            return
        if not output.feedback.published:
            return
        state = _message(output.feedback, stamp_ns)
        self._state.publish(state)
        if self._copy is not None and self._copy.get_subscription_count():
            self._copy.publish(state)
        if self._echo is not None and self._echo.get_subscription_count():
            self._echo.publish(_message(output.echo, stamp_ns))
        controller = output.controller
        if controller is None or self._reference is None:
            return
        if self._reference.get_subscription_count():
            self._reference.publish(_reference(controller, stamp_ns))
        if self._controller is not None and self._controller.get_subscription_count():
            self._controller.publish(controller_state_message(self._kind, controller, stamp_ns))

    def close(self) -> None:
        """Remove publishers and subscriptions."""
        for subscription in self._subscriptions:
            self._node.inputs.remove(subscription)
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers, self._subscriptions = [], []

    def _publish(self, kind: Any, topic: str) -> Any:
        publisher = self._node.create_lifecycle_publisher(kind, topic, JOINT_STATE_PUBLISHER)
        self._publishers.append(publisher)
        return publisher

    def _listen(
        self, kind: Any, topic: str, store: Callable[[Any], None], qos: Any, *, on_demand: bool = False
    ) -> GuardedInput:
        made: GuardedInput = self._node.inputs.listen(kind, topic, store, qos, on_demand=on_demand)
        self._subscriptions.append(made)
        return made

    def _store_enable(self, message: Bool) -> None:
        self._cycle.offer_enable(self._group.name, bool(message.data))

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


class MergedTopic:
    """The joint states of several groups in one message.

    Args:
        node: lifecycle node that owns the publisher.
        robot: whose groups.
        merged: topic, kinds and rate.
    """

    def __init__(self, node: Any, robot: RobotDescription, merged: MergedStates) -> None:
        self._node = node
        self._groups = [group.name for group in robot.groups if group.driver in merged.kinds]
        self._pace = Pace(round(NS_PER_S / merged.rate))
        self._merged = node.create_lifecycle_publisher(JointState, merged.topic, JOINT_STATE_PUBLISHER)

    def publish(self, outputs: Mapping[str, GroupOutput], stamp_ns: int) -> None:
        """Publish one moment of the robot, if one is due."""
        if any(name not in outputs for name in self._groups) or not self._pace.due(stamp_ns):
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


def merged_topics(node: Any, robot: RobotDescription) -> list[MergedTopic]:
    """Return the merged topics that the robot's drivers publish, each once."""
    offered = [offer_of(group).merged for group in robot.groups]
    return [MergedTopic(node, robot, merged) for merged in dict.fromkeys(offered) if merged is not None]


def offer_of(group: JointGroup) -> Simulated:
    """Return what the simulated driver of a group offers."""
    simulated = kind_of(group).simulated
    return Simulated() if simulated is None else simulated(group)


def _message(feedback: JointFeedback, stamp_ns: int) -> JointState:
    message = JointState(name=list(feedback.names))
    stamp_ns -= feedback.old_ns
    message.header.stamp = ns_to_time(of_a_float(stamp_ns) if feedback.float_stamp else stamp_ns)
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
