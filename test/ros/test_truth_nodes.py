# SPDX-License-Identifier: Apache-2.0
"""Planner and executor with a policy that needs ground truth: planned by it, silent without it, refused on a robot."""

from __future__ import annotations

from typing import Any

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from wam.core.errors import ContractMismatch
from wam.policies.bundles import load_request
from wam.ros.ingest import SharedIngest
from wam.ros.qos import JOINT_STATE_PUBLISHER
from wam_msgs.msg import ExecutorStatus

pytestmark = pytest.mark.ros

NAMES = ["object.z", "object.x", "object.y", "bowl.x"]


def state_policy(period: float) -> dict[str, Any]:
    values = {"robot": "g1_inspire", "policy": "state/tiny", "period": period}
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return {"load_policy": load_request, "parameter_overrides": overrides}


def latest(statuses: list[Any]) -> str:
    """The reason of the newest status, "" before the first."""
    return statuses[-1].reason if statuses else ""


class Truth:
    """What a simulated robot publishes about its task, with the joint states' clock."""

    def __init__(self, stage: Any) -> None:
        self.node = stage.add(Node("wam_sim"))
        self._topic = self.node.create_publisher(JointState, "wam_sim/truth", JOINT_STATE_PUBLISHER)
        self.names = NAMES
        self.on = True
        self.node.create_timer(1 / 30, self._tick)

    def _tick(self) -> None:
        if self.on:
            message = JointState(name=self.names, position=[0.1] * len(self.names))
            message.header.stamp = self.node.get_clock().now().to_msg()
            self._topic.publish(message)


@pytest.mark.parametrize("composed", [False, True])
def test_ground_truth_takes_the_place_of_images(stage: Any, composed: bool) -> None:
    truth, world = Truth(stage), stage.world
    world.camera_on = False
    shared = SharedIngest(stage.add(Node("wam_ingest"))) if composed else None
    executor = stage.act(**state_policy(0.02), shared_ingest=shared, composed=composed)
    sink = {"sink": executor.offer_context} if composed else {}
    planner = stage.planner(**state_policy(0.05), shared_ingest=shared, **sink)
    stage.until(lambda: stage.world.node.count_publishers("wam_sim/truth") == 1, "the truth")
    stage.bring_up(executor, planner)
    stage.until(lambda: len(world.chunks) >= 3, "three chunks")
    assert world.node.count_subscribers("wam_sim/truth") == (1 if composed else 2)
    truth.on = False
    stage.until(
        lambda: "ground truth 'truth' (topic wam_sim/truth)" in latest(world.executor_status),
        "the executor's reason",
    )
    assert world.executor_status[-1].state == ExecutorStatus.STATE_WAITING
    truth.on, count = True, len(world.chunks)
    stage.until(lambda: len(world.chunks) > count, "chunks again")


def test_ground_truth_of_another_task_gives_no_chunk_and_is_named(stage: Any) -> None:
    truth, world = Truth(stage), stage.world
    truth.names = ["object.x"]
    stage.until(lambda: stage.world.node.count_publishers("wam_sim/truth") == 1, "the truth")
    stage.bring_up(stage.act(**state_policy(0.02)), stage.planner(**state_policy(0.05)))
    stage.until(
        lambda: "lacks object.y, object.z" in latest(world.planner_status),
        "the planner's reason",
    )
    assert not world.chunks


@pytest.mark.parametrize("which", ["act", "planner"])
def test_a_robot_without_ground_truth_refuses_the_policy_when_it_is_activated(
    stage: Any, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wam.ros.policy_node.TRUTH_TIMEOUT_S", 0.1)
    node = getattr(stage, which)(**state_policy(0.05))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert isinstance(node.last_error, ContractMismatch)
    assert "state/tiny needs ground truth" in str(node.last_error)
    assert "/wam_sim/truth" in str(node.last_error)
