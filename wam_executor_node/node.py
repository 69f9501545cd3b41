# SPDX-License-Identifier: Apache-2.0
"""The executor node: plumbing between ROS and `ExecutorCycle`."""

from __future__ import annotations

import math
from typing import Any

from rclpy.wait_for_message import wait_for_message
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import SetBool

from wam.core.clock import ns_to_seconds, seconds_to_ns
from wam.core.contract import require_same_contract
from wam.core.errors import ConfigError, ContractMismatch
from wam.core.input_guard import MAX_AHEAD_NS, Arrival, InputContract, RefusedInput
from wam.core.policy import ContextReader, Imagining
from wam.core.transport.select import make_reader
from wam.devices.loader import load_robot
from wam.ros.context_channel import message_to_context
from wam.ros.conversions import chunk_to_message, frame_to_message
from wam.ros.imagination import ImaginationWatch
from wam.ros.ingest import SharedIngest
from wam.ros.inputs import ReadBy, node_of_topic
from wam.ros.policy_node import PolicyNode
from wam.ros.qos import CHUNK, CONTEXT, IMAGINED, SAFETY_STATUS, STATIC, STATUS
from wam.runtime.executor import ExecutorCycle
from wam.runtime.policy import PolicyLoader, read_sampler
from wam_executor_node.parameters import ExecutorParameters
from wam_msgs.msg import ActionChunk, ExecutorStatus, KVContext, SafetyStatus

MAX_INLINE_BYTES = 1 << 30
"""Longest payload of a context that comes in the message itself [bytes]."""

CONTEXT_RATE_HZ = 100.0

SAFETY_TOPIC = "wam_safety/safety_status"
"""Says how fast a robot that is slowed moves."""

CONTRACT_TIMEOUT_S = 1.0
"""Longest wait for a running planner's contract [s]."""


class ExecutorNode(PolicyNode[ExecutorParameters]):
    """Lifecycle node `wam_executor`: context, images and joint state in, `~/chunk` out.

    A policy that predicts images publishes them on `~/imagined_image` while the topic has a subscriber; with the
    parameter `imagination_error`, how far off it was on `~/imagination_error`.

    Args:
        load_policy: loads the policy that the parameters name.
        shared_ingest: subscriptions shared with other nodes of this process; None makes own ones.
        composed: the planner runs in this process and calls `offer_context`; the topic is not subscribed.
        node_args: passed to the lifecycle node.
    """

    def __init__(
        self,
        *,
        load_policy: PolicyLoader,
        shared_ingest: SharedIngest | None = None,
        composed: bool = False,
        **node_args: Any,
    ) -> None:
        super().__init__(
            "wam_executor",
            ExecutorParameters,
            task="acting",
            load_policy=load_policy,
            shared_ingest=shared_ingest,
            **node_args,
        )
        self._composed = composed
        self.cycle: ExecutorCycle | None = None
        self._reader: ContextReader[Any] | None = None
        self._watch: ImaginationWatch | None = None
        self._refused = ""
        self._paused = False

    def offer_context(self, header: Any, handle: Any) -> None:
        """Take a context from a planner of the same process; any thread, never blocks on a cycle."""
        cycle = self.cycle
        if cycle is None:
            return
        try:
            cycle.offer_context(header, handle)
        except ContractMismatch as error:
            if not self._refused:
                self.get_logger().error(f"planner context refused: {error}")
            self._refused = str(error)
        else:
            self._refused = ""

    def setup(self) -> None:
        """Load the policy, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        policy = self.load(robot, planner=False, both=p.imagination_error, sampler=read_sampler(p.sampler))
        if policy.executor is None:
            raise RuntimeError("the policy loader returned no executor")
        self._reader = make_reader(policy.codec)
        cameras = policy.contract.camera_names
        observe = self.open_ingest(robot, policy.contract).observe
        self._watch = None
        if p.imagination_error and isinstance(policy.executor, Imagining):
            self._watch = self.watch_imagination(robot, policy.contract, policy.planner)
            observe = self._watch.observe
        self.cycle = ExecutorCycle(
            contract=policy.contract,
            executor=policy.executor,
            reader=self._reader,
            observe=observe,
            max_context_age_ns=seconds_to_ns(p.max_context_age),
        )
        self._paused = not p.acting
        self._imagined_cameras = _imagined_cameras(p.imagined_camera, cameras)
        self._chunk_topic = self.add_publisher(ActionChunk, "~/chunk", CHUNK)
        self._status_topic = self.add_publisher(ExecutorStatus, "~/status", STATUS)
        self._imagined_topic = None
        if self.cycle.imagines:
            self._imagined_topic = self.add_publisher(Image, "~/imagined_image", IMAGINED)
        self.add_service(SetBool, "~/set_acting", self._set_acting)
        self.add_status(robot, self._report)
        if self.cycle.paced:
            safety = InputContract(sole=True, node=node_of_topic(self, SAFETY_TOPIC))
            self.add_input(SafetyStatus, SAFETY_TOPIC, self._store_safety, SAFETY_STATUS, contract=safety)
        if not self._composed:
            self.add_input(
                KVContext,
                p.context_topic,
                self._store_context,
                CONTEXT,
                contract=self._context_contract(),
                read_by=ReadBy.RCLPY,
                on_refused=self._refuse_context,
            )
        self.get_logger().info(
            f"policy {policy.contract.kind}, contract {policy.contract.contract_hash[:12]}"
        )

    def start(self) -> None:
        """Start acting; a planner that runs already must have the same contract."""
        self._require_planner_of_same_contract()
        self.require_truth()
        self.start_worker("executor", self._step, period=self.p.period)

    def teardown(self) -> None:
        """Give the context back, forget the policy."""
        if self.cycle is not None:
            self.cycle.close()
        if self._reader is not None:
            self._reader.close()
        self._reader, self.cycle, self._watch = None, None, None
        super().teardown()

    def _require_planner_of_same_contract(self) -> None:
        topic = self.p.contract_topic
        if self._composed or self.count_publishers(topic) == 0:
            return
        # Callbacks do not run inside a transition, so the latched contract is fetched with a wait of its own.
        arrived, message = wait_for_message(
            String, self, topic, qos_profile=STATIC, time_to_wait=CONTRACT_TIMEOUT_S
        )
        if arrived and message is not None:
            require_same_contract(
                mine=self._contract_hash,
                theirs=message.data,
                my_side=f"executor {self.get_fully_qualified_name()}",
                their_side=f"planner on {self.resolve_topic_name(topic)}",
            )

    def _context_contract(self) -> InputContract:
        """Return what is accepted as a context: one planner at a time, the one that the topic is named after first."""
        return InputContract(
            max_bytes=MAX_INLINE_BYTES,
            max_rate=0.0 if self.p.lock_step else CONTEXT_RATE_HZ,
            max_ahead_ns=MAX_AHEAD_NS,
            sole=True,
            node=node_of_topic(self, self.p.context_topic),
            node_time=self.p.lock_step,
        )

    def _store_context(self, message: Any, _arrival: Arrival) -> None:
        if self.cycle is None:
            return
        self.cycle.offer_context(*message_to_context(message))
        self._refused = ""

    def _store_safety(self, message: Any, _arrival: Arrival) -> None:
        if self.cycle is not None and 0.0 <= message.rate <= 1.0:
            # In a slow simulation the stamps are slow as well, and other slowings are short.
            self.cycle.pace = message.rate if message.code == "robot_slowed" else 1.0

    def _refuse_context(self, refused: RefusedInput) -> None:
        self._refused = f"a context was refused: {refused.text}"

    def _set_acting(self, request: Any, response: Any) -> Any:
        response.success = not self._fault and self._worker is not None
        response.message = (
            "" if response.success else self._fault or "the executor is not active; activate it first"
        )
        if response.success:
            self._paused = not request.data
        return response

    def _step(self) -> None:
        assert self.cycle is not None
        if self._paused:
            return
        result = self.cycle.step(self.clock.now_ns())
        self.tell_failed_stages(self.cycle.failed_stages)
        if result.chunk is not None:
            self._chunk_topic.publish(chunk_to_message(result.chunk, ActionChunk))
            self.cycle.sent(result.chunk, at_ns=self.clock.now_ns())
            self._publish_imagined()
            if self._watch is not None:
                self._watch.expect(result.chunk.generation, result.chunk.sequence, self.cycle.imagination)
        if self._watch is not None:
            self._watch.publish()

    def _publish_imagined(self) -> None:
        """Publish the predicted images, after the chunk and only if the topic has a subscriber, since it takes time."""
        topic = self._imagined_topic
        if self.cycle is None or topic is None or topic.get_subscription_count() == 0:
            return
        imagination = self.cycle.imagination
        if imagination is None:
            return
        for camera in self._imagined_cameras:
            frame = imagination.frame(camera)
            if frame is not None:
                topic.publish(frame_to_message(frame))

    def _waits_for(self, cycle: ExecutorCycle) -> str:
        """Return why no chunk is published; "" while all is well."""
        if self._paused:
            return "paused; call ~/set_acting or start a task"
        reason = cycle.waits_for
        if reason and self._refused:
            reason = f"{reason}; {self._refused}"
        if not self._composed and self.count_publishers(self.p.context_topic) == 0:
            topic = self.resolve_topic_name(self.p.context_topic)
            return f"no planner publishes on {topic}" + (f"; {reason}" if reason else "")
        return reason

    def _report(self) -> None:
        cycle = self.cycle
        if cycle is None:
            return
        waits_for = self._waits_for(cycle)
        header, chunk = cycle.header, cycle.last_chunk
        status = self.make_status(ExecutorStatus, waits_for=waits_for)
        status.generation = header.generation if header else 0
        status.context_version = header.version if header else 0
        status.context_age = ns_to_seconds(chunk.context_age_ns) if chunk else math.nan
        status.phase_offset = chunk.phase_offset_rows if chunk else 0
        status.chunks = cycle.chunks
        status.skipped = cycle.skipped
        status.chunk_time_p50 = cycle.chunk_time.percentile(50)
        status.chunk_time_p99 = cycle.chunk_time.percentile(99)
        status.overhead_p99 = cycle.overhead.percentile(99)
        self._status_topic.publish(status)
        self.report_diagnostics(
            waits_for=waits_for,
            values={
                "chunks": cycle.chunks,
                "skipped": cycle.skipped,
                "context_age [s]": status.context_age,
                "chunk_time_p99 [s]": status.chunk_time_p99,
            },
        )


def _imagined_cameras(wanted: str, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cameras whose expected images are published.

    Raises:
        ConfigError: the policy has no such camera.
    """
    if wanted and wanted not in cameras:
        raise ConfigError(
            "parameter imagined_camera",
            value=wanted,
            allowed=f"empty, or one of {list(cameras)}",
            where="the executor's parameter `imagined_camera`",
        )
    return (wanted,) if wanted else cameras
