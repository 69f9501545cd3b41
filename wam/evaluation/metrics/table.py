# SPDX-License-Identifier: Apache-2.0
"""The metrics of a replay, one row each. A new metric is a new row: docs/how-to/add-a-metric.md.

The order of the rows is the order of `metrics` in summary.json, of the page and of the reference.
"""

from __future__ import annotations

import math

from wam.core.verdict import Ladder, Verdict
from wam.evaluation.metrics.basis import ReplayBasis, mean, ratio, skill
from wam.evaluation.metrics.metric import JOINT, Metric, Shown
from wam.evaluation.metrics.rows import (
    Row,
    chunk_error,
    count,
    imagination_mean,
    joint_mean,
    ladder_share,
    rate,
    spread,
)
from wam.evaluation.replay.engine import EXECUTOR, PLANNER
from wam.report.statistics import Interval, bootstrap_mean, wilson

PAGE, TERMINAL = Shown.PAGE, Shown.TERMINAL
VARIANTS, RUNS = Shown.VARIANTS, Shown.RUNS


def shown(place: Shown) -> tuple[Row, ...]:
    """Return the metrics that are shown at a place."""
    return tuple(row for row in METRICS if row.shown & place)


def gate_names() -> tuple[str, ...]:
    """Return the metrics that a gate may name."""
    return tuple(row.name for row in METRICS if row.gate)


def compared(*, mixed: bool = False) -> tuple[str, ...]:
    """Return the errors of a chunk that `wam replay compare` pairs, as the event `score` names them.

    Args:
        mixed: the joints have several units; errors in the unit of a joint are then left out.
    """
    return tuple(row.compared for row in METRICS if row.compared and not (mixed and JOINT in row.unit))


def _skill(basis: ReplayBasis) -> float:
    return _skill_against(basis, [one.normalised_hold_l1 for one in basis.scores])


def _repeat_skill(basis: ReplayBasis) -> float:
    return _skill_against(basis, [one.normalised_repeat_l1 for one in basis.scores])


def _skill_against(basis: ReplayBasis, baseline: list[float]) -> float:
    """Return the skill against the errors of a baseline, joints divided by their range: units do not mix."""
    if basis.is_at_rest:
        return math.nan
    return skill(mean([one.normalised_l1 for one in basis.scores]), mean(baseline))


def _imagination_skill(basis: ReplayBasis) -> float:
    return skill(
        mean([one.mse for one in basis.imaginations]),
        mean([one.still_mse for one in basis.imaginations]),
    )


def _better_imagination(basis: ReplayBasis) -> Interval | None:
    better = [one.mse < one.still_mse for one in basis.imaginations]
    return wilson(sum(better), len(better)) if better else None


METRICS: tuple[Row, ...] = (
    chunk_error(
        "action_mse",
        "mean squared error of all rows",
        "mse",
        unit=f"{JOINT}²",
        meaning="mean squared error over chunks, rows and joints",
        compared=True,
    ),
    chunk_error(
        "action_l1",
        "mean absolute error of all rows",
        "l1",
        shown=PAGE,
        meaning="mean absolute error over chunks, rows and joints",
        compared=True,
    ),
    chunk_error(
        "action_mse_normalised",
        "mean squared error, joints divided by their range",
        "normalised_mse",
        unit="1",
        meaning="`action_mse` with every joint divided by its range",
        compared=True,
    ),
    chunk_error(
        "action_l1_normalised",
        "mean absolute error, joints divided by their range",
        "normalised_l1",
        unit="1",
        shown=PAGE | TERMINAL | VARIANTS | RUNS,
        meaning="`action_l1` with every joint divided by its range",
        compared=True,
    ),
    chunk_error("first_action_l1", "mean absolute error of the first row", "first_l1", compared=True),
    chunk_error(
        "warped_l1",
        "mean absolute error, timing ignored (time warping)",
        "warped_l1",
        meaning="mean absolute error along the best matching in time of a chunk's rows with the reference "
        "(dynamic time warping)",
        compared=True,
    ),
    chunk_error(
        "hold_l1",
        "mean absolute error of standing still",
        "hold_l1",
        meaning="mean absolute error of standing still where the robot was measured, over the same rows",
    ),
    chunk_error(
        "hold_l1_normalised",
        "mean absolute error of standing still, joints divided by their range",
        "normalised_hold_l1",
        unit="1",
        shown=PAGE | TERMINAL | VARIANTS,
        meaning="`hold_l1` with every joint divided by its range",
    ),
    chunk_error(
        "repeat_l1",
        "mean absolute error of repeating the last command",
        "repeat_l1",
        shown=PAGE,
        meaning="mean absolute error of repeating the command (or measured state) in force at the chunk's image, over "
        "the same rows: what an offset between command and state does not help",
    ),
    Metric(
        "skill",
        "skill compared with standing still (1 is perfect, 0 no better)",
        "1",
        _skill,
        shown=PAGE | TERMINAL | VARIANTS | RUNS,
        meaning="1 - error / error of standing still, both with every joint divided by its range: 1 is perfect, 0 no "
        "better; `null` for a recording at rest (`moved` below 0.01)",
    ),
    Metric(
        "repeat_skill",
        "skill compared with repeating the last command",
        "1",
        _repeat_skill,
        shown=PAGE | TERMINAL,
        meaning="as `skill`, against `repeat_l1`",
    ),
    Metric(
        "moved",
        "largest movement of a joint in the reference, as a share of its range",
        "1",
        lambda basis: basis.moved,
        shown=PAGE,
    ),
    count(
        "joints_compared",
        "joints of the action that were compared with a reference",
        lambda basis: basis.collector.errors.compared_joints,
        shown=PAGE | TERMINAL,
    ),
    count(
        "rows_compared",
        "rows of chunks that were compared with a reference, in at least one joint",
        lambda basis: sum(one.rows for one in basis.scores),
        shown=PAGE,
    ),
    Metric(
        "reference_share",
        "share of the chunks' numbers that could be compared",
        "1",
        lambda basis: ratio(basis.collector.errors.compared_numbers, basis.collector.errors.due_numbers),
        shown=PAGE | TERMINAL,
        meaning="numbers of chunks (rows times joints) with a reference, of those that the recording reached; a gate "
        "on errors asks for at least 0.9 unless it names this metric",
    ),
    Metric(
        "gripper_switches",
        "openings and closings of grippers and fingers in the reference",
        "",
        lambda basis: float(basis.switching.recorded),
        meaning="how often grippers and fingers (`gripper` in the robot file) cross the middle of the span in "
        "which they moved in the reference",
    ),
    Metric(
        "gripper_agreement",
        "agreement about when grippers and fingers open and close (F1, within 0.3 s)",
        "1",
        lambda basis: basis.switching.f1,
        shown=Shown.PAGE_IF_KNOWN,
        meaning="F1 of the executed trajectory's crossings against those, same direction and within 0.3 s; `null` "
        "where there are none",
    ),
    Metric(
        "executed_mse",
        "mean squared error of the executed trajectory",
        f"{JOINT}²",
        lambda basis: mean(basis.executed_error**2),
        shown=PAGE,
    ),
    Metric(
        "executed_l1",
        "mean absolute error of the executed trajectory",
        JOINT,
        lambda basis: mean(abs(basis.executed_error)),
        shown=PAGE,
    ),
    Metric(
        "executed_l1_normalised",
        "mean absolute error of the executed trajectory, of the range",
        "1",
        lambda basis: mean(abs(basis.executed_error) / basis.joint_range),
        shown=PAGE | TERMINAL | VARIANTS,
    ),
    Metric(
        "commanded_l1",
        "mean absolute error of the safety node's commands",
        JOINT,
        lambda basis: mean(abs(basis.commanded_error)),
        shown=PAGE,
        meaning="mean absolute error of the commands that the safety node would have sent; each command counts at the "
        "time for which it is sent (the robot's `lead` later)",
    ),
    Metric(
        "coverage",
        "share of time with a valid row",
        "1",
        lambda basis: ratio(int(basis.covered.sum()), len(basis.covered)) if len(basis.covered) else 0.0,
        lambda basis: wilson(int(basis.covered.sum()), len(basis.covered)),
        shown=PAGE | TERMINAL | VARIANTS,
        meaning="share of the time, from the first chunk on, for which a chunk had a row",
    ),
    joint_mean(
        "jerk_rms",
        "jerk of the executed trajectory",
        f"{JOINT}/s³",
        "jerk_rms",
        "root mean square of the executed trajectory's third derivative, mean over joints",
    ),
    joint_mean(
        "commanded_jerk_rms",
        "jerk of the safety node's commands",
        f"{JOINT}/s³",
        "commanded_jerk_rms",
        "as `jerk_rms`, for the safety node's commands at the rate of its command stream",
    ),
    joint_mean(
        "reference_jerk_rms",
        "jerk of the reference",
        f"{JOINT}/s³",
        "reference_jerk_rms",
        "as `jerk_rms`, for the reference",
    ),
    Metric(
        "seam_jump_mean",
        "jump where chunks meet, mean",
        JOINT,
        lambda basis: mean(basis.largest_jumps),
        lambda basis: bootstrap_mean(basis.largest_jumps),
        shown=PAGE,
        meaning="jump of the joint with the largest jump where one chunk replaces another, mean over these seams",
    ),
    Metric(
        "seam_jump_p99",
        "jump where chunks meet, 99th percentile",
        JOINT,
        lambda basis: basis.distribution("seam_jump", basis.largest_jumps).p99,
        shown=PAGE,
    ),
    Metric(
        "seam_jump_max",
        "jump where chunks meet, largest",
        JOINT,
        lambda basis: basis.distribution("seam_jump", basis.largest_jumps).maximum,
        shown=PAGE,
    ),
    Metric(
        "seam_jump_normalised_p99",
        "jump where chunks meet, of the range, 99th percentile",
        "1",
        lambda basis: basis.distribution("seam_jump_normalised", basis.largest_jumps_normalised).p99,
        shown=PAGE | TERMINAL | VARIANTS,
        meaning="as `seam_jump_p99`, with every joint divided by its range",
    ),
    Metric(
        "seam_jump_normalised_max",
        "jump where chunks meet, of the range, largest",
        "1",
        lambda basis: basis.distribution("seam_jump_normalised", basis.largest_jumps_normalised).maximum,
        shown=PAGE,
        meaning="as `seam_jump_max`, with every joint divided by its range",
    ),
    Metric(
        "overlap_l1",
        "disagreement of consecutive chunks about rows that both have",
        JOINT,
        lambda basis: mean(basis.collector.overlap),
        shown=PAGE,
        meaning="mean absolute disagreement of consecutive chunks about rows that both have",
    ),
    count(
        "rows_beyond_limits",
        "rows with a joint beyond its position limits",
        lambda basis: basis.collector.limits.rows_beyond,
        shown=PAGE,
        known=lambda basis: basis.has_limits,
    ),
    Metric(
        "limit_excess_max",
        "largest excess beyond a position limit, of the joint's range",
        "1",
        lambda basis: basis.collector.limits.furthest_share if basis.has_limits else math.nan,
        shown=PAGE,
        meaning="largest excess of a row beyond a position limit, as a share of the joint's range",
    ),
    count(
        "steps_too_fast",
        "steps between two rows with a joint beyond its velocity limit",
        lambda basis: basis.collector.limits.steps_too_fast,
        shown=PAGE,
        known=lambda basis: basis.has_limits,
    ),
    Metric(
        "imagined_futures",
        "imagined futures that could be compared with the observed future",
        "",
        lambda basis: float(len(basis.imaginations)),
        meaning="imagined futures of a policy with a world model that could be compared with the observed future; 0 "
        "for a policy that predicts none, and without `--imagination` for AHA-WAM and in `live` mode",
    ),
    imagination_mean(
        "imagination_mse",
        "mean squared error of the imagined future, in the policy's features",
        "mse",
        "mean squared distance of the imagined from the observed future, in the policy's own features (DUST: pooled "
        "vision embedding; UD-VLA: pixels of the decoded image tokens, 0 to 1; AHA-WAM: pixels of the decoded latent)",
    ),
    imagination_mean(
        "imagination_still_mse",
        "mean squared error of the present as the prediction",
        "still_mse",
        "as `imagination_mse`, with the present as the prediction",
    ),
    Metric(
        "imagination_skill",
        "skill of the imagination relative to that (1 is perfect, 0 no better)",
        "1",
        _imagination_skill,
        shown=Shown.PAGE_IF_KNOWN,
        meaning='1 - `imagination_mse` / `imagination_still_mse`: 1 is perfect, 0 no better than "nothing will change"',
    ),
    imagination_mean(
        "imagination_cosine",
        "cosine similarity of imagined and observed future",
        "cosine",
        "cosine similarity of imagined and observed features",
        interval=False,
    ),
    count(
        "safety_ok",
        "chunks that the safety node passes unchanged",
        lambda basis: basis.collector.safety.verdicts[Verdict.OK],
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_changed",
        "chunks that the safety node slows down or clamps",
        lambda basis: (
            basis.collector.safety.verdicts[Verdict.SCALED] + basis.collector.safety.verdicts[Verdict.CLAMPED]
        ),
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_refused",
        "chunks that the safety node refuses (or cannot accept because of a STOP)",
        lambda basis: basis.refused_chunks,
        known=lambda basis: basis.is_judged,
    ),
    rate(
        "safety_refused_rate",
        "share of chunks that the safety node would have refused",
        lambda basis: (basis.refused_chunks, basis.judged_chunks),
        shown=PAGE | VARIANTS,
    ),
    Metric(
        "safety_collisions",
        "chunks into a collision, a zone or out of the workspace",
        "",
        lambda basis: basis.collisions,
        shown=PAGE,
        meaning="chunks with a finding `collision`, `workspace` or `stop_zone` (of a running node: how often it "
        "reported one), within the robot's own model of itself and its surroundings; `null` where these are not "
        "checked",
    ),
    count(
        "safety_holds",
        "how often the degrade ladder went to HOLD",
        lambda basis: basis.entries(Ladder.HOLD),
        known=lambda basis: basis.is_judged,
    ),
    count(
        "safety_stops",
        "how often the degrade ladder went to STOP, which latches",
        lambda basis: basis.entries(Ladder.STOP),
        shown=PAGE,
        known=lambda basis: basis.is_judged,
    ),
    ladder_share(Ladder.NOMINAL, "share of time on NOMINAL, the ladder's first rung", shown=PAGE),
    ladder_share(Ladder.LATE, "share of time on LATE"),
    ladder_share(Ladder.SLOW, "share of time on SLOW"),
    ladder_share(Ladder.HOLD, "share of time on HOLD, the arm standing still", shown=PAGE),
    ladder_share(Ladder.STOP, "share of time on STOP"),
    count("contexts", "planner contexts that came out", lambda basis: basis.collector.contexts),
    count("chunks", "chunks that came out", lambda basis: basis.collector.chunks),
    count("scored_chunks", "chunks that could be compared", lambda basis: len(basis.scores)),
    Metric(
        "context_rate_hz",
        "planner contexts per second of the recording",
        "Hz",
        lambda basis: basis.per_second(basis.collector.contexts),
    ),
    Metric(
        "chunk_rate_hz",
        "chunks per second of the recording",
        "Hz",
        lambda basis: basis.per_second(basis.collector.chunks),
    ),
    count(
        "deadline_misses",
        "chunks that took longer than one executor period, so that the next one started late",
        lambda basis: basis.collector.deadline_misses,
    ),
    rate(
        "deadline_miss_rate",
        "share of chunks that took longer than one executor period",
        lambda basis: (basis.collector.deadline_misses, basis.collector.chunks),
    ),
    count(
        "planner_refusals",
        "planner cycles that gave no context",
        lambda basis: basis.refusals(PLANNER),
    ),
    count(
        "executor_refusals",
        "executor cycles that gave no chunk",
        lambda basis: basis.refusals(EXECUTOR),
    ),
    count(
        "refused_messages",
        "messages that the ingest refused: damaged images, and with `--lenient` those that do not fit",
        lambda basis: basis.data.refused_messages,
    ),
    Metric(
        "lost_share",
        "share of the recorded messages that could not be used",
        "1",
        lambda basis: basis.data.lost_share,
        shown=PAGE,
        meaning="share of the messages of the topics read that were lost: cut off, damaged, not decodable "
        "(`recording.losses`); those of which it is not known how many there were are not in it",
    ),
    count("policy_faults", "errors that the policy raised", lambda basis: len(basis.collector.faults)),
    *spread(
        "context_age_{}_s",
        "context age at the chunk: image of the chunk minus image of its context",
        "s",
        lambda basis: basis.collector.context_age_ns,
        scale=1e-9,
        p50=TERMINAL | VARIANTS,
    ),
    *spread(
        "image_to_chunk_{}_s",
        "image stamp to chunk out",
        "s",
        lambda basis: basis.collector.image_to_chunk_ns,
        scale=1e-9,
    ),
    *spread(
        "phase_offset_{}_rows",
        "phase offset: rows between the context's image and row 0",
        "rows",
        lambda basis: basis.collector.phase_offset_rows,
        p50=TERMINAL,
    ),
    rate(
        "better_than_hold_rate",
        "share of chunks that are closer to the reference than standing still, joints divided by their range",
        lambda basis: (
            sum(one.normalised_l1 < one.normalised_hold_l1 for one in basis.scores),
            len(basis.scores),
        ),
        shown=Shown.NOWHERE,
        gate=False,
    ),
    Metric(
        "better_imagination_rate",
        "share of imagined futures that are closer to the observed future than the present is",
        "1",
        lambda basis: math.nan if (found := _better_imagination(basis)) is None else found.value,
        _better_imagination,
        gate=False,
    ),
)
