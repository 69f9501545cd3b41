# SPDX-License-Identifier: Apache-2.0
"""A recording played to the real nodes: the counterpart of `OfflineReplay`, judged by the same session and report.

    recording -> player: /clock, images, joint states -> DDS -> planner, executor and safety (dry run) as processes
    their contexts, chunks, states and safety events -> DDS -> events on the recording's clock

No node has a publisher on a robot's command topic, and nothing is played where a driver or camera is already running.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S, ns_to_seconds
from wam.core.context import ContextHeader
from wam.core.errors import InputError, PolicyFault
from wam.core.observation import Observation
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Binding, Role
from wam.data.bag.stamps import BagMessage
from wam.data.bag.video_packets import VIDEO_PACKETS, as_camera_sends
from wam.evaluation.replay.engine import (
    EXECUTOR,
    PLANNER,
    ChunkEvent,
    ContextEvent,
    Delivery,
    Event,
    FaultEvent,
    ImaginationEvent,
    NoticeEvent,
    RefusalEvent,
)
from wam.evaluation.replay.safety_events import SafetyInfo
from wam.robots.camera_spec import CameraTransport
from wam.robots.description import CommandKind, RobotDescription
from wam.ros.camera_messages import message_kind, require_images
from wam.ros.command_line import ParameterValue
from wam.ros.conversions import ns_to_time
from wam.ros.qos import IMAGE_PUBLISHER, JOINT_STATE_PUBLISHER
from wam.runtime.imagination import ImaginationError
from wam.runtime.ingest.ingest import StreamIngest
from wam.stack import topics
from wam.stack.listener import TopicListener
from wam.stack.live_safety import LiveSafety
from wam.stack.node_specs import StackOptions, on_simulated_time, policy_processes, safety
from wam.stack.runner import StackFailed, StackRunner
from wam.stack.samples import JointSample, NodeDiagnostics, SafetyMove
from wam_msgs.msg import ExecutorStatus, PlannerStatus
from wam_msgs.srv import SetInstruction

CLOCK_PERIOD_S = 0.005
POLL_S = 0.02
DRAIN_NS = NS_PER_S // 2
"""Chunks and contexts in progress when the recording ends have this long to come out [ns]."""

COUNT_NS = 3 * NS_PER_S // 2
"""The safety node's last verdict count, published every 0.5 s, is awaited this long after that [ns]."""

LATE_NS = 50_000_000
OBSERVATIONS = 256


class LiveReplay:
    """Plays a recording to real nodes in real time and gives what they publish. Used once.

    Args:
        robot: whose recording it is.
        policy: its contract; the nodes load the policy themselves.
        stack: options of the nodes.
        parameters: node -> further parameters.
        binding: topics of the recording.
        log_dir: where every process writes its log.
        instruction: first task text; "" takes the policy's default.
        stopped: asked while the nodes start whether to give up.
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
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._robot = robot
        self._stack = stack
        self._parameters = {**parameters, "wam_safety": {**parameters.get("wam_safety", {}), "dry_run": True}}
        self._binding = binding
        self.ingest = StreamIngest(robot, cameras=policy.contract.camera_names)
        self.instruction = instruction or policy.contract.instruction
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._events: deque[Event] = deque()
        self._observations: dict[int, Observation] = {}
        self._start_ns = 0
        self._began: float | None = None
        self._worst_late_ns = 0
        commanded = any(group.command_kind is not CommandKind.NONE for group in robot.groups)
        self._safety = LiveSafety(robot) if commanded else None
        self.backends: dict[str, str] = {}
        self._listener = TopicListener("wam_player", now=self._now_ns)
        self._stopped = stopped
        self._runner = StackRunner(log_dir=log_dir, messages=self._listener, on_wait=self._while_waiting)
        node = self._listener.node
        self._clock = node.create_publisher(Clock, "/clock", 10)
        self._publishers = self._make_publishers()
        self._change: Any = node.create_client(SetInstruction, "wam_planner/set_instruction")
        self._subscribe()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="clock", daemon=True)

    @property
    def safety(self) -> SafetyInfo | None:
        """The live node; None for a robot that is never commanded, which runs no safety node."""
        return None if self._safety is None else self._safety.info

    def warnings(self) -> tuple[str, ...]:
        """Return what a person should know about the run."""
        if self._worst_late_ns > LATE_NS:
            late = ns_to_seconds(self._worst_late_ns)
            return (f"this machine was too slow: a message was played {late:.2f} s late",)
        return ()

    def run(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        """Give what the nodes publish, in the order of arrival.

        Args:
            deliveries: as for `OfflineReplay.run`.

        Raises:
            StackFailed: a process could not start or ended.
        """
        with self._runner:
            try:
                for message, deliver in deliveries:
                    if self._began is None:
                        self._start(message.time_ns)
                    yield from self._until(message.time_ns)
                    self._worst_late_ns = max(self._worst_late_ns, self._now_ns() - message.time_ns)
                    is_image = deliver(self.ingest)
                    self._publish(message)
                    for notice in self.ingest.take_notices():
                        yield NoticeEvent(message.time_ns, notice)
                    if is_image:
                        self._remember(message.time_ns)
                if self._began is not None:
                    if self._safety is not None:
                        self._safety.end(message.time_ns)
                    end_ns = message.time_ns + DRAIN_NS
                    yield from self._until(end_ns)
                    yield from self._until_counted(end_ns)
            finally:
                self.close()

    def set_instruction(self, text: str) -> None:
        """Change the planner's task text through its service, as a person would while it runs."""
        self.instruction = text
        self._change.call_async(SetInstruction.Request(instruction=text))

    def close(self) -> None:
        """Stop playing and listening; safe to call twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._listener.close()

    def _make_publishers(self) -> dict[str, Any]:
        publishers: dict[str, Any] = {}
        for feed in self._binding.feeds.values():
            if feed.role is Role.CAMERA:
                camera = self._robot.camera(feed.camera)
                require_images(camera, what="live replay")
                kind = message_kind(camera)
                publishers[feed.topic] = self._listener.node.create_publisher(
                    kind, camera.topic, IMAGE_PUBLISHER
                )
            elif feed.role is Role.JOINTS:
                state = next(g.state_topic for g in self._robot.groups if g.name in feed.streams)
                publishers[feed.topic] = self._listener.node.create_publisher(
                    JointState, state, JOINT_STATE_PUBLISHER
                )
        return publishers

    def _subscribe(self) -> None:
        listen = self._listener.listen
        listen(topics.CHUNKS, self._take_chunk)
        listen(topics.CONTEXTS, self._take_context)
        listen(topics.PLANNER_STATUS, partial(self._take_status, PLANNER, PlannerStatus.STATE_FAULT))
        for name in ("wam_planner", "wam_executor"):
            listen(topics.imagination_errors(name), self._take_imagination)
        listen(topics.EXECUTOR_STATUS, partial(self._take_status, EXECUTOR, ExecutorStatus.STATE_FAULT))
        listen(topics.DIAGNOSTICS, self._take_diagnostics)
        if self._safety is not None:
            listen(topics.SAFETY_EVENTS, partial(self._take_safety_event, self._safety))
            listen(topics.command_preview(self._robot), partial(self._take_command, self._safety))

    def _start(self, start_ns: int) -> None:
        """Start the nodes while the clock stands at the first message; let it run once they have subscribed."""
        self._start_ns = start_ns
        self._listener.start()
        self._thread.start()
        nodes = () if self._safety is None else (safety(self._stack),)
        specs = (*nodes, *policy_processes(self._stack))
        self._runner.start(*(on_simulated_time(spec, self._parameters) for spec in specs))
        self._runner.wait_for("the nodes to subscribe", self._is_ready)
        self._refuse_company()
        self._began = time.monotonic()

    def _while_waiting(self, phase: str) -> None:
        if self._stopped():
            raise KeyboardInterrupt

    def _refuse_company(self) -> None:
        """Refuse to play where others publish the same streams: the nodes would mix two robots."""
        for publisher in (*self._publishers.values(), self._clock):
            if self._listener.node.count_publishers(publisher.topic_name) > 1:
                raise StackFailed(
                    f"topic {publisher.topic_name} has another publisher: a driver, a simulation or a second replay",
                    where="WAM_DOMAIN_ID (choose one that nobody else uses)",
                )

    def _is_ready(self) -> bool:
        subscribed = all(publisher.get_subscription_count() for publisher in self._publishers.values())
        published = [topics.CHUNKS.name, topics.CONTEXTS.name]
        if self._safety is not None:
            published.append(topics.SAFETY_EVENTS.name)
        node = self._listener.node
        return subscribed and all(
            node.count_publishers(node.resolve_topic_name(topic)) for topic in published
        )

    def _now_ns(self) -> int:
        if self._began is None:
            return self._start_ns
        return self._start_ns + int((time.monotonic() - self._began) * NS_PER_S)

    def _until(self, time_ns: int) -> Iterator[Event]:
        """Give what arrives until `time_ns` on the recording's clock."""
        self._runner.require_alive("playing the recording")
        while True:
            left_ns = time_ns - self._now_ns()
            if left_ns > 0:
                timeout = min(ns_to_seconds(left_ns), POLL_S)
                self._listener.wait_for(lambda: bool(self._events), timeout=timeout)
            yield from self._take_events()
            if left_ns <= 0:
                return

    def _until_counted(self, end_ns: int) -> Iterator[Event]:
        """Give what arrives until the safety node has counted all its verdicts up to `end_ns`."""
        safety = self._safety
        if safety is None:
            return
        while (counted_ns := safety.counted_ns) is None or counted_ns < end_ns:
            now_ns = self._now_ns()
            if now_ns > end_ns + COUNT_NS:
                return
            yield from self._until(now_ns + NS_PER_S // 20)

    def _take_events(self) -> list[Event]:
        with self._listener.locked():
            events: list[Event] = [] if self._safety is None else [*self._safety.take_events(self._now_ns())]
            events += self._events
            self._events.clear()
        return events

    def _publish(self, message: BagMessage) -> None:
        publisher = self._publishers.get(message.topic)
        if publisher is None:
            return
        content, msgtype = message.message, message.msgtype
        if msgtype in VIDEO_PACKETS:
            camera = self._robot.camera(self._binding.feeds[message.topic].camera)
            content, msgtype = as_camera_sends(
                content, compressed=camera.transport is CameraTransport.COMPRESSED
            )
        publisher.publish(bytes(self._store.serialize_cdr(content, msgtype)))

    def _remember(self, now_ns: int) -> None:
        """Keep what the nodes see at this moment: chunks name their observation by its stamp alone."""
        try:
            observation = self.ingest.assemble(now_ns=now_ns)
        except InputError:
            return
        self._observations[observation.stamp_ns] = observation
        if len(self._observations) > OBSERVATIONS:
            del self._observations[next(iter(self._observations))]

    def _take_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        if self._safety is not None:
            self._safety.begin(now_ns)
        known = dict(self._observations)
        older = [stamp_ns for stamp_ns in known if stamp_ns <= chunk.stamp_ns]
        if older:
            start_ns = now_ns - chunk.inference_ns
            observation = known[max(older)]
            inference_ns = chunk.inference_ns
            self._events.append(ChunkEvent(start_ns, now_ns, chunk, observation, inference_ns, inference_ns))

    def _take_context(self, header: ContextHeader, now_ns: int) -> None:
        plan_ns = header.plan_ns
        self._events.append(ContextEvent(now_ns - plan_ns, now_ns, header, plan_ns, plan_ns))

    def _take_status(self, node: str, fault: int, status: Any, now_ns: int) -> None:
        if status.state == fault:
            self._events.append(FaultEvent(now_ns, node, PolicyFault(str(status.reason))))
        elif status.reason:
            self._events.append(RefusalEvent(now_ns, node, str(status.reason)))

    def _take_imagination(self, error: ImaginationError, now_ns: int) -> None:
        self._events.append(ImaginationEvent(now_ns, error))

    def _take_safety_event(self, safety: LiveSafety, event: SafetyMove, now_ns: int) -> None:
        safety.take_move(event.stamp_ns, event.move)

    def _take_diagnostics(self, reports: tuple[NodeDiagnostics, ...], now_ns: int) -> None:
        for report in reports:
            self.backends.update(report.backends)
            if self._safety is not None and report.name.startswith("wam_safety:"):
                self._safety.take_diagnostics(report.values, now_ns=now_ns)

    def _take_command(self, safety: LiveSafety, command: JointSample, now_ns: int) -> None:
        safety.take_command(command.stamp_ns, command.positions)

    def _tick(self) -> None:
        while not self._stopping.wait(CLOCK_PERIOD_S):
            self._clock.publish(Clock(clock=ns_to_time(self._now_ns())))
