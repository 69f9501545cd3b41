# SPDX-License-Identifier: Apache-2.0
"""Joint states and external torques of all groups, from the drivers' topics to the safety cycle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from wam.core.input_guard import Arrival, RefusedInput
from wam.devices.registry import kind_of
from wam.robots.description import JointGroup, RobotDescription
from wam.robots.joint_merge import JointMerge
from wam.robots.joint_reader import JointReader
from wam.ros.conversions import time_to_ns
from wam.ros.inputs import GuardedInput
from wam.ros.qos import JOINT_STATE
from wam.runtime.safety.cycle import SafetyCycle
from wam.runtime.safety.disagreement import DriverDisagreement
from wam.runtime.safety.inputs import InputLog
from wam_safety_node.contracts import state_contract
from wam_safety_node.parameters import SafetyParameters
from wam_safety_node.readiness import DeviceReadiness
from wam_safety_node.watch import GraphWatch

Refused = Callable[[str, str, RefusedInput], None]
"""Takes what was refused, the joint group, and why."""


class JointStates:
    """The subscriptions of joint states, and of external torques that have limits; they last until cleanup.

    States wait in the middleware's queue until `read` takes them, but in lock-step, where each comes by itself.

    Args:
        node: the safety node.
        p: its parameters.
        robot: its groups.
        cycle: gets the states.
        log: notes when they came.
        watch: notes which drivers there are.
        kind: message type.
        refused: told of every state that is refused.
        readiness: compares them with the commands.
    """

    def __init__(
        self,
        node: Any,
        p: SafetyParameters,
        robot: RobotDescription,
        cycle: SafetyCycle,
        *,
        log: InputLog,
        watch: GraphWatch,
        kind: type[Any],
        refused: Refused,
        readiness: DeviceReadiness,
    ) -> None:
        self._cycle, self._log, self._watch, self._efforts = cycle, log, watch, cycle.efforts
        self._readiness = readiness
        self._wait = not p.lock_step
        self._inputs: dict[str, GuardedInput] = {}
        self._disagreements: list[tuple[DriverDisagreement, GuardedInput]] = []
        for group in robot.groups:
            disagreement = DriverDisagreement(
                group,
                topic=node.resolve_topic_name(group.state_topic),
                mailbox=cycle,
                describe=partial(self._describe, group.name),
            )
            states = self._inputs[group.name] = node.add_input(
                kind,
                group.state_topic,
                partial(self._store, group, JointMerge(group)),
                JOINT_STATE,
                contract=state_contract(p, group),
                on_read=partial(self._compare, disagreement),
                on_refused=partial(refused, "joint_state", group.name),
                on_demand=not p.lock_step,
            )
            self._disagreements.append((disagreement, states))

            topic = kind_of(group).effort.external_topic
            if self._efforts is not None and self._efforts.watches(group, external=True):
                node.add_input(
                    kind,
                    topic,
                    partial(self._store_external, group, JointReader(group)),
                    JOINT_STATE,
                    contract=state_contract(p, group),
                    on_refused=partial(refused, "joint_state", group.name),
                )

    def read(self) -> None:
        """Take the states that have come, and hold the arm where publishers disagree.

        Any thread may call it, and none waits for another.
        """
        for disagreement, states in self._disagreements:
            if self._wait:
                states.drain(wait=False)
            disagreement.settle(states.receipt_ns())

    def _compare(self, disagreement: DriverDisagreement, message: Any, arrival: Arrival) -> None:
        disagreement.take(
            message,
            sender=arrival.sender,
            stamp_ns=time_to_ns(message.header.stamp),
            receive_ns=arrival.receive_ns,
        )

    def _describe(self, group: str, sender: bytes) -> str:
        return self._inputs[group].guard.describe(sender)

    def _store(self, group: JointGroup, merge: JointMerge, message: Any, _arrival: Arrival) -> None:
        stamp_ns = time_to_ns(message.header.stamp)
        state = merge.take(message, stamp_ns=stamp_ns)
        if state is None:
            return
        if merge.merged:
            # A gripper that still reports must not hide that the arm has fallen silent.
            stamp_ns = merge.oldest_ns
        positions, _ = state
        watched = self._efforts is not None and self._efforts.watches(group)
        efforts = merge.take_efforts(message) if watched else None
        self._watch.note_driver(group.name)
        self._log.note_state(group.name, positions)
        self._readiness.note_state(group.name, positions, stamp_ns)
        self._cycle.offer_state(group.name, stamp_ns=stamp_ns, positions=positions, efforts=efforts)

    def _store_external(
        self, group: JointGroup, reader: JointReader, message: Any, _arrival: Arrival
    ) -> None:
        torques = reader.read_efforts(message)
        self._log.note(f"external_torque/{group.name}")
        self._cycle.offer_external_torque(group.name, torques=torques)
