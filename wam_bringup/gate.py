# SPDX-License-Identifier: Apache-2.0
"""Executable `wam_gate`: waits until drivers report, nodes are active, or names are free; then exits with 0.

Launch files start the next processes when it exits, so that the order of start follows events. While it waits it logs
every few seconds what is missing. Names that stay taken end it with 1, and with it a launch beside a running one.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from sensor_msgs.msg import JointState

from wam.core.errors import ConfigError, InputError
from wam.devices.loader import load_robot
from wam.robots.description import JointGroup
from wam.robots.joint_merge import JointMerge
from wam.ros.conversions import time_to_ns
from wam.ros.inputs import Inputs
from wam.ros.lifecycle import RosClock
from wam.ros.parameters import declare, parameter
from wam.ros.process import run
from wam.ros.qos import JOINT_STATE
from wam.ros.timers import steady_timer

POLL_S = 0.1
_OTHERS = "others"
"""What is missing while names are not known to be free."""
RETRY_S = 2.0
"""A request without a response is sent again after this time: its node may have ended meanwhile [s]."""
DISCOVERY_S = 3.5
"""Time until running nodes have been discovered [s]: Fast DDS announces again every 3 s."""
FORGOTTEN_S = 25.0
"""A name that is taken for longer belongs to a running node: DDS forgets one that was killed within 20 s [s]."""


@dataclass(frozen=True, slots=True)
class GateParameters:
    """Parameters of the gate."""

    robot: str = parameter(
        "",
        description="wait until every driver of this robot (a name in config/robots or a YAML file) reports joint "
        "states; empty: do not wait for drivers",
    )
    nodes: tuple[str, ...] = parameter(
        (), description="wait until these lifecycle nodes are active; relative names"
    )
    absent: tuple[str, ...] = parameter(
        (),
        description="wait until no node has one of these relative names, at most 25 s: another launch of the robot is "
        "running otherwise, and the exit code is 1",
    )
    report_period: float = parameter(
        5.0,
        description="time between two log messages about what is missing",
        unit="s",
        lower=0.1,
        upper=600.0,
    )


class GateNode(Node):
    """Node `wam_gate`; `missing` is empty, and `opened` true, once nothing has to be waited for.

    Attributes:
        refused: why the gate will not open, None while it may.

    Args:
        node_args: passed to `rclpy.node.Node`.

    Raises:
        ConfigError: there is nothing to wait for, or no such robot.
    """

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_gate", **node_args)
        p = declare(self, GateParameters)
        if not p.robot and not p.nodes and not p.absent:
            raise ConfigError(
                "the gate has nothing to wait for",
                allowed="a robot, or names of nodes",
                where="the parameters `robot`, `nodes` and `absent` of wam_gate",
            )
        self.refused: str | None = None
        self._born = time.monotonic()
        self._absent = {self._full_name(name) for name in p.absent}
        self._period = p.report_period
        self._logged_at = time.monotonic()
        self._missing: dict[str, str] = {}
        self._requests: dict[str, tuple[float, Any]] = {}
        self._clients_by_name: dict[str, Any] = {
            name: self.create_client(GetState, f"{name}/get_state") for name in p.nodes
        }
        inputs = Inputs(self, RosClock(self))
        for group in load_robot(p.robot).groups if p.robot else ():
            self._missing[group.name] = f"no messages on {group.state_topic}"
            store = partial(self._store, group, JointMerge(group))
            inputs.listen(JointState, group.state_topic, store, JOINT_STATE)
        for name in p.nodes:
            self._missing[name] = f"node {name} was not found"
        if self._absent:
            self._missing[_OTHERS] = "nodes that run already are being looked for"
        steady_timer(self, POLL_S, self._poll)

    @property
    def missing(self) -> tuple[str, ...]:
        """What the gate waits for, one text each."""
        return tuple(self._missing.values())

    @property
    def opened(self) -> bool:
        """Whether the gate has nothing left to wait for."""
        return not self._missing

    def _store(self, group: JointGroup, merge: JointMerge, message: JointState) -> None:
        if group.name not in self._missing:
            return
        try:
            state = merge.take(message, stamp_ns=time_to_ns(message.header.stamp))
        except InputError as error:
            self._missing[group.name] = str(error)
            return
        if state is None:
            self._missing[group.name] = f"{merge.waits_for} on {group.state_topic}"
        else:
            del self._missing[group.name]

    def _poll(self) -> None:
        now = time.monotonic()
        if _OTHERS in self._missing:
            self._look_for_others(now - self._born)
        for name, client in self._clients_by_name.items():
            sent_at, future = self._requests.get(name, (0.0, None))
            if name not in self._missing or not client.service_is_ready():
                continue
            if future is not None and future.done():
                self._note_state(name, future.result().current_state)
                future = None
            if future is None or now - sent_at > RETRY_S:
                self._requests[name] = now, client.call_async(GetState.Request())
        if self._missing and now - self._logged_at >= self._period:
            self._logged_at = now
            self.get_logger().warning(f"waiting: {'; '.join(self.missing)}")

    def _look_for_others(self, waited_s: float) -> None:
        if waited_s < DISCOVERY_S:
            return
        running = {self._full_name(name, space) for name, space in self.get_node_names_and_namespaces()}
        taken = ", ".join(sorted(running & self._absent))
        if not taken:
            del self._missing[_OTHERS]
            return
        left = max(0.0, FORGOTTEN_S - waited_s)
        self._missing[_OTHERS] = (
            f"already running: {taken}; unless killed just now, this launch is refused in {left:.0f} s: "
            "end the other one first"
        )
        if waited_s > FORGOTTEN_S and self.refused is None:
            self.refused = (
                f"already running: {taken}; another launch drives this robot: end it first, or give this one a "
                "namespace or a ROS_DOMAIN_ID of its own"
            )
            self.get_logger().error(self.refused)

    def _full_name(self, name: str, namespace: str | None = None) -> str:
        return f"{(self.get_namespace() if namespace is None else namespace).rstrip('/')}/{name}"

    def _note_state(self, name: str, state: State) -> None:
        if state.id == State.PRIMARY_STATE_ACTIVE:
            self._missing.pop(name, None)
        else:
            self._missing[name] = f"node {name} is {state.label}"


def main() -> None:
    """Wait; exit with 0 when the gate opens, with 1 after a signal, an illegal parameter or a taken name."""
    gates: list[GateNode] = []

    def make() -> list[GateNode]:
        gates.append(GateNode())
        return gates

    code = run(make, until=lambda: gates[0].opened or gates[0].refused is not None)
    sys.exit(code if gates and gates[0].opened else 1)


if __name__ == "__main__":
    main()
