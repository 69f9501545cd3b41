# SPDX-License-Identifier: Apache-2.0
"""One demo run: a simulated robot with the real nodes, watched and recorded for its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wam.core.verdict import Ladder
from wam.evaluation.records import DemoRecording
from wam.report.machine import machine_info
from wam.robots.description import RobotDescription
from wam.stack.node_specs import StackOptions, policy_processes, safety, sim
from wam.stack.recorder import Recorder
from wam.stack.runner import POLL_S, StackRunner
from wam.stack.start import start_simulated


@dataclass(frozen=True, slots=True)
class Progress:
    """What a live table shows.

    Attributes:
        phase: what the run is doing, for display.
        elapsed: since the first chunk [s]; 0 while starting.
        total: length of the run [s].
        recorder: everything received so far.
        alive: process name -> exit code, None while it runs.
    """

    phase: str
    elapsed: float
    total: float
    recorder: Recorder
    alive: dict[str, int | None]

    @property
    def ladder(self) -> Ladder | None:
        """The rung of the degrade ladder after the last event, None before the first."""
        return self.recorder.safety[-1].ladder_to if self.recorder.safety else None


def run_demo(
    robot: RobotDescription,
    options: StackOptions,
    *,
    seconds: float,
    log_dir: Path,
    on_progress: Callable[[Progress], None],
) -> DemoRecording:
    """Run the simulated robot with the real nodes for `seconds` [s] after the first chunk.

    Args:
        robot: the robot of `options.robot`.
        options: what to start.
        seconds: length of the run, counted from the first chunk.
        log_dir: where every process writes its log.
        on_progress: called a few times a second from the calling thread.

    Raises:
        StackFailed: a process ended or stayed silent while starting; everything is stopped again.
    """
    recorder = Recorder(robot, namespace=options.namespace)

    def progress(phase: str, elapsed: float = 0.0) -> None:
        on_progress(Progress(phase, elapsed, seconds, recorder, runner.alive()))

    runner = StackRunner(log_dir=log_dir, messages=recorder.listener, on_wait=progress)
    try:
        with runner:
            start_simulated(
                runner,
                recorder,
                robot=sim(options),
                nodes=(safety(options), *policy_processes(options)),
                with_images=bool(robot.cameras),
            )
            start_ns, begun = recorder.now_ns(), time.monotonic()
            problems: list[str] = []
            while (elapsed := time.monotonic() - begun) < seconds and not problems:
                recorder.wait_for(lambda _: False, timeout=min(POLL_S, seconds - elapsed))
                progress("running", elapsed)
                problems += [
                    f"{process.spec.name} ended with code {process.exit_code()} after {elapsed:.1f} s"
                    for process in runner.dead()
                ]
            end_ns = recorder.now_ns()
            progress("stopping", time.monotonic() - begun)
            return recording_of(robot, options, recorder, start_ns, end_ns, problems)
    finally:
        recorder.close()


def recording_of(
    robot: RobotDescription,
    options: StackOptions,
    recorder: Recorder,
    start_ns: int,
    end_ns: int,
    problems: list[str],
) -> DemoRecording:
    """Return what a recorder has received from a run, for its report."""
    status = recorder.planner_status
    settings = {
        "policy processes": "planner and executor in one" if options.composed else "planner, executor",
        "chunk period": f"{options.chunk_period * 1e3:.0f} ms",
        "planner period": f"{options.plan_period * 1e3:.0f} ms" if options.plan_period else "every image",
        "seed": str(options.seed),
    }
    if status is not None:
        settings["context size"] = f"{status.payload_bytes / 1e6:.2f} MB"
    return DemoRecording(
        robot=robot.name,
        robot_title=robot.title,
        policy=options.policy,
        contract_hash=status.contract_hash if status is not None else "",
        instruction=status.instruction if status is not None else options.instruction,
        start_ns=start_ns,
        end_ns=end_ns,
        measured=tuple(series.series() for series in recorder.measured.values()),
        commanded=tuple(series.series() for series in recorder.commanded.values()),
        chunks=tuple(recorder.chunks),
        contexts=tuple(recorder.contexts),
        safety=tuple(recorder.safety),
        frames=tuple(recorder.frames),
        imagined=recorder.imagined.records(),
        problems=tuple(problems + recorder.problems),
        machine=machine_info(),
        settings=settings,
    )
