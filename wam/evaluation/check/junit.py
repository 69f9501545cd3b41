# SPDX-License-Identifier: Apache-2.0
"""A check as test cases: one per kind of check, so that their names are the same for every recording."""

from __future__ import annotations

from wam.evaluation.check.problem import CheckReport, ProblemKind, RecordingProblem, Severity
from wam.report.junit import JunitCase


def check_cases(report: CheckReport) -> list[JunitCase]:
    """Return a case for every kind; it fails by an error, and shows warnings and notes."""
    group = f"wam.check.{report.path.name}"
    cases = []
    for kind in ProblemKind:
        found = [problem for problem in report.problems if problem.kind is kind]
        errors = [problem for problem in found if problem.severity is Severity.ERROR]
        others = [problem for problem in found if problem.severity is not Severity.ERROR]
        cases.append(
            JunitCase(
                kind.title,
                group,
                failure="\n".join(_text(problem) for problem in errors),
                output="\n".join(_text(problem) for problem in others),
            )
        )
    return cases


def _text(problem: RecordingProblem) -> str:
    remedy = f"; {problem.remedy}" if problem.remedy else ""
    times = f" ({problem.times} times)" if problem.times > 1 else ""
    return f"{problem.severity.value}: {problem.where}: {problem.text}{times}{remedy}"
