# SPDX-License-Identifier: Apache-2.0
"""The gripper's channel over real ROS actions. RunTask stands in for the vendors' types, which no registry has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import wait_until

from wam.devices.franka.hand import HandGoal
from wam.devices.gripper import Side

pytestmark = pytest.mark.ros


class Stage:
    """A gripper that blocks until it is told to go on or cancelled, and the driver node before it."""

    def __init__(self) -> None:
        from rclpy.action import ActionServer, CancelResponse
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.parameter import Parameter
        from sensor_msgs.msg import JointState

        from wam.ros.qos import COMMAND, JOINT_STATE_PUBLISHER
        from wam_driver_node.node import DriverNode
        from wam_msgs.action import RunTask

        self.executor = SingleThreadedExecutor()
        self.peer = Node("franka_gripper_stand_in")
        self.goals: list[str] = []
        self.cancels = 0
        self.running: list[Any] = []
        self._futures: list[Any] = []

        def on_cancel(_handle: Any) -> Any:
            self.cancels += 1
            self._futures[-1].set_result("cancelled")
            return CancelResponse.ACCEPT

        async def execute(handle: Any) -> Any:
            from rclpy.task import Future

            self.goals.append(handle.request.instruction)
            self._futures.append(Future())
            outcome = await self._futures[-1]
            {"cancelled": handle.canceled, "done": handle.succeed, "failed": handle.abort}[outcome]()
            return RunTask.Result()

        for name in ("move", "grasp"):
            server = ActionServer(
                self.peer, RunTask, f"franka_gripper/{name}", execute, cancel_callback=on_cancel
            )
            self.running.append(server)
        self.states = self.peer.create_publisher(
            JointState, "franka_gripper/joint_states", JOINT_STATE_PUBLISHER
        )
        self.command = self.peer.create_publisher(JointState, "franka_gripper/joint_command", COMMAND)
        self.peer.create_timer(0.02, self._tick)
        self.half = 0.04
        self.wanted: float | None = None
        self.node = DriverNode(
            gripper_types={"move": RunTask, "grasp": RunTask},
            fill=lambda goal, _message: RunTask.Goal(instruction=goal.name),
            parameter_overrides=[
                Parameter("robot", value="franka"),
                Parameter("gripper_dwell", value=0.1),
                Parameter("write_enabled", value=True),
            ],
        )
        self.executor.add_node(self.peer)
        self.executor.add_node(self.node)

    def _tick(self) -> None:
        from sensor_msgs.msg import JointState

        names = ["fr3_finger_joint1", "fr3_finger_joint2"]
        self.states.publish(JointState(name=names, position=[self.half] * 2))
        if self.wanted is not None:
            self.command.publish(JointState(name=names[:1], position=[self.wanted]))

    def end(self, outcome: str) -> None:
        """Let the goal that runs end."""
        self._futures[-1].set_result(outcome)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, turn=lambda: self.executor.spin_once(timeout_sec=0.05))

    def close(self) -> None:
        self.node.trigger_shutdown()
        self.node.destroy_node()
        for server in self.running:
            server.destroy()
        self.peer.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    import rclpy
    from rclpy.lifecycle import TransitionCallbackReturn

    rclpy.init(args=[])
    stage = Stage()
    assert stage.node.trigger_configure() == TransitionCallbackReturn.SUCCESS, stage.node.last_error
    assert stage.node.trigger_activate() == TransitionCallbackReturn.SUCCESS, stage.node.last_error
    yield stage
    stage.close()
    rclpy.try_shutdown()


def test_a_stream_of_openings_becomes_one_goal_per_side(stage: Stage) -> None:
    """The gripper's actions block; sent at the rate of the stream, goals were refused or queued for seconds."""
    stage.wanted = 0.0
    stage.until(lambda: stage.goals == ["grasp"], "the grasp")
    stage.end("done")
    stage.until(lambda: stage.node.grippers[0]._handle is None, "its end")
    stage.wanted = 0.04
    stage.until(lambda: stage.goals == ["grasp", "move"], "the move")
    stage.end("done")
    stage.until(lambda: stage.node.grippers[0]._handle is None, "its end")
    assert stage.node.grippers[0].state().code == "gripper_ready"
    assert stage.cancels == 0


def test_a_change_of_mind_cancels_the_goal_and_then_sends_the_other(stage: Stage) -> None:
    stage.wanted = 0.0
    stage.until(lambda: stage.goals == ["grasp"], "the grasp")
    stage.wanted = 0.04
    stage.until(lambda: stage.goals == ["grasp", "move"], "the move")
    assert stage.cancels == 1
    stage.end("done")


def test_an_open_gripper_that_is_wanted_open_gets_no_goal(stage: Stage) -> None:
    stage.wanted = 0.04
    gripper = stage.node.grippers[0]
    stage.until(lambda: gripper._seeded and gripper._clients["move"].server_is_ready(), "a seeded gripper")
    stage.wanted = 0.0
    stage.until(lambda: bool(stage.goals), "a goal")
    assert stage.goals == ["grasp"], "the move to where it stood already"
    stage.end("done")


def test_a_goal_that_fails_is_told(stage: Stage) -> None:
    stage.wanted = 0.0
    stage.until(lambda: stage.goals == ["grasp"], "the grasp")
    stage.end("failed")
    stage.until(lambda: stage.node.grippers[0].state().code == "gripper_goal_failed", "the failure")
    assert stage.goals == ["grasp"]


def test_nothing_is_sent_while_disabled(stage: Stage) -> None:
    gripper = stage.node.grippers[0]
    stage.until(lambda: all(client.server_is_ready() for client in gripper._clients.values()), "the servers")
    assert gripper.enable(False).code == "gripper_write_disabled"
    stage.wanted = 0.0
    stage.until(lambda: gripper._channel.target(0) is not None, "the command")
    gripper.step(stage.node.clock.now_ns())
    assert stage.goals == []
    stage.wanted = None
    gripper.enable(True)
    assert gripper._channel.target(0) is None


def test_goals_are_written_as_the_vendors_messages_want_them() -> None:
    from wam.devices.franka.adapter import fill_goal

    grasp = SimpleNamespace(epsilon=SimpleNamespace())
    fill_goal(HandGoal(Side.CLOSED, "grasp", width=0.0, speed=0.1, force=30.0, epsilon=0.08), grasp)
    assert (grasp.width, grasp.speed, grasp.force) == (0.0, 0.1, 30.0)
    assert grasp.epsilon.inner == grasp.epsilon.outer == 0.08
    command = SimpleNamespace(command=SimpleNamespace())
    fill_goal(HandGoal(Side.OPEN, "gripper_action", position=0.04, force=30.0), command)
    assert (command.command.position, command.command.max_effort) == (0.04, 30.0)


def test_without_the_vendors_messages_it_refuses_to_configure_and_names_them() -> None:
    import importlib.util

    import rclpy
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter

    from wam_driver_node.node import DriverNode

    if importlib.util.find_spec("franka_msgs") is not None:
        pytest.skip("franka_msgs is installed")
    rclpy.init(args=[])
    node = DriverNode(parameter_overrides=[Parameter("robot", value="franka")])
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "need franka_msgs" in str(node.last_error)
    node.destroy_node()
    rclpy.try_shutdown()
