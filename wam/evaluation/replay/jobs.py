# SPDX-License-Identifier: Apache-2.0
"""Runs of a scenario, in this process or in several."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from wam.evaluation.replay.job import Job, failed_run, run_job
from wam.evaluation.replay.ray import ray_runs
from wam.evaluation.replay.scenario import Run, Scenario
from wam.report.folder import RUNS


def make_jobs(scenario: Scenario, folder: Path, *, device: str, threads: int) -> list[Job]:
    """Return the jobs of a scenario, variant after variant, reports below `folder`."""
    jobs: list[Job] = []
    for variant in scenario.variants:
        for recording in scenario.recordings:
            label = re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{recording.resolve().name}-{variant.name}").strip("-")
            report = folder / RUNS / f"{len(jobs):03d}-{label}"[:120]
            jobs.append(Job(scenario.robot, recording, variant, report, device, threads))
    return jobs


def run_jobs(
    jobs: list[Job], *, processes: int, done: Callable[[int], None], ray_address: str = ""
) -> list[Run]:
    """Run all jobs and return their runs in the order of the jobs.

    Args:
        jobs: what to run.
        processes: how many at a time; 1 runs them here, one after another.
        done: called with the number of finished runs.
        ray_address: run them on this Ray cluster instead ("local" starts one here); "" uses processes.

    Raises:
        MissingDependency: Ray was asked for and is not installed.
        ConfigError: the cluster cannot be reached.
    """
    runs = []
    for run in ray_runs(jobs, address=ray_address) if ray_address else _each(jobs, processes):
        runs.append(run)
        done(len(runs))
    return runs


def _each(jobs: list[Job], processes: int) -> Iterator[Run]:
    if processes == 1:
        yield from map(run_job, jobs)
        return
    # Spawned, not forked: torch and OpenCV hold threads that a fork would lose.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job, future in [(job, pool.submit(run_job, job)) for job in jobs]:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield failed_run(job, "a process died (out of memory?): use fewer at a time with --jobs")
