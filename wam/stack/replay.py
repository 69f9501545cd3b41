# SPDX-License-Identifier: Apache-2.0
"""A recording played to the real nodes: the counterpart of `OfflineReplay`, judged by the same session and report.

    recording -> player: /clock, images, joint states -> DDS -> planner, executor (and safety, dry) as processes
    their contexts, chunks and states -> DDS -> events on the recording's clock

No node has a publisher on a robot's command topic, and nothing is played where a driver or camera is up already.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState

from wam.core.clock import NS_PER_S, ns_to_seconds
from wam.core.errors import InputError, PolicyFault, WamError
from wam.core.observation import Observation
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Binding, Role
from wam.data.bag.stamps import BagMessage
from wam.evaluation.replay.engine import (
    EXECUTOR,
    PLANNER,
    ChunkEvent,
    ContextEvent,
    Delivery,
    Event,
    FaultEvent,
    NoticeEvent,
    RefusalEvent,
)
from wam.evaluation.replay.safety_events import SafetyInfo
from wam.robots.description import CameraTransport, CommandKind, RobotDescription
from wam.ros.command_line import ParameterValue
from wam.ros.context_channel import message_to_context
from wam.ros.conversions import event_to_finding, message_to_chunk, ns_to_time
from wam.ros.qos import CHUNK, CONTEXT, EVENT, IMAGE_PUBLISHER, JOINT_STATE_PUBLISHER, STATUS
from wam.runtime.ingest.ingest import StreamIngest
from wam.stack.node_specs import StackOptions, policy_processes, safety
from wam.stack.processes import NodeSpec, ProcessGroup
from wam_msgs.msg import ActionChunk, ExecutorStatus, KVContext, PlannerStatus, SafetyEvent
from wam_msgs.srv import SetInstruction

READY_TIMEOUT_S = 90.0
CLOCK_PERIOD_S = 0.005
POLL_S = 0.02
DRAIN_NS = NS_PER_S // 2
"""What is under way when the recording ends has this long to come out [ns]."""

LATE_NS = 50_000_000
OBSERVATIONS = 256


class LiveFailed(WamError):
    """The nodes could not be started, or one ended while the recording was played."""


class LiveReplay:
    """Plays a recording to real nodes in real time and gives what they answer. Used once.

    Args:
        robot: whose recording it is.
        policy: its contract; the nodes load the policy themselves.
        stack: what the nodes are told.
        parameters: node -> further parameters.
        binding: topics of the recording.
        log_dir: where every process writes its log.
        instruction: first task text; "" takes the policy's own.
    """

    def __init__(
        self,
        *,
        robot: RobotDescription,
        policy: LoadedPolicy,
        stack: StackOptions,
        parameters: Mapping[str, Mapping[str, ParameterValue]],
        binding: Binding,
        log_dir: Path,
        instruction: str,
    ) -> None:
        self._robot = robot
        self._stack = stack
        self._parameters = {**parameters, "wam_safety": {**parameters.get("wam_safety", {}), "dry_run": True}}
        self._binding = binding
        self._log_dir = log_dir
        self.ingest = StreamIngest(robot, cameras=policy.contract.camera_names)
        self.instruction = instruction or policy.contract.instruction
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._observations: dict[int, Observation] = {}
        self._start_ns = 0
        self._began: float | None = None
        self._worst_late_ns = 0
        self._findings: Counter[str] = Counter()
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self._node = Node("wam_player", context=self._context, use_global_arguments=False)
        self._clock = self._node.create_publisher(Clock, "/clock", 10)
        self._publishers = self._make_publishers()
        self._change = self._node.create_client(SetInstruction, "wam_planner/set_instruction")
        self._listen()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._spin, name="live", daemon=True),
            threading.Thread(target=self._tick, name="clock", daemon=True),
        ]
        self._closed = False

    @property
    def safety(self) -> SafetyInfo | None:
        """None: the session adds the offline filters."""
        return None

    def warnings(self) -> tuple[str, ...]:
        """Return what a person should know about the run."""
        lines = []
        if self._worst_late_ns > LATE_NS:
            late = ns_to_seconds(self._worst_late_ns)
            lines.append(f"this host was too slow: a message was played {late:.2f} s late")
        if self._findings:
            told = ", ".join(f"{code} {count} times" for code, count in self._findings.most_common(8))
            lines.append(f"the safety node (dry) said: {told}")
        return tuple(lines)

    def run(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        """Give what the nodes answer, in the order of arrival.

        Args:
            deliveries: as for `OfflineReplay.run`.

        Raises:
            LiveFailed: a process could not start or ended.
        """
        with ProcessGroup(log_dir=self._log_dir) as group:
            try:
                for message, deliver in deliveries:
                    if self._began is None:
                        self._start(group, message.time_ns)
                    yield from self._until(message.time_ns, group)
                    is_image = deliver(self.ingest)
                    self._publish(message)
                    for notice in self.ingest.take_notices():
                        yield NoticeEvent(message.time_ns, notice)
                    if is_image:
                        self._remember(message.time_ns)
                if self._began is not None:
                    yield from self._until(message.time_ns + DRAIN_NS, group)
            finally:
                self.close()

    def set_instruction(self, text: str) -> None:
        """Give the planner other words, as a person would while it runs."""
        self.instruction = text
        self._change.call_async(SetInstruction.Request(instruction=text))

    def close(self) -> None:
        """Stop playing and listening; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)
        self._node.destroy_node()
        self._executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown(context=self._context)

    def _make_publishers(self) -> dict[str, Any]:
        publishers: dict[str, Any] = {}
        for feed in self._binding.feeds.values():
            if feed.role is Role.CAMERA:
                camera = self._robot.camera(feed.stream)
                kind = Image if camera.transport is CameraTransport.RAW else CompressedImage
                publishers[feed.topic] = self._node.create_publisher(kind, camera.topic, IMAGE_PUBLISHER)
            elif feed.role is Role.JOINTS:
                state = next(g.state_topic for g in self._robot.groups if g.name == feed.stream)
                publishers[feed.topic] = self._node.create_publisher(JointState, state, JOINT_STATE_PUBLISHER)
        return publishers

    def _listen(self) -> None:
        for kind, topic, qos, store in (
            (ActionChunk, "wam_executor/chunk", CHUNK, self._on_chunk),
            (KVContext, "wam_planner/context", CONTEXT, self._on_context),
            (PlannerStatus, "wam_planner/status", STATUS, self._on_planner),
            (ExecutorStatus, "wam_executor/status", STATUS, self._on_executor),
            (SafetyEvent, "wam_safety/event", EVENT, self._on_safety),
        ):
            self._node.create_subscription(kind, topic, store, qos)

    def _start(self, group: ProcessGroup, start_ns: int) -> None:
        """Start the nodes with the clock standing at the first message, and let it run when they listen."""
        self._start_ns = start_ns
        for thread in self._threads:
            thread.start()
        specs = list(policy_processes(self._stack))
        if any(g.command_kind is not CommandKind.NONE for g in self._robot.groups):
            specs.append(safety(self._stack))
        for spec in specs:
            group.start(self._told(spec))
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready():
            _require_alive(group)
            if time.monotonic() > deadline:
                raise LiveFailed(
                    "the nodes did not become ready",
                    value=f"{READY_TIMEOUT_S:.0f} s",
                    where=f"the logs in {self._log_dir}",
                )
            time.sleep(POLL_S)
        self._refuse_company()
        self._began = time.monotonic()

    def _refuse_company(self) -> None:
        """Refuse to play where others publish the same streams: the nodes would mix two robots."""
        for publisher in (*self._publishers.values(), self._clock):
            if self._node.count_publishers(publisher.topic_name) > 1:
                raise LiveFailed(
                    f"topic {publisher.topic_name} has another publisher: a driver, a simulation or a second replay",
                    where="ROS_DOMAIN_ID (choose one of its own for the replay)",
                )

    def _told(self, spec: NodeSpec) -> NodeSpec:
        """Return `spec` on the recording's clock, with the further parameters."""
        parameters = {
            node: {**values, "use_sim_time": True, **self._parameters.get(node, {})}
            for node, values in spec.parameters.items()
        }
        return NodeSpec(spec.name, spec.module, parameters, spec.namespace, spec.remaps)

    def _ready(self) -> bool:
        listened = all(publisher.get_subscription_count() for publisher in self._publishers.values())
        topics = ["wam_executor/chunk", "wam_planner/context"] + ["wam_safety/event"] * (
            any(g.command_kind is not CommandKind.NONE for g in self._robot.groups)
        )
        names = [self._node.resolve_topic_name(topic) for topic in topics]
        return listened and all(self._node.count_publishers(name) for name in names)

    def _now_ns(self) -> int:
        if self._began is None:
            return self._start_ns
        return self._start_ns + int((time.monotonic() - self._began) * NS_PER_S)

    def _until(self, time_ns: int, group: ProcessGroup) -> Iterator[Event]:
        """Wait until `time_ns` on the recording's clock, giving what arrives meanwhile."""
        _require_alive(group)
        while True:
            left_ns = time_ns - self._now_ns()
            try:
                if left_ns > 0:
                    yield self._events.get(timeout=min(ns_to_seconds(left_ns), POLL_S))
                else:
                    yield self._events.get_nowait()
            except queue.Empty:
                if left_ns <= 0:
                    self._worst_late_ns = max(self._worst_late_ns, -left_ns)
                    return

    def _publish(self, message: BagMessage) -> None:
        publisher = self._publishers.get(message.topic)
        if publisher is not None:
            publisher.publish(bytes(self._store.serialize_cdr(message.message, message.msgtype)))

    def _remember(self, now_ns: int) -> None:
        """Keep what the nodes see at this moment: chunks name their observation by its stamp alone."""
        try:
            observation = self.ingest.assemble(now_ns=now_ns)
        except InputError:
            return
        self._observations[observation.stamp_ns] = observation
        if len(self._observations) > OBSERVATIONS:
            del self._observations[next(iter(self._observations))]

    def _on_chunk(self, message: Any) -> None:
        now_ns, chunk = self._now_ns(), message_to_chunk(message)
        known = dict(self._observations)
        older = [stamp_ns for stamp_ns in known if stamp_ns <= chunk.stamp_ns]
        if older:
            start_ns = now_ns - chunk.inference_ns
            observation = known[max(older)]
            inference_ns = chunk.inference_ns
            self._events.put(ChunkEvent(start_ns, now_ns, chunk, observation, inference_ns, inference_ns))

    def _on_context(self, message: Any) -> None:
        now_ns, header = self._now_ns(), message_to_context(message)[0]
        plan_ns = header.plan_ns
        self._events.put(ContextEvent(now_ns - plan_ns, now_ns, header, plan_ns, plan_ns))

    def _on_planner(self, message: Any) -> None:
        self._on_status(PLANNER, message, PlannerStatus.STATE_FAULT)

    def _on_executor(self, message: Any) -> None:
        self._on_status(EXECUTOR, message, ExecutorStatus.STATE_FAULT)

    def _on_status(self, node: str, message: Any, fault: int) -> None:
        if message.state == fault:
            self._events.put(FaultEvent(self._now_ns(), node, PolicyFault(str(message.reason))))
        elif message.reason:
            self._events.put(RefusalEvent(self._now_ns(), node, str(message.reason)))

    def _on_safety(self, message: Any) -> None:
        self._findings[event_to_finding(message)[0].code] += 1

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _tick(self) -> None:
        while not self._stopping.wait(CLOCK_PERIOD_S):
            self._clock.publish(Clock(clock=ns_to_time(self._now_ns())))


def _require_alive(group: ProcessGroup) -> None:
    for process in group.dead():
        raise LiveFailed(
            f"{process.spec.name} ended with code {process.exit_code()}; end of {process.log}:\n{process.log_tail()}"
        )
