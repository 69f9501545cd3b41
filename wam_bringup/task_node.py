# SPDX-License-Identifier: Apache-2.0
"""The ROS action `~/run_task`: sets the instruction, lets planner and executor act, returns how the run ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from std_srvs.srv import SetBool

from wam.core.clock import ns_to_seconds, seconds_to_ns
from wam.core.observation import MAX_INSTRUCTION_CHARS
from wam.ros.conversions import duration_to_ns, event_to_finding, ns_to_duration
from wam.ros.lifecycle import WamNode
from wam.ros.parameters import parameter
from wam.ros.qos import CHUNK, EVENT, STATUS
from wam.runtime.task import Ending, Result, TaskLimits, TaskRun
from wam_msgs.action import RunTask
from wam_msgs.msg import ActionChunk, ExecutorStatus, PlannerStatus, SafetyEvent
from wam_msgs.srv import SetInstruction

POLL_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True)
class TaskParameters:
    """Parameters of the task node."""

    hold_grace: float = parameter(
        5.0, description="longest uninterrupted HOLD that a run survives", unit="s", lower=0.1, upper=600.0
    )
    silence: float = parameter(
        3.0,
        description="a node without a status message for longer is considered lost",
        unit="s",
        lower=1.0,
        upper=60.0,
    )


class TaskNode(WamNode[TaskParameters]):
    """Lifecycle node `wam_task`: serves `~/run_task`; one goal at a time, a new one replaces it."""

    def __init__(self, **node_args: Any) -> None:
        super().__init__("wam_task", TaskParameters, **node_args)
        self._run: TaskRun | None = None
        self._done: Future[None] | None = None
        self._goal: Any = None
        self._active = False

    def setup(self) -> None:
        """Make the action server and listen to the other nodes."""
        self.add_subscription(ActionChunk, "wam_executor/chunk", self._on_chunk, CHUNK)
        self.add_subscription(SafetyEvent, "wam_safety/event", self._on_event, EVENT)
        self.add_subscription(PlannerStatus, "wam_planner/status", self._on_planner, STATUS)
        self.add_subscription(ExecutorStatus, "wam_executor/status", self._on_executor, STATUS)
        self._set_instruction: Any = self.create_client(SetInstruction, "wam_planner/set_instruction")
        self._set_acting: Any = self.create_client(SetBool, "wam_executor/set_acting")
        for client in (self._set_instruction, self._set_acting):
            self.at_cleanup(partial(self.destroy_client, client))
        self.add_steady_timer(POLL_PERIOD_S, self._poll)
        server = ActionServer(
            self,
            RunTask,
            "~/run_task",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )
        self.at_cleanup(server.destroy)

    def start(self) -> None:
        """Accept goals."""
        self._active = True

    def stop(self) -> None:
        """Refuse new goals and end the one that runs."""
        self._active = False
        if self._run is not None:
            self._run.end(Result.SHUTDOWN, "wam_task was deactivated")
            self._poll()

    def _on_goal(self, goal: Any) -> GoalResponse:
        text = goal.instruction.strip()
        if self._active and 0 < len(text) <= MAX_INSTRUCTION_CHARS:
            return GoalResponse.ACCEPT
        self.get_logger().error(
            "goal rejected: "
            + (
                f"instruction has {len(text)} characters, allowed 1 .. {MAX_INSTRUCTION_CHARS}"
                if self._active
                else "wam_task is not active"
            )
        )
        return GoalResponse.REJECT

    def _on_cancel(self, _goal: Any) -> CancelResponse:
        if self._run is not None:
            self._run.end(Result.CANCELED, "canceled by the client")
        return CancelResponse.ACCEPT

    async def _execute(self, goal: Any) -> Any:
        if self._run is not None:
            self._run.end(Result.PREEMPTED, "replaced by another goal")
            self._poll()
        p = self.p
        run = TaskRun(
            TaskLimits(
                time_limit_ns=duration_to_ns(goal.request.time_limit),
                hold_grace_ns=seconds_to_ns(p.hold_grace),
                silence_ns=seconds_to_ns(p.silence),
            ),
            now_ns=self.clock.now_ns(),
        )
        done: Future[None] = Future()
        # Known from here on, so that a goal that comes while the services answer preempts this one.
        self._run, self._goal, self._done = run, goal, done
        refusal = await self._begin(goal.request.instruction)
        if refusal:
            run.end(Result.REFUSED, refusal)
            self._poll()
        await done
        ending = run.ending or Ending(Result.SHUTDOWN, "wam_task was shut down")
        if ending.result not in (Result.PREEMPTED, Result.REFUSED):
            await self._set_acting.call_async(SetBool.Request(data=False))
        return self._finish(goal, run, ending)

    async def _begin(self, instruction: str) -> str:
        """Set the instruction and let the executor act; return the reason for a failure, or ""."""
        for client in (self._set_instruction, self._set_acting):
            if not client.service_is_ready():
                return f"service {client.srv_name} is not available; start wam_planner and wam_executor first"
        if self.count_publishers("wam_safety/event") == 0:
            return "wam_safety is not running; start it first"
        answer = await self._set_instruction.call_async(SetInstruction.Request(instruction=instruction))
        if not answer.success:
            return str(answer.message)
        acting = await self._set_acting.call_async(SetBool.Request(data=True))
        return "" if acting.success else str(acting.message)

    def _finish(self, goal: Any, run: TaskRun, ending: Ending) -> Any:
        if ending.result is Result.TIME_LIMIT:
            goal.succeed()
        elif ending.result is Result.CANCELED:
            goal.canceled()
        else:
            goal.abort()
        self.get_logger().info(f"task ended with {ending.result.name}: {ending.message}")
        result = RunTask.Result()
        result.result = int(ending.result)
        result.message = ending.message
        result.chunks = run.chunks
        result.duration = ns_to_duration(run.elapsed_ns(self.clock.now_ns()))
        return result

    def _poll(self) -> None:
        run, goal, done = self._run, self._goal, self._done
        if run is None or done is None:
            return
        now_ns = self.clock.now_ns()
        if run.poll(now_ns, safety_there=self.count_publishers("wam_safety/event") > 0) is not None:
            self._run, self._goal, self._done = None, None, None
            done.set_result(None)
            return
        feedback = RunTask.Feedback()
        feedback.ladder = int(run.ladder) if run.ladder is not None else 0
        feedback.chunks = run.chunks
        feedback.elapsed = ns_to_duration(run.elapsed_ns(now_ns))
        feedback.context_age = run.context_age
        goal.publish_feedback(feedback)

    def _on_chunk(self, message: Any) -> None:
        if self._run is not None:
            self._run.on_chunk(context_age=ns_to_seconds(duration_to_ns(message.context_age)))

    def _on_event(self, message: Any) -> None:
        if self._run is not None:
            finding, _, after = event_to_finding(message)
            self._run.on_ladder(after, text=finding.text, now_ns=self.clock.now_ns())

    def _on_planner(self, message: Any) -> None:
        fault = message.reason if message.state == PlannerStatus.STATE_FAULT else ""
        self._on_status("wam_planner", fault)

    def _on_executor(self, message: Any) -> None:
        fault = message.reason if message.state == ExecutorStatus.STATE_FAULT else ""
        self._on_status("wam_executor", fault)

    def _on_status(self, node: str, fault: str) -> None:
        if self._run is not None:
            self._run.on_status(node, fault=fault, now_ns=self.clock.now_ns())
