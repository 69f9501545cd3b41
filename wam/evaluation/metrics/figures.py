# SPDX-License-Identifier: Apache-2.0
"""Every figure of a replay, from what was collected. Their meaning: docs/reference/summary.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from wam.core.clock import NS_PER_S
from wam.core.contract import PolicyContract
from wam.core.verdict import Ladder, Verdict
from wam.data.bag.binding import Binding
from wam.data.bag.reading import Recording
from wam.data.bag.stamps import StampReport
from wam.evaluation.metrics.chunks import Table, jerk, root_mean_square
from wam.evaluation.metrics.gate import GateCheck
from wam.evaluation.metrics.shape import SwitchAgreement, switch_agreement
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.engine import EXECUTOR, PLANNER, ReplayOptions
from wam.report.numbers import distribution
from wam.report.statistics import Interval, bootstrap_mean, wilson
from wam.robots.description import JointKind, RobotDescription

SIGNIFICANT = 9


@dataclass(frozen=True, slots=True)
class ReplayData:
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
    mse_normalised: float
    l1_normalised: float
    executed_l1: float
    jerk_rms: float
    reference_jerk_rms: float
    commanded_jerk_rms: float
    seam_jump_max: float


@dataclass(frozen=True, slots=True)
class GroupNumbers:
    """Mean figures of the joints of one group; in units they mean something where all joints have the same one."""

    mse: float
    l1: float
    mse_normalised: float
    l1_normalised: float
    executed_l1: float


def joint_numbers(judged: ReplayData) -> dict[str, JointNumbers]:
    """Return the figures of every joint of the policy's action."""
    collector = judged.collector
    mse, l1 = collector.errors.per_joint()
    span = collector.errors.joint_range
    _, targets, truth = collector.trajectory()
    period = judged.contract.control_period_ns
    jumps = _jumps(judged)
    highest = np.where(np.isnan(jumps).all(0), np.nan, np.nanmax(np.nan_to_num(jumps), axis=0, initial=0.0))
    columns = (
        mse,
        l1,
        mse / span**2,
        l1 / span,
        _column_means(np.abs(targets - truth)),
        root_mean_square(jerk(targets, period)),
        root_mean_square(jerk(truth, period)),
        collector.safety.jerk_rms()[collector.columns],
        highest,
    )
    table = np.stack(columns, axis=1)
    return {
        name: JointNumbers(*(float(value) for value in row))
        for name, row in zip(judged.contract.action_joints, table, strict=True)
    }


def group_numbers(judged: ReplayData) -> dict[str, GroupNumbers]:
    """Return the figures of every joint group that has a joint of the policy's action."""
    joints = joint_numbers(judged)
    groups = {}
    for group in judged.robot.groups:
        mine = [joints[name] for name in group.joint_names if name in joints]
        if mine:
            groups[group.name] = GroupNumbers(
                *(_mean([getattr(one, field.name) for one in mine]) for field in fields(GroupNumbers))
            )
    return groups


def flat_metrics(judged: ReplayData) -> dict[str, float | None]:
    """Return every metric that a gate may name; None where this recording does not give it."""
    values = {
        **_action_metrics(judged),
        **_execution_metrics(judged),
        **_imagination_metrics(judged),
        **_safety_metrics(judged),
        **_time_metrics(judged),
    }
    return {name: plain_number(value) for name, value in values.items()}


def _action_metrics(judged: ReplayData) -> dict[str, float]:
    scores = judged.collector.errors.scores
    l1 = _mean([score.l1 for score in scores])
    hold = _mean([score.hold_l1 for score in scores])
    switching = _switching(judged)
    return {
        "action_mse": _mean([score.mse for score in scores]),
        "action_l1": l1,
        "action_mse_normalised": _mean([score.normalised_mse for score in scores]),
        "action_l1_normalised": _mean([score.normalised_l1 for score in scores]),
        "first_action_l1": _mean([score.first_l1 for score in scores]),
        "warped_l1": _mean([score.warped_l1 for score in scores]),
        "hold_l1": hold,
        "skill": 1.0 - l1 / hold if hold > 0 else math.nan,
        "gripper_switches": float(switching.recorded),
        "gripper_agreement": switching.f1,
    }


def _execution_metrics(judged: ReplayData) -> dict[str, float]:
    collector = judged.collector
    _, targets, truth = collector.trajectory()
    error = targets - truth
    _, sent, wanted = collector.commanded()
    joints = joint_numbers(judged).values()
    jumps = _row_maxima(_jumps(judged))
    return {
        "executed_mse": _mean(error**2),
        "executed_l1": _mean(np.abs(error)),
        "commanded_l1": _mean(np.abs(sent - wanted)),
        "coverage": float((~np.isnan(targets[:, 0])).mean()) if len(targets) else 0.0,
        "jerk_rms": _mean([joint.jerk_rms for joint in joints]),
        "commanded_jerk_rms": _mean([joint.commanded_jerk_rms for joint in joints]),
        "reference_jerk_rms": _mean([joint.reference_jerk_rms for joint in joints]),
        "seam_jump_mean": _mean(jumps),
        "seam_jump_p99": distribution(jumps).p99,
        "seam_jump_max": distribution(jumps).maximum,
        "overlap_l1": _mean(collector.overlap),
        "rows_beyond_limits": float(collector.rows_beyond_limits),
        "steps_too_fast": float(collector.steps_too_fast),
    }


def _imagination_metrics(judged: ReplayData) -> dict[str, float]:
    events = judged.collector.imaginations
    mse = _mean([event.mse for event in events])
    still = _mean([event.still_mse for event in events])
    return {
        "imagined_futures": float(len(events)),
        "imagination_mse": mse,
        "imagination_still_mse": still,
        "imagination_skill": 1.0 - mse / still if still > 0 else math.nan,
        "imagination_cosine": _mean([event.cosine for event in events]),
    }


def _safety_metrics(judged: ReplayData) -> dict[str, float]:
    safety = judged.collector.safety
    told = sum(safety.verdicts.values())
    entries = {
        rung: sum(count for (after, _), count in safety.causes.items() if after is rung) for rung in Ladder
    }
    return {
        "safety_ok": float(safety.verdicts[Verdict.OK]),
        "safety_changed": float(safety.verdicts[Verdict.SCALED] + safety.verdicts[Verdict.CLAMPED]),
        "safety_refused": float(_refused(judged)),
        "safety_refused_rate": _refused(judged) / told if told else math.nan,
        "safety_holds": float(entries[Ladder.HOLD]),
        "safety_stops": float(entries[Ladder.STOP]),
        "safety_nominal_share": safety.share(Ladder.NOMINAL),
        "safety_late_share": safety.share(Ladder.LATE),
        "safety_slow_share": safety.share(Ladder.SLOW),
        "safety_hold_share": safety.share(Ladder.HOLD),
        "safety_stop_share": safety.share(Ladder.STOP),
    }


def _time_metrics(judged: ReplayData) -> dict[str, float]:
    collector, seconds = judged.collector, judged.duration
    values = {
        "contexts": float(collector.contexts),
        "chunks": float(collector.chunks),
        "scored_chunks": float(len(collector.errors.scores)),
        "context_rate_hz": collector.contexts / seconds if seconds > 0 else math.nan,
        "chunk_rate_hz": collector.chunks / seconds if seconds > 0 else math.nan,
        "deadline_misses": float(collector.deadline_misses),
        "deadline_miss_rate": collector.deadline_misses / collector.chunks if collector.chunks else math.nan,
        "planner_refusals": float(_refusals(judged, PLANNER)),
        "executor_refusals": float(_refusals(judged, EXECUTOR)),
        "refused_messages": float(judged.refused_messages),
        "policy_faults": float(len(collector.faults)),
    }
    for name, sample, scale in (
        ("context_age_{}_s", collector.context_age_ns, 1e-9),
        ("image_to_chunk_{}_s", collector.image_to_chunk_ns, 1e-9),
        ("phase_offset_{}_rows", collector.phase_offset_rows, 1.0),
    ):
        summary = distribution(np.array(sample, dtype=np.float64) * scale)
        values |= {
            name.format("p50"): summary.p50,
            name.format("p99"): summary.p99,
            name.format("p99_9"): summary.p99_9,
            name.format("max"): summary.maximum,
        }
    return values


def intervals(judged: ReplayData) -> dict[str, Interval]:
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
        "action_l1_normalised": bootstrap_mean([score.normalised_l1 for score in scores], block=block),
        "warped_l1": bootstrap_mean([score.warped_l1 for score in scores], block=block),
        "first_action_l1": bootstrap_mean([score.first_l1 for score in scores], block=block),
        "hold_l1": bootstrap_mean([score.hold_l1 for score in scores], block=block),
        "seam_jump_mean": bootstrap_mean(_row_maxima(_jumps(judged))),
        "better_than_hold_rate": wilson(sum(better), len(better)),
        "coverage": wilson(covered, len(targets)),
        "safety_refused_rate": wilson(_refused(judged), sum(collector.safety.verdicts.values())),
        "deadline_miss_rate": wilson(collector.deadline_misses, collector.chunks),
        **_imagination_intervals(judged),
    }


def _imagination_intervals(judged: ReplayData) -> dict[str, Interval]:
    events, block = judged.collector.imaginations, overlap_block(judged)
    if not events:
        return {}
    better = [event.mse < event.still_mse for event in events]
    return {
        "imagination_mse": bootstrap_mean([event.mse for event in events], block=block),
        "imagination_still_mse": bootstrap_mean([event.still_mse for event in events], block=block),
        "better_imagination_rate": wilson(sum(better), len(better)),
    }


def overlap_block(judged: ReplayData) -> int:
    """Return how many consecutive chunks share rows with one another."""
    starts = np.array(judged.collector.stamp_ns, dtype=np.int64)
    if len(starts) < 2:
        return 1
    span = judged.contract.chunk_rows * judged.contract.control_period_ns
    steps = np.diff(starts)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else float(span)
    return max(1, math.ceil(span / step))


def verdict(judged: ReplayData, checks: tuple[GateCheck, ...]) -> str:
    """Return "fault", "fail", "pass", or "not judged" where there is no gate."""
    if judged.collector.faults:
        return "fault"
    if not checks:
        return "not judged"
    return "pass" if all(check.passed for check in checks) else "fail"


def joint_units(judged: ReplayData) -> list[str]:
    """Return the unit of every joint of the policy's action."""
    units = {joint.name: joint.kind.unit for joint in judged.robot.joints}
    return [units[name] for name in judged.contract.action_joints]


def _refusals(judged: ReplayData, node: str) -> int:
    return sum(count for (who, _), count in judged.collector.refusals.items() if who == node)


def _switching(judged: ReplayData) -> SwitchAgreement:
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


def _refused(judged: ReplayData) -> int:
    verdicts = judged.collector.safety.verdicts
    return verdicts[Verdict.HOLD] + verdicts[Verdict.STOP]


def _jumps(judged: ReplayData) -> Table:
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


def plain_number(value: float) -> float | None:
    """Return a figure as JSON can hold it: rounded to the digits that count, None where it is not finite."""
    # Nine digits: more would show in which order a machine adds.
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None
