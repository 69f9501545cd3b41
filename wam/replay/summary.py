# SPDX-License-Identifier: Apache-2.0
"""`summary.json` (the same bytes at every repetition) and `timing.json` (host times). See docs/reference/summary.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.contract import PolicyContract
from wam.core.verdict import Verdict
from wam.replay.binding import Binding
from wam.replay.collect import Collector
from wam.replay.gate import Check
from wam.replay.metrics import Table, jerk, root_mean_square
from wam.replay.reading import Recording
from wam.replay.shape import SwitchAgreement, switch_agreement
from wam.replay.stamps import StampReport
from wam.report.machine import machine_info
from wam.report.numbers import distribution
from wam.report.statistics import Interval, bootstrap_mean, wilson
from wam.robots.description import JointKind, RobotDescription

if TYPE_CHECKING:
    from wam.replay.session import ReplayOptions

SUMMARY_SCHEMA = "wam/replay-summary/1"
TIMING_SCHEMA = "wam/replay-timing/1"
SIGNIFICANT = 9


@dataclass(frozen=True, slots=True)
class Judged:
    """Everything that summary and page are made of.

    Attributes:
        options: what was replayed and how.
        robot: whose recording it is.
        contract: of the policy.
        recording: the open recording.
        binding: which topics were read.
        collector: what came out.
        stamps: what the recording's stamps are like.
        instruction: task text at the end.
        first_ns: time of the first message [ns].
        last_ns: time of the last message [ns].
        from_action: whether chunks were compared with a recorded action, or with what was measured later.
        refused_messages: messages that the ingest did not take.
        warnings: what a person should know.
    """

    options: ReplayOptions
    robot: RobotDescription
    contract: PolicyContract
    recording: Recording
    binding: Binding
    collector: Collector
    stamps: tuple[StampReport, ...]
    instruction: str
    first_ns: int
    last_ns: int
    from_action: bool
    refused_messages: int
    warnings: tuple[str, ...]

    @property
    def duration(self) -> float:
        """Time from the first to the last message [s]."""
        return (self.last_ns - self.first_ns) / NS_PER_S


@dataclass(frozen=True, slots=True)
class JointNumbers:
    """Figures of one joint, in its unit (and that per second cubed for jerk); NaN where unknown."""

    mse: float
    l1: float
    executed_l1: float
    jerk_rms: float
    reference_jerk_rms: float
    seam_jump_max: float


def joint_numbers(judged: Judged) -> dict[str, JointNumbers]:
    """Return the figures of every joint of the policy's action."""
    collector = judged.collector
    mse, l1 = collector.errors.per_joint()
    _, targets, truth = collector.trajectory()
    period = judged.contract.control_period_ns
    own, recorded = root_mean_square(jerk(targets, period)), root_mean_square(jerk(truth, period))
    executed = _column_means(np.abs(targets - truth))
    jumps = _jumps(judged)
    highest = (
        np.where(np.isnan(jumps).all(0), np.nan, np.nanmax(np.nan_to_num(jumps), axis=0))
        if len(jumps)
        else None
    )
    return {
        name: JointNumbers(
            float(mse[i]),
            float(l1[i]),
            float(executed[i]),
            float(own[i]),
            float(recorded[i]),
            float(highest[i]) if highest is not None else math.nan,
        )
        for i, name in enumerate(judged.contract.action_joints)
    }


def flat_metrics(judged: Judged) -> dict[str, float | None]:
    """Return every metric that a gate may name; None where this recording does not give it."""
    collector = judged.collector
    scores = collector.errors.scores
    _, targets, truth = collector.trajectory()
    error = targets - truth
    joints = joint_numbers(judged).values()
    jumps = _jumps(judged)
    worst_jumps = _row_maxima(jumps)
    mse = _mean([score.mse for score in scores])
    l1 = _mean([score.l1 for score in scores])
    hold = _mean([score.hold_l1 for score in scores])
    seconds = judged.duration
    switching = _switching(judged)
    values = {
        "action_mse": mse,
        "action_l1": l1,
        "action_mse_normalised": _mean([score.normalised_mse for score in scores]),
        "first_action_l1": _mean([score.first_l1 for score in scores]),
        "warped_l1": _mean([score.warped_l1 for score in scores]),
        "gripper_switches": float(switching.recorded),
        "gripper_agreement": switching.f1,
        "hold_l1": hold,
        "skill": 1.0 - l1 / hold if hold > 0 else math.nan,
        "executed_mse": _mean(error**2),
        "executed_l1": _mean(np.abs(error)),
        "coverage": float((~np.isnan(targets[:, 0])).mean()) if len(targets) else 0.0,
        "jerk_rms": _mean([joint.jerk_rms for joint in joints]),
        "reference_jerk_rms": _mean([joint.reference_jerk_rms for joint in joints]),
        "seam_jump_mean": _mean(worst_jumps),
        "seam_jump_p99": distribution(worst_jumps).p99,
        "seam_jump_max": distribution(worst_jumps).maximum,
        "overlap_l1": _mean(collector.overlap),
        "rows_beyond_limits": float(collector.rows_beyond_limits),
        "steps_too_fast": float(collector.steps_too_fast),
        "contexts": float(collector.contexts),
        "chunks": float(collector.chunks),
        "scored_chunks": float(len(scores)),
        "context_rate_hz": collector.contexts / seconds if seconds > 0 else math.nan,
        "chunk_rate_hz": collector.chunks / seconds if seconds > 0 else math.nan,
        "planner_refusals": float(_refusals(judged, "planner")),
        "executor_refusals": float(_refusals(judged, "executor")),
        "refused_messages": float(judged.refused_messages),
        "policy_faults": float(len(collector.faults)),
        "safety_ok": float(collector.judge.verdicts[Verdict.OK]),
        "safety_changed": float(
            collector.judge.verdicts[Verdict.SCALED] + collector.judge.verdicts[Verdict.CLAMPED]
        ),
        "safety_refused": float(_refused(judged)),
        "safety_refused_rate": _refused(judged) / collector.chunks if collector.chunks else math.nan,
    }
    for name, sample, scale in (
        ("context_age_{}_s", collector.context_age_ns, 1e-9),
        ("image_to_chunk_{}_s", collector.image_to_chunk_ns, 1e-9),
        ("phase_offset_{}_rows", collector.phase_offset_rows, 1.0),
    ):
        summary = distribution(np.array(sample, dtype=np.float64) * scale)
        for label, value in (("p50", summary.p50), ("p99", summary.p99), ("max", summary.maximum)):
            values[name.format(label)] = value
    return {name: _number(value) for name, value in values.items()}


def build_summary(judged: Judged, checks: tuple[Check, ...]) -> dict[str, Any]:
    """Return the content of summary.json; it holds no time of the host."""
    options, contract, collector = judged.options, judged.contract, judged.collector
    settings = options.settings
    return {
        "schema": SUMMARY_SCHEMA,
        "verdict": verdict(judged, checks),
        "recording": {
            "name": options.bag.resolve().name,
            "duration_s": _number(judged.duration),
            "start_ns": judged.first_ns,
            "messages": judged.recording.message_count,
            "topics": {
                feed.topic: {"type": feed.msgtype, "role": feed.role.value, "stream": feed.stream}
                for feed in judged.binding.feeds.values()
            },
            "skipped_topics": {topic.name: topic.unreadable for topic in judged.recording.skipped},
            "metadata": dict(sorted(judged.recording.custom.items())),
        },
        "robot": judged.robot.name,
        "policy": {
            "name": options.policy_name,
            "kind": contract.kind,
            "contract_hash": contract.contract_hash,
            "cameras": list(contract.camera_names),
            "action_joints": list(contract.action_joints),
            "row_period_s": contract.control_period_ns / NS_PER_S,
            "chunk_rows": contract.chunk_rows,
            "horizon_rows": contract.horizon_rows,
        },
        "settings": {
            "mode": options.mode,
            "instruction": judged.instruction,
            "seed": options.seed,
            "planner_latency_s": _seconds(settings.planner_latency_ns),
            "executor_latency_s": _seconds(settings.executor_latency_ns),
            "planner_period_s": settings.planner_period_ns / NS_PER_S,
            "executor_period_s": settings.executor_period_ns / NS_PER_S,
            "max_context_age_s": settings.max_context_age_ns / NS_PER_S,
            "time": "header stamps" if options.use_stamps else "receive time",
            "reference": "recorded action" if judged.from_action else "measured state",
            "lenient": options.lenient,
        },
        "metrics": flat_metrics(judged),
        "intervals": {name: _interval(interval) for name, interval in intervals(judged).items()},
        "per_joint": {
            name: {"unit": unit, **{key: _number(value) for key, value in asdict(numbers).items()}}
            for (name, numbers), unit in zip(joint_numbers(judged).items(), joint_units(judged), strict=True)
        },
        "per_step": {
            "mse": [_number(value) for value in collector.errors.per_step()[0]],
            "l1": [_number(value) for value in collector.errors.per_step()[1]],
        },
        "refusals": {
            f"{node}: {reason}": count for (node, reason), count in sorted(collector.refusals.items())
        },
        "safety": {
            code: {"chunks": count, "example": collector.judge.examples[code]}
            for code, count in sorted(collector.judge.codes.items())
        },
        "faults": [f"{event.node}: {event.error}" for event in collector.faults],
        "stamps": {
            report.topic: {key: _plain(value) for key, value in asdict(report).items() if key != "topic"}
            for report in judged.stamps
        },
        "clock_resets": collector.clock_resets(),
        "warnings": list(judged.warnings),
        "gate": [
            {
                "metric": check.threshold.metric,
                "min": check.threshold.low,
                "max": check.threshold.high,
                "value": check.value,
                "passed": check.passed,
            }
            for check in checks
        ],
    }


def build_timing(judged: Judged, *, wall: float, peak_rss_mb: float) -> dict[str, Any]:
    """Return the content of timing.json: what this host needed.

    Args:
        judged: the replay.
        wall: time of the run [s].
        peak_rss_mb: largest resident memory of the process [MB].
    """
    collector = judged.collector
    results: dict[str, float | None] = {
        "wall_s": round(wall, 3),
        "realtime_factor": _number(judged.duration / wall) if wall > 0 else None,
        "peak_rss_mb": round(peak_rss_mb, 1),
    }
    for name, sample in (
        ("l_prefill", collector.prefill_ns),
        ("l_chunk", collector.denoise_ns),
        ("plan_cycle", collector.plan_host_ns),
        ("chunk_cycle", collector.chunk_host_ns),
    ):
        summary = distribution(np.array(sample) * 1e-6)
        for label, value in (
            ("mean", summary.mean),
            ("p50", summary.p50),
            ("p99", summary.p99),
            ("p99_9", summary.p99_9),
            ("max", summary.maximum),
        ):
            results[f"{name}_{label}_ms"] = _number(value)
    return {"schema": TIMING_SCHEMA, "results": results, "machine": machine_info()}


def intervals(judged: Judged) -> dict[str, Interval]:
    """Return 95 % intervals: bootstrap for means over chunks, Wilson for rates."""
    collector = judged.collector
    scores = collector.errors.scores
    block = overlap_block(judged)
    _, targets, _ = collector.trajectory()
    covered = int((~np.isnan(targets[:, 0])).sum()) if len(targets) else 0
    better = [score.l1 < score.hold_l1 for score in scores]
    return {
        "action_mse": bootstrap_mean([score.mse for score in scores], block=block),
        "action_l1": bootstrap_mean([score.l1 for score in scores], block=block),
        "action_mse_normalised": bootstrap_mean([score.normalised_mse for score in scores], block=block),
        "first_action_l1": bootstrap_mean([score.first_l1 for score in scores], block=block),
        "hold_l1": bootstrap_mean([score.hold_l1 for score in scores], block=block),
        "seam_jump_mean": bootstrap_mean(_row_maxima(_jumps(judged))),
        "better_than_hold_rate": wilson(sum(better), len(better)),
        "coverage": wilson(covered, len(targets)),
        "safety_refused_rate": wilson(_refused(judged), collector.chunks),
    }


def overlap_block(judged: Judged) -> int:
    """Return how many consecutive chunks share rows with one another."""
    starts = np.array(judged.collector.stamp_ns, dtype=np.int64)
    if len(starts) < 2:
        return 1
    span = judged.contract.chunk_rows * judged.contract.control_period_ns
    steps = np.diff(starts)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else float(span)
    return max(1, math.ceil(span / step))


def verdict(judged: Judged, checks: tuple[Check, ...]) -> str:
    """Return "fault", "fail", "pass", or "not judged" where there is no gate."""
    if judged.collector.faults:
        return "fault"
    if not checks:
        return "not judged"
    return "pass" if all(check.passed for check in checks) else "fail"


def joint_units(judged: Judged) -> list[str]:
    """Return the unit of every joint of the policy's action."""
    units = {joint.name: joint.kind.unit for joint in judged.robot.joints}
    return [units[name] for name in judged.contract.action_joints]


def _refusals(judged: Judged, node: str) -> int:
    return sum(count for (who, _), count in judged.collector.refusals.items() if who == node)


def _switching(judged: Judged) -> SwitchAgreement:
    """Compare openings and closings of grippers and fingers: joints that do not rotate an arm."""
    kinds = {joint.name: joint for joint in judged.robot.joints}
    grips = [
        i
        for i, name in enumerate(judged.contract.action_joints)
        if kinds[name].kind is not JointKind.REVOLUTE
    ]
    joints = [kinds[judged.contract.action_joints[i]] for i in grips]
    times, targets, truth = judged.collector.trajectory()
    return switch_agreement(
        times,
        targets[:, grips],
        truth[:, grips],
        lower=np.array([joint.lower for joint in joints]),
        upper=np.array([joint.upper for joint in joints]),
    )


def _refused(judged: Judged) -> int:
    verdicts = judged.collector.judge.verdicts
    return verdicts[Verdict.HOLD] + verdicts[Verdict.STOP]


def _jumps(judged: Judged) -> Table:
    """Return the magnitudes of all seams, float64 [S, N]."""
    seams = judged.collector.execution.seams
    return (
        np.abs(np.stack([seam.jump for seam in seams]))
        if seams
        else np.empty((0, len(judged.contract.action_joints)))
    )


def _row_maxima(table: Table) -> Table:
    known = ~np.isnan(table).all(axis=1) if len(table) else np.empty(0, dtype=bool)
    return np.nanmax(table[known], axis=1) if known.any() else np.empty(0)


def _column_means(table: Table) -> Table:
    known = ~np.isnan(table)
    count = known.sum(0)
    total = np.where(known, table, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean(values: Any) -> float:
    return distribution(values).mean


def _number(value: float) -> float | None:
    # Nine digits: more would show in which order a machine adds.
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value


def _seconds(value_ns: int | None) -> float | str:
    return "measured" if value_ns is None else value_ns / NS_PER_S


def _interval(interval: Interval) -> Mapping[str, float | int | None]:
    return {
        "value": _number(interval.value),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "count": interval.count,
    }
