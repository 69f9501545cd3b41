# SPDX-License-Identifier: Apache-2.0
"""Action clients that are made while their node is spun."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.node import Node

from wam.ros.action_client import SpunActionClient
from wam_msgs.action import RunTask

pytestmark = pytest.mark.ros


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init(args=[])
    node = Node("client")
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_an_executor_may_look_at_a_client_at_the_moment_the_node_has_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclpy's client has no lock at that moment: the thread that spun a driver's node died of an AttributeError."""
    seen: list[int] = []
    add = node.add_waitable

    def look(client: Any) -> None:
        add(client)
        seen.append(client.get_num_entities().num_clients)

    monkeypatch.setattr(node, "add_waitable", look)
    client = SpunActionClient(node, RunTask, "run_task")
    assert seen == [3]  # goal, cancel, result
    client.destroy()
