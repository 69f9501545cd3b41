# SPDX-License-Identifier: Apache-2.0
"""Watches the graph around the safety node: who listens, who else commands, who has gone."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks

from wam.core.ladder import finding
from wam.core.verdict import Finding, Verdict
from wam.robots.description import RobotDescription
from wam_safety_node.cycle import SafetyCycle
from wam_safety_node.outputs import Outputs

GHOST_S = 30.0
"""A killed predecessor of this node stays in the graph until its participant lease ends (20 s with Fast DDS)."""


class GraphWatch:
    """Turns what the graph shows into causes of the cycle.

    Args:
        node: the safety node.
        robot: its groups.
        outputs: command publishers.
        cycle: told of causes.
        latch_driver_loss: a driver that has gone is STOP instead of HOLD.
    """

    def __init__(
        self,
        node: Any,
        robot: RobotDescription,
        outputs: Outputs,
        cycle: SafetyCycle,
        *,
        latch_driver_loss: bool,
    ) -> None:
        self._node = node
        self._robot = robot
        self._outputs = outputs
        self._cycle = cycle
        self._latch = latch_driver_loss
        self._born = time.monotonic()
        self._ghosts: frozenset[tuple[int, ...]] | None = None
        self._drivers: set[str] = set()
        self._lock = threading.Lock()
        self._executors = 0

    def chunk_events(self) -> SubscriptionEventCallbacks:
        """Return the callbacks of the chunk subscription: liveliness tells of a killed executor within its lease."""
        return SubscriptionEventCallbacks(liveliness=self._on_liveliness)

    def heard(self, group: str) -> None:
        """Note that the driver of `group` has published; called from a callback."""
        self._drivers.add(group)

    def before_step(self) -> None:
        """Look at what a command needs at once: somebody who listens. Called in the command thread."""
        unheard = self._outputs.unheard()
        if unheard:
            self._cycle.raise_cause(finding("no_listener", joint=unheard))
        else:
            self._cycle.withdraw_cause("no_listener")

    def look(self) -> None:
        """Look at the graph; called a few times a second."""
        self._look_for_other_publishers()
        self._look_for_drivers()

    def _look_for_other_publishers(self) -> None:
        found = self._outputs.other_publishers()
        if self._ghosts is None:
            self._ghosts = frozenset(one.gid for one in found if one.namesake)
        if time.monotonic() - self._born < GHOST_S:
            found = [one for one in found if one.gid not in self._ghosts]
        if not found:
            self._cycle.withdraw_cause("second_publisher")
            return
        text = (
            f"{found[0].topic} is published by {found[0].node} as well; only one node may command the arm: "
            "end that node, then call ~/clear_fault"
        )
        self._cycle.raise_cause(
            Finding(Verdict.STOP, "second_publisher", text, found[0].topic, float(len(found) + 1), 1.0)
        )

    def _look_for_drivers(self) -> None:
        for group in self._robot.groups:
            if self._node.count_publishers(group.state_topic):
                self._cycle.withdraw_cause("driver_lost", of=group.name)
                self._cycle.withdraw_cause("liveliness_lost", of=group.name)
            elif group.name in self._drivers:
                self._cycle.raise_cause(self._lost(group.state_topic), of=group.name)

    def _lost(self, topic: str) -> Finding:
        topic = self._node.resolve_topic_name(topic)
        lost = finding("driver_lost", joint=topic)
        if not self._latch:
            return lost
        text = f"{lost.text}; look at the arm, then call ~/clear_fault (latch_driver_loss)"
        return Finding(Verdict.STOP, "liveliness_lost", text, topic)

    def _on_liveliness(self, info: Any) -> None:
        with self._lock:
            had, self._executors = self._executors, int(info.alive_count)
        if self._executors:
            self._cycle.withdraw_cause("executor_lost")
        elif had:
            self._cycle.raise_cause(finding("executor_lost"))
