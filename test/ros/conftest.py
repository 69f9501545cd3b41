# SPDX-License-Identifier: Apache-2.0
"""A stage for nodes on real DDS: recorded-robot streams, the nodes under test, one rclpy executor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, JointState
from waiting import wait_until

from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.ros.qos import CHUNK, CONTEXT, IMAGE_PUBLISHER, JOINT_STATE_PUBLISHER, STATUS
from wam.runtime.policy import load_fake
from wam_executor_node.node import ExecutorNode
from wam_msgs.msg import ActionChunk, ExecutorStatus, KVContext, PlannerStatus
from wam_planner_node.node import PlannerNode

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))

SUCCESS = TransitionCallbackReturn.SUCCESS


@pytest.fixture
def ros() -> Iterator[None]:
    """The global rclpy context, initialised for one test."""
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


class World:
    """Publishes what a recorded robot's drivers publish, and keeps what the nodes answer."""

    def __init__(self, robot: RobotDescription) -> None:
        self.robot = robot
        self.node = Node("world")
        camera, group = robot.cameras[0], robot.groups[0]
        self._images = self.node.create_publisher(CompressedImage, camera.topic, IMAGE_PUBLISHER)
        self._states = self.node.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
        _, jpeg = cv2.imencode(".jpg", np.full((camera.height, camera.width, 3), 90, dtype=np.uint8))
        self._jpeg = jpeg.tobytes()
        self.contexts: list[Any] = []
        self.chunks: list[Any] = []
        self.planner_status: list[Any] = []
        self.executor_status: list[Any] = []
        listen = self.node.create_subscription
        listen(KVContext, "wam_planner/context", self.contexts.append, CONTEXT)
        listen(ActionChunk, "wam_executor/chunk", self.chunks.append, CHUNK)
        listen(PlannerStatus, "wam_planner/status", self.planner_status.append, STATUS)
        listen(ExecutorStatus, "wam_executor/status", self.executor_status.append, STATUS)
        self.camera_on = True
        self.node.create_timer(1 / 30, self._tick)

    def _tick(self) -> None:
        stamp = self.node.get_clock().now().to_msg()
        group = self.robot.groups[0]
        state = JointState(name=list(group.driver_names), position=[0.1] * len(group.joints))
        state.header.stamp = stamp
        self._states.publish(state)
        if self.camera_on:
            image = CompressedImage(format="jpeg", data=self._jpeg)
            image.header.stamp = stamp
            self._images.publish(image)


def parameters(**values: Any) -> list[Parameter[Any]]:
    return [Parameter(name, value=value) for name, value in values.items()]


class Stage:
    """A world, the nodes of one test, and the rclpy executor that spins them in the test's own thread."""

    def __init__(self) -> None:
        self.executor = SingleThreadedExecutor()
        self.nodes: list[Any] = []
        self.world = World(load_robot("g1_inspire"))
        self.add(self.world.node)

    def add(self, node: Any) -> Any:
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Spin until `condition` holds."""
        wait_until(condition, what, turn=lambda: self.executor.spin_once(timeout_sec=0.1))

    def bring_up(self, *nodes: Any) -> None:
        for node in nodes:
            assert node.trigger_configure() == SUCCESS, node.last_error
            assert node.trigger_activate() == SUCCESS, node.last_error

    def close(self) -> None:
        for node in reversed(self.nodes):
            if hasattr(node, "trigger_shutdown"):
                node.trigger_shutdown()
            node.destroy_node()
        self.executor.shutdown()

    def planner(self, **node_args: Any) -> PlannerNode:
        overrides = parameters(robot="g1_inspire", policy="fake", period=0.05)
        return self.add(
            PlannerNode(**{"load_policy": load_fake, "parameter_overrides": overrides, **node_args})
        )

    def act(self, **node_args: Any) -> ExecutorNode:
        overrides = parameters(robot="g1_inspire", policy="fake", period=0.02)
        return self.add(
            ExecutorNode(**{"load_policy": load_fake, "parameter_overrides": overrides, **node_args})
        )


@pytest.fixture
def stage(ros: None) -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Any]]:
    """A function that makes the bench of a safety node with the given parameters; all are closed at the end."""
    from safety_bench import Bench

    with contextlib.ExitStack() as stack:

        def make(**parameters: Any) -> Bench:
            bench = Bench(**parameters)
            stack.callback(bench.close)
            return bench

        yield make
