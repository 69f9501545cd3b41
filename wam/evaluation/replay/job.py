# SPDX-License-Identifier: Apache-2.0
"""One run of a scenario: a recording replayed with one variant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wam.core.errors import WamError, is_machine_fault
from wam.data.bag.binding import TopicNames
from wam.evaluation.metrics.gate import Gate
from wam.evaluation.replay.engine import ReplayOptions
from wam.evaluation.replay.scenario import Run, ScenarioVariant
from wam.evaluation.replay.session import replay
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
        gate: what this run is judged by.
        refused: why the recording cannot be replayed; "" where it can.
    """

    robot: str
    recording: Path
    variant: ScenarioVariant
    report: Path
    device: str
    threads: int
    gate: Gate = field(default_factory=Gate)
    refused: str = ""


def run_job(job: Job) -> Run:
    """Replay one recording; a refusal becomes the run's error.

    Raises:
        WamError: this machine refused (disk, permission), which says nothing about the recording.
    """
    from wam.devices.loader import load_robot
    from wam.policies.loading import load_policy
    from wam.runtime.policy import PolicyRequest

    if job.refused:
        return failed_run(job, job.refused)
    values = job.variant.values
    name = job.recording.resolve().name
    try:
        robot = load_robot(job.robot, moves=False)
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
                gate=job.gate,
            ),
            robot=robot,
            policy=load_policy(request, robot=robot),
            report=job.report,
        )
    except WamError as error:
        if is_machine_fault(error):
            raise
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
