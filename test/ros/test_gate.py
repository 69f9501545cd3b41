# SPDX-License-Identifier: Apache-2.0
"""The gate of a launch that looks for another launch of the same robot."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from waiting import wait_until

from wam.core.errors import ConfigError
from wam_bringup import gate as gate_module
from wam_bringup.gate import GateNode

pytestmark = pytest.mark.ros

NAMES = ["gated_safety", "gated_executor"]
"""Of this file alone: a killed node of another one may still be remembered by DDS."""


@pytest.fixture
def other(ros: None) -> Iterator[Callable[[str, str], Node]]:
    """Makes nodes of another participant, as another launch has them."""
    context, made = Context(), []
    rclpy.init(context=context, args=[])

    def make(name: str, namespace: str) -> Node:
        made.append(Node(name, context=context, namespace=namespace))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def turned(node: GateNode, until: Callable[[], bool], what: str) -> None:
    """Spin `node` until the condition holds."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        wait_until(until, what, turn=lambda: executor.spin_once(timeout_sec=0.05))
    finally:
        executor.shutdown()


def gate(namespace: str = "") -> GateNode:
    """Return a gate that opens where nobody has the names."""
    return GateNode(namespace=namespace, parameter_overrides=[Parameter("absent", value=NAMES)])


def test_a_launch_beside_a_running_one_is_refused(
    other: Callable[[str, str], Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second launch beside a dry run lost its safety node, and its policy went on beside that of the first."""
    monkeypatch.setattr(gate_module, "FORGOTTEN_S", 2.0)
    other("gated_safety", "")
    node = gate()
    try:
        turned(node, lambda: node.refused is not None, "a refusal")
        assert node.refused is not None
        assert node.refused.startswith(
            "already running: /gated_safety; another launch drives this robot: end it first"
        )
        assert not node.opened
    finally:
        node.destroy_node()


def test_a_node_that_is_being_forgotten_is_waited_for(other: Callable[[str, str], Node]) -> None:
    dying = other("gated_executor", "")
    node = gate()
    try:
        turned(node, lambda: "/gated_executor" in " ".join(node.missing), "the node is found")
        dying.destroy_node()
        rclpy.try_shutdown(context=dying.context)
        turned(node, lambda: node.opened, "the gate opens")
        assert node.refused is None
    finally:
        node.destroy_node()


def test_the_same_names_in_another_namespace_are_another_robot(other: Callable[[str, str], Node]) -> None:
    other("gated_safety", "/left_cell")
    node = gate("/right_cell")
    try:
        turned(node, lambda: node.opened, "the gate opens")
    finally:
        node.destroy_node()


def test_a_gate_without_anything_to_wait_for_is_refused(ros: None) -> None:
    with pytest.raises(ConfigError, match="the gate has nothing to wait for"):
        GateNode()
