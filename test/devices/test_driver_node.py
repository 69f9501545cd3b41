# SPDX-License-Identifier: Apache-2.0
"""The driver node on real DDS, with a mock hand and with one behind a pseudo-terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

pytestmark = pytest.mark.ros
SEND_PERIOD_S = 0.02
NAMES = ["pinky", "ring", "middle", "index", "thumb_bend", "thumb_rotation"]


class Stage:
    """The driver node and a peer that commands it, spun in the test's thread."""

    def __init__(self) -> None:
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from sensor_msgs.msg import JointState

        from wam.ros.qos import COMMAND, EVENT, JOINT_STATE

        self.executor = SingleThreadedExecutor()
        self.peer = Node("peer")
        self.executor.add_node(self.peer)
        self.states: list[Any] = []
        self.statuses: list[Any] = []
        self.peer.create_subscription(JointState, "hand/joint_states", self.states.append, JOINT_STATE)
        self.peer.create_subscription(
            DiagnosticArray, "/diagnostics", lambda array: self.statuses.extend(array.status), EVENT
        )
        self.command = self.peer.create_publisher(JointState, "hand/joint_command", COMMAND)
        self.node: Any = None

    def make(self, **values: Any) -> Any:
        from rclpy.parameter import Parameter

        from wam_driver_node.node import DriverNode

        overrides = [
            Parameter(name, value=value) for name, value in {"robot": "ur5e_inspire", **values}.items()
        ]
        self.node = DriverNode(parameter_overrides=overrides)
        self.executor.add_node(self.node)
        return self.node

    def bring_up(self, **values: Any) -> Any:
        from rclpy.lifecycle import TransitionCallbackReturn

        node = self.make(**values)
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, node.last_error
        self.until(lambda: self.command.get_subscription_count() == 1, "the command topic")
        return node

    def send(self, positions: list[float], names: list[str] | None = None) -> None:
        from sensor_msgs.msg import JointState

        self.command.publish(JointState(name=names or NAMES, position=positions))

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.peer.create_client(kind, name)
        self.until(client.service_is_ready, name)
        future = client.call_async(request)
        self.until(future.done, f"answer of {name}")
        return future.result()

    def until(
        self, condition: Callable[[], bool], what: str, each: Callable[[], None] = lambda: None
    ) -> None:
        due = 0.0

        def turn() -> None:
            nonlocal due
            if time.monotonic() >= due:
                # Every command wakes this very executor: sent on each turn, they keep it busy and the interpreter
                # from the threads of the hand and of its device, whose transactions then run into their timeout.
                each()
                due = time.monotonic() + SEND_PERIOD_S
            self.executor.spin_once(timeout_sec=SEND_PERIOD_S)

        wait_until(condition, what, turn=turn)

    def position(self, joint: str) -> float:
        if not self.states:
            return float("nan")
        message = self.states[-1]
        return float(message.position[list(message.name).index(joint)])

    def close(self) -> None:
        if self.node is not None:
            self.node.trigger_shutdown()
            self.node.destroy_node()
        self.peer.destroy_node()
        self.executor.shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    import rclpy

    rclpy.init(args=[])
    stage = Stage()
    yield stage
    stage.close()
    rclpy.try_shutdown()


def test_the_mock_hand_follows_once_it_is_enabled(stage: Stage) -> None:
    from std_srvs.srv import SetBool, Trigger

    stage.bring_up()
    stage.until(lambda: stage.position("index") == 1.0, "joint states of an open hand")
    stage.send([0.0] * 6)
    stage.until(
        lambda: any("hand is read only" in status.message for status in stage.statuses),
        "a status that says so",
    )
    assert stage.position("index") == 1.0
    assert stage.call(SetBool, "wam_driver/enable", SetBool.Request(data=True)).success
    stage.until(lambda: stage.position("index") == 0.0, "a closed hand", each=lambda: stage.send([0.0] * 6))
    assert stage.states[-1].header.stamp.sec > 0
    assert stage.call(Trigger, "wam_driver/clear_errors", Trigger.Request()).success
    refused = stage.call(Trigger, "wam_driver/calibrate_force", Trigger.Request())
    assert not refused.success
    assert "not open" in refused.message


def test_a_command_from_before_enabling_is_forgotten(stage: Stage) -> None:
    """A hand that was enabled while an old target lay about closed at once."""
    from std_srvs.srv import SetBool

    node = stage.bring_up()
    stage.send([0.0] * 6)
    stage.until(lambda: node.cycles[0]._channel.target(0) is not None, "the stored command")
    stage.call(SetBool, "wam_driver/enable", SetBool.Request(data=True))
    seen = len(stage.states)
    stage.until(lambda: len(stage.states) > seen + 10, "ten more joint states")
    assert stage.position("index") == 1.0


def test_a_hand_on_a_real_pseudo_terminal_follows_at_its_rate(stage: Stage, serial_device: Any) -> None:
    """The device's own time is the test's; here it follows the wall clock."""
    for hand in serial_device.hands.values():
        hand._now, hand._last = time.monotonic, time.monotonic()
    stage.bring_up(devices=[f"serial:{serial_device.port}#2"], write_enabled=True)
    stage.until(
        lambda: abs(stage.position("ring") - 0.3) < 0.01, "the target", each=lambda: stage.send([0.3] * 6)
    )
    assert serial_device.hands[2].memory["SPEED_SET"] == [1000] * 6
    assert serial_device.hands[1].memory["ANGLE_SET"] == [1000] * 6, "the other hand on the bus"


def test_a_second_publisher_and_wrong_joints_are_named_and_the_hand_holds(stage: Stage) -> None:
    from sensor_msgs.msg import JointState

    from wam.ros.qos import COMMAND

    node = stage.bring_up(write_enabled=True)
    stage.until(
        lambda: "hand" in node._refused, "wrong names", each=lambda: stage.send([0.0] * 6, list("abcdef"))
    )
    assert "lacks pinky, ring" in node._refused["hand"]
    stage.until(lambda: not node._refused, "a good command", each=lambda: stage.send([0.5] * 6))
    other = stage.peer.create_publisher(JointState, "hand/joint_command", COMMAND)
    stage.until(
        lambda: "2 publishers on hand/joint_command" in node._refused.get("hand", ""),
        "the second publisher",
        each=lambda: stage.send([0.0] * 6),
    )
    assert node.cycles[0]._channel.target(0) is None
    stage.until(
        lambda: any("only wam_safety may be one" in status.message for status in stage.statuses), "its status"
    )
    stage.peer.destroy_publisher(other)


def test_a_hand_follows_trajectories_where_its_robot_file_says_so(stage: Stage, tmp_path: Path) -> None:
    from builtin_interfaces.msg import Duration
    from rclpy.lifecycle import TransitionCallbackReturn
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    from wam.robots.loader import find_robot
    from wam.ros.qos import COMMAND

    text = find_robot("ur5e_inspire").read_text(encoding="utf-8")
    stream = "kind: joint_state_stream\n      topic: hand/joint_command"
    assert stream in text
    file = tmp_path / "robot.yaml"
    file.write_text(text.replace(stream, "kind: joint_trajectory\n      topic: hand/joint_trajectory"))
    command = stage.peer.create_publisher(JointTrajectory, "hand/joint_trajectory", COMMAND)
    node = stage.make(robot=str(file), write_enabled=True)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.last_error
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS, node.last_error
    points = [
        JointTrajectoryPoint(positions=[value] * 6, time_from_start=Duration(nanosec=at))
        for at, value in ((20_000_000, 0.9), (400_000_000, 0.2))
    ]
    message = JointTrajectory(joint_names=NAMES[::-1], points=points)
    stage.until(lambda: command.get_subscription_count() == 1, "the command topic")
    command.publish(message)
    stage.until(lambda: abs(stage.position("index") - 0.2) < 0.01, "the end of the trajectory")
    node.cycles[0].hold()
    stage.until(
        lambda: "lacks pinky" in node._refused.get("hand", ""),
        "a refusal",
        each=lambda: command.publish(JointTrajectory(joint_names=["elbow"], points=points)),
    )


def test_an_unplugged_hand_is_told_and_taken_up_again(stage: Stage) -> None:
    node = stage.bring_up(write_enabled=True)
    stage.until(lambda: bool(stage.states), "joint states")
    mock = node.cycles[0]._hand._link
    mock.lost = True
    stage.until(lambda: any("cannot be reached" in status.message for status in stage.statuses), "its loss")
    mock.lost = False
    seen = len(stage.states)
    stage.until(lambda: len(stage.states) > seen, "joint states again")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"devices": ["mock", "mock"]}, "does not fit the robot's hands"),
        ({"devices": ["usb:3"]}, "address of a hand: got 'usb:3'"),
        ({"devices": ["serial:/dev/null#1"], "rate": 80.0}, "at most 50 Hz"),
        ({"robot": "piper", "devices": ["serial:/dev/null#1"]}, "does not fit the robot's hands"),
        ({"devices": ["jtc"]}, "behind a trajectory controller: got 'joint_state_stream'"),
    ],
)
def test_parameters_that_do_not_fit_refuse_to_configure(
    stage: Stage, values: dict[str, Any], text: str
) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    node = stage.make(**values)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert text in str(node.last_error)
