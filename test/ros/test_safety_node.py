# SPDX-License-Identifier: Apache-2.0
"""The safety node on real rclpy, against a driver made of two topics per arm."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")
pytest.importorskip("wam_msgs.msg", reason="wam_msgs is not built (make setup)")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Bool  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from wam.core.chunk import ActionChunk as Chunk  # noqa: E402
from wam.core.trajectory.seam import MAX_SEAM_NS  # noqa: E402
from wam.core.verdict import Ladder  # noqa: E402
from wam.devices.loader import load_robot  # noqa: E402
from wam.robots.collision import PinocchioChecker  # noqa: E402
from wam.robots.loader import find_robot  # noqa: E402
from wam.ros.conversions import chunk_to_message, ns_to_time  # noqa: E402
from wam.ros.qos import CHUNK, COMMAND, EVENT, JOINT_STATE, JOINT_STATE_PUBLISHER  # noqa: E402
from wam_msgs.msg import ActionChunk, SafetyEvent  # noqa: E402
from wam_safety_node.node import SafetyNode  # noqa: E402

pytestmark = pytest.mark.ros

ROBOT = "piper"
PERIOD_NS = 33_333_333


class Arms(Node):
    """Both arms and an executor: states follow commands, chunks are published on demand."""

    def __init__(self) -> None:
        super().__init__("arms")
        self.robot = load_robot(ROBOT)
        self.changed = threading.Condition()
        self.measured = {g.name: np.array([j.home for j in g.joints]) for g in self.robot.groups}
        self.commands: dict[str, list[np.ndarray]] = {g.name: [] for g in self.robot.groups}
        self.messages: list[JointState] = []
        self.events: list[SafetyEvent] = []
        self.follow = True
        self.report = True
        self._states = {
            g.name: self.create_publisher(JointState, g.state_topic, JOINT_STATE_PUBLISHER)
            for g in self.robot.groups
        }
        for group in self.robot.groups:
            self.create_subscription(
                JointState, group.command_topic, lambda m, g=group: self._on_command(g, m), COMMAND
            )
        self.create_subscription(SafetyEvent, "wam_safety/event", self._on_event, EVENT)
        self.chunks = self.create_publisher(ActionChunk, "wam_executor/chunk", CHUNK)
        self.estop = self.create_publisher(Bool, "estop", EVENT)
        self._sequence = 0
        self.offset = 0.0
        self.sending = False
        self.create_timer(0.01, self._tick)
        self.create_timer(0.1, self._send)

    def revive(self) -> None:
        """The driver comes back."""
        self._states = {
            g.name: self.create_publisher(JointState, g.state_topic, JOINT_STATE_PUBLISHER)
            for g in self.robot.groups
        }
        self.report = True

    def now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _tick(self) -> None:
        if not self.report:
            return
        for group in self.robot.groups:
            reported = self.measured[group.name] / group.state_factors  # in the driver's own radians
            message = JointState(name=list(group.driver_names), position=reported.tolist())
            message.header.stamp = ns_to_time(self.now_ns())
            self._states[group.name].publish(message)

    def _send(self) -> None:
        if self.sending:
            self.publish_chunk(self.rows())

    def rows(self) -> np.ndarray:
        """Sixteen rows: every arm joint swings by 0.1 rad about its home position, two seconds a period."""
        times = (self.now_ns() - 100_000_000 + np.arange(16) * PERIOD_NS) * 1e-9
        swing = 0.1 * np.sin(np.pi * times)
        home = np.array([j.home for j in self.robot.joints])
        arm = np.array([0.0 if j.name.endswith("gripper") else 1.0 for j in self.robot.joints])
        return home + swing[:, None] * arm + self.offset

    def publish_chunk(self, rows: np.ndarray, **changes: Any) -> None:
        self._sequence += 1
        values: dict[str, Any] = {
            "stamp_ns": self.now_ns() - 100_000_000,
            "generation": 1,
            "sequence": self._sequence,
            "contract_hash": "a" * 64,
            "context_version": 1,
            "context_age_ns": 100_000_000,
            "phase_offset_rows": 3,
            "row_period_ns": PERIOD_NS,
            "joint_names": self.robot.joint_names,
            "rows": rows,
        }
        self.chunks.publish(chunk_to_message(Chunk(**{**values, **changes}), ActionChunk))

    def _on_command(self, group: Any, message: JointState) -> None:
        with self.changed:
            self.messages.append(message)
            # What it makes of a message of another publisher, which may name fewer joints, is not looked at.
            whole = list(message.name) == list(group.driver_names)
            told = np.array(message.position) / (group.command_factors if whole else 1.0)
            self.commands[group.name].append(told)
            if self.follow and whole:
                self.measured[group.name] = told
            self.changed.notify_all()

    def _on_event(self, message: SafetyEvent) -> None:
        with self.changed:
            self.events.append(message)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout: float = 20.0) -> bool:
        with self.changed:
            if self.changed.wait_for(condition, timeout):
                return True
        # Shown by pytest where the test then fails.
        print(*(f"{e.ladder_to}: {e.code}: {e.text}" for e in self.events), sep="\n")
        print("commands", {name: len(commands) for name, commands in self.commands.items()})
        return False

    def saw(self, code: str) -> bool:
        return any(event.code == code for event in self.events)


class Bench:
    """Safety node and arms, spun in a thread each."""

    def __init__(self, **parameters: Any) -> None:
        rclpy.init(args=[])
        values = {"robot": ROBOT, "dry_run": False, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.safety = SafetyNode(parameter_overrides=overrides)
        self.arms = Arms()
        self._stopping = threading.Event()
        self._threads = []
        for node in (self.safety, self.arms):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            thread = threading.Thread(target=self._spin, args=(executor,), daemon=True)
            thread.start()
            self._threads.append((thread, executor))

    def _spin(self, executor: SingleThreadedExecutor) -> None:
        while not self._stopping.is_set():
            executor.spin_once(timeout_sec=0.05)

    def activate(self) -> None:
        assert self.safety.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def call(self, name: str) -> Any:
        client = self.arms.create_client(Trigger, f"wam_safety/{name}")
        assert client.wait_for_service(10.0)
        future = client.call_async(Trigger.Request())
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(10.0)
        return future.result()

    def close(self) -> None:
        if self._stopping.is_set():
            return
        self.safety.trigger_shutdown()
        self._stopping.set()
        for thread, executor in self._threads:
            thread.join(5.0)
            executor.shutdown()
        self.safety.destroy_node()
        self.arms.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**parameters: Any) -> Bench:
        made.append(Bench(**parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


def on_a_steady_machine(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a failed run in which the whole machine stood still: the node itself then reports a gap of its commands.

    After such a gap the stream starts anew, which is right and has a test of its own, and not what these tests look at.
    """

    @functools.wraps(test)
    def run(make_bench: Callable[..., Bench], **fixtures: Any) -> None:
        for _ in range(2):
            benches: list[Bench] = []

            def make(benches: list[Bench] = benches, **parameters: Any) -> Bench:
                benches.append(make_bench(**parameters))
                return benches[-1]

            try:
                return test(make, **fixtures)
            except AssertionError:
                if not any(bench.arms.saw("command_gap") for bench in benches):
                    raise
                for bench in benches:
                    bench.close()
        return test(make_bench, **fixtures)

    return run


@on_a_steady_machine
def test_both_arms_are_streamed_completely_and_hold_the_measured_position_when_chunks_stop(
    make_bench: Callable[..., Bench],
) -> None:
    """A joint that is missing from a Piper command is driven to 0 rad, so every command names all seven."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values())), "held position is streamed before any chunk"
    home = {g.name: np.array([j.home for j in g.joints]) for g in arms.robot.groups}
    for name, commands in arms.commands.items():
        np.testing.assert_allclose(commands[0], home[name], atol=1e-9)
    arms.sending = True
    assert arms.wait_for(lambda: any(abs(c[0] - home["left"][0]) > 0.05 for c in arms.commands["left"]))
    arms.sending = False
    assert arms.wait_for(lambda: arms.saw("chunk_timeout"))
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 100)
    settled = arms.commands["left"][-20:]
    np.testing.assert_allclose(settled, np.broadcast_to(settled[-1], (20, 7)), atol=1e-4)
    assert np.abs(settled[-1] - arms.measured["left"]).max() < 1e-3
    for message in arms.messages:
        assert list(message.name) == ["joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"]
        assert len(message.position) == 7
        assert not message.velocity, "Piper reads velocity as speed percent"
        assert not message.effort, "Piper reads effort as gripper effort"
    arms.sending = True
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[-3:]))


def test_an_emergency_stop_is_latched_until_it_is_cleared(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    assert bench.call("estop").success
    assert arms.wait_for(lambda: arms.saw("estop"))
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 150)
    last = arms.commands["left"][-10:]
    np.testing.assert_allclose(last, np.broadcast_to(last[-1], (10, 7)), atol=1e-4)
    assert bench.safety.cycle is not None
    assert bench.safety.cycle.ladder.rung is Ladder.STOP
    assert bench.call("clear_fault").success
    assert arms.wait_for(lambda: arms.saw("fault_cleared"))
    assert arms.wait_for(lambda: arms.events[-1].ladder_to == int(Ladder.NOMINAL))


def test_a_held_emergency_stop_cannot_be_cleared_away(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    deadline = time.monotonic() + 20.0
    while not arms.saw("estop") and time.monotonic() < deadline:
        arms.estop.publish(Bool(data=True))
        arms.wait_for(lambda: arms.saw("estop"), 0.2)
    assert arms.saw("estop")
    bench.call("clear_fault")
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 20)
    assert bench.safety.cycle is not None
    assert bench.safety.cycle.ladder.rung is Ladder.STOP


def test_a_second_publisher_on_the_command_topic_stops_the_arm_and_is_named(
    make_bench: Callable[..., Bench],
) -> None:
    """Two nodes that command one arm pull it to and fro; CRISP ignores commands then, others do not look."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    intruder = arms.create_publisher(JointState, "left/joint_ctrl_single", COMMAND)
    assert arms.wait_for(lambda: arms.saw("second_publisher"))
    event = next(e for e in arms.events if e.code == "second_publisher")
    assert "/arms" in event.text
    assert event.ladder_to == int(Ladder.STOP)
    arms.destroy_publisher(intruder)


def test_a_dry_run_sends_nothing_and_shows_what_it_would_send(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(dry_run=True)
    arms = bench.arms
    shown: list[JointState] = []

    def show(message: JointState) -> None:
        with arms.changed:
            shown.append(message)
            arms.changed.notify_all()

    arms.create_subscription(JointState, "wam_safety/command_preview", show, JOINT_STATE)
    bench.activate()
    arms.sending = True
    assert arms.wait_for(lambda: len(shown) > 20)
    assert tuple(shown[-1].name) == arms.robot.joint_names
    assert not any(arms.commands.values())
    assert bench.safety.count_publishers("left/joint_ctrl_single") == 0


def test_lost_joint_states_hold_both_arms_and_motion_resumes_when_they_return(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.report = False
    assert arms.wait_for(lambda: arms.saw("joint_state_timeout"))
    count = len(arms.events)
    arms.report = True
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_commands_do_not_start_before_the_arm_was_measured(make_bench: Callable[..., Bench]) -> None:
    """Without a measured state the only position one could send is a guess: zeros slam the arm."""
    bench = make_bench()
    bench.arms.report = False
    bench.activate()
    bench.arms.sending = True
    stream = bench.safety._stream
    assert stream is not None
    deadline = time.monotonic() + 20.0
    while stream.health().ticks < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stream.health().ticks >= 50
    assert not any(bench.arms.commands.values())
    bench.arms.report = True
    assert bench.arms.wait_for(lambda: all(bench.arms.commands.values()))


@on_a_steady_machine
def test_deactivation_brings_the_arm_to_rest_before_the_stream_ends(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    home = arms.robot.groups[0].joints[0].home
    assert arms.wait_for(lambda: any(abs(c[0] - home) > 0.03 for c in arms.commands["left"]))
    assert bench.safety.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    # What was sent last may still be under way.
    assert arms.wait_for(lambda: np.abs(np.diff(arms.commands["left"][-3:], axis=0)).max() < 1e-3)
    assert bench.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS
    count = len(arms.events)
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_a_driver_that_goes_is_named_and_taken_up_again(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.report = False
    for publisher in arms._states.values():
        arms.destroy_publisher(publisher)
    assert arms.wait_for(lambda: arms.saw("joint_state_timeout"))
    assert bench.safety.cycle is not None
    deadline = time.monotonic() + 20.0
    while not _raised(bench, "driver_lost") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _raised(bench, "driver_lost")
    arms.revive()
    count = len(arms.events)
    assert arms.wait_for(lambda: any(e.code == "recovered" for e in arms.events[count:]))


def test_a_driver_that_goes_is_a_stop_where_that_was_asked_for(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(latch_driver_loss=True)
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    arms.report = False
    for publisher in arms._states.values():
        arms.destroy_publisher(publisher)
    assert arms.wait_for(lambda: arms.saw("liveliness_lost"))
    arms.revive()
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 20)
    assert bench.safety.cycle is not None
    assert bench.safety.cycle.ladder.rung is Ladder.STOP
    assert bench.call("clear_fault").success


def test_an_executor_that_goes_is_named(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    arms.sending = False
    arms.destroy_publisher(arms.chunks)
    assert arms.wait_for(lambda: arms.saw("executor_lost"))


def test_a_chunk_that_cannot_be_read_is_named_once_and_moves_nothing(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    assert arms.wait_for(lambda: all(arms.commands.values()))
    broken = ActionChunk(num_rows=3, joint_names=["left_joint1"], positions=[1.0])
    deadline = time.monotonic() + 20.0
    while not arms.saw("malformed_chunk") and time.monotonic() < deadline:
        arms.chunks.publish(broken)
        arms.wait_for(lambda: arms.saw("malformed_chunk"), 0.05)
    assert sum(event.code == "malformed_chunk" for event in arms.events) == 1
    home = np.array([joint.home for joint in arms.robot.groups[0].joints])
    np.testing.assert_allclose(arms.commands["left"][-1], home, atol=1e-9)


def test_a_cycle_that_fails_is_a_stop_and_the_arm_is_still_commanded(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that dies of an exception leaves the arm to a driver that has no watchdog."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    cycle = bench.safety.cycle
    assert cycle is not None
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("recovered"))
    original = cycle._take_chunk

    def fail(*args: Any, **named: Any) -> None:
        monkeypatch.setattr(cycle, "_take_chunk", original)
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr(cycle, "_take_chunk", fail)
    assert arms.wait_for(lambda: arms.saw("internal_error"))
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 50)
    assert cycle.ladder.rung is Ladder.STOP


def test_an_unknown_filter_or_strategy_refuses_to_configure(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(filters_off=["speed"])
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "filters_off" in str(bench.safety.last_error)


def test_the_process_of_the_safety_node_never_imports_torch() -> None:
    code = (
        "import sys, wam_safety_node.main\n"
        "bad = [m for m in sys.modules if m.split('.')[0] == 'torch' or m.startswith('wam.models')]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_group_of_a_trajectory_controller_gets_rolling_trajectories(
    make_bench: Callable[..., Bench], tmp_path: Path
) -> None:
    """joint_trajectory_controller tells a topic's publisher nothing when it drops a message, so the rules of its
    acceptance checks are kept by construction: stamp 0, known joints, increasing times, rest at the end."""
    text = find_robot(ROBOT).read_text(encoding="utf-8")
    text = text.replace("kind: joint_state_stream", "kind: joint_trajectory").replace("rate: 100", "rate: 20")
    text = text.replace("joint_ctrl_single", "joint_trajectory")
    text = text.replace("    driver: piper\n", "")  # which takes no trajectories
    file = tmp_path / "arm_with_controller.yaml"
    file.write_text(text, encoding="utf-8")
    bench = make_bench(robot=str(file))
    arms = bench.arms
    seen: list[JointTrajectory] = []

    def keep(message: JointTrajectory) -> None:
        with arms.changed:
            seen.append(message)
            arms.measured["left"] = np.array(message.points[0].positions)
            arms.changed.notify_all()

    def keep_right(message: JointTrajectory) -> None:
        arms.measured["right"] = np.array(message.points[0].positions)

    robot = load_robot(file)
    arms.create_subscription(JointTrajectory, robot.groups[0].command_topic, keep, COMMAND)
    arms.create_subscription(JointTrajectory, robot.groups[1].command_topic, keep_right, COMMAND)
    bench.activate()
    arms.sending = True
    home = robot.groups[0].joints[0].home
    assert arms.wait_for(lambda: any(abs(m.points[0].positions[0] - home) > 0.05 for m in seen))
    for message in seen:
        assert list(message.joint_names) == list(robot.groups[0].driver_names)
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
        times = [p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points]
        # The lead, or more where this machine sends late.
        assert robot.safety.lead_ns <= times[0] <= MAX_SEAM_NS
        assert times == sorted(set(times))
        assert not any(message.points[-1].velocities)
        for point in message.points:
            assert len(point.positions) == len(point.velocities) == len(point.accelerations) == 7


def _raised(bench: Bench, code: str) -> bool:
    assert bench.safety.cycle is not None
    return any(key[1] == code for key in list(bench.safety.cycle._causes))


def test_moveit_that_was_asked_for_and_is_not_installed_refuses_to_configure(
    make_bench: Callable[..., Bench],
) -> None:
    if importlib.util.find_spec("moveit_msgs") is not None:
        pytest.skip("moveit_msgs is installed")
    bench = make_bench(moveit="move_group")
    assert bench.safety.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "moveit_msgs" in str(bench.safety.last_error)


def test_a_moveit_helper_that_cannot_start_holds_the_arm(make_bench: Callable[..., Bench]) -> None:
    if importlib.util.find_spec("moveit") is not None:
        pytest.skip("moveit_py is installed")
    bench = make_bench(moveit="process")
    bench.activate()
    arms = bench.arms
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("no_collision_answer"))
    assert bench.safety.cycle is not None
    assert bench.safety.cycle.ladder.rung is Ladder.HOLD
    home = np.array([joint.home for joint in arms.robot.groups[0].joints])
    np.testing.assert_allclose(arms.commands["left"][-1], home, atol=1e-9)


def test_a_robot_s_own_collision_stops_the_arm_before_it_happens(make_bench: Callable[..., Bench]) -> None:
    """The left arm is led through the table in small, smooth steps: no other filter objects."""
    bench = make_bench()
    bench.activate()
    arms = bench.arms
    down = np.zeros(14)
    down[1], down[2] = 1.0, 0.5
    began = time.monotonic()

    def rows() -> np.ndarray:
        here = np.concatenate([arms.measured["left"], arms.measured["right"]])
        return here + down * 0.02 * np.arange(16)[:, None]

    arms.rows = rows  # type: ignore[method-assign]
    arms.sending = True
    assert arms.wait_for(lambda: arms.saw("collision"), 60.0), time.monotonic() - began
    event = next(one for one in arms.events if one.code == "collision")
    assert "left" in event.joint
    assert event.ladder_to == int(Ladder.STOP)
    seen = len(arms.commands["left"])
    assert arms.wait_for(lambda: len(arms.commands["left"]) > seen + 100)
    checker = PinocchioChecker(arms.robot)
    for left in arms.commands["left"]:
        assert not checker.colliding(np.concatenate([left, arms.measured["right"]]))
