# SPDX-License-Identifier: Apache-2.0
"""`wam bench loop`: the running loop as a user has it: what `wam demo` starts, watched from outside.

Simulated robot with its task, planner and executor, safety node, and the recorder of the demo in this process; episodes
follow each other until the time is over. Times of publication are the middleware's, so that a slow recorder does not
count; processor time is the kernel's, by thread.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wam.bench import Announce
from wam.bench.loop_numbers import Published, Received, Stretch, loop_figures
from wam.bench.processor_use import ProcessorUse, thread_use
from wam.bench.result import Bar, BenchResult
from wam.core.clock import NS_PER_S
from wam.evaluation.held import held_times
from wam.robots.description import JointGroup, RobotDescription
from wam.ros.conversions import time_to_ns
from wam.stack.demo_plan import plan_demo
from wam.stack.episode_recorder import EpisodeRecorder
from wam.stack.episodes import NodeEpisodes
from wam.stack.node_specs import StackOptions
from wam.stack.recorder import GrowingSeries
from wam.stack.samples import JointSample, NodeDiagnostics

ROBOT = "piper"
SECONDS = 30.0
SEED = 1000
MAX_EPISODES = 200

SAMPLE_PERIOD_NS = NS_PER_S
"""Processor time is read this often; reading it costs some milliseconds [ns]."""

RECORDER = "recorder"
"""This process, which records as `wam demo` does."""

BARS = {
    "loop_chunk_p50_ms": Bar(20.0),
    "loop_chunk_p99_ms": Bar(60.0),
    "loop_image_to_chunk_p99_ms": Bar(150.0),
    "loop_joint_state_share": Bar(0.95, "min"),
    "loop_command_jitter_p99_ms": Bar(2.0),
    "loop_command_jitter_p999_ms": Bar(5.0),
    "loop_held_share": Bar(0.0),
    "loop_cores": Bar(1.4),
}


class _SentSeries(GrowingSeries):
    """Joint messages with the times of their publication."""

    def __init__(self, group: JointGroup, *, rate: float, recorder: LoopRecorder) -> None:
        super().__init__(group, rate=rate)
        self._recorder = recorder
        self.rate = rate
        self.sent: list[int] = []

    def add(self, sample: JointSample, arrival_ns: int) -> None:
        super().add(sample, arrival_ns)
        self.sent.append(self._recorder.listener.sent_ns)

    def clear(self) -> None:
        super().clear()
        self.sent.clear()

    def published(self) -> Published:
        """Return the messages so far."""
        return Published(np.array(self.stamps, np.int64), np.array(self.sent, np.int64), self.rate)


class LoopRecorder(EpisodeRecorder):
    """The demo's recorder, with times of publication and diagnostics.

    Args:
        robot: whose topics to listen to.
        cameras: cameras to film.
    """

    def __init__(self, robot: RobotDescription, cameras: tuple[str, ...]) -> None:
        self._rates = {group.state_topic: group.state_rate for group in robot.groups}
        self._chunks_sent: list[int] = []
        self._diagnostics: dict[str, list[NodeDiagnostics]] = {}
        self._images_before = 0
        self._began_ns = 0
        super().__init__(robot, cameras)

    def begin(self) -> None:
        """Drop what was published before."""
        with self.listener.locked():
            super().begin()
            self._chunks_sent.clear()
            self._diagnostics.clear()
            self._images_before = self.images
            self._began_ns = time.monotonic_ns()

    def stretch(self) -> Stretch:
        """Return what was published since `begin`."""
        published = self.take()
        with self.listener.locked():
            end_ns = self.start_ns if self.task is None else time_to_ns(self.task.header.stamp)
            length = (end_ns - self.start_ns) / NS_PER_S
            chunks = [record.chunk for record in self.chunks]
            commanding = self._diagnostics.get("wam_safety: commanding", [])
            health = commanding[-1].values if commanding else {}
            return Stretch(
                time=length,
                wall=(time.monotonic_ns() - self._began_ns) / NS_PER_S,
                states=[_published(series) for series in self.measured.values()],
                commands=[_published(series) for series in self.commanded.values()],
                chunks=Published(
                    np.array([chunk.stamp_ns for chunk in chunks], np.int64),
                    np.array(self._chunks_sent, np.int64),
                ),
                chunk_ns=np.array([chunk.inference_ns for chunk in chunks], np.int64),
                received=self._received(),
                held=held_times(published.safety, begin_ns=0, end_ns=round(length * NS_PER_S)),
                ticks=int(health.get("ticks", 0)),
                missed=int(health.get("missed_deadlines", 0)),
                wake_up_p99=float(health.get("jitter_p99 [s]", math.nan)),
                images=self.images - self._images_before,
                contexts=len(self.contexts),
            )

    def _series(self, group: JointGroup, rate: float) -> GrowingSeries:
        return _SentSeries(group, rate=rate, recorder=self)

    def _take_chunk(self, chunk: Any, arrival_ns: int) -> None:
        super()._take_chunk(chunk, arrival_ns)
        self._chunks_sent.append(self.listener.sent_ns)

    def _take_diagnostics(self, statuses: tuple[NodeDiagnostics, ...], arrival_ns: int) -> None:
        super()._take_diagnostics(statuses, arrival_ns)
        for status in statuses:
            self._diagnostics.setdefault(status.name, []).append(status)

    def _received(self) -> list[Received]:
        acting = self._diagnostics.get("wam_executor: acting", [])
        if len(acting) < 2:
            return []
        first, last = acting[0], acting[-1]
        seconds = (last.stamp_ns - first.stamp_ns) / NS_PER_S
        keys = {f"received {topic}": rate for topic, rate in self._rates.items()}
        return [
            Received(int(last.values[key]) - int(first.values[key]), seconds, rate)
            for key, rate in keys.items()
            if key in first.values and key in last.values
        ]


class _Watch:
    """Follows a run: which stretches were measured, and what they took."""

    def __init__(self, seconds: float, stage: Announce) -> None:
        self._seconds, self._stage = seconds, stage
        self.use = ProcessorUse()
        self.stretches: list[Stretch] = []
        self._measured = 0.0
        self._running = 0.0
        self._sampled_ns: int | None = None
        self.runner: NodeEpisodes

    def enough(self) -> bool:
        """Return whether the run is long enough; the episode that is under way then ends the measurement."""
        if self._measured + self._running < self._seconds:
            return False
        self.end_stretch()
        return True

    def watch(self, phase: str, elapsed: float) -> None:
        """Note what the run does; called several times a second."""
        if phase != "running":
            self._stage(phase)
            return
        now_ns = time.monotonic_ns()
        self._running = elapsed
        if self._sampled_ns is None or now_ns - self._sampled_ns >= SAMPLE_PERIOD_NS:
            self._stage(f"{self._measured + elapsed:.0f} of {self._seconds:.0f} s")
            pids = {**self.runner.pids(), RECORDER: os.getpid()}
            self.use.sample({name: thread_use(pid) for name, pid in pids.items()}, at_ns=now_ns)
            self._sampled_ns = now_ns

    def end_stretch(self) -> None:
        """Keep the episode that has ended."""
        if self._sampled_ns is None:
            return
        recorder = self.runner.recorder
        assert isinstance(recorder, LoopRecorder)
        stretch = recorder.stretch()
        self.stretches.append(stretch)
        self._measured += stretch.time
        self._running, self._sampled_ns = 0.0, None
        self.use.pause()


def run(stage: Announce, *, robot: str = ROBOT, policy: str = "", seconds: float = SECONDS) -> BenchResult:
    """Run the loop and return its figures.

    Args:
        stage: called with the progress.
        robot: name of the robot file.
        policy: directory of a bundle or name of a policy; "" takes that of `wam demo`.
        seconds: length, in simulated time of the episodes [s].

    Raises:
        ConfigError: robot, task and policy do not fit, or there are none.
        StackFailed: a node could not be started.
    """
    plan = plan_demo(StackOptions(robot=robot, policy=policy, device="auto", seed=SEED), any_task=True)
    options = replace(plan.options, seeds=tuple(range(SEED, SEED + MAX_EPISODES)))
    watch = _Watch(seconds, stage)
    with tempfile.TemporaryDirectory(prefix="wam_bench_loop") as folder:
        watch.runner = NodeEpisodes(
            options,
            robot=plan.robot,
            contract=plan.contract,
            stack=plan.stack,
            parameters={},
            log_dir=Path(folder),
            watch=watch.watch,
            recorder=LoopRecorder,
        )
        evaluation = watch.runner.run(lambda episode: watch.end_stretch(), watch.enough)
    done = [episode for episode in evaluation.episodes if episode.success]
    notes = [
        f"policy {plan.stack.policy}, task {options.task.name}: {len(done)} of {len(evaluation.episodes)} "
        "whole episodes done",
        *(f"episode {one.seed}: {one.error}" for one in evaluation.episodes if one.error),
        *plan.notes,
        *watch.runner.recorder.problems,
    ]
    return BenchResult(loop_figures(watch.stretches, watch.use.cores()), BARS, tuple(notes))


def _published(series: GrowingSeries) -> Published:
    assert isinstance(series, _SentSeries)
    return series.published()
