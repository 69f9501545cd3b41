# SPDX-License-Identifier: Apache-2.0
"""The safety node on real rclpy, against a driver made of two topics per arm, on simulated time that waits for it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from waiting import machine_speed

from wam.core.chunk import ActionChunk as Chunk
from wam.core.clock import NS_PER_MS
from wam.devices.loader import load_robot
from wam.ros.conversions import chunk_to_message, ns_to_time
from wam.ros.qos import CHUNK, COMMAND, EVENT, JOINT_STATE_PUBLISHER
from wam.stack.lock_step import LockStep
from wam_msgs.msg import ActionChunk, SafetyEvent
from wam_safety_node.node import SafetyNode
from wam_safety_node.operator_services import RECENT_S

os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))

ROBOT = "piper"
PERIOD_NS = 33_333_333
CHUNK_NS = 100 * NS_PER_MS
SIM_TIMEOUT_S = 20.0
WALL_TIMEOUT_S = 20.0
"""What the node learns from discovery and its own timers comes within a second of wall time on an idle machine."""


class Arms(Node):
    """Both arms and an executor: states follow commands, chunks are published on demand."""

    def __init__(self) -> None:
        super().__init__("arms")
        self.robot = load_robot(ROBOT)
        self.time: LockStep
        self.measured = {g.name: np.array([j.home for j in g.joints]) for g in self.robot.groups}
        self.commands: dict[str, list[np.ndarray]] = {g.name: [] for g in self.robot.groups}
        self.messages: list[JointState] = []
        self.events: list[SafetyEvent] = []
        self.efforts: dict[str, list[float]] = {}
        self.follow = True
        self.report = True
        self.sending = False
        self.offset = 0.0
        self._states: dict[str, Any] = {}
        self.make_drivers()
        for group in self.robot.groups:
            self.create_subscription(
                JointState, group.command_topic, lambda m, g=group: self._on_command(g, m), COMMAND
            )
        self.create_subscription(SafetyEvent, "wam_safety/event", self.events.append, EVENT)
        self.chunks = self.create_publisher(ActionChunk, "wam_executor/chunk", CHUNK)
        self.estop = self.create_publisher(Bool, "estop", EVENT)
        self._sequence = 0

    def make_drivers(self) -> None:
        """Publish joint states, from the start or again."""
        self._states = {
            g.name: self.create_publisher(JointState, g.state_topic, JOINT_STATE_PUBLISHER)
            for g in self.robot.groups
        }
        self.report = True

    def remove_drivers(self) -> None:
        """Publish no joint states any more, and take their topics away."""
        self.report = False
        for publisher in self._states.values():
            self.destroy_publisher(publisher)

    def now_ns(self) -> int:
        """Return the simulated time [ns]."""
        return self.time.now_ns

    def tick(self, now_ns: int) -> None:
        """Publish what is due at a moment of simulated time [ns]: joint states, and a chunk every 0.1 s."""
        if self.report:
            for group in self.robot.groups:
                reported = self.measured[group.name] / group.state_factors  # in the driver's own radians
                message = JointState(name=list(group.driver_names), position=reported.tolist())
                message.effort = self.efforts.get(group.name, [])
                message.header.stamp = ns_to_time(now_ns)
                self._states[group.name].publish(message)
        if self.sending and now_ns % CHUNK_NS == 0:
            self.publish_chunk(self.rows())

    def rows(self) -> np.ndarray:
        """Sixteen rows: every arm joint swings by 0.1 rad about its home position, two seconds a period."""
        times = (self.now_ns() - 100_000_000 + np.arange(16) * PERIOD_NS) * 1e-9
        swing = 0.1 * np.sin(np.pi * times)
        home = np.array([j.home for j in self.robot.joints])
        arm = np.array([0.0 if j.name.endswith("gripper") else 1.0 for j in self.robot.joints])
        return home + swing[:, None] * arm + self.offset

    def staying(self) -> np.ndarray:
        """Sixteen rows that keep the arms where they are measured."""
        return np.repeat(np.concatenate([self.measured[g.name] for g in self.robot.groups])[None], 16, axis=0)

    def publish_chunk(self, rows: np.ndarray, **changes: Any) -> None:
        """Publish `rows`, float64 [H, N], as the next chunk; `changes` replace fields of it."""
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
        self.messages.append(message)
        # The values of another publisher's message, which may name fewer joints, are not looked at.
        whole = list(message.name) == list(group.driver_names)
        position = np.array(message.position) / (group.command_factors if whole else 1.0)
        self.commands[group.name].append(position)
        if self.follow and whole:
            self.measured[group.name] = position

    def wait_for(self, condition: Callable[[], Any], timeout: float = SIM_TIMEOUT_S) -> bool:
        """Return whether `condition` came to hold within `timeout` [s of simulated time]."""
        if self.time.until(condition, timeout=timeout, least=WALL_TIMEOUT_S):
            return True
        # Shown by pytest where the test then fails.
        print(*(f"{e.ladder_to}: {e.code}: {e.text}" for e in self.events), sep="\n")
        print("commands", {name: len(commands) for name, commands in self.commands.items()}, machine_speed())
        return False

    def saw(self, code: str) -> bool:
        """Return whether an event of this code has come."""
        return any(event.code == code for event in self.events)


class Bench:
    """Safety node and arms, spun in a thread each, in lock-step.

    Args:
        parameters: of the safety node.
    """

    def __init__(self, **parameters: Any) -> None:
        rclpy.init(args=[])
        values = {
            "robot": ROBOT,
            "dry_run": False,
            "simulated": True,
            "use_sim_time": True,
            "lock_step": True,
            "discovery_time": 0.0,
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.safety = SafetyNode(parameter_overrides=overrides)
        self.arms = Arms()
        self.time = LockStep(context=rclpy.get_default_context(), before_tick=self.arms.tick)
        self.arms.time = self.time
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

    @property
    def rung(self) -> Any:
        """Rung of the degrade ladder."""
        assert self.safety.cycle is not None
        return self.safety.cycle.ladder.rung

    def raised(self, code: str) -> bool:
        """Return whether a cause of this code is present."""
        assert self.safety.cycle is not None
        return any(key[1] == code for key in list(self.safety.cycle._causes))

    def stale(self) -> str:
        """Return what the measured state is refused for now; "" for nothing."""
        assert self.safety.cycle is not None
        stale = self.safety.cycle._measured.look(self.safety.clock.now_ns()).stale
        return "" if stale is None else stale.code

    def activate(self) -> None:
        """Configure and activate the node."""
        assert self.safety.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert self.safety.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def more_commands(self, count: int) -> None:
        """Wait until the left arm has got `count` more commands."""
        seen = len(self.arms.commands["left"])
        assert self.arms.wait_for(lambda: len(self.arms.commands["left"]) > seen + count)

    def go(self) -> Any:
        """Return the answer of ~/resume once the node has taken a chunk; a chunk that stays is sent if none is."""
        watch = self.safety.__dict__["_watch"]
        resume = self._service("resume")

        def taken() -> bool:
            if not self.arms.sending:
                self.arms.publish_chunk(self.arms.staying())
            return watch.chunk_age < RECENT_S

        assert self.arms.wait_for(taken)
        return self._answer(resume)

    def call(self, name: str) -> Any:
        """Return the answer of a service of the node, while time passes."""
        return self._answer(self._service(name))

    def _service(self, name: str) -> Any:
        client = self.arms.create_client(Trigger, f"wam_safety/{name}")
        assert self.arms.wait_for(client.service_is_ready)
        return client

    def _answer(self, client: Any) -> Any:
        future = client.call_async(Trigger.Request())
        assert self.arms.wait_for(future.done)
        return future.result()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(RuntimeError):  # a test may have shut it down itself
            self.safety.trigger_shutdown()
        self._stopping.set()
        for thread, executor in self._threads:
            thread.join(5.0)
            executor.shutdown()
        self.time.close()
        self.safety.destroy_node()
        self.arms.destroy_node()
        rclpy.try_shutdown()
