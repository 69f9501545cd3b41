# SPDX-License-Identifier: Apache-2.0
"""What to evaluate in closed loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wam.core.contract import PolicyContract
from wam.evaluation.replay.engine import ReplaySettings
from wam.sim.quality import Quality
from wam.sim.recording.sinks import EXPERT
from wam.sim.tasks.task import Setting, Task

FAST, NODES = "fast", "nodes"


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to evaluate.

    Attributes:
        task: the task.
        setting: what it is set under.
        policy: as the user gave it.
        seeds: of the episodes.
        schedule: latencies and periods of planner and executor.
        time_limit: end of an episode [s]; None takes the task's.
        videos: film the episodes.
        quality: of the policy's images.
        sampler: entries of the bundle's `sampler` section that were replaced.
    """

    task: Task
    setting: Setting
    policy: str
    seeds: tuple[int, ...]
    schedule: ReplaySettings
    time_limit: float | None = None
    videos: bool = True
    quality: Quality = Quality.FULL
    sampler: Mapping[str, object] = field(default_factory=dict)


def training_warnings(options: EvalOptions, contract: PolicyContract) -> tuple[str, ...]:
    """Return what the data that a policy was trained on make of the result, one sentence each."""
    data, count = contract.trained_on, len(options.seeds)
    known = sum(data.has_seed(seed) for seed in options.seeds) if contract.task == options.task.name else 0
    warnings = []
    if known:
        first, last = data.seeds
        warnings.append(
            f"{known} of {count} seeds may be among the training data (seeds {first} to {last}): success on them says "
            f"nothing about new ones; begin with --seed {last + 1}"
        )
    if data.images and contract.cameras and data.images != options.quality.value:
        warnings.append(
            f"the policy was trained on images of quality {data.images}; change it with --quality {data.images}"
        )
    return tuple(warnings)


def settings_of(options: EvalOptions, *, mode: str) -> dict[str, str]:
    """Return what was chosen, for a report."""
    schedule = options.schedule
    facts = {"seeds": f"{options.seeds[0]} to {options.seeds[-1]}"}
    limit = options.task.time_limit if options.time_limit is None else options.time_limit
    facts["time limit"] = f"{limit:g} s"
    if options.policy == EXPERT:
        return facts
    facts["images"] = options.quality.value
    facts["chunk period"] = f"{schedule.executor_period_ns / 1e6:.0f} ms"
    facts["planner period"] = (
        f"{schedule.planner_period_ns / 1e6:.0f} ms" if schedule.planner_period_ns else "every image"
    )
    facts["strategy"] = schedule.strategy.value
    if options.sampler:
        facts["sampler"] = ", ".join(f"{name}: {value}" for name, value in options.sampler.items())
    if schedule.extra_filters:
        facts["extra filters"] = ", ".join(schedule.extra_filters)
    if mode == FAST:
        facts["planner latency"] = _latency(schedule.planner_latency_ns)
        facts["executor latency"] = _latency(schedule.executor_latency_ns)
    return facts


def _latency(latency_ns: int | None) -> str:
    return "as measured" if latency_ns is None else f"{latency_ns / 1e6:.0f} ms of simulated time"
