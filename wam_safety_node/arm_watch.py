# SPDX-License-Identifier: Apache-2.0
"""Looks at the measured arm beside the command thread, and hears who asks for reduced speed."""

from __future__ import annotations

from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSDurabilityPolicy, QoSReliabilityPolicy
from std_msgs.msg import Bool

from wam.core.input_guard import Arrival
from wam.core.verdict import Finding
from wam.robots.measured_check import MeasuredCheck
from wam.ros.qos import EVENT, EVENT_KEPT, JOINT_STATE
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.reduced_speed import ReducedSpeed

LOOK_PERIOD_S = 0.1
"""Time between two looks at the measured arm [s]."""


class ArmWatch:
    """Raises a STOP where the arm is, and not only where it is commanded, against what holds for commands.

    Args:
        check: what is looked at; None for a robot without a model.
        cycle: gets the cause.
        now: present time on the axis of the joint states [ns].
    """

    def __init__(self, check: MeasuredCheck | None, cycle: SafetyCycle, now: Any) -> None:
        self._check = check
        self._cycle = cycle
        self._now = now
        self._raised = ""

    def look(self) -> None:
        """Look once; called about ten times a second, not in the command thread."""
        cycle = self._cycle
        if self._check is None or not cycle.seeded:
            return
        measured = cycle.measured(self._now())
        if measured.stale is not None or not measured.complete:
            return
        self._settle(self._check.look(measured.positions, cycle.recent_commands))

    def _settle(self, found: Finding | None) -> None:
        if self._raised and (found is None or found.code != self._raised):
            self._cycle.withdraw_cause(self._raised)
            self._raised = ""
        if found is not None:
            self._cycle.raise_cause(found)
            self._raised = found.code


class ReducedSpeedSwitch:
    """Hears every publisher of the topic `reduced_speed_topic` (std_msgs/Bool), whatever its QoS.

    A switch may publish on change only, and latch its word: a node that starts later has to know it. A best-effort
    reader hears all that is said from now on; others are added for the publishers that need them, since those that do
    not match a reader warn their users.

    Args:
        node: the safety node.
        topic: relative.
        cycle: is told.
        asked: whether reduced speed is in force from the start.
    """

    def __init__(self, node: Any, topic: str, cycle: SafetyCycle, *, asked: bool) -> None:
        self._node, self._topic, self._cycle = node, topic, cycle
        self._full_topic = node.resolve_topic_name(topic)
        self._words = ReducedSpeed(asked=asked)
        self._reliable = self._latched = False
        cycle.reduce_speed(asked)
        self._listen(JOINT_STATE, live=True)
        self.look()

    def look(self) -> None:
        """Look at the publishers that there are; called about ten times a second."""
        found = self._node.get_publishers_info_by_topic(self._full_topic)
        reliable = [
            one.qos_profile for one in found if one.qos_profile.reliability is QoSReliabilityPolicy.RELIABLE
        ]
        if reliable and not self._reliable:
            self._reliable = True
            self._listen(EVENT, live=True)
        if not self._latched and any(
            one.durability is QoSDurabilityPolicy.TRANSIENT_LOCAL for one in reliable
        ):
            self._latched = True
            self._listen(EVENT_KEPT, live=False)
        self._words.look({bytes(one.endpoint_gid) for one in found})
        self._tell()

    def _listen(self, qos: Any, *, live: bool) -> None:
        silent = SubscriptionEventCallbacks(incompatible_qos=lambda _info: None)
        self._node.add_input(Bool, self._topic, partial(self._take, live), qos, event_callbacks=silent)

    def _take(self, live: bool, message: Any, arrival: Arrival) -> None:
        self._words.hear(arrival.sender, bool(message.data), live=live)
        self._tell()

    def _tell(self) -> None:
        self._cycle.reduce_speed(self._words.asked)
