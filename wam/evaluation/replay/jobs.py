# SPDX-License-Identifier: Apache-2.0
"""Runs of a scenario, in this process or in several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wam.core.worker_pool import worker_pool
from wam.evaluation.replay.job import Job, failed_run, run_job
from wam.evaluation.replay.ray import ray_runs, require_ray
from wam.evaluation.replay.run_links import link_runs
from wam.evaluation.replay.scenario import Run, Scenario, latency_means, sum_up
from wam.evaluation.replay.scenario_page import build_scenario_page
from wam.report.folder import INDEX, RUNS, SUMMARY, TIMING, report_folder, write_json


def make_jobs(scenario: Scenario, folder: Path, *, device: str, threads: int) -> list[Job]:
    """Return the jobs of a scenario, variant after variant, reports below `folder`."""
    jobs: list[Job] = []
    for variant in scenario.variants:
        for recording in scenario.recordings:
            label = re.sub(r"[^A-Za-z0-9_.=-]+", "-", f"{recording.resolve().name}-{variant.name}").strip("-")
            report = folder / RUNS / f"{len(jobs):03d}-{label}"[:120]
            refused = scenario.refused.get(recording, "")
            jobs.append(
                Job(scenario.robot, recording, variant, report, device, threads, scenario.gate, refused)
            )
    return jobs


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """What a scenario came to.

    Attributes:
        summary: content of summary.json.
        timing: content of timing.json.
        runs: every run, in the order of the jobs.
        page: path of index.html.
    """

    summary: Mapping[str, Any]
    timing: Mapping[str, Any]
    runs: Sequence[Run]
    page: Path


def run_scenario(
    scenario: Scenario,
    report: Path,
    *,
    processes: int,
    device: str,
    threads: int,
    done: Callable[[int, int], None],
    ray_address: str = "",
) -> ScenarioOutcome:
    """Run a scenario and write its report.

    Args:
        scenario: what to replay.
        report: folder of the report: absent, empty, or an earlier report.
        processes: replays at a time.
        device: device of the policies.
        threads: CPU threads of each policy.
        done: called with the number of finished runs and of all runs.
        ray_address: address of a Ray cluster that runs them instead; "" uses processes.

    Raises:
        ConfigError: the report folder cannot be replaced, or the cluster cannot be reached; nothing is written.
        MissingDependency: Ray is needed and not installed; nothing is written.
        WamError: this machine refused (disk, permission) during a run; nothing is written.
        ValueError: the scenario has no recordings.
    """
    if not scenario.recordings:
        raise ValueError("a scenario without recordings: those of a data set are to be converted first")
    if ray_address:
        require_ray()
    with report_folder(report) as folder:
        jobs = make_jobs(scenario, folder, device=device, threads=threads)
        runs = run_jobs(
            jobs, processes=processes, done=lambda count: done(count, len(jobs)), ray_address=ray_address
        )
        summary, checked = sum_up(scenario, runs)
        timing = latency_means(runs, jobs=processes)
        write_json(folder / SUMMARY, summary)
        write_json(folder / TIMING, timing)
        page = build_scenario_page(scenario, runs, summary, timing, checked, folder)
        (folder / INDEX).write_text(page, encoding="utf-8")
        link_runs(folder, runs)
    return ScenarioOutcome(summary, timing, runs, report / INDEX)


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
        MissingDependency: Ray is needed and not installed.
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
    with worker_pool(processes) as pool:
        for job, future in [(job, pool.submit(run_job, job)) for job in jobs]:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield failed_run(job, "a process died (out of memory?): use fewer at a time with --jobs")
