# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes with the real nodes: simulated robot with a task, planner, executor, safety, over DDS.

    once        sim (publishes /clock) -> safety, policy -> first chunk
    per episode pause the executor, deactivate safety -> ~/start_episode, ~/set_instruction -> a context of the new
                generation -> activate safety, let the executor act -> until success, time limit, STOP or an error

The nodes run on simulated time: on a machine that is too slow for real time it passes more slowly, and nothing is
skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import SetBool, Trigger

from wam.core.clock import seconds_to_ns
from wam.core.contract import PolicyContract
from wam.evaluation.closed_loop.filming import Films, VideoChoice
from wam.evaluation.closed_loop.options import NODES, EvalOptions, settings_of, training_warnings
from wam.evaluation.closed_loop.player import Stopped, never
from wam.evaluation.closed_loop.run import Done, not_played
from wam.evaluation.closed_loop.scores import EpisodeRecord, EpisodeTimes, Evaluation
from wam.evaluation.happened import LATENESS, SLOW_FACTOR, slow_text
from wam.evaluation.held import held_times
from wam.report.machine import machine_info
from wam.robots.description import RobotDescription
from wam.ros.command_line import ParameterValue
from wam.ros.conversions import time_to_ns
from wam.stack.episode_recorder import FILM_FPS, EpisodeMessages, EpisodeRecorder
from wam.stack.node_specs import StackOptions, on_simulated_time, policy_processes, safety, sim
from wam.stack.runner import POLL_S, StackFailed, StackRunner
from wam.stack.start import ServiceCalls, start_simulated
from wam_msgs.msg import ExecutorStatus, PlannerStatus
from wam_msgs.srv import SetInstruction, StartEpisode

STANDSTILL_S = 30.0
"""Simulated time that stands still for longer (wall time) ends the episode [s]."""

SILENCE_S = 0.3
"""After this long without commands the safety node restarts its stream from where the robot then stands [s]."""

STOPPED = "stopped"
"""Error of an episode that was interrupted from outside."""

STOPPED_GRACE_S = 1.0
"""An episode ends this long after the safety node has latched STOP, which only an operator may clear [s]."""


MakeRecorder = Callable[[RobotDescription, tuple[str, ...]], EpisodeRecorder]
"""From a robot and the cameras to film to what listens to its nodes."""


class NodeEpisodes:
    """Runs episodes one after another on nodes that stay up.

    Args:
        options: what to evaluate.
        robot: the task's.
        contract: of the policy.
        stack: the processes to start; its instruction, unless empty, takes the place of the episodes' own.
        parameters: node -> further parameters.
        log_dir: where every process writes its log.
        watch: called a few times a second with what the run is doing, and the simulated time since the start of the
            episode [s].
        recorder: made for the robot and the cameras to film.

    Attributes:
        recorder: of the running episode, and after the last one of that.
    """

    def __init__(
        self,
        options: EvalOptions,
        *,
        robot: RobotDescription,
        contract: PolicyContract,
        stack: StackOptions,
        parameters: dict[str, dict[str, ParameterValue]],
        log_dir: Path,
        watch: Callable[[str, float], None] = lambda phase, elapsed: None,
        recorder: MakeRecorder = EpisodeRecorder,
    ) -> None:
        self._options, self._robot, self._contract = options, robot, contract
        self._log_dir = log_dir
        self._stack, self._parameters = stack, parameters
        self._report = watch
        filmed = contract.camera_names or tuple(camera.name for camera in robot.cameras[:1])
        self.recorder = recorder(robot, filmed)
        self._stopped: Stopped = never
        self._runner = StackRunner(
            log_dir=log_dir, messages=self.recorder.listener, on_wait=self._while_waiting
        )
        self._services = ServiceCalls(self.recorder.listener, self._runner)
        self._watched = 0.0  # wall time of the episodes themselves [s]

    def alive(self) -> dict[str, int | None]:
        """Return process name -> exit code, None while it runs."""
        return self._runner.alive()

    def pids(self) -> dict[str, int]:
        """Return process name -> process id, of those that run."""
        return {
            name: process.pid
            for name, process in self._runner.processes.items()
            if process.exit_code() is None
        }

    def run(self, done: Done, stopped: Stopped = never, *, keep_stopped: bool = False) -> Evaluation:
        """Run every episode; an episode during which a node ends is the last.

        Args:
            done: called after every episode.
            stopped: asked several times a second whether to end; episodes that have ended by then are kept.
            keep_stopped: keep the episode that was running then, too; its error is `STOPPED`.

        Raises:
            StackFailed: the nodes could not be started.
            KeyboardInterrupt: `stopped` returned True before the nodes were ready.
        """
        episodes: list[EpisodeRecord] = []
        warnings: list[str] = []
        options = self._options
        self._stopped = stopped
        videos = VideoChoice()
        try:
            with self._runner, Films(fps=FILM_FPS) as films:
                try:
                    self._start()
                except StackFailed:
                    if stopped():
                        raise KeyboardInterrupt from None
                    raise
                began = time.monotonic()
                for seed in options.seeds:
                    episode = self._play(seed, films)
                    if stopped() and not (keep_stopped and episode.time > 0.0):
                        break
                    videos.offer(episode, films.finish())
                    episodes.append(episode)
                    done(episode)
                    if stopped():
                        break
                    if self._runner.dead():
                        warnings.append("a node has ended")
                        break
                wall = time.monotonic() - began
        finally:
            self.recorder.close()
        warnings += [
            *not_played(options, len(episodes)),
            *training_warnings(options, self._contract),
            *self.recorder.problems,
        ]
        factor = sum(episode.time for episode in episodes) / max(self._watched, 1e-3)
        if episodes and factor < SLOW_FACTOR:
            warnings.append(
                f"at {factor:.2f} of real time the policy had that much more time than on a robot, and a clock that "
                "stands still for 0.1 s makes the safety node hold"
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
            videos=videos.chosen() if options.videos else {},
            warnings=tuple(warnings),
            backends=dict(self.recorder.backends),
            settings={
                **settings_of(options, mode=NODES),
                "simulated over wall time": f"{factor:.2f}",
            },
            machine=machine_info(),
            wall=wall,
        )

    def _start(self) -> None:
        """Start all processes and wait until the policy answers."""
        options = self._options
        world: dict[str, ParameterValue] = {
            "task": options.task.name,
            "setting": options.setting.value,
            "seed": options.seeds[0],
            "clock": "publish",
            "camera_quality": options.quality.value,
        }
        if not self._contract.camera_names:
            world["camera_rate"] = FILM_FPS  # for the film alone
        robot = sim(self._stack)
        nodes = (safety(self._stack), *policy_processes(self._stack))
        start_simulated(
            self._runner,
            self.recorder,
            robot=replace(robot, parameters={"wam_sim": {**robot.parameters["wam_sim"], **world}}),
            nodes=[on_simulated_time(spec, self._parameters) for spec in nodes],
            with_images=bool(self._contract.camera_names),
        )

    def _play(self, seed: int, films: Films) -> EpisodeRecord:
        recorder, task = self.recorder, self._options.task
        limit = task.time_limit if self._options.time_limit is None else self._options.time_limit
        variant, instruction, error = "", "", ""
        begin, watched = 0.0, self._watched
        try:
            variant, instruction = self._prepare(seed)
            begin = recorder.task_time
            error = self._watch(films, begin=begin, limit=limit)
        except StackFailed as failure:
            error = str(failure)
        # A status of another seed is of an earlier episode: this one was never started.
        status = recorder.task if recorder.task is not None and recorder.task.seed == seed else None
        stages = () if status is None else zip(status.stages, status.stage_times, strict=True)
        published = recorder.take()
        length = max(0.0, recorder.task_time - begin)
        held = held_times(published.safety, begin_ns=0, end_ns=seconds_to_ns(length))
        return EpisodeRecord(
            seed=seed,
            variant=variant,
            instruction=instruction,
            success=status is not None and bool(status.success) and not error,
            score=0 if status is None else int(status.progress),
            stages=tuple((name, max(0.0, at - begin)) for name, at in stages),
            time=length,
            max_contact_force=0.0 if status is None else float(status.max_contact_force),
            error=error,
            times=EpisodeTimes(published.chunk_ms, published.prefill_ms, published.context_age_ms),
            safety=published.safety,
            held=held,
            accepted=published.accepted,
            refused=published.refused,
            motion=published.motion,
            slow=self._slow(published, held, length=length, wall=self._watched - watched),
        )

    def _slow(
        self, published: EpisodeMessages, held: Mapping[str, float], *, length: float, wall: float
    ) -> str:
        """Return how this machine was too slow for an episode of `length` [s] that took `wall` [s], or ""."""
        if length <= 0.0:
            return ""
        return slow_text(
            length / max(wall, 1e-3),
            float(np.median(published.chunk_ms)) if len(published.chunk_ms) else 0.0,
            late_share=sum(held.get(cause, 0.0) for cause in LATENESS) / length,
            period_ms=1e3 * self._stack.chunk_period,
        )

    def _prepare(self, seed: int) -> tuple[str, str]:
        """Bring all nodes to the start of the episode of `seed`; return its variant and task text."""
        recorder, call = self.recorder, self._services.call
        # Before the robot jumps home, nothing may follow it or command it.
        call(SetBool, "wam_executor/set_acting", SetBool.Request(data=False))
        self._change("wam_safety", Transition.TRANSITION_DEACTIVATE)
        silent = time.monotonic()
        started = call(StartEpisode, "wam_sim/start_episode", StartEpisode.Request(seed=seed))
        self._require(started, "start_episode")
        instruction = self._stack.instruction or str(started.instruction)
        stamp_ns = time_to_ns(started.stamp)
        # Images and states of the previous episode must reach neither the planner's memory nor the safety node.
        self._runner.wait_for("the new episode", lambda: recorder.seen_since(stamp_ns))
        # The first context of the new episode shows that the planner sees it; what it planned from before may be of the
        # episode before, and starts anew with the second generation.
        for _ in range(2):
            changed = call(
                SetInstruction,
                "wam_planner/set_instruction",
                SetInstruction.Request(instruction=instruction),
            )
            self._require(changed, "set_instruction")
            generation = int(changed.generation)
            self._runner.wait_for("a context of the episode", partial(recorder.planned, generation, stamp_ns))
        time.sleep(max(0.0, silent + SILENCE_S - time.monotonic()))
        recorder.begin()
        self._change("wam_safety", Transition.TRANSITION_ACTIVATE)
        # A fault of the previous episode is over.
        call(Trigger, "wam_safety/clear_fault", Trigger.Request())
        call(SetBool, "wam_executor/set_acting", SetBool.Request(data=True))
        return str(started.variant), instruction

    def _while_waiting(self, phase: str) -> None:
        self._report(phase, 0.0)
        if self._stopped():
            raise StackFailed(STOPPED)

    def _require(self, answer: Any, what: str) -> None:
        if not answer.success:
            raise StackFailed(f"{what} was refused: {answer.message}")

    def _watch(self, films: Films, *, begin: float, limit: float) -> str:
        """Wait for the end of the episode; return why it was aborted, or ""."""
        began = time.monotonic()
        try:
            return self._until_end(films, begin=begin, limit=limit)
        finally:
            self._watched += time.monotonic() - began

    def _until_end(self, films: Films, *, begin: float, limit: float) -> str:
        recorder = self.recorder
        last, moved = recorder.task_time, time.monotonic()
        while True:
            recorder.listener.wait_for(lambda: recorder.ended, timeout=POLL_S)
            if self._stopped():
                return STOPPED
            if self._options.videos:
                for pictures in recorder.take_pictures():
                    films.add(*pictures)
            status, now = recorder.task, recorder.task_time
            self._report("running", now - begin)
            if status is not None and status.error:
                return str(status.error)
            for process in self._runner.dead():
                return f"{process.spec.name} ended with code {process.exit_code()}; see {process.log}"
            fault = self._policy_fault()
            if fault:
                return fault
            if (status is not None and status.success) or now >= begin + limit:
                return ""
            if now != last:
                last, moved = now, time.monotonic()
            elif time.monotonic() - moved > STANDSTILL_S:
                return f"simulated time has stood still for {STANDSTILL_S:.0f} s at {now:.2f} s"
            stopped = recorder.stopped_at
            if stopped is not None and now >= stopped + STOPPED_GRACE_S:
                return ""

    def _policy_fault(self) -> str:
        planner, executor = self.recorder.planner_status, self.recorder.executor_status
        if planner is not None and planner.state == PlannerStatus.STATE_FAULT:
            return f"planner: {planner.reason}"
        if executor is not None and executor.state == ExecutorStatus.STATE_FAULT:
            return f"executor: {executor.reason}"
        return ""

    def _change(self, node: str, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self._services.call(ChangeState, f"{node}/change_state", request)
        if not answer.success:
            raise StackFailed(f"{node} refused transition {transition}", where=f"the logs in {self._log_dir}")
