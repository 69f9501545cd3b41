# SPDX-License-Identifier: Apache-2.0
"""Success rates of the experts: many seeds of many tasks, in parallel processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from wam.core.worker_pool import worker_pool
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.rollout import EpisodeResult, RolloutOptions, rollout
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

TRACE_RATE = 15.0
"""Frames a second of the traces [Hz]."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Episodes that one process runs one after another in one world.

    Attributes:
        task: name of the task.
        setting: of the task.
        seeds: of the episodes.
    """

    task: str
    setting: Setting
    seeds: tuple[int, ...]


def batches(tasks: Sequence[str], seeds: Sequence[int], *, setting: Setting, size: int = 5) -> list[Batch]:
    """Return the episodes of all tasks, cut into pieces for processes."""
    return [
        Batch(task, setting, tuple(seeds[begin : begin + size]))
        for task in tasks
        for begin in range(0, len(seeds), size)
    ]


def run_batch(batch: Batch) -> list[EpisodeResult]:
    """Run the expert on every episode of a batch; the world is built once.

    Raises:
        ConfigError: the task is unknown, does not have the setting, or has no expert.
    """
    world = TaskWorld(find_task(batch.task), setting=batch.setting, seed=batch.seeds[0])
    actor = ExpertActor(lambda episode: make_expert(episode.world))
    options = RolloutOptions(frame_rate=TRACE_RATE)
    return [rollout(world, actor, seed=seed, options=options) for seed in batch.seeds]


def run_batches(
    work: Sequence[Batch], *, processes: int, done: Callable[[EpisodeResult], None]
) -> list[EpisodeResult]:
    """Run all batches and return their episodes, in order.

    Args:
        work: episodes to run.
        processes: number of parallel processes; 1 runs them in this process.
        done: called with every finished episode.

    Raises:
        ConfigError: as of `run_batch`.
    """
    results = []
    for batch in _each(work, processes):
        for result in batch:
            results.append(result)
            done(result)
    return results


def _each(work: Sequence[Batch], processes: int) -> Iterator[list[EpisodeResult]]:
    if processes == 1:
        yield from map(run_batch, work)
        return
    with worker_pool(processes) as pool:
        yield from pool.map(run_batch, work)
