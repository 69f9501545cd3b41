# SPDX-License-Identifier: Apache-2.0
"""Executable `wam_gate`: waits for drivers that report and for nodes that are active, then ends with 0.

Launch files start what comes next when it ends, so the order of start is one of events. Meanwhile it says every few
seconds what is still missing.
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
from wam.robots.joint_reader import JointReader
from wam.ros.parameters import declare, parameter
from wam.ros.process import run
from wam.ros.qos import JOINT_STATE
from wam.ros.timers import steady_timer

POLL_S = 0.1
ASK_AGAIN_S = 2.0
"""A question that was not answered is asked again: its node may have ended meanwhile [s]."""


@dataclass(frozen=True, slots=True)
class GateParameters:
    """What the gate can be told."""

    robot: str = parameter(
        "",
        description="wait until every driver of this robot (a name in config/robots or a YAML file) reports joint "
        "states; empty: do not wait for drivers",
    )
    nodes: tuple[str, ...] = parameter(
        (), description="wait until these lifecycle nodes are active; relative names"
    )
    report_period: float = parameter(
        5.0, description="time between two texts about what is missing", unit="s", lower=0.1, upper=600.0
    )


class GateNode(Node):  # type: ignore[misc]
    """Node `wam_gate`; `missing` is empty, and `opened` true, once nothing has to be waited for.

    Args:
        node_args: passed to `rclpy.node.Node`.

    Raises:
        ConfigError: there is nothing to wait for, or no such robot.
    """

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_gate", **node_args)
        p = declare(self, GateParameters)
        if not p.robot and not p.nodes:
            raise ConfigError(
                "the gate has nothing to wait for",
                allowed="a robot, or names of lifecycle nodes",
                where="the parameters `robot` and `nodes` of wam_gate",
            )
        self._period = p.report_period
        self._told_at = time.monotonic()
        self._missing: dict[str, str] = {}
        self._asked: dict[str, tuple[float, Any]] = {}
        self._clients_by_name = {name: self.create_client(GetState, f"{name}/get_state") for name in p.nodes}
        for group in load_robot(p.robot).groups if p.robot else ():
            self._missing[group.name] = f"nothing arrives on {group.state_topic}"
            take = partial(self._take, group, JointReader(group))
            self.create_subscription(JointState, group.state_topic, take, JOINT_STATE)
        for name in p.nodes:
            self._missing[name] = f"node {name} is not there"
        steady_timer(self, POLL_S, self._look)

    @property
    def missing(self) -> tuple[str, ...]:
        """What is waited for, in words."""
        return tuple(self._missing.values())

    @property
    def opened(self) -> bool:
        """Whether nothing is waited for any more."""
        return not self._missing

    def _take(self, group: JointGroup, reader: JointReader, message: JointState) -> None:
        if group.name not in self._missing:
            return
        try:
            reader.read(message)
        except InputError as error:
            self._missing[group.name] = str(error)
        else:
            del self._missing[group.name]

    def _look(self) -> None:
        now = time.monotonic()
        for name, client in self._clients_by_name.items():
            asked_at, future = self._asked.get(name, (0.0, None))
            if name not in self._missing or not client.service_is_ready():
                continue
            if future is not None and future.done():
                self._judge(name, future.result().current_state)
                future = None
            if future is None or now - asked_at > ASK_AGAIN_S:
                self._asked[name] = now, client.call_async(GetState.Request())
        if self._missing and now - self._told_at >= self._period:
            self._told_at = now
            self.get_logger().warning(f"waiting: {'; '.join(self.missing)}")

    def _judge(self, name: str, state: State) -> None:
        if state.id == State.PRIMARY_STATE_ACTIVE:
            self._missing.pop(name, None)
        else:
            self._missing[name] = f"node {name} is {state.label}"


def main() -> None:
    """Wait; end with 0 when all is there, with 1 after SIGINT, SIGTERM or an illegal parameter."""
    gates: list[GateNode] = []

    def make() -> list[GateNode]:
        gates.append(GateNode())
        return gates

    code = run(make, until=lambda: gates[0].opened)
    sys.exit(code if gates and gates[0].opened else 1)


if __name__ == "__main__":
    main()
