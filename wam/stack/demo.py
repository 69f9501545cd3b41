# SPDX-License-Identifier: Apache-2.0
"""One demo: an episode of a task on a simulated robot with the real nodes, watched and recorded for its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.player import Stopped, never
from wam.evaluation.closed_loop.scores import EpisodeRecord
from wam.ros.conversions import time_to_ns
from wam.stack.demo_plan import DemoPlan
from wam.stack.demo_recording import DemoRecording, DemoSignals
from wam.stack.episode_recorder import EpisodeRecorder
from wam.stack.episodes import STOPPED, MakeRecorder, NodeEpisodes
from wam.stack.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Progress:
    """What a live table shows.

    Attributes:
        phase: what the run is doing, for display.
        elapsed: simulated time since the start of the episode [s]; 0 before.
        total: time limit of the episode [s].
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
    plan: DemoPlan,
    *,
    log_dir: Path,
    on_progress: Callable[[Progress], None],
    stopped: Stopped = never,
    recorder: MakeRecorder = EpisodeRecorder,
) -> DemoRecording:
    """Run one episode.

    Args:
        plan: of the demo.
        log_dir: where every process writes its log.
        on_progress: called a few times a second from the calling thread.
        stopped: asked several times a second whether to end; the episode until then is kept.
        recorder: listens to the nodes.

    Raises:
        StackFailed: a process ended or stayed silent while starting; everything is stopped again.
        KeyboardInterrupt: it was stopped before the episode began; everything is stopped again.
    """
    options, robot, contract = plan.options, plan.robot, plan.contract
    limit = options.task.time_limit if options.time_limit is None else options.time_limit

    def watch(phase: str, elapsed: float) -> None:
        on_progress(Progress(phase, elapsed, limit, runner.recorder, runner.alive()))

    runner = NodeEpisodes(
        options,
        robot=robot,
        contract=contract,
        stack=plan.stack,
        parameters={},
        log_dir=log_dir,
        watch=watch,
        recorder=recorder,
    )
    kept: list[DemoSignals] = []

    def done(episode: EpisodeRecord) -> None:
        kept.append(_signals(runner.recorder, {joint.name: joint.kind.unit for joint in robot.joints}))

    evaluation = runner.run(done, stopped, keep_stopped=True)
    if not kept:
        raise KeyboardInterrupt
    (signals,) = kept
    error = evaluation.episodes[0].error
    interrupted = error == STOPPED
    return DemoRecording(
        robot_title=robot.title,
        evaluation=evaluation,
        signals=signals,
        trained=contract.task == options.task.name,
        notes=plan.notes,
        problems=((error,) if error and not interrupted else ()) + tuple(runner.recorder.problems),
        stopped=interrupted,
    )


def _signals(recorder: EpisodeRecorder, units: Mapping[str, str]) -> DemoSignals:
    return DemoSignals(
        start_ns=recorder.start_ns,
        end_ns=recorder.start_ns if recorder.task is None else time_to_ns(recorder.task.header.stamp),
        measured=tuple(series.series() for series in recorder.measured.values()),
        commanded=tuple(series.series() for series in recorder.commanded.values()),
        chunks=tuple(recorder.chunks),
        contexts=tuple(recorder.contexts),
        imagined=recorder.imagined.records(),
        units=units,
    )
