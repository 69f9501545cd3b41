# SPDX-License-Identifier: Apache-2.0
"""What closed-loop episodes leave behind for their report, and the figures that sum them up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.records import SafetyRecord
from wam.report.numbers import distribution
from wam.report.statistics import wilson

Values = npt.NDArray[np.float64]
NOTHING: Values = np.empty(0)


@dataclass(frozen=True, slots=True)
class EpisodeTimes:
    """How long the policy took in one episode, on the machine that ran it.

    Attributes:
        chunk_ms: float64 [K], routing and denoising of each chunk [ms].
        prefill_ms: float64 [M], each planner context [ms].
        context_age_ms: float64 [K], age of the context at each chunk [ms].
    """

    chunk_ms: Values = field(default_factory=lambda: NOTHING)
    prefill_ms: Values = field(default_factory=lambda: NOTHING)
    context_age_ms: Values = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        seed: of the world.
        variant: kind of the episode.
        instruction: task text.
        success: whether the last stage was reached.
        score: stages reached, 0 to 3.
        stages: those stages, with simulated time since the start [s].
        time: simulated time at the end [s].
        max_contact_force: largest normal force between the robot and anything else [N].
        error: why it was broken off, or "".
        times: of the policy.
        safety: what the safety node said; stamps count from the start [ns].
    """

    seed: int
    variant: str
    instruction: str
    success: bool
    score: int
    stages: tuple[tuple[str, float], ...]
    time: float
    max_contact_force: float
    error: str = ""
    times: EpisodeTimes = field(default_factory=EpisodeTimes)
    safety: tuple[SafetyRecord, ...] = ()

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Orders episodes from the worst to the best: success, score, then the quicker one."""
        return (self.success, self.score, -self.time)

    @property
    def moving(self) -> tuple[SafetyRecord, ...]:
        """What the safety node said once the robot followed the policy: before, it holds."""
        for i, event in enumerate(self.safety):
            if Ladder.NOMINAL in (event.ladder_from, event.ladder_to):
                return self.safety[i + (event.ladder_from is not Ladder.NOMINAL) :]
        return self.safety

    @property
    def worst_rung(self) -> Ladder:
        """The highest rung of the degrade ladder since the robot first followed the policy."""
        return max((event.ladder_to for event in self.moving), default=Ladder.NOMINAL)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that an evaluation's report shows.

    Attributes:
        task: name of the task.
        title: of the task, for people.
        stage_names: its stages, in order.
        setting: what it was set under.
        robot: name of the robot file.
        policy: as the user gave it.
        contract_hash: SHA-256 (hex) of the policy; "" for the expert.
        mode: "nodes", "fast".
        episodes: in order.
        videos: caption -> MP4, the worst first.
        warnings: what a person should know.
        settings: further facts worth showing, name -> text.
        machine: facts of the machine.
        wall: time that all episodes took [s].
    """

    task: str
    title: str
    stage_names: tuple[str, ...]
    setting: str
    robot: str
    policy: str
    contract_hash: str
    mode: str
    episodes: tuple[EpisodeRecord, ...]
    videos: Mapping[str, bytes] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str | int | float] = field(default_factory=dict)
    wall: float = math.nan

    def all_times(self, name: str) -> Values:
        """Return one quantity of `EpisodeTimes` over all episodes, float64 [n]."""
        return np.concatenate([NOTHING, *(getattr(one.times, name) for one in self.episodes)])


def score_metrics(episodes: Sequence[EpisodeRecord]) -> dict[str, float | None]:
    """Return the figures of the episodes themselves; one that there is not is None."""
    good = [one for one in episodes if one.success]
    rate = wilson(len(good), len(episodes))
    events = [event for one in episodes for event in one.moving]
    rungs = [one.worst_rung for one in episodes]
    values = {
        "episodes": float(len(episodes)),
        "successes": float(len(good)),
        "success_rate": rate.value,
        "success_low": rate.low,
        "success_high": rate.high,
        "mean_score": _mean([one.score for one in episodes]),
        "mean_time_to_success_s": _mean([one.time for one in good]),
        "max_time_to_success_s": max((one.time for one in good), default=math.nan),
        "mean_contact_force_n": _mean([one.max_contact_force for one in episodes]),
        "max_contact_force_n": max((one.max_contact_force for one in episodes), default=math.nan),
        "safety_events": float(len(events)),
        "safety_hold_episodes": float(sum(rung is Ladder.HOLD for rung in rungs)),
        "safety_stop_episodes": float(sum(rung is Ladder.STOP for rung in rungs)),
        "errors": float(sum(bool(one.error) for one in episodes)),
    }
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def time_metrics(run: Evaluation) -> dict[str, float | None]:
    """Return how long the policy took: `chunk_p50_ms`, `prefill_p99_ms`, `context_age_p50_ms` ...; None without any."""
    metrics: dict[str, float | None] = {}
    for name in ("chunk_ms", "prefill_ms", "context_age_ms"):
        summary = distribution(run.all_times(name))
        stem = name.removesuffix("_ms")
        for label, value in (
            ("mean", summary.mean),
            ("p50", summary.p50),
            ("p99", summary.p99),
            ("max", summary.maximum),
        ):
            metrics[f"{stem}_{label}_ms"] = None if math.isnan(value) else value
    simulated = sum(one.time for one in run.episodes)
    metrics["wall_s"] = None if math.isnan(run.wall) else run.wall
    metrics["realtime_factor"] = simulated / run.wall if run.wall > 0 else None
    return metrics


def seconds(stamp_ns: int) -> float:
    """Return a stamp that counts from the start of its episode, in seconds."""
    return stamp_ns / NS_PER_S


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
