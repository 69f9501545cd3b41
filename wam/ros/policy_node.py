# SPDX-License-Identifier: Apache-2.0
"""What planner node and executor node share: a policy, the newest observations, one worker, a status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rclpy.wait_for_message import wait_for_message
from sensor_msgs.msg import JointState

from wam.core.contract import PolicyContract
from wam.core.errors import ContractMismatch
from wam.core.policy import LoadedPolicy, Perceiving, StageBackend, stages_to_values
from wam.robots.description import RobotDescription
from wam.ros.conversions import ns_to_time
from wam.ros.diagnostics import DiagnosticLevel, Diagnostics
from wam.ros.imagination import ImaginationWatch
from wam.ros.ingest import RosIngest, SharedIngest
from wam.ros.lifecycle import WamNode
from wam.ros.lock_step import SteppedWorker, make_worker
from wam.ros.parameters import parameter
from wam.ros.qos import JOINT_STATE
from wam.ros.worker import Worker
from wam.runtime.ingest.ingest import TRUTH_TOPIC
from wam.runtime.policy import EAGER, PolicyLoader, PolicyRequest, require_fit

STATUS_PERIOD_S = 0.5
STOP_TIMEOUT_S = 5.0

TRUTH_TIMEOUT_S = 2.0
"""Longest wait for a simulated robot to be discovered [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyParameters:
    """Parameters that planner node and executor node have in common."""

    robot: str = parameter(description="robot: a name in config/robots or the path of a YAML file")
    policy: str = parameter(
        description="policy: directory of a bundle, or a name that `wam info` lists (fake, aha_wam/random)"
    )
    device: str = parameter(
        "cpu",
        description="device of the policy, e.g. cpu or cuda:0; auto takes a CUDA device where there is one",
    )
    backend: str = parameter(
        "auto",
        description="backend of the network: auto takes the best that device and policy allow, and the eager stages "
        "where it cannot; or eager, cuda_graph, onnxruntime, tensorrt, triton, compile; for single stages e.g. "
        "'auto, denoise: eager'; 'triton or auto' leaves to the suite what that backend cannot run",
    )
    threads: int = parameter(1, description="CPU threads of the tensor library", lower=1, upper=256)
    seed: int = parameter(0, description="seed of the policy's noise", lower=0, upper=2**31 - 1)
    imagination_error: bool = parameter(
        False,
        description="compare what a policy with a world model imagines with the images as they come, and publish the "
        "error on ~/imagination_error; for evaluation, since it costs computing (AHA-WAM: ten passes of its video DiT "
        "for each plan; in the executor: the planner's weights too)",
    )
    lock_step: bool = parameter(
        False,
        description="run on /clock and acknowledge every step on lock_step, so that a simulation can wait "
        "for this node; needs use_sim_time",
    )


P = TypeVar("P", bound=PolicyParameters)


class PolicyNode(WamNode[P]):
    """Base of planner node and executor node.

    Args:
        name: ROS name of the node.
        parameters: its parameters.
        task: what it does ("planning"), for `/diagnostics` and the log.
        load_policy: loads the policy that the parameters name.
        shared_ingest: subscriptions shared with other nodes of this process; None makes own ones.
        node_args: passed to the lifecycle node.
    """

    clock_on_demand = True

    def __init__(
        self,
        name: str,
        parameters: type[P],
        *,
        task: str,
        load_policy: PolicyLoader,
        shared_ingest: SharedIngest | None,
        **node_args: Any,
    ) -> None:
        super().__init__(name, parameters, **node_args)
        self._task = task
        self._load_policy = load_policy
        self._shared_ingest = shared_ingest
        self._ingest: RosIngest | None = None
        self._worker: Worker | SteppedWorker | None = None
        self._diagnostics: Diagnostics | None = None
        self._fault = ""
        self._contract_hash = ""
        self._device = ""
        self._stages: dict[str, str] = {}
        self._told_failed: frozenset[str] = frozenset()
        self._needs_truth = False

    def load(
        self,
        robot: RobotDescription,
        *,
        planner: bool,
        both: bool = False,
        sampler: Mapping[str, object] | None = None,
    ) -> LoadedPolicy:
        """Load one half of the policy.

        Args:
            robot: the robot that it must fit.
            planner: the slow half; False loads the fast one.
            both: load the other half as well.
            sampler: entries of the bundle's `sampler` section to replace.

        Raises:
            BundleError: the bundle is missing, damaged or of another shape.
            ContractMismatch: policy and robot do not fit.
        """
        p = self.p
        request = PolicyRequest(
            p.policy,
            planner=planner or both,
            executor=not planner or both,
            device=p.device,
            threads=p.threads,
            seed=p.seed,
            backend=p.backend,
            sampler=sampler or {},
        )
        policy = self._load_policy(request, robot=robot)
        require_fit(policy.contract, robot)
        self._contract_hash = policy.contract.contract_hash
        self._device = policy.device
        self.get_logger().info(f"policy {p.policy} runs on {policy.device}, {p.threads} CPU threads")
        self._stages, self._told_failed = stages_to_values(policy.stages), frozenset()
        for stage, backend in self._stages.items():
            self.get_logger().info(f"{stage}: {backend}")
        return policy

    def open_ingest(self, robot: RobotDescription, contract: PolicyContract) -> RosIngest:
        """Return the newest observations of what `contract` names, subscribed until cleanup."""
        cameras, environment = contract.camera_names, contract.environment
        self._needs_truth, stepped = bool(environment), self.p.lock_step
        if self._shared_ingest is not None:
            self._ingest = self._shared_ingest.acquire(
                robot, cameras, self.clock, environment=environment, node_time=stepped
            )
            self.at_cleanup(self._shared_ingest.release)
        else:
            self._ingest = RosIngest(
                self, robot, cameras, self.clock, environment=environment, node_time=stepped
            )
            self.at_cleanup(self._ingest.close)
        return self._ingest

    def watch_imagination(
        self, robot: RobotDescription, contract: PolicyContract, perceiver: object
    ) -> ImaginationWatch:
        """Return what compares the policy's imagination with the images; after `open_ingest`.

        Args:
            robot: whose cameras.
            contract: of the policy.
            perceiver: the policy's planner.

        Raises:
            ContractMismatch: the planner does not perceive what the policy imagines.
        """
        if not isinstance(perceiver, Perceiving) or self._ingest is None:
            raise ContractMismatch(
                f"policy {self.p.policy} cannot say what it perceives, so its imagination cannot be compared",
                allowed="a planner with `perceive` (wam.core.policy.Perceiving)",
                where="the parameter `imagination_error`",
            )
        rates = [robot.camera(name).rate for name in contract.camera_names]
        watch = ImaginationWatch(self, self._ingest, perceiver, rates=rates)
        self.at_cleanup(watch.close)
        return watch

    def add_status(self, robot: RobotDescription, report: Callable[[], None]) -> None:
        """Call `report` twice a second until cleanup; `report_diagnostics` works from now on."""
        self.add_steady_timer(STATUS_PERIOD_S, report)
        self._diagnostics = self.add_diagnostics(task=self._task, hardware_id=robot.name)

    def tell_failed_stages(self, failed: Mapping[str, str]) -> None:
        """Log every stage whose backend has failed, once, and report it to `/diagnostics` from now on.

        Args:
            failed: stage -> why it runs as it is written.
        """
        if failed.keys() <= self._told_failed:
            return
        for stage in failed.keys() - self._told_failed:
            self.get_logger().error(failed[stage])
        told = [StageBackend(stage, EAGER, text) for stage, text in failed.items()]
        # As a whole: the reporting timer reads it in another thread.
        self._stages = {**self._stages, **stages_to_values(told)}
        self._told_failed = frozenset(failed)

    def require_truth(self) -> None:
        """Refuse a policy that needs ground truth where nobody publishes it, as on a real robot.

        Raises:
            ContractMismatch: it does, and there is no publisher.
        """
        if not self._needs_truth or self.count_publishers(TRUTH_TOPIC):
            return
        # A simulated robot that has just started may not be discovered yet.
        arrived, _ = wait_for_message(
            JointState, self, TRUTH_TOPIC, qos_profile=JOINT_STATE, time_to_wait=TRUTH_TIMEOUT_S
        )
        if not arrived and not self.count_publishers(TRUTH_TOPIC):
            raise ContractMismatch(
                f"policy {self.p.policy} needs ground truth, which only a simulated robot with a task publishes",
                value=f"no publisher on {self.resolve_topic_name(TRUTH_TOPIC)}",
                allowed="wam_sim with the parameter `task`; a policy that sees cameras on a real robot",
                where="the parameter `policy`",
            )

    def start_worker(self, name: str, step: Callable[[], None], *, period: float) -> Worker | SteppedWorker:
        """Run `step` every `period` [s] in its own thread; an exception of it ends the thread and is reported."""
        self._fault = ""
        self._worker = make_worker(
            self, name, step, period=period, lock_step=self.p.lock_step, on_error=self._on_error
        )
        self._worker.start()
        return self._worker

    def stop(self) -> None:
        """Stop the worker; a step under way is waited for."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if self._ingest is not None:
            self._ingest.off_image(worker.wake)
        if not worker.stop(timeout=STOP_TIMEOUT_S):
            self.get_logger().error(
                f"{self._task}: the current step did not end within {STOP_TIMEOUT_S} s; its thread is abandoned"
            )

    def teardown(self) -> None:
        """Drop the ingest, which the base closes, and the reporter."""
        self._ingest, self._diagnostics = None, None

    def make_status(self, kind: type[Any], *, waits_for: str) -> Any:
        """Return a status message with the fields that both nodes fill alike.

        Args:
            kind: message with STATE_FAULT, STATE_WAITING and STATE_RUNNING.
            waits_for: why nothing is produced; "" while all is well.
        """
        status = kind()
        status.header.stamp = ns_to_time(self.clock.now_ns())
        if self._fault:
            status.state = kind.STATE_FAULT
        else:
            status.state = kind.STATE_WAITING if waits_for else kind.STATE_RUNNING
        status.reason = self._fault or waits_for
        status.contract_hash = self._contract_hash
        return status

    def report_diagnostics(self, *, waits_for: str, values: Mapping[str, object]) -> None:
        """Report to `/diagnostics`; arguments as `make_status`."""
        if self._diagnostics is None:
            return
        if self._worker is None:
            level, text = DiagnosticLevel.OK, "inactive"
        elif self._fault:
            level, text = DiagnosticLevel.ERROR, self._fault
        elif waits_for:
            level, text = DiagnosticLevel.WARN, waits_for
        else:
            level, text = DiagnosticLevel.OK, self._task
        ingest = self._ingest
        others = () if ingest is None else (ingest.inputs,)
        streams = () if ingest is None else ingest.stream.status()
        received = {f"received {one.topic}": one.received for one in streams}
        self._diagnostics.report(
            level,
            text,
            {"device": self._device, **self._stages, **values, **received, **self.inputs.values(*others)},
        )

    def _on_error(self, error: Exception) -> None:
        self._fault = str(error)
        self.get_logger().error(f"{self._task} stopped: {type(error).__name__}: {error}")
