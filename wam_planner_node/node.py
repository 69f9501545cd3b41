# SPDX-License-Identifier: Apache-2.0
"""The planner node: plumbing between ROS and `PlannerCycle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from std_msgs.msg import String

from wam.core.context import ContextHandle, ContextHeader
from wam.core.errors import WamError
from wam.core.policy import ContextPublisher
from wam.core.transport.select import choose_transport, make_publisher
from wam.devices.loader import load_robot
from wam.ros.context_channel import context_to_message
from wam.ros.conversions import ns_to_time
from wam.ros.diagnostics import Diagnostics, Level
from wam.ros.ingest import RosIngest, SharedIngest
from wam.ros.lifecycle import WamNode
from wam.ros.lock_step import SteppedWorker, make_worker
from wam.ros.qos import CONTEXT, STATIC, STATUS
from wam.ros.timers import steady_timer
from wam.ros.worker import Worker
from wam.runtime.planner import PlannerCycle
from wam.runtime.policy import PolicyLoader, PolicyRequest, require_fit
from wam_msgs.msg import KVContext, PlannerStatus
from wam_msgs.srv import SetInstruction
from wam_planner_node.parameters import PlannerParameters

STATUS_PERIOD_S = 0.5
IDLE_PERIOD_S = 0.1
STOP_TIMEOUT_S = 5.0

ContextSink = Callable[[ContextHeader, ContextHandle], None]


class PlannerNode(WamNode[PlannerParameters]):
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
        super().__init__("wam_planner", PlannerParameters, **node_args)
        self._load_policy = load_policy
        self._shared_ingest = shared_ingest
        self._sink = sink
        self.cycle: PlannerCycle | None = None
        self._publisher: ContextPublisher[Any] | None = None
        self._ingest: RosIngest | None = None
        self._worker: Worker | SteppedWorker | None = None
        self._diagnostics: Diagnostics | None = None
        self._entities: list[Callable[[], Any]] = []
        self._fault = ""
        self._payload_bytes = 0
        self._contract_hash = ""

    def setup(self) -> None:
        """Load the policy, then make the topics."""
        p = self.p
        robot = load_robot(p.robot)
        policy = self._load_policy(
            PolicyRequest(
                p.policy,
                planner=True,
                executor=False,
                device=p.device,
                threads=p.threads,
                seed=p.seed,
                backend=p.backend,
            ),
            robot=robot,
        )
        require_fit(policy.contract, robot)
        if policy.planner is None:
            raise RuntimeError("the policy loader returned no planner")
        transport = choose_transport(p.transport, same_process=self._sink is not None, device=p.device)
        self._publisher = make_publisher(transport, policy.codec, owner=self.get_fully_qualified_name())
        cameras = policy.contract.camera_names
        if self._shared_ingest is not None:
            self._ingest = self._shared_ingest.acquire(robot, cameras, self.clock)
        else:
            self._ingest = RosIngest(self, robot, cameras, self.clock)
        self.cycle = PlannerCycle(
            contract=policy.contract,
            planner=policy.planner,
            publisher=self._publisher,
            observe=self._ingest.observe,
            instruction=p.instruction or policy.contract.instruction,
        )
        self._contract_hash = policy.contract.contract_hash
        self._context_topic = self.create_lifecycle_publisher(KVContext, "~/context", CONTEXT)
        self._status_topic = self.create_lifecycle_publisher(PlannerStatus, "~/status", STATUS)
        contract_topic = self.create_publisher(String, "~/contract", STATIC)
        contract_topic.publish(String(data=self._contract_hash))
        service = self.create_service(SetInstruction, "~/set_instruction", self._set_instruction)
        timer = steady_timer(self, STATUS_PERIOD_S, self._report)
        self._diagnostics = Diagnostics(self, task="planning", hardware_id=robot.name)
        self._entities = [
            lambda: self.destroy_lifecycle_publisher(self._context_topic),
            lambda: self.destroy_lifecycle_publisher(self._status_topic),
            lambda: self.destroy_publisher(contract_topic),
            lambda: self.destroy_service(service),
            lambda: self.destroy_timer(timer),
            self._diagnostics.close,
        ]
        self.get_logger().info(
            f"policy {policy.contract.kind}, contract {self._contract_hash[:12]}, transport {transport.name}"
        )

    def start(self) -> None:
        """Start planning."""
        self._fault = ""
        period = self.p.period or IDLE_PERIOD_S
        self._worker = make_worker(
            self, "planner", self._step, period=period, lock_step=self.p.lock_step, on_error=self._on_error
        )
        if not self.p.period and self._ingest is not None:
            self._ingest.on_image(self._worker.wake)
        self._worker.start()

    def stop(self) -> None:
        """Stop planning; a prefill that is under way is waited for."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if self._ingest is not None:
            self._ingest.off_image(worker.wake)
        if not worker.stop(timeout=STOP_TIMEOUT_S):
            self.get_logger().error(f"a prefill has not ended within {STOP_TIMEOUT_S} s; it is left behind")

    def teardown(self) -> None:
        """Retire every context, remove the topics, forget the policy."""
        if self._publisher is not None:
            self._publisher.close()
        if self._ingest is not None:
            if self._shared_ingest is not None:
                self._shared_ingest.release()
            else:
                self._ingest.close()
        for remove in self._entities:
            remove()
        self._entities = []
        self._publisher, self._ingest, self.cycle, self._diagnostics = None, None, None, None

    def _step(self) -> None:
        assert self.cycle is not None
        result = self.cycle.step(self.clock.now_ns())
        if result.header is None or result.handle is None:
            return
        if self._sink is not None:
            self._sink(result.header, result.handle)
        self._payload_bytes = result.handle.total_bytes
        self._context_topic.publish(context_to_message(result.header, result.handle, KVContext))

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

    def _on_error(self, error: Exception) -> None:
        self._fault = str(error)
        self.get_logger().error(f"planning stopped: {type(error).__name__}: {error}")

    def _report(self) -> None:
        cycle, publisher = self.cycle, self._publisher
        if cycle is None or publisher is None or self._diagnostics is None:
            return
        status = PlannerStatus()
        status.header.stamp = ns_to_time(self.clock.now_ns())
        waiting = bool(cycle.reason) and cycle.reason != "no newer image"
        if self._fault:
            status.state = PlannerStatus.STATE_FAULT
        else:
            status.state = PlannerStatus.STATE_WAITING if waiting else PlannerStatus.STATE_RUNNING
        status.reason = self._fault or (cycle.reason if waiting else "")
        status.contract_hash = self._contract_hash
        status.instruction = cycle.instruction.text
        status.generation = cycle.instruction.generation
        status.version = cycle.published
        status.plan_time_p50 = cycle.plan_time.percentile(50)
        status.plan_time_p99 = cycle.plan_time.percentile(99)
        status.transport = int(publisher.transport)
        status.leases = publisher.leases()
        status.payload_bytes = self._payload_bytes
        self._status_topic.publish(status)
        if self._worker is None:
            level, text = Level.OK, "inactive"
        elif self._fault:
            level, text = Level.ERROR, self._fault
        elif waiting:
            level, text = Level.WARN, cycle.reason
        else:
            level, text = Level.OK, "planning"
        self._diagnostics.report(
            level,
            text,
            {"version": cycle.published, "plan_time_p99 [s]": status.plan_time_p99, "leases": status.leases},
        )
