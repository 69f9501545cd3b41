# SPDX-License-Identifier: Apache-2.0
"""Topics that only some robots have: speed scaling of a UR, the reference of a trajectory controller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from std_msgs.msg import Float64

from wam.core.errors import JointError
from wam.core.input_guard import InputContract
from wam.core.observation import index_of
from wam.devices.registry import kind_of
from wam.devices.ur.arm import SpeedScaling
from wam.robots.description import CommandKind, JointGroup, RobotDescription
from wam.ros.conversions import time_to_ns
from wam.ros.inputs import Inputs
from wam.ros.qos import JOINT_STATE
from wam.runtime.safety.cycle import SafetyCycle


class Extras:
    """Subscriptions beside chunk and joint states; each is made where the robot has the topic.

    Args:
        inputs: subscriptions of the safety node.
        robot: decides which there are.
        cycle: gets what they report.
        contract: what is accepted of a driver.
        speed_scaling_topic: topic of the speed scaling; "" takes that of the robot's driver, where it has one.
        on_reference: called with the joint group whose controller has published its state.
    """

    def __init__(
        self,
        inputs: Inputs,
        robot: RobotDescription,
        cycle: SafetyCycle,
        *,
        contract: InputContract,
        speed_scaling_topic: str,
        on_reference: Callable[[str], None] = lambda _group: None,
    ) -> None:
        self._inputs = inputs
        self._cycle, self._contract = cycle, contract
        self._on_reference = on_reference
        self._scaling = SpeedScaling()
        self._subscriptions: list[Any] = []
        topics = (kind_of(group).speed_scaling_topic for group in robot.groups)
        topic = speed_scaling_topic or next(filter(None, topics), "")
        if topic:
            self._listen(Float64, topic, self._store_scaling)
        state_type = controller_state_type()
        for group in robot.groups:
            if group.command_kind is CommandKind.JOINT_TRAJECTORY and state_type is not None:
                controller = group.command_topic.rpartition("/")[0]
                self._listen(
                    state_type, f"{controller}/controller_state", partial(self._store_reference, group)
                )

    def close(self) -> None:
        """Remove the subscriptions."""
        for subscription in self._subscriptions:
            self._inputs.remove(subscription)
        self._subscriptions = []

    def _listen(self, kind: type[Any], topic: str, store: Callable[[Any], None]) -> None:
        self._subscriptions.append(
            self._inputs.listen(kind, topic, store, JOINT_STATE, contract=self._contract)
        )

    def _store_scaling(self, message: Any) -> None:
        scaling = self._scaling.read(float(message.data))
        # Whether 1.0 means all or one percent is not known yet: the arm waits.
        self._cycle.speed_scaling = 0.0 if scaling is None else scaling
        self._cycle.paused = scaling == 0.0

    def _store_reference(self, group: JointGroup, message: Any) -> None:
        try:
            index = index_of(tuple(message.joint_names), group.driver_names, what="controller state")
        except JointError:
            return
        # Humble's older message calls it `desired`.
        point = getattr(message, "reference", None) or message.desired
        positions = np.asarray(point.positions, dtype=np.float64)
        if len(positions) == len(message.joint_names):
            stamp_ns = time_to_ns(message.header.stamp)
            reference = positions[index] / group.command_factors
            self._cycle.offer_reference(group.name, stamp_ns=stamp_ns, positions=reference)
            self._on_reference(group.name)


def controller_state_type() -> type[Any] | None:
    """Return control_msgs/JointTrajectoryControllerState, or None where control_msgs is not installed."""
    try:
        from control_msgs.msg import JointTrajectoryControllerState
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("control_msgs"):
            raise
        return None
    kind: type[Any] = JointTrajectoryControllerState
    return kind
