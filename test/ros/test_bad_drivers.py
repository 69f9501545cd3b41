# SPDX-License-Identifier: Apache-2.0
"""The three robots on real DDS with drivers that pretend devices: good ones are commanded, bad ones named and held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs the ROS 2 wheels (make setup)")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory
from waiting import wait_until

from wam.core.chunk import ActionChunk as Chunk
from wam.core.verdict import Ladder
from wam.devices.loader import load_robot
from wam.devices.ur.arm import PROGRAM_TOPIC
from wam.robots.description import CommandKind
from wam.ros.conversions import chunk_to_message, ns_to_time
from wam.ros.qos import CHUNK, COMMAND, EVENT, JOINT_STATE_PUBLISHER
from wam.ros.status_feeds import LATCHED
from wam_driver_node.node import DriverNode
from wam_msgs.action import RunTask
from wam_msgs.msg import ActionChunk, SafetyEvent
from wam_safety_node.node import SafetyNode

pytestmark = pytest.mark.ros
PERIOD_NS = 33_333_333
SUCCESS = TransitionCallbackReturn.SUCCESS
ROBOTS = ("piper", "franka", "ur5e_inspire")


class Driver(Node):
    """The arms' drivers and an executor that wants every joint to stay; `change` alters what the first arm reports."""

    def __init__(self, robot_name: str) -> None:
        super().__init__("driver")
        self.robot = load_robot(robot_name)
        self.events: list[SafetyEvent] = []
        self.commanded: set[str] = set()
        self.change: Callable[[JointState], None] = lambda message: None
        self._topics: list[tuple[Any, Any]] = []
        for group in self.robot.groups:
            if group.driver == "inspire":
                continue  # the suite's own driver, with a mock hand
            publisher = self.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
            self._topics.append((group, publisher))
            if group.driver != "franka_gripper":
                kind = JointTrajectory if group.command_kind is CommandKind.JOINT_TRAJECTORY else JointState
                take = lambda _, name=group.name: self.commanded.add(name)  # noqa: E731
                self.create_subscription(kind, group.command_topic, take, COMMAND)
        self.create_subscription(SafetyEvent, "wam_safety/event", self.events.append, EVENT)
        self._chunks = self.create_publisher(ActionChunk, "wam_executor/chunk", CHUNK)
        self._sequence = 0
        self.create_timer(0.01, self._report)
        self.create_timer(0.05, self._act)

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _report(self) -> None:
        for number, (group, publisher) in enumerate(self._topics):
            message = JointState(
                name=list(group.driver_names),
                position=[joint.home / joint.conversion.state for joint in group.joints],
                velocity=[0.0] * len(group.joints),
            )
            if group.driver == "franka_gripper":
                message.name.append("fr3_finger_joint2")
                message.position.append(message.position[0])
                message.velocity.append(0.0)
            message.header.stamp = ns_to_time(self.now_ns())
            if number == 0:
                self.change(message)
            publisher.publish(message)

    def _act(self) -> None:
        self._sequence += 1
        home = np.array([joint.home for joint in self.robot.joints])
        chunk = Chunk(
            stamp_ns=self.now_ns() - 50_000_000,
            generation=1,
            sequence=self._sequence,
            contract_hash="a" * 64,
            context_version=1,
            context_age_ns=100_000_000,
            phase_offset_rows=1,
            row_period_ns=PERIOD_NS,
            joint_names=self.robot.joint_names,
            rows=np.tile(home, (16, 1)),
        )
        self._chunks.publish(chunk_to_message(chunk, ActionChunk))


class Bench:
    """Safety node, the suite's driver node with mock devices, and the drivers, spun in threads."""

    def __init__(self, robot: str, namespace: str = "") -> None:
        rclpy.init(args=[])
        self.driver = Driver(robot)
        self.adapter = DriverNode(
            gripper_types={"move": RunTask, "grasp": RunTask},
            parameter_overrides=[Parameter("robot", value=robot), Parameter("write_enabled", value=True)],
        )
        self.safety = SafetyNode(
            namespace=namespace,
            parameter_overrides=[
                Parameter("robot", value=robot),
                Parameter("dry_run", value=False),
                Parameter("simulated", value=True),
            ],
        )
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._spin, args=(nodes,))
            for nodes in ((self.driver, self.adapter), (self.safety,))
        ]
        for thread in self._threads:
            thread.start()
        for node in (self.adapter, self.safety):
            assert node.trigger_configure() == SUCCESS, node.last_error
            assert node.trigger_activate() == SUCCESS, node.last_error

    def _spin(self, nodes: tuple[Node, ...]) -> None:
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        while not self._end.is_set():
            executor.spin_once(timeout_sec=0.05)
        executor.shutdown()

    @property
    def rung(self) -> Ladder:
        return self.safety.cycle.ladder.rung

    def until(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, turn=lambda: self._end.wait(0.01), details=self.texts)

    def texts(self) -> list[str]:
        return [f"{event.code}: {event.text}" for event in self.driver.events]

    def causes(self) -> list[str]:
        """Return what was reported, and what the measured state is refused for now.

        Of two causes that come within a tick, as a Piper's gate and the age of its joint states, only one is reported.
        """
        stale = self.safety.cycle._measured.look(self.safety.clock.now_ns()).stale
        return [*self.texts(), *([] if stale is None else [f"{stale.code}: {stale.text}"])]

    def nominal(self) -> None:
        """Let the driver report correctly, and wait until the robot follows."""
        self.driver.change = lambda message: None
        self.until(lambda: self.rung is Ladder.NOMINAL, "NOMINAL")
        self.driver.events.clear()
        self.safety.cycle._seen.clear()  # a verdict of a second ago would not be reported again

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self.safety.trigger_shutdown()
        self.adapter.trigger_shutdown()
        for node in (self.safety, self.adapter, self.driver):
            node.destroy_node()
        rclpy.try_shutdown()


def test_a_driver_in_another_namespace_is_named_and_nothing_is_commanded() -> None:
    bench = Bench("piper", namespace="lab")
    try:
        cause = lambda: bench.safety.cycle.ladder.cause  # noqa: E731
        bench.until(lambda: cause() is not None and cause().code == "other_namespace", "other_namespace")
        assert "/lab/left/joint_states_single has no publisher, but there is /left/joint" in cause().text
        assert bench.driver.commanded == set()
    finally:
        bench.close()


def test_a_ur_whose_program_stops_is_held_and_gets_nothing_until_it_runs_again() -> None:
    """After stop and play of External Control the arm went on by itself, in a step."""
    bench = Bench("ur5e_inspire")
    try:
        bench.nominal()
        program = bench.driver.create_publisher(Bool, PROGRAM_TOPIC, LATCHED)
        program.publish(Bool(data=False))
        text = "device_not_ready: arm does not follow: External Control does not run"
        bench.until(lambda: any(one.startswith(text) for one in bench.texts()), text)
        assert bench.rung is Ladder.HOLD
        bench.until(lambda: not bench.safety.cycle._playback.seeded, "a stream that has ended")
        program.publish(Bool(data=True))
        bench.nominal()
    finally:
        bench.close()


@pytest.fixture(scope="module", params=ROBOTS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.param)
    yield bench
    bench.close()


def test_a_robot_activates_against_mock_devices_and_every_arm_is_commanded(bench: Bench) -> None:
    bench.nominal()
    arms = {group.name for group in bench.driver.robot.groups if group.driver in ("piper", "franka", "ur")}
    bench.until(lambda: bench.driver.commanded == arms, "commands of every arm")
    for cycle in bench.adapter.cycles:
        bench.until(lambda c=cycle: c._channel.target(bench.driver.now_ns()) is not None, "the hand's target")
    for gripper in bench.adapter.grippers:
        bench.until(
            lambda g=gripper: g._channel.target(bench.driver.now_ns()) is not None, "the gripper's target"
        )


def rename(message: JointState) -> None:
    message.name = [f"other_{name}" for name in message.name]


def in_degrees(message: JointState) -> None:
    message.position = np.degrees(message.position).tolist()


def not_a_number(message: JointState) -> None:
    message.position[1] = float("nan")


def too_few(message: JointState) -> None:
    message.position = message.position[:-1]


def without_stamp(message: JointState) -> None:
    message.header.stamp.sec = message.header.stamp.nanosec = 0


def old(message: JointState) -> None:
    message.header.stamp.sec -= 5


class StandingStill:
    """Stamps of the last CAN frame, published again and again."""

    def __init__(self) -> None:
        self._stamp: Any = None

    def __call__(self, message: JointState) -> None:
        self._stamp = self._stamp or message.header.stamp
        message.header.stamp = self._stamp


FAULTS = {
    "other joint names": (rename, "malformed_joint_state", "lacks"),
    "another unit": (in_degrees, "malformed_joint_state", "degrees are likely"),
    "NaN": (not_a_number, "malformed_joint_state", "has a non-finite position"),
    "fewer positions than names": (
        too_few,
        "malformed_joint_state",
        "another number of positions than names",
    ),
    "no stamps": (without_stamp, "joint_state_timeout", "joint state is"),
    "old stamps": (old, "joint_state_timeout", "joint state is 5."),
    "stamps that stand still": (StandingStill, "joint_state_timeout", "joint state is 0."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_driver_is_named_the_arm_is_held_and_follows_again(bench: Bench, fault: str) -> None:
    change, code, text = FAULTS[fault]
    bench.nominal()
    bench.driver.change = change() if isinstance(change, type) else change
    bench.until(lambda: bench.rung is Ladder.HOLD, "HOLD")
    bench.until(
        lambda: any(one.startswith(code) and text in one for one in bench.causes()), f"{code}: {text}"
    )
    bench.nominal()


def shuffled(message: JointState) -> None:
    for field in ("name", "position", "velocity"):
        setattr(message, field, list(getattr(message, field))[::-1])


def without_velocity(message: JointState) -> None:
    message.velocity = []


@pytest.mark.parametrize("change", [shuffled, without_velocity])
def test_another_order_and_a_missing_velocity_change_nothing(bench: Bench, change: Any) -> None:
    """Some UR drivers report in alphabetic order, and piper_ros sends six velocities for seven joints."""
    bench.nominal()
    group = bench.driver.robot.groups[0]
    columns = [bench.driver.robot.joint_names.index(joint.name) for joint in group.joints]
    home = [joint.home for joint in group.joints]  # where the driver reports these joints

    def newest() -> np.ndarray:
        return bench.safety.cycle._measured.look(0).positions[columns]

    def heard_ns() -> int:
        return dict(bench.safety.cycle._measured._times)[group.name][0]

    np.testing.assert_allclose(newest(), home, atol=1e-6)
    bench.driver.change = change
    seen = len(bench.driver.commanded)
    before = heard_ns()
    bench.until(lambda: heard_ns() - before > 300_000_000, "joint states for 0.3 s")
    assert not [one for one in bench.texts() if one.startswith("malformed")]
    np.testing.assert_allclose(newest(), home, atol=1e-6)
    assert seen == len(bench.driver.commanded)


def test_two_drivers_that_disagree_are_both_named_with_their_values_and_the_arm_is_held(bench: Bench) -> None:
    """The first one stayed in force, the other was refused, and neither value was told."""
    bench.nominal()
    group = bench.driver.robot.groups[0]
    other = Node("second_driver")
    publisher = other.create_publisher(JointState, group.state_topic, JOINT_STATE_PUBLISHER)
    joint = group.joints[1]
    bench.until(lambda: publisher.get_subscription_count() > 0, "discovery")
    assert not any(one.startswith("drivers_disagree") for one in bench.texts()), "it has said nothing yet"

    def lie() -> bool:
        message = JointState(name=[joint.driver_name], position=[(joint.home + 0.1) / joint.conversion.state])
        message.header.stamp = ns_to_time(bench.driver.now_ns())
        publisher.publish(message)
        return any(one.startswith("drivers_disagree") for one in bench.texts())

    bench.until(lie, "drivers_disagree")
    assert bench.rung is Ladder.HOLD
    text = next(one for one in bench.texts() if one.startswith("drivers_disagree"))
    assert f"{joint.name} is reported at " in text
    assert f"{joint.home:.4g} rad by " in text
    assert f"{joint.home + 0.1:.4g} rad by " in text
    assert "/driver (participant" in text
    assert f"both on /{group.state_topic}" in text
    other.destroy_node()
    bench.nominal()
