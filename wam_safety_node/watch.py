# SPDX-License-Identifier: Apache-2.0
"""Watches the graph around the safety node: missing subscribers, other publishers, lost drivers and executors."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks

from wam.core.ladder import finding
from wam.core.verdict import Finding, Verdict
from wam.robots.description import RobotDescription
from wam.ros.inputs import publisher_nodes
from wam.runtime.safety.cycle import SafetyCycle
from wam_safety_node.claim import Claim
from wam_safety_node.handshake import JOINT_STATE_TYPE
from wam_safety_node.outputs import Outputs


class GraphWatch:
    """Turns what the graph shows into causes of the cycle.

    `silent` says that nothing may be sent: another node commands the arm as well and this one has come to rest. It
    ends when that node has gone and the operator has cleared the fault.

    Args:
        node: the safety node.
        robot: its groups.
        outputs: command publishers.
        claim: the right to command, which tells rivals from nodes that only wait or were killed.
        cycle: gets the causes.
        latch_driver_loss: a lost driver causes STOP instead of HOLD.
    """

    def __init__(
        self,
        node: Any,
        robot: RobotDescription,
        outputs: Outputs,
        claim: Claim,
        cycle: SafetyCycle,
        *,
        latch_driver_loss: bool,
    ) -> None:
        self._node = node
        self._robot = robot
        self._outputs = outputs
        self._claim = claim
        self._cycle = cycle
        self._latch = latch_driver_loss
        self.silent = False
        self._rival = ""
        self._drivers: set[str] = set()
        self._misplaced: set[str] = set()
        self._lock = threading.Lock()
        self._executors = 0
        self._executor_lost = False
        self._chunk_at = -math.inf

    def chunk_events(self) -> SubscriptionEventCallbacks:
        """Return the callbacks of the chunk subscription: liveliness reports a killed executor within its lease."""
        return SubscriptionEventCallbacks(liveliness=self._on_liveliness)

    def note_chunk(self) -> None:
        """Note that a chunk was taken: whatever the graph says, there is an executor."""
        self._chunk_at = time.monotonic()
        with self._lock:
            if self._executor_lost:
                self._executor_lost = False
                self._cycle.withdraw_cause("executor_lost")

    @property
    def chunk_age(self) -> float:
        """Time since the last chunk was taken [s]; infinite before the first one."""
        return time.monotonic() - self._chunk_at

    def note_driver(self, group: str) -> None:
        """Note that the driver of `group` has published; called from a callback."""
        self._drivers.add(group)

    def before_step(self) -> None:
        """Check that every driver receives its commands, and only ours. Called in the command thread."""
        self._mind_rival()
        if self.silent:
            # To the cycle it is the same as no listener: the arm may stand anywhere when commands go on.
            text = "nothing is sent while another node commands the arm"
            unheard: Finding | None = Finding(Verdict.HOLD, "no_listener", text, self._rival)
        else:
            # Without a driver in this namespace there is no subscriber either; the namespace is the cause to report.
            unheard = None if self._misplaced else self._outputs.unheard()
        for code in ("no_listener", "driver_unconfirmed"):
            if unheard is None or unheard.code != code:
                self._cycle.withdraw_cause(code)
        if unheard is not None:
            self._cycle.raise_cause(unheard)

    def check(self) -> None:
        """Check the graph; called a few times a second."""
        self.check_other_publishers()
        self._check_drivers()

    def check_other_publishers(self) -> None:
        """Stop the arm while another node commands it as well; called several times a second."""
        found = self._claim.rivals(self._outputs.other_publishers()) if self._claim.held else []
        if not found:
            self._rival = ""
            self._cycle.withdraw_cause("second_publisher")
            return
        text = (
            f"{found[0].topic} is published by {found[0].node} as well; only one node may command the arm: "
            "this one sends nothing more once it is at rest; stop that node, then call ~/clear_fault"
        )
        self._cycle.raise_cause(
            Finding(Verdict.STOP, "second_publisher", text, found[0].topic, float(len(found) + 1), 1.0)
        )
        if not self._rival:
            # Set again by the cycle when the arm has come to rest under this STOP.
            self._cycle.rested.clear()
            self._rival = found[0].topic

    def _mind_rival(self) -> None:
        if self._rival:
            self.silent = self.silent or self._cycle.rested.is_set()
        elif not self._cycle.ladder.stopped:
            self.silent = False

    def _check_drivers(self) -> None:
        for group in self._robot.groups:
            topic = self._node.resolve_topic_name(group.state_topic)
            drivers = publisher_nodes(self._node, topic)
            self._check_namespace(group.name, topic, bool(drivers))
            if drivers:
                self._cycle.withdraw_cause("driver_lost", of=group.name)
                self._cycle.withdraw_cause("liveliness_lost", of=group.name)
            elif group.name in self._drivers:
                self._cycle.raise_cause(self._lost(topic), of=group.name)

    def _check_namespace(self, group: str, topic: str, here: bool) -> None:
        """Hold for a driver in another namespace than ours."""
        elsewhere = [] if here or group in self._drivers else self._elsewhere(topic)
        if elsewhere:
            self._misplaced.add(group)
            text = (
                f"{topic} has no publisher, but there is {', '.join(elsewhere)}: start the driver and the suite in the "
                "same namespace, or correct `topic` in the robot file"
            )
            self._hold("other_namespace", text, topic, of=group)
        else:
            self._misplaced.discard(group)
            self._cycle.withdraw_cause("other_namespace", of=group)

    def _hold(self, code: str, text: str, topic: str, *, of: str) -> None:
        self._cycle.raise_cause(Finding(Verdict.HOLD, code, text, topic), of=of)

    def _elsewhere(self, topic: str) -> list[str]:
        """Return published topics of joint states with the same last name."""
        tail = "/" + topic.rpartition("/")[2]
        return sorted(
            name
            for name, types in self._node.get_topic_names_and_types()
            if name.endswith(tail) and JOINT_STATE_TYPE in types and self._node.count_publishers(name)
        )

    def _lost(self, topic: str) -> Finding:
        lost = finding("driver_lost", joint=topic)
        if not self._latch:
            return lost
        text = f"{lost.text}; inspect the arm, then call ~/clear_fault (latch_driver_loss)"
        return Finding(Verdict.STOP, "liveliness_lost", text, topic)

    def _on_liveliness(self, info: Any) -> None:
        # On a busy machine Fast DDS went on counting none after one of two publishers had gone, and chunks arrived: a
        # chunk is what shows that there is an executor.
        with self._lock:
            had, self._executors = self._executors, int(info.alive_count)
            self._executor_lost = not self._executors and (had > 0 or self._executor_lost)
            if self._executors:
                self._cycle.withdraw_cause("executor_lost")
            elif had:
                self._cycle.raise_cause(finding("executor_lost"))
