# SPDX-License-Identifier: Apache-2.0
"""JUnit and Markdown of a replay: thresholds fail with value and limit, and what judges nothing is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from wam.core.errors import ConfigError, RecordingError
from wam.evaluation.check import CheckReport, ProblemKind, RecordingProblem, Severity
from wam.evaluation.check.junit import check_cases
from wam.evaluation.replay.ci import read_summary, replay_cases, replay_markdown, write_ci_files
from wam.report.junit import JunitCase, junit_xml


def threshold(metric: str, value: float | None, passed: bool | None) -> dict[str, Any]:
    return {"metric": metric, "min": None, "max": 0.5, "value": value, "passed": passed}


def summary(verdict: str, *gate: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "schema": "wam/replay-summary/1",
        "verdict": verdict,
        "recording": {"name": "ep|1", "duration_s": 2.0},
        "policy": {"name": "fake"},
        "robot": "piper",
        "settings": {"reference": "recorded action"},
        "metrics": {"action_l1": 0.5, "action_l1_normalised": 0.7, "skill": None},
        "faults": [],
        "warnings": [],
        "gate": list(gate),
        **more,
    }


def scenario(verdict: str) -> dict[str, Any]:
    return {
        "schema": "wam/replay-scenario/1",
        "scenario": "lab",
        "verdict": verdict,
        "variants": {"all": {"gate": [threshold("action_l1", 0.7, False)]}},
        "runs": [
            {"variant": "all", "recording": "ep1", "error": "", "verdict": "fail"},
            {"variant": "all", "recording": "ep2", "error": "no such bag"},
            {"variant": "all", "recording": "ep3", "error": ""},
            {"variant": "all", "recording": "ep4", "error": "", "verdict": "cannot be told"},
        ],
    }


def outcome(case: JunitCase) -> str:
    told = [name for name in ("failure", "error", "skipped") if getattr(case, name)]
    assert len(told) <= 1
    return told[0] if told else "passed"


def test_a_threshold_that_fails_names_value_and_limit() -> None:
    cases = replay_cases(summary("fail", threshold("action_l1", 0.7, False), threshold("skill", 0.1, True)))
    assert [(case.name, outcome(case)) for case in cases] == [
        ("verdict", "failure"),
        ("action_l1", "failure"),
        ("skill", "passed"),
    ]
    assert cases[1].failure == "action_l1: 0.7, allowed at most 0.5"


@pytest.mark.parametrize(
    ("verdict", "wanted"),
    [
        ("pass", "passed"),
        ("fail", "failure"),
        ("fault", "failure"),
        ("not judged", "skipped"),
        ("cannot be told", "skipped"),
        ("a word of a later version", "skipped"),
    ],
)
def test_a_verdict_that_judges_nothing_is_skipped(verdict: str, wanted: str) -> None:
    (case,) = replay_cases(summary(verdict))
    assert outcome(case) == wanted


def test_a_threshold_that_cannot_be_told_is_skipped_and_answers_are_shown() -> None:
    reasons = [{"answer": "cannot be told", "text": "no model"}, {"answer": "yes", "text": "no stops"}]
    answer = {"question": "Safe?", "answer": "cannot be told", "reasons": reasons}
    content = summary("cannot be told", threshold("skill", None, None), answers={"safe": answer})
    verdict, skill = replay_cases(content)
    assert (outcome(skill), "not known, allowed at most 0.5" in skill.skipped) == ("skipped", True)
    assert verdict.output == "Safe? cannot be told; no model"
    assert "- Safe? cannot be told; no model" in replay_markdown(content)


def test_every_run_of_a_scenario_is_a_case_and_so_is_every_threshold() -> None:
    cases = replay_cases(scenario("could not run"))
    assert [(case.name, outcome(case)) for case in cases] == [
        ("ep1", "failure"),
        ("ep2", "error"),
        ("ep3", "passed"),
        ("ep4", "skipped"),
        ("action_l1", "failure"),
        ("verdict", "error"),
    ]
    text = replay_markdown(scenario("fail"))
    assert "| all | ep2 | no such bag |" in text
    assert "| action_l1 | 0.7 | at most 0.5 | **FAIL** |" in text


def test_the_xml_counts_what_it_holds_and_takes_any_text() -> None:
    cases = [
        JunitCase("a", "g", failure="bad <&> \x00 text"),
        JunitCase("b", "g", skipped="x"),
        JunitCase("c", "g"),
    ]
    root = ElementTree.fromstring(junit_xml("suite", cases))
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["3", "1", "0", "1"]
    failure = root.find("./testsuite/testcase[@name='a']/failure")
    assert failure is not None
    assert failure.text == "bad <&> ? text"


def test_a_name_with_a_bar_does_not_break_a_table() -> None:
    text = replay_markdown(summary("pass", warnings=["<script>"], faults=["a\nb"]))
    assert "ep\\|1" in text
    assert "<script>" not in text
    assert "| action_l1_normalised | 0.7 |" in text
    # Radians and shares of a range are not one number.
    assert "| action_l1 |" not in text
    assert "| skill | not known |" in text


def test_a_folder_without_a_summary_of_a_replay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema": "wam/demo/1"}', encoding="utf-8")
    with pytest.raises(RecordingError, match="not of a replay"):
        read_summary(tmp_path)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_ci_files(summary("pass"), junit=tmp_path / "no" / "a.xml", markdown=None)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_ci_files(summary("pass"), junit=None, markdown=tmp_path / "no" / "a.md")


def test_a_check_has_the_same_cases_for_every_recording() -> None:
    problem = RecordingProblem(Severity.ERROR, ProblemKind.CLOCKS, "/cam", "late", "--time receive", 3)
    warning = RecordingProblem(Severity.WARNING, ProblemKind.GAPS, "/cam", "a gap")
    clean = check_cases(CheckReport(Path("bag"), "recording", "", "", ()))
    cases = check_cases(CheckReport(Path("bag"), "recording", "", "", (problem, warning)))
    assert (
        [case.name for case in clean] == [case.name for case in cases] == [kind.title for kind in ProblemKind]
    )
    failed = {case.name: case.failure for case in cases if case.failure}
    assert failed == {"clocks": "error: /cam: late (3 times); --time receive"}
    assert next(case.output for case in cases if case.name == "gaps") == "warning: /cam: a gap"
