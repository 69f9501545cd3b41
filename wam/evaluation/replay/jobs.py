# SPDX-License-Identifier: Apache-2.0
"""Runs of a scenario, in this process or in several."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import WamError
from wam.data.bag.binding import TopicNames
from wam.evaluation.replay.scenario import Run, Scenario, Variant
from wam.evaluation.replay.session import ReplayOptions, replay
from wam.report.folder import RUNS


@dataclass(frozen=True, slots=True)
class Job:
    """One recording with one variant.

    Attributes:
        robot: name or path of the robot file.
        recording: bag.
        variant: policy and settings.
        report: where its report goes.
        device: device of the policy.
        threads: CPU threads of the policy.
    """

    robot: str
    recording: Path
    variant: Variant
    report: Path
    device: str
    threads: int


def make_jobs(scenario: Scenario, folder: Path, *, device: str, threads: int) -> list[Job]:
    """Return the jobs of a scenario, variant after variant, reports below `folder`."""
    jobs: list[Job] = []
    for variant in scenario.variants:
        for recording in scenario.recordings:
            label = re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{recording.resolve().name}-{variant.name}").strip("-")
            report = folder / RUNS / f"{len(jobs):03d}-{label}"[:120]
            jobs.append(Job(scenario.robot, recording, variant, report, device, threads))
    return jobs


def run_job(job: Job) -> Run:
    """Replay one recording; a refusal becomes the run's error."""
    from wam.devices.loader import load_robot
    from wam.policies.loading import load_policy
    from wam.runtime.policy import PolicyRequest

    values = job.variant.values
    name = job.recording.resolve().name
    try:
        robot = load_robot(job.robot)
        # Loaded anew for every run: what a policy remembers of one recording must not leak into the next.
        request = PolicyRequest(
            job.variant.policy,
            planner=True,
            executor=True,
            device=job.device,
            threads=job.threads,
            seed=int(values["seed"]),
        )
        outcome = replay(
            ReplayOptions(
                bag=job.recording,
                policy_name=job.variant.policy,
                settings=job.variant.settings(),
                names=TopicNames(namespace=str(values["namespace"])),
                instruction=str(values["instruction"]),
                seed=int(values["seed"]),
                lenient=bool(values["lenient"]),
            ),
            robot=robot,
            policy=load_policy(request, robot=robot),
            report=job.report,
        )
    except WamError as error:
        return failed_run(job, str(error))
    return Run(
        job.variant.name,
        name,
        f"{RUNS}/{job.report.name}",
        outcome.summary,
        outcome.timing,
        latencies=outcome.latencies,
    )


def failed_run(job: Job, error: str) -> Run:
    """Return the run of a job that could not be done."""
    return Run(job.variant.name, job.recording.resolve().name, "", {}, {}, error=error)


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
    for run in _on_ray(jobs, ray_address) if ray_address else _each(jobs, processes):
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


def _on_ray(jobs: list[Job], address: str) -> Iterator[Run]:
    from wam.evaluation.replay.ray import ray_runs

    return ray_runs(jobs, address=address)
