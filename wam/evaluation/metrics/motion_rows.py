# SPDX-License-Identifier: Apache-2.0
"""Rows of the motion: time covered, jerk, seams between chunks, limits of the joints."""

from __future__ import annotations

import math

from wam.evaluation.metrics.basis import mean, ratio
from wam.evaluation.metrics.metric import JOINT, Metric, Shown
from wam.evaluation.metrics.rows import Row, count, joint_mean
from wam.report.statistics import bootstrap_mean, wilson

PAGE, TERMINAL, VARIANTS = Shown.PAGE, Shown.TERMINAL, Shown.VARIANTS

MOTION: tuple[Row, ...] = (
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
)
