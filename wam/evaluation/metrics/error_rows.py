# SPDX-License-Identifier: Apache-2.0
"""Rows of how far a policy is from the reference: errors of its chunks, skill, grippers, what was executed."""

from __future__ import annotations

import math

from wam.evaluation.metrics.basis import ReplayBasis, mean, ratio, skill
from wam.evaluation.metrics.metric import JOINT, Metric, Shown
from wam.evaluation.metrics.rows import Row, chunk_error, count, rate

PAGE, TERMINAL, VARIANTS, RUNS = Shown.PAGE, Shown.TERMINAL, Shown.VARIANTS, Shown.RUNS


def _skill(basis: ReplayBasis) -> float:
    return _skill_against(basis, [one.normalised_hold_l1 for one in basis.scores])


def _repeat_skill(basis: ReplayBasis) -> float:
    return _skill_against(basis, [one.normalised_repeat_l1 for one in basis.scores])


def _skill_against(basis: ReplayBasis, baseline: list[float]) -> float:
    """Return the skill against the errors of a baseline, joints divided by their range: units do not mix."""
    if basis.is_at_rest:
        return math.nan
    return skill(mean([one.normalised_l1 for one in basis.scores]), mean(baseline))


ERRORS: tuple[Row, ...] = (
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
)


BETTER_THAN_HOLD = rate(
    "better_than_hold_rate",
    "share of chunks that are closer to the reference than standing still, joints divided by their range",
    lambda basis: (
        sum(one.normalised_l1 < one.normalised_hold_l1 for one in basis.scores),
        len(basis.scores),
    ),
    shown=Shown.NOWHERE,
    gate=False,
)
