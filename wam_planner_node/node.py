# SPDX-License-Identifier: Apache-2.0
"""The planner node: plumbing between ROS and `PlannerCycle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from std_msgs.msg import String

from wam.core.context import ContextHandle, ContextHeader
from wam.core.errors import WamError
from wam.core.policy import ContextPublisher, Foreseeing
from wam.core.transport.select import choose_transport, make_publisher
from wam.devices.loader import load_robot
from wam.ros.context_channel import context_to_message
from wam.ros.imagination import ImaginationWatch
from wam.ros.ingest import SharedIngest
from wam.ros.policy_node import PolicyNode
from wam.ros.qos import CONTEXT, STATIC, STATUS
from wam.runtime.planner import PlannerCycle
from wam.runtime.policy import PolicyLoader
from wam_msgs.msg import KVContext, PlannerStatus
from wam_msgs.srv import SetInstruction
from wam_planner_node.parameters import PlannerParameters

IDLE_PERIOD_S = 0.1
"""Longest time between two looks for a newer image where every image is planned [s]."""

ContextSink = Callable[[ContextHeader, ContextHandle], None]


class PlannerNode(PolicyNode[PlannerParameters]):
    """Lifecycle node `wam_planner`: images and instruction in, `~/context` out.

    Args:
        load_policy: loads the policy that the parameters name.
        shared_ingest: subscriptions shared with other nodes of this process; None makes own ones.
        sink: executor of the same process; it gets every context at once, beside the topic.
        node_args: passed to the lifecycle node.
    """

    def __init__(
        self,
        *,
        load_policy: PolicyLoader,
        shared_ingest: SharedIngest | None = None,
        sink: ContextSink | None = None,
        **node_args: Any,
    ) -> None:
        super().__init__(
            "wam_planner",
            PlannerParameters,
            task="planning",
            load_policy=load_policy,
            shared_ingest=shared_ingest,
            **node_args,
        )
        self._sink = sink
        self.cycle: PlannerCycle | None = None
        self._publisher: ContextPublisher[Any] | None = None
        self._payload_bytes = 0
        self._foreseeing: Foreseeing | None = None
        self._watch: ImaginationWatch | None = None

    def setup(self) -> None:
        """Load the policy, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        policy = self.load(robot, planner=True)
        if policy.planner is None:
            raise RuntimeError("the policy loader returned no planner")
        transport = choose_transport(p.transport, same_process=self._sink is not None, device=p.device)
        self._publisher = make_publisher(transport, policy.codec, owner=self.get_fully_qualified_name())
        observe = self.open_ingest(robot, policy.contract).observe
        self._foreseeing, self._watch = None, None
        if p.imagination_error and isinstance(policy.planner, Foreseeing):
            self._foreseeing = policy.planner
            self._watch = self.watch_imagination(robot, policy.contract, policy.planner)
            observe = self._watch.observe
        self.cycle = PlannerCycle(
            contract=policy.contract,
            planner=policy.planner,
            publisher=self._publisher,
            observe=observe,
            instruction=p.instruction or policy.contract.instruction,
        )
        self._context_topic = self.add_publisher(KVContext, "~/context", CONTEXT)
        self._status_topic = self.add_publisher(PlannerStatus, "~/status", STATUS)
        contract_topic = self.create_publisher(String, "~/contract", STATIC)
        self.at_cleanup(lambda: self.destroy_publisher(contract_topic))
        contract_topic.publish(String(data=policy.contract.contract_hash))
        self.add_service(SetInstruction, "~/set_instruction", self._set_instruction)
        self.add_status(robot, self._report)
        self.get_logger().info(
            f"policy {policy.contract.kind}, contract {policy.contract.contract_hash[:12]}, transport {transport.name}"
        )

    def start(self) -> None:
        """Start planning."""
        self.require_truth()
        worker = self.start_worker("planner", self._step, period=self.p.period or IDLE_PERIOD_S)
        if not self.p.period and self._ingest is not None:
            self._ingest.on_image(worker.wake)

    def teardown(self) -> None:
        """Retire every context, forget the policy."""
        if self._publisher is not None:
            self._publisher.close()
        self._publisher, self.cycle = None, None
        self._foreseeing, self._watch = None, None
        super().teardown()

    def _step(self) -> None:
        assert self.cycle is not None
        result = self.cycle.step(self.clock.now_ns())
        self.tell_failed_stages(self.cycle.failed_stages)
        if result.header is not None and result.handle is not None:
            self._hand_out(result.header, result.handle)
        if self._watch is not None:
            self._watch.publish()

    def _hand_out(self, header: ContextHeader, handle: ContextHandle) -> None:
        if self._sink is not None:
            self._sink(header, handle)
        self._payload_bytes = handle.total_bytes
        self._context_topic.publish(context_to_message(header, handle, KVContext))
        if self._watch is not None and self._foreseeing is not None:
            self._watch.expect(header.generation, header.version, self._foreseeing.foresee())

    def _set_instruction(self, request: Any, response: Any) -> Any:
        if self.cycle is None:
            response.success, response.message = False, "the planner is not configured; configure it first"
            return response
        try:
            response.generation = self.cycle.set_instruction(request.instruction).generation
            response.success = True
        except WamError as error:
            response.success, response.message = False, str(error)
            response.generation = self.cycle.instruction.generation
        if self._worker is not None:
            self._worker.wake()
        return response

    def _report(self) -> None:
        cycle, publisher = self.cycle, self._publisher
        if cycle is None or publisher is None:
            return
        status = self.make_status(PlannerStatus, waits_for=cycle.waits_for)
        status.instruction = cycle.instruction.text
        status.generation = cycle.instruction.generation
        status.version = cycle.published
        status.plan_time_p50 = cycle.plan_time.percentile(50)
        status.plan_time_p99 = cycle.plan_time.percentile(99)
        status.transport = int(publisher.transport)
        status.leases = publisher.leases()
        status.payload_bytes = self._payload_bytes
        self._status_topic.publish(status)
        self.report_diagnostics(
            waits_for=cycle.waits_for,
            values={
                "version": cycle.published,
                "plan_time_p99 [s]": status.plan_time_p99,
                "leases": status.leases,
            },
        )
