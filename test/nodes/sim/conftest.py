# SPDX-License-Identifier: Apache-2.0
"""A stage for the simulated robot on real DDS; rclpy is imported only by the tests that need it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import wait_until

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))


class Stage:
    """A simulated robot and a node that listens to it, spun in the test's own thread."""

    def __init__(self) -> None:
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node

        self.executor = SingleThreadedExecutor()
        self.node = Node("listener")
        self.executor.add_node(self.node)
        self.sims: list[Any] = []
        self.heard: dict[str, list[Any]] = {}

    def sim(self, *, vendor: Any = None, **parameters: Any) -> Any:
        """Return a simulated robot that is not configured yet."""
        from rclpy.parameter import Parameter

        from wam_sim_node.node import SimNode

        overrides = [Parameter(name, value=value) for name, value in {"robot": "piper", **parameters}.items()]
        sim = SimNode(vendor=vendor, parameter_overrides=overrides)
        self.sims.append(sim)
        self.executor.add_node(sim)
        return sim

    def run(self, **parameters: Any) -> Any:
        """Return a simulated robot that is active."""
        from rclpy.lifecycle import TransitionCallbackReturn

        sim = self.sim(**parameters)
        for transition in (sim.trigger_configure, sim.trigger_activate):
            assert transition() == TransitionCallbackReturn.SUCCESS, sim.last_error
        return sim

    def listen(self, kind: type, topic: str, qos: Any) -> list[Any]:
        """Return a list that grows with the messages of a topic."""
        heard = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, heard.append, qos)
        return heard

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until `condition` holds."""
        wait_until(condition, what, turn=lambda: self.executor.spin_once(timeout_sec=0.1))

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Return the answer of a service."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"the service {name}")
        future = client.call_async(request or kind.Request())
        self.until(future.done, f"the answer of {name}")
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """End everything."""
        for sim in self.sims:
            sim.trigger_shutdown()
            sim.destroy_node()
        self.node.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A stage of its own for one test."""
    import rclpy

    rclpy.init(args=[])
    made = Stage()
    yield made
    made.close()
    rclpy.try_shutdown()
