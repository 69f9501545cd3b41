# SPDX-License-Identifier: Apache-2.0
"""The metrics of closed-loop episodes, one row each: scores of the episodes, times of the policy on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation
from wam.evaluation.metrics.gate import GateCheck, Threshold, check_gate
from wam.evaluation.metrics.metric import Measurement, Metric, measure
from wam.report.numbers import SampleSummary, distribution, finite_or_none
from wam.report.statistics import Interval, bootstrap_mean, wilson


class EvaluationBasis:
    """What several metrics are computed from, each computed once.

    Args:
        run: the episodes.
    """

    def __init__(self, run: Evaluation) -> None:
        self.run = run
        self._times: dict[str, SampleSummary] = {}

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """All episodes."""
        return self.run.episodes

    @cached_property
    def successful(self) -> tuple[EpisodeRecord, ...]:
        """Episodes that reached the last stage."""
        return tuple(one for one in self.episodes if one.success)

    @cached_property
    def success(self) -> Interval:
        """Share of successful episodes with its Wilson interval."""
        return wilson(len(self.successful), len(self.episodes))

    @cached_property
    def score(self) -> Interval:
        """Mean of the stages reached with its bootstrap interval."""
        return bootstrap_mean([one.score for one in self.episodes])

    @cached_property
    def held(self) -> Mapping[str, float]:
        """Time in which the safety node held the robot, by cause, over all episodes [s]; the longest first."""
        times: dict[str, float] = {}
        for one in self.episodes:
            for cause, time in one.held.items():
                times[cause] = times.get(cause, 0.0) + time
        return dict(sorted(times.items(), key=lambda item: (-item[1], item[0])))

    @property
    def held_share(self) -> float:
        """Share of the time of all episodes in which the safety node held the robot; NaN where there was none."""
        total = sum(one.time for one in self.episodes if one.held)
        return sum(self.held.values()) / total if total > 0.0 else math.nan

    def ended_on(self, rung: Ladder) -> int:
        """Return how many episodes have this as their highest rung."""
        return sum(one.worst_rung is rung for one in self.episodes)

    def times(self, name: str) -> SampleSummary:
        """Return the summary of one quantity of `EpisodeTimes` over all episodes."""
        if name not in self._times:
            self._times[name] = distribution(self.run.all_times(name))
        return self._times[name]


Row = Metric[EvaluationBasis]


@dataclass(frozen=True, slots=True)
class EvaluationFigures:
    """Every figure of an evaluation, computed once.

    Attributes:
        scores: metrics of the episodes; they stand in summary.json.
        held: cause -> time in which the safety node held the robot, over all episodes [s].
        times: metrics of this machine; they stand in timing.json.
        checks: every threshold of the gate with what was measured.
        verdict: "fault" (an episode was aborted), "fail" (a threshold), "pass" (a gate was given) or "done".
    """

    scores: Measurement
    held: Mapping[str, float]
    times: Measurement
    checks: tuple[GateCheck, ...]
    verdict: str


def compute_evaluation(run: Evaluation, gate: tuple[Threshold, ...] = ()) -> EvaluationFigures:
    """Return every figure of an evaluation.

    Args:
        run: the episodes.
        gate: thresholds on scores and times.

    Raises:
        ConfigError: the gate names an unknown metric.
    """
    basis = EvaluationBasis(run)
    scores = measure(SCORES, basis, plain=finite_or_none)
    times = measure(TIMES, basis, plain=finite_or_none)
    checks = check_gate(gate, {**scores.metrics, **times.metrics})
    return EvaluationFigures(scores, basis.held, times, checks, _verdict(run, checks))


def _verdict(run: Evaluation, checks: tuple[GateCheck, ...]) -> str:
    if any(one.error for one in run.episodes):
        return "fault"
    if not all(check.passed for check in checks):
        return "fail"
    return "pass" if checks else "done"


def _mean(values: Iterable[float]) -> float:
    return distribution(list(values)).mean


def _times(name: str, title: str) -> tuple[Row, ...]:
    """Return mean, median, 99th percentile and maximum of one quantity of `EpisodeTimes`."""
    stem = name.removesuffix("_ms")

    def row(label: str, words: str, value: Callable[[SampleSummary], float]) -> Row:
        return Metric(
            f"{stem}_{label}_ms",
            f"{title}, {words}",
            "ms",
            lambda basis: value(basis.times(name)),
        )

    return (
        row("mean", "mean", lambda d: d.mean),
        row("p50", "median", lambda d: d.p50),
        row("p99", "99th percentile", lambda d: d.p99),
        row("max", "largest", lambda d: d.maximum),
    )


SCORES: tuple[Row, ...] = (
    Metric("episodes", "number of episodes", "", lambda basis: float(len(basis.episodes))),
    Metric(
        "successes", "episodes that reached the last stage", "", lambda basis: float(len(basis.successful))
    ),
    Metric(
        "success_rate",
        "share of episodes that reached the last stage",
        "1",
        lambda basis: basis.success.value,
    ),
    Metric("success_low", "lower end of its 95 % interval (Wilson)", "1", lambda basis: basis.success.low),
    Metric("success_high", "upper end of its 95 % interval (Wilson)", "1", lambda basis: basis.success.high),
    Metric("mean_score", "stages reached, 0 to 3", "", lambda basis: basis.score.value),
    Metric("score_low", "lower end of its 95 % interval (bootstrap)", "", lambda basis: basis.score.low),
    Metric("score_high", "upper end of its 95 % interval (bootstrap)", "", lambda basis: basis.score.high),
    Metric(
        "mean_time_to_success_s",
        "simulated time of the successful episodes, mean",
        "s",
        lambda basis: _mean(one.time for one in basis.successful),
        meaning="simulated time of the successful episodes, mean; in mode `nodes` it counts from the moment at which "
        "the executor may act",
    ),
    Metric(
        "max_time_to_success_s",
        "simulated time of the successful episodes, largest",
        "s",
        lambda basis: max((one.time for one in basis.successful), default=math.nan),
    ),
    Metric(
        "mean_contact_force_n",
        "largest contact force of an episode, mean",
        "N",
        lambda basis: _mean(one.max_contact_force for one in basis.episodes),
        meaning="largest normal force between the robot and anything else, grasped objects included, per episode: mean",
    ),
    Metric(
        "max_contact_force_n",
        "largest contact force of all episodes",
        "N",
        lambda basis: max((one.max_contact_force for one in basis.episodes), default=math.nan),
    ),
    Metric(
        "held_share",
        "share of the time in which the safety node held the robot",
        "1",
        lambda basis: basis.held_share,
        meaning="share of the simulated time of all episodes in which the safety node held the robot (HOLD or STOP), "
        "the wait for the first chunk included; `held_s` in summary.json has the causes",
    ),
    Metric(
        "safety_events",
        "safety events after the robot began to follow the policy",
        "",
        lambda basis: float(sum(len(one.moving) for one in basis.episodes)),
    ),
    Metric(
        "safety_hold_episodes",
        "episodes whose highest rung was HOLD",
        "",
        lambda basis: float(basis.ended_on(Ladder.HOLD)),
    ),
    Metric(
        "safety_stop_episodes",
        "episodes whose highest rung was STOP",
        "",
        lambda basis: float(basis.ended_on(Ladder.STOP)),
    ),
    Metric(
        "errors",
        "aborted episodes",
        "",
        lambda basis: float(sum(bool(one.error) for one in basis.episodes)),
        meaning="aborted episodes: policy fault, diverged physics, or a node that ended",
    ),
)

TIMES: tuple[Row, ...] = (
    *_times("chunk_ms", "routing and denoising of a chunk"),
    *_times("prefill_ms", "prefill of a planner context"),
    *_times("context_age_ms", "context age at the chunk"),
    Metric("wall_s", "wall time of all episodes", "s", lambda basis: basis.run.wall),
    Metric(
        "realtime_factor",
        "simulated time divided by wall time",
        "1",
        lambda basis: (
            sum(one.time for one in basis.episodes) / basis.run.wall if basis.run.wall > 0 else math.nan
        ),
    ),
)
