# SPDX-License-Identifier: Apache-2.0
"""A doctor for recordings: every problem of a bag or a data set at once, with what it means and what helps."""

from wam.evaluation.check.check import check_recording
from wam.evaluation.check.problem import CheckReport, ProblemKind, RecordingProblem, Severity

__all__ = ["CheckReport", "ProblemKind", "RecordingProblem", "Severity", "check_recording"]
