# SPDX-License-Identifier: Apache-2.0
"""`~/safety_status`, latched and fresh, and the records of the audit file: what state the safety node is in."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.safety.effort import BLIND_NS
from wam.core.verdict import Event, Ladder
from wam.robots.description import RobotDescription
from wam.ros.conversions import ns_to_time
from wam.ros.qos import SAFETY_STATUS
from wam.runtime.safety.audit import AuditMoment, AuditTrail, audit_directory
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.effort_guard import EffortGuard
from wam.runtime.safety.estop import SourceState
from wam.runtime.safety.inputs import InputAge, InputLog
from wam_msgs.msg import InputAge as InputAgeMessage
from wam_msgs.msg import SafetyStatus

STATUS_PERIOD_S = 0.2
"""Time between two statuses of an unchanged rung [s]; readers take a node that was silent for 1 s for dead."""

KEPT_EVENTS = ("retreat_begun", "retreat_ended")
"""Events that are recorded although the rung stays: the arm has moved without a chunk."""

ESTOPS = ("estop", "estop_silent")
"""Causes of a STOP that an emergency stop has latched."""


def input_log(
    robot: RobotDescription, efforts: EffortGuard | None, *, chunk_timeout_ns: int, context_age_ns: int
) -> InputLog:
    """Return the log of the inputs of a safety node, with the ages above which it acts on them."""
    states = {f"joint_state/{group.name}": group.state_max_age_ns / NS_PER_S for group in robot.groups}
    torques = {
        f"external_torque/{group.name}": BLIND_NS / NS_PER_S
        for group in robot.groups
        if efforts is not None and efforts.watches(group, external=True)
    }
    return InputLog(
        {**states, **torques, "chunk": chunk_timeout_ns / NS_PER_S, "context": context_age_ns / NS_PER_S}
    )


class SafetyState:
    """Publishes the state of a safety node and records its changes; `publish` and `note` from any thread.

    Args:
        node: the safety node.
        robot: what it commands.
        cycle: its cycle.
        inputs: when its inputs were received.
        estops: returns the emergency stop sources as they are now.
        tick_ns: time between two commands [ns].
        dry_run: nothing is sent.
        audit_dir: directory of the audit file, "" for none.
    """

    def __init__(
        self,
        node: Any,
        robot: RobotDescription,
        cycle: SafetyCycle,
        inputs: InputLog,
        *,
        estops: Callable[[], tuple[SourceState, ...]],
        tick_ns: int,
        dry_run: bool,
        audit_dir: str,
    ) -> None:
        self._node, self._cycle, self._inputs, self._dry_run = node, cycle, inputs, dry_run
        self._estops = estops
        self.active = self.silent = False
        self._lock = threading.Lock()
        self._sequence = self._commands = 0
        self._publisher: Any = node.create_publisher(SafetyStatus, "~/safety_status", SAFETY_STATUS)
        self._audit: AuditTrail | None = None
        if audit_dir:
            namespace = node.get_namespace().strip("/").replace("/", ".")
            self._audit = AuditTrail(
                audit_directory(audit_dir),
                ".".join(filter(None, (namespace, robot.name))),
                who={
                    "robot": robot.name,
                    "node": node.get_fully_qualified_name(),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                },
                joints={group.name: tuple(joint.name for joint in group.joints) for group in robot.groups},
                tick_ns=tick_ns,
            )

    @property
    def audit_problem(self) -> str:
        """Why the audit file is incomplete, or ""."""
        return "" if self._audit is None else self._audit.problem

    @property
    def audit_file(self) -> str:
        """Path of the audit file, or "off"."""
        return "off" if self._audit is None else str(self._audit.path)

    def sent(self, now_ns: int, position: npt.NDArray[np.float64]) -> None:
        """Note a command, float64 [N], sent at `now_ns` [ns]; called by the command thread alone."""
        self._commands += 1
        if self._audit is not None:
            self._audit.ring.add(now_ns, position)

    def mark(self, kind: str, **values: Any) -> None:
        """Record that the node was activated or deactivated."""
        if self._audit is not None:
            self._audit.mark(kind, **values)

    def note(self, event: Event, now_ns: int) -> None:
        """Record a change of rung, or a retreat, and publish the state; called by the command thread alone."""
        if event.before is event.after and event.finding.code not in KEPT_EVENTS:
            return
        self.publish()
        if self._audit is None:
            return
        times_ns, commands = self._audit.ring.last_second(now_ns)
        moment = AuditMoment(
            event,
            now_ns,
            time.time_ns(),
            self._inputs.measured(),
            {one.name: one.age for one in self._ages()},
            {
                "rate": round(self.rate, 4),
                "estop": self._estop(),
                "tracking_error": round(self._cycle.tracking_error, 6),
                "silent": self.silent,
                "dry_run": self._dry_run,
            },
            times_ns,
            commands,
            {} if self._cycle.efforts is None else self._cycle.efforts.newest(),
        )
        self._audit.note(moment)

    @property
    def rate(self) -> float:
        """Share of its own speed at which the motion is played, 0 to 1."""
        if self._cycle.ladder.rung >= Ladder.HOLD and self._cycle.rested.is_set():
            return 0.0
        rate: float = getattr(self._cycle, "rate", 1.0 / self._cycle.scale)
        return rate

    def publish(self) -> None:
        """Publish the state."""
        # One thread at a time from the first look on: a state that was read earlier must not be published later, where
        # it would stay as the newest.
        with self._lock:
            if self._publisher is not None:
                self._sequence += 1
                self._publisher.publish(self._message(self._sequence))

    def _message(self, sequence: int) -> SafetyStatus:
        ladder, cause = self._cycle.ladder, self._cycle.ladder.cause
        message = SafetyStatus(
            sequence=sequence,
            active=self.active,
            dry_run=self._dry_run,
            silent=self.silent or not self.active or self._dry_run,
            rung=int(ladder.rung),
            code="" if cause is None else cause.code,
            text="" if cause is None else cause.text,
            joint="" if cause is None else cause.joint,
            rate=self.rate,
            held=ladder.rung >= Ladder.HOLD,
            estop=self._estop(),
            inputs=[InputAgeMessage(name=one.name, age=one.age, limit=one.limit) for one in self._ages()],
            commands=self._commands,
            load=math.nan if self._cycle.efforts is None else self._cycle.efforts.share,
        )
        message.header.stamp = ns_to_time(self._node.clock.now_ns())
        return message

    def close(self) -> None:
        """Remove the publisher and bring what is waiting to the audit file."""
        with self._lock:
            publisher, self._publisher = self._publisher, None
        self._node.destroy_publisher(publisher)
        if self._audit is not None:
            self._audit.close()

    def _ages(self) -> tuple[InputAge, ...]:
        """Return the age of every input, the emergency stop sources last."""
        sources = (
            InputAge(f"estop/{one.name}", math.nan if one.age_ns is None else one.age_ns / NS_PER_S, math.nan)
            for one in self._estops()
        )
        return (*self._inputs.ages(), *sources)

    def _estop(self) -> int:
        if any(one.pressed for one in self._estops()):
            return int(SafetyStatus.ESTOP_PRESSED)
        latched = self._cycle.ladder.stopped and self._cycle.ladder.code in ESTOPS
        return int(SafetyStatus.ESTOP_LATCHED if latched else SafetyStatus.ESTOP_CLEAR)
