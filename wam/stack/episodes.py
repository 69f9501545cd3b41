# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes with the real nodes: simulated robot with a task, planner, executor, safety, over DDS.

    once        sim (publishes /clock) -> safety, policy -> first chunk
    per episode pause the executor, deactivate safety -> ~/start_episode, ~/set_instruction -> a context of the new
                generation -> activate safety, let the executor act -> until success, time limit, STOP or an error

The nodes run on simulated time: where the machine is too slow for real time it goes slower, and nothing is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import SetBool, Trigger

from wam.core.clock import ns_to_seconds
from wam.core.contract import PolicyContract
from wam.core.errors import WamError
from wam.evaluation.closed_loop.filming import Films
from wam.evaluation.closed_loop.run import NODES, Done, EvalOptions, settings_of
from wam.evaluation.closed_loop.scores import EpisodeRecord, EpisodeTimes, Evaluation
from wam.report.machine import machine_info
from wam.robots.description import RobotDescription
from wam.ros.command_line import ParameterValue
from wam.ros.conversions import time_to_ns
from wam.stack.episode_listener import FILM_FPS, EpisodeRecorder
from wam.stack.node_specs import StackOptions, policy_processes, safety, sim
from wam.stack.processes import NodeSpec, ProcessGroup
from wam_msgs.msg import ExecutorStatus, PlannerStatus
from wam_msgs.srv import SetInstruction, StartEpisode

READY_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 20.0
STANDSTILL_S = 30.0
"""Simulated time that stands still for longer (wall time) ends the episode."""

SILENCE_S = 0.3
"""After so long without commands the safety node starts its stream anew, from where the robot stands then [s]."""

POLL_S = 0.1
SLOW_FACTOR = 0.8
"""A run whose simulated time went slower than this is told to have been slow."""

STOPPED_GRACE_S = 1.0
"""An episode ends so long after the safety node has latched STOP, which only an operator may clear [s]."""


class EpisodesFailed(WamError):
    """The nodes could not be started, or do not answer."""


class NodeEpisodes:
    """Runs episodes one after another on nodes that stay up.

    Args:
        options: what to evaluate.
        robot: the task's.
        contract: of the policy.
        parameters: node -> further parameters.
        policy_seed: seed of the policy's noise.
        log_dir: where every process writes its log.
    """

    def __init__(
        self,
        options: EvalOptions,
        *,
        robot: RobotDescription,
        contract: PolicyContract,
        parameters: dict[str, dict[str, ParameterValue]],
        policy_seed: int,
        log_dir: Path,
    ) -> None:
        self._options, self._robot, self._contract = options, robot, contract
        self._log_dir = log_dir
        schedule = options.schedule
        self._stack = StackOptions(
            robot=options.task.robot,
            policy=options.policy,
            seed=policy_seed,
            chunk_period=ns_to_seconds(schedule.executor_period_ns),
            plan_period=ns_to_seconds(schedule.planner_period_ns),
        )
        self._parameters = parameters
        self._recorder = EpisodeRecorder(robot, contract.camera_names)
        self._clients: dict[str, Any] = {}
        self._watched = 0.0  # wall time of the episodes themselves [s]

    def run(self, done: Done) -> Evaluation:
        """Run every episode; one whose node has died is the last.

        Raises:
            EpisodesFailed: the nodes could not be started.
        """
        episodes: list[EpisodeRecord] = []
        warnings: list[str] = []
        options = self._options
        try:
            with ProcessGroup(log_dir=self._log_dir) as group, Films(fps=FILM_FPS) as films:
                self._start(group)
                began = time.monotonic()
                for seed in options.seeds:
                    episode = self._play(group, seed, films)
                    films.end(episode)
                    episodes.append(episode)
                    done(episode)
                    if group.dead():
                        left = len(options.seeds) - len(episodes)
                        warnings += [f"{left} episodes were not played: a node has ended"] if left else []
                        break
                wall = time.monotonic() - began
                videos = films.videos()
        finally:
            self._recorder.close()
        warnings += self._recorder.problems
        factor = sum(episode.time for episode in episodes) / max(self._watched, 1e-3)
        if factor < SLOW_FACTOR:
            warnings.append(
                f"this machine simulated at {factor:.2f} of real time: the policy had that much more time than on a "
                "robot, and a clock that stands still for 0.1 s makes the safety node hold"
            )
        return Evaluation(
            task=options.task.name,
            title=options.task.title,
            stage_names=options.task.stage_names,
            setting=options.setting.value,
            robot=self._robot.name,
            policy=options.policy,
            contract_hash=self._contract.contract_hash,
            mode=NODES,
            episodes=tuple(episodes),
            videos=videos if options.videos else {},
            warnings=tuple(warnings),
            settings={
                **settings_of(options, mode=NODES),
                "simulated over wall time": f"{factor:.2f}",
            },
            machine=machine_info(),
            wall=wall,
        )

    def _start(self, group: ProcessGroup) -> None:
        """Start all processes and wait until the policy answers."""
        options = self._options
        world: dict[str, ParameterValue] = {
            "task": options.task.name,
            "setting": options.setting.value,
            "seed": options.seeds[0],
            "clock": "publish",
        }
        spec = sim(self._stack)
        group.start(replace(spec, parameters={"wam_sim": {**spec.parameters["wam_sim"], **world}}))
        self._wait(group, "waiting for joint states", lambda r: all(s.stamps for s in r.measured.values()))
        for spec in (safety(self._stack), *policy_processes(self._stack)):
            group.start(self._told(spec))
        self._wait(group, "waiting for the first planner context", lambda r: bool(r.contexts))
        self._wait(group, "waiting for the first action chunk", lambda r: bool(r.chunks))

    def _told(self, spec: NodeSpec) -> NodeSpec:
        """Return `spec` on simulated time, with the further parameters."""
        parameters = {
            node: {**values, "use_sim_time": True, **self._parameters.get(node, {})}
            for node, values in spec.parameters.items()
        }
        return replace(spec, parameters=parameters)

    def _wait(self, group: ProcessGroup, phase: str, condition: Callable[[EpisodeRecorder], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._recorder.wait_until(condition, timeout=POLL_S):
            for process in group.dead():
                raise EpisodesFailed(
                    f"{process.spec.name} ended with code {process.exit_code()} while starting; "
                    f"end of {process.log}:\n{process.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise EpisodesFailed(
                    f"gave up while {phase}",
                    value=f"{READY_TIMEOUT_S:.0f} s",
                    where=f"the logs in {self._log_dir}",
                )

    def _play(self, group: ProcessGroup, seed: int, films: Films) -> EpisodeRecord:
        recorder, task = self._recorder, self._options.task
        limit = task.time_limit if self._options.time_limit is None else self._options.time_limit
        variant, instruction, error = "", "", ""
        begin = 0.0
        try:
            variant, instruction = self._prepare(group, seed)
            begin = recorder.task_time
            error = self._watch(group, films, until=begin + limit)
        except EpisodesFailed as failure:
            error = str(failure)
        status = recorder.task
        mine = status is not None and status.seed == seed
        stages, times = (status.stages, status.stage_times) if mine else ((), ())
        heard = recorder.take()
        return EpisodeRecord(
            seed=seed,
            variant=variant,
            instruction=instruction,
            success=bool(mine and status.success and not error),
            score=int(status.progress) if mine else 0,
            stages=tuple((name, max(0.0, at - begin)) for name, at in zip(stages, times, strict=True)),
            time=max(0.0, recorder.task_time - begin),
            max_contact_force=float(status.max_contact_force) if mine else 0.0,
            error=error,
            times=EpisodeTimes(heard.chunk_ms, heard.prefill_ms, heard.context_age_ms),
            safety=heard.safety,
        )

    def _prepare(self, group: ProcessGroup, seed: int) -> tuple[str, str]:
        """Bring all nodes to the start of the episode of `seed`; return its variant and task text."""
        recorder = self._recorder
        # Before the robot jumps home, nobody may follow it or command it.
        self._call(group, SetBool, "wam_executor/set_acting", SetBool.Request(data=False))
        self._change("wam_safety", Transition.TRANSITION_DEACTIVATE, group)
        silent = time.monotonic()
        started = self._call(group, StartEpisode, "wam_sim/start_episode", StartEpisode.Request(seed=seed))
        self._require(started, "start_episode")
        stamp_ns = time_to_ns(started.stamp)
        # What still shows the episode before must reach neither the planner's memory nor the safety node.
        self._wait(group, "waiting for the new episode", lambda r: r.seen_since(stamp_ns))
        told = self._call(
            group,
            SetInstruction,
            "wam_planner/set_instruction",
            SetInstruction.Request(instruction=started.instruction),
        )
        self._require(told, "set_instruction")
        generation = int(told.generation)
        self._wait(group, "waiting for a context of the episode", lambda r: r.planned(generation, stamp_ns))
        time.sleep(max(0.0, silent + SILENCE_S - time.monotonic()))
        recorder.begin()
        self._change("wam_safety", Transition.TRANSITION_ACTIVATE, group)
        # Whatever the episode before was stopped for is over.
        self._call(group, Trigger, "wam_safety/clear_fault", Trigger.Request())
        self._call(group, SetBool, "wam_executor/set_acting", SetBool.Request(data=True))
        return str(started.variant), str(started.instruction)

    def _require(self, answer: Any, what: str) -> None:
        if not answer.success:
            raise EpisodesFailed(f"{what} was refused: {answer.message}")

    def _watch(self, group: ProcessGroup, films: Films, *, until: float) -> str:
        """Wait for the end of the episode; return why it was broken off, or ""."""
        began = time.monotonic()
        try:
            return self._until_end(group, films, until=until)
        finally:
            self._watched += time.monotonic() - began

    def _until_end(self, group: ProcessGroup, films: Films, *, until: float) -> str:
        recorder = self._recorder
        last, moved = recorder.task_time, time.monotonic()
        while True:
            recorder.wait_until(lambda r: r.ended, timeout=POLL_S)
            if self._options.videos:
                for pictures in recorder.take_pictures():
                    films.add(*pictures)
            status, now = recorder.task, recorder.task_time
            if status is not None and status.error:
                return str(status.error)
            for process in group.dead():
                return f"{process.spec.name} ended with code {process.exit_code()}; see {process.log}"
            fault = self._policy_fault()
            if fault:
                return fault
            if (status is not None and status.success) or now >= until:
                return ""
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > STANDSTILL_S:
                return f"simulated time has stood still for {STANDSTILL_S:.0f} s at {now:.2f} s"
            stopped = recorder.stopped_at
            if stopped is not None and now >= stopped + STOPPED_GRACE_S:
                return ""

    def _policy_fault(self) -> str:
        planner, executor = self._recorder.planner_status, self._recorder.executor_status
        if planner is not None and planner.state == PlannerStatus.STATE_FAULT:
            return f"planner: {planner.reason}"
        if executor is not None and executor.state == ExecutorStatus.STATE_FAULT:
            return f"executor: {executor.reason}"
        return ""

    def _change(self, node: str, transition: int, group: ProcessGroup) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self._call(group, ChangeState, f"{node}/change_state", request)
        if not answer.success:
            raise EpisodesFailed(
                f"{node} refused transition {transition}", where=f"the logs in {self._log_dir}"
            )

    def _call(self, group: ProcessGroup, kind: Any, name: str, request: Any) -> Any:
        """Return the answer of a service.

        Raises:
            EpisodesFailed: there is none in time, or a process has ended.
        """
        if name not in self._clients:
            self._clients[name] = self._recorder.node.create_client(kind, name)
        client = self._clients[name]
        deadline = time.monotonic() + CALL_TIMEOUT_S
        future = None
        while future is None or not future.done():
            if future is None and client.service_is_ready():
                future = client.call_async(request)
            for process in group.dead():
                raise EpisodesFailed(
                    f"{process.spec.name} ended with code {process.exit_code()}; see {process.log}"
                )
            if time.monotonic() > deadline:
                raise EpisodesFailed(
                    f"service {name} does not answer",
                    value=f"{CALL_TIMEOUT_S:.0f} s",
                    where=f"the logs in {self._log_dir}",
                )
            time.sleep(0.01)
        return future.result()
