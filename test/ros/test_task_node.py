# SPDX-License-Identifier: Apache-2.0
"""The action `run_task` over real DDS: planner and executor act for the time of a goal, and then no longer."""

from __future__ import annotations

from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from rclpy.parameter import Parameter

from wam.core.verdict import Finding, Ladder, Verdict
from wam.ros.action_client import SpunActionClient
from wam.ros.conversions import finding_to_event
from wam.ros.qos import EVENT
from wam_bringup.task_node import TaskNode
from wam_msgs.action import RunTask
from wam_msgs.msg import SafetyEvent

pytestmark = pytest.mark.ros


class Client:
    """An action client, and a stand-in for the safety node's events."""

    def __init__(self, stage: Any, *, with_safety: bool = True) -> None:
        self.stage = stage
        node = stage.world.node
        self.events = node.create_publisher(SafetyEvent, "wam_safety/event", EVENT) if with_safety else None
        self.task = stage.add(TaskNode(parameter_overrides=[Parameter("hold_grace", value=10.0)]))
        executor = stage.act(
            parameter_overrides=[
                Parameter("robot", value="g1_inspire"),
                Parameter("policy", value="fake"),
                Parameter("period", value=0.05),
                Parameter("acting", value=False),
            ]
        )
        stage.bring_up(self.task, stage.planner(), executor)
        self.client: Any = SpunActionClient(node, RunTask, "wam_task/run_task")
        stage.until(self.client.server_is_ready, "the action server")
        if with_safety:
            stage.until(lambda: self.task.count_publishers("wam_safety/event") > 0, "safety is discovered")

    def send(self, instruction: str, *, seconds: int = 0) -> Any:
        """Send a goal and return its handle."""
        goal = RunTask.Goal(instruction=instruction, time_limit=Duration(sec=seconds))
        answer = self.client.send_goal_async(goal)
        self.stage.until(answer.done, "the answer to the goal")
        return answer.result()

    def ladder(self, rung: Ladder) -> None:
        assert self.events is not None
        finding = Finding(Verdict.STOP, "estop", "somebody pressed the e-stop")
        self.events.publish(
            finding_to_event(
                finding,
                now_ns=0,
                before=Ladder.NOMINAL,
                after=rung,
                chunk_sequence=0,
                message_type=SafetyEvent,
            )
        )

    def result(self, handle: Any) -> Any:
        answer = handle.get_result_async()
        self.stage.until(answer.done, "the result")
        return answer.result()


def test_a_task_acts_until_its_time_limit_and_then_the_executor_is_silent(stage: Any) -> None:
    client = Client(stage)
    world = stage.world
    assert not world.chunks
    handle = client.send("put the plate away", seconds=2)
    assert handle.accepted
    client.ladder(Ladder.NOMINAL)
    outcome = client.result(handle)
    assert outcome.status == GoalStatus.STATUS_SUCCEEDED
    assert outcome.result.result == RunTask.Result.RESULT_TIME_LIMIT
    assert outcome.result.chunks > 3
    assert world.contexts[-1].instruction == "put the plate away"
    stage.until(lambda: "paused" in world.executor_status[-1].reason, "the executor is paused again")


def test_a_canceled_task_says_so(stage: Any) -> None:
    client = Client(stage)
    handle = client.send("put the plate away")
    stage.until(lambda: bool(stage.world.chunks), "a chunk")
    handle.cancel_goal_async()
    outcome = client.result(handle)
    assert outcome.status == GoalStatus.STATUS_CANCELED
    assert outcome.result.result == RunTask.Result.RESULT_CANCELED


def test_a_second_goal_takes_over_from_the_first(stage: Any) -> None:
    client = Client(stage)
    first = client.send("put the plate away")
    second = client.send("open the drawer", seconds=1)
    assert client.result(first).result.result == RunTask.Result.RESULT_PREEMPTED
    assert client.result(second).result.result == RunTask.Result.RESULT_TIME_LIMIT


def test_stop_ends_a_task_with_the_reason_of_the_safety_node(stage: Any) -> None:
    client = Client(stage)
    handle = client.send("put the plate away")
    client.ladder(Ladder.STOP)
    outcome = client.result(handle)
    assert outcome.status == GoalStatus.STATUS_ABORTED
    assert outcome.result.result == RunTask.Result.RESULT_STOP
    assert "e-stop" in outcome.result.message


def test_without_a_safety_node_a_task_is_refused(stage: Any) -> None:
    client = Client(stage, with_safety=False)
    outcome = client.result(client.send("put the plate away"))
    assert outcome.result.result == RunTask.Result.RESULT_REFUSED
    assert "wam_safety is not running" in outcome.result.message


def test_an_instruction_that_is_too_long_is_rejected_at_once(stage: Any) -> None:
    client = Client(stage)
    assert not client.send("x" * 300).accepted
