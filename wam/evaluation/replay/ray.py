# SPDX-License-Identifier: Apache-2.0
"""Runs of a scenario on a Ray cluster. Ray is optional and imported here alone.

Every machine of the cluster has this package installed and finds recordings, policies and robot files under the same
paths (a shared file system). Reports need no shared folder: a worker sends its files back.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wam.core.errors import ConfigError, is_machine_fault
from wam.core.extras import missing
from wam.evaluation.replay.job import Job, failed_run, run_job
from wam.evaluation.replay.scenario import Run

LOCAL = "local"
"""Address that starts a cluster on this machine alone."""

AUTO = "auto"
"""Address of the cluster that this machine is part of."""

CONNECT_TIMEOUT_S = 5.0


def require_ray() -> Any:
    """Return the module `ray`.

    Raises:
        MissingDependency: it is not installed.
    """
    # Set before the import: nothing about a lab's runs is sent to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise missing("--ray needs Ray", "ray") from error
    return ray


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give the module `ray`, connected to a cluster until the end of the block.

    Args:
        address: "local", "auto" (the cluster that this machine is part of), HOST:PORT or ray://HOST:PORT.

    Raises:
        MissingDependency: Ray is not installed.
        ConfigError: the cluster cannot be reached.
    """
    ray = require_ray()
    try:
        _knock(address)
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"the Ray cluster cannot be reached ({line})",
            value=address,
            allowed="local, auto, HOST:PORT or ray://HOST:PORT",
            where="--ray",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def ray_runs(jobs: list[Job], *, address: str) -> Iterator[Run]:
    """Give the runs of all jobs, in the order of the jobs, as the cluster finishes them.

    Args:
        jobs: what to run; each takes as many CPUs as its policy has threads, and a GPU if its device is one.
        address: of the cluster, see `connected`.

    Raises:
        WamError: see `connected`.
    """
    with connected(address) as ray:
        refs = []
        for job in jobs:
            remote = ray.remote(**resources(job.device, job.threads))(run_elsewhere)
            refs.append(remote.remote(job, os.getcwd()))
        for job, ref in zip(jobs, refs, strict=True):
            try:
                run, files = ray.get(ref)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                if cause is not None and is_machine_fault(cause):
                    raise cause from error
                yield failed_run(job, f"Ray: {str(error).strip().splitlines()[0]}")
                continue
            write_files(job.report, files)
            yield run


def resources(device: str, threads: int) -> dict[str, int]:
    """Return what a task with a policy takes of the cluster: its threads, and a GPU if its device is one."""
    return {"num_cpus": threads, "num_gpus": int(device.startswith("cuda")), "max_retries": 0}


def _knock(address: str) -> None:
    """Try to connect to HOST:PORT: Ray itself waits for many minutes for an address that does not answer.

    Raises:
        OSError: the address does not answer.
        ValueError: the address is malformed.
    """
    if address in (LOCAL, AUTO):
        return
    place = urlsplit(address if "://" in address else f"//{address}")
    if not place.hostname or not place.port:
        raise ValueError("no host or no port")
    with socket.create_connection((place.hostname, place.port), timeout=CONNECT_TIMEOUT_S):
        pass


def run_elsewhere(job: Job, folder: str) -> tuple[Run, dict[str, bytes]]:
    """Replay a recording on a worker; return the run and the files of its report, name -> content.

    Args:
        job: what to run.
        folder: the driver's working directory; relative paths of the job mean what they mean there.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        return failed_run(job, f"a machine of the cluster has no {folder} ({error.strerror})"), {}
    with tempfile.TemporaryDirectory(prefix="wam-ray-") as scratch:
        report = Path(scratch) / job.report.name
        run = run_job(replace(job, report=report))
        if run.error:
            return run, {}
        return run, {path.name: path.read_bytes() for path in report.iterdir()}


def write_files(report: Path, files: dict[str, bytes]) -> None:
    """Write the files of a report that a worker sent."""
    for name, content in files.items():
        report.mkdir(parents=True, exist_ok=True)
        (report / Path(name).name).write_bytes(content)
