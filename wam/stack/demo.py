# SPDX-License-Identifier: Apache-2.0
"""One demo run: start in order, watch, stop in order, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import WamError
from wam.core.verdict import Ladder
from wam.evaluation.records import DemoRecording
from wam.report.machine import machine_info
from wam.robots.description import RobotDescription
from wam.stack.listener import Recorder
from wam.stack.node_specs import StackOptions, policy_processes, safety, sim
from wam.stack.processes import ProcessGroup

READY_TIMEOUT_S = 60.0
POLL_S = 0.25


class DemoFailed(WamError):
    """A run could not start; the text holds the end of the log of the process that failed."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a live table shows.

    Attributes:
        phase: what is going on, for people.
        elapsed: since the first chunk [s]; 0 while starting.
        total: length of the run [s].
        recorder: everything heard so far.
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
        DemoFailed: a process died or stayed silent while starting; everything is stopped again.
    """
    recorder = Recorder(robot, namespace=options.namespace)
    try:
        with ProcessGroup(log_dir=log_dir) as group:

            def progress(phase: str, elapsed: float) -> None:
                alive = {name: process.exit_code() for name, process in group.processes.items()}
                on_progress(Progress(phase, elapsed, seconds, recorder, alive))

            def wait(phase: str, condition: Callable[[Recorder], bool]) -> None:
                deadline = time.monotonic() + READY_TIMEOUT_S
                while not recorder.wait_for(condition, timeout=POLL_S):
                    progress(phase, 0.0)
                    for process in group.dead():
                        raise DemoFailed(
                            f"{process.spec.name} ended with code {process.exit_code()} while starting; "
                            f"end of {process.log}:\n{process.log_tail()}"
                        )
                    if time.monotonic() > deadline:
                        raise DemoFailed(
                            f"gave up while {phase}",
                            value=f"{READY_TIMEOUT_S:.0f} s",
                            where=f"the logs in {log_dir}",
                        )

            group.start(sim(options))
            wait("waiting for joint states", lambda r: all(s.stamps for s in r.measured.values()))
            group.start(safety(options))
            for spec in policy_processes(options):
                group.start(spec)
            wait("waiting for camera images", lambda r: r.images > 0)
            wait("waiting for the first planner context", lambda r: bool(r.contexts))
            wait("waiting for the first action chunk", lambda r: bool(r.chunks))
            start_ns, begun = recorder.now_ns(), time.monotonic()
            problems: list[str] = []
            while (elapsed := time.monotonic() - begun) < seconds:
                recorder.wait_for(lambda _: False, timeout=min(POLL_S, seconds - elapsed))
                progress("running", elapsed)
                for process in group.dead():
                    problems.append(
                        f"{process.spec.name} ended with code {process.exit_code()} after {elapsed:.1f} s"
                    )
                if problems:
                    break
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
    """Return what a recorder has heard of a run, for its report."""
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
