# SPDX-License-Identifier: Apache-2.0
"""A replay, or a scenario of many, for CI: JUnit XML and a Markdown summary, made of summary.json.

Verdicts that judge nothing ("not judged", "cannot be told") are skipped cases: CI shows them, and fails by none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError, RecordingError
from wam.report.folder import SUMMARY
from wam.report.junit import JunitCase, write_junit

FAILED = ("fail", "fault")
PASSED = "pass"
COULD_NOT_RUN = "could not run"

SHOWN = (
    "chunks",
    "action_l1_normalised",
    "hold_l1_normalised",
    "skill",
    "repeat_skill",
    "executed_l1_normalised",
    "rows_beyond_limits",
    "safety_hold_share",
)
"""Metrics that the Markdown summary shows, as far as the summary has them."""

Summary = Mapping[str, Any]


def read_summary(report: Path) -> dict[str, Any]:
    """Return the summary of a report.

    Raises:
        RecordingError: there is none, or it is damaged or of another kind.
    """
    path = report / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(
            f"{path} cannot be read ({error})",
            allowed="the report of a replay or of a scenario",
            where=str(report),
        ) from error
    schema = content.get("schema", "") if isinstance(content, dict) else ""
    if not str(schema).startswith("wam/replay-s"):
        raise RecordingError(
            f"{path} is not of a replay",
            value=schema,
            allowed="the report of a replay or of a scenario",
            where=str(report),
        )
    return dict(content)


def replay_cases(summary: Summary) -> list[JunitCase]:
    """Return the test cases of a summary: of a replay, one per threshold and one for the policy; of a scenario, one per
    threshold of each variant and one per run.
    """
    if "runs" in summary:
        return _scenario_cases(summary)
    group = f"wam.replay.{summary['recording']['name']}"
    faults = "\n".join(summary["faults"])
    cases = [_verdict_case(str(summary["verdict"]), group, summary, faults)]
    return [*cases, *(_threshold_case(check, group) for check in summary["gate"])]


def _scenario_cases(summary: Summary) -> list[JunitCase]:
    name = f"wam.replay.{summary['scenario']}"
    cases = []
    for run in summary["runs"]:
        verdict = str(run.get("verdict", "pass"))
        cases.append(
            JunitCase(
                str(run["recording"]),
                f"{name}.{run['variant']}",
                error=str(run["error"] or ""),
                failure="" if run["error"] or verdict not in FAILED else f"verdict: {verdict}",
                skipped="" if run["error"] or verdict in (PASSED, *FAILED) else verdict,
            )
        )
    for variant, content in summary["variants"].items():
        cases += [_threshold_case(check, f"{name}.{variant}") for check in content["gate"]]
    return [*cases, _verdict_case(str(summary["verdict"]), name, summary, "")]


def _verdict_case(verdict: str, group: str, summary: Summary, faults: str) -> JunitCase:
    """Return the case of the verdict; one that is not known judges nothing."""
    return JunitCase(
        "verdict",
        group,
        failure="\n".join(filter(None, (f"verdict: {verdict}", faults))) if verdict in FAILED else "",
        error=verdict if verdict == COULD_NOT_RUN else "",
        skipped="" if verdict in (PASSED, COULD_NOT_RUN, *FAILED) else verdict,
        output="\n".join(_answers(summary)),
    )


def _threshold_case(check: Mapping[str, Any], group: str) -> JunitCase:
    value, passed = check["value"], check["passed"]
    text = f"{check['metric']}: {_number(value)}, allowed {_allowed(check)}"
    return JunitCase(
        str(check["metric"]),
        group,
        failure=text if passed is False else "",
        skipped=f"cannot be told: {text}" if passed is None else "",
        output=text,
    )


def replay_markdown(summary: Summary) -> str:
    """Return the summary of a replay or a scenario as a page for a pull request."""
    if "runs" in summary:
        return "\n".join(_scenario_lines(summary)) + "\n"
    recording, metrics = summary["recording"], summary["metrics"]
    lines = [
        f"### wam replay: {_plain(recording['name'])}: **{_plain(summary['verdict'])}**",
        "",
        f"{_plain(summary['policy']['name'])} on {_plain(summary['robot'])}, {_number(recording['duration_s'])} s, "
        f"compared with the {summary['settings']['reference']}.",
        *(f"- {_plain(line)}" for line in _answers(summary)),
        "",
        *_table(("metric", "value"), [(name, _number(metrics[name])) for name in SHOWN if name in metrics]),
        *_gate_lines(summary["gate"]),
    ]
    lines += [f"- fault: {_plain(fault)}" for fault in summary["faults"]]
    if summary["warnings"]:
        lines += ["", "<details><summary>Warnings</summary>", ""]
        lines += [*(f"- {_plain(warning)}" for warning in summary["warnings"]), "", "</details>"]
    return "\n".join(lines) + "\n"


def _scenario_lines(summary: Summary) -> list[str]:
    runs = [
        (run["variant"], run["recording"], run["error"] or run.get("verdict", "")) for run in summary["runs"]
    ]
    lines = [
        f"### wam replay scenario: {_plain(summary['scenario'])}: **{_plain(summary['verdict'])}**",
        "",
        *_table(("variant", "recording", "result"), runs),
    ]
    for variant, content in summary["variants"].items():
        gate = _gate_lines(content["gate"])
        if gate:
            lines += ["", f"#### {_plain(variant)}", *gate]
    return lines


def _gate_lines(gate: Sequence[Mapping[str, Any]]) -> list[str]:
    words = {True: "pass", False: "**FAIL**", None: "cannot be told"}
    rows = [(one["metric"], _number(one["value"]), _allowed(one), words[one["passed"]]) for one in gate]
    return ["", *_table(("threshold", "value", "allowed", ""), rows)] if rows else []


def write_ci_files(summary: Summary, *, junit: Path | None, markdown: Path | None) -> None:
    """Write the files that were asked for.

    Raises:
        ConfigError: one cannot be written.
    """
    if junit is not None:
        name = summary.get("scenario") or summary["recording"]["name"]
        write_junit(junit, f"wam replay {name}", replay_cases(summary))
    if markdown is not None:
        try:
            markdown.write_text(replay_markdown(summary), encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{markdown} cannot be written ({error.strerror or error})", where="--markdown"
            ) from error


def _answers(summary: Summary) -> list[str]:
    """Return the answers that a summary gives to its questions, a line each, with what speaks against a yes."""
    answers = summary.get("answers")
    if not isinstance(answers, Mapping):
        return []
    return [
        f"{answer.get('question', name)} {answer['answer']}"
        + "".join(f"; {reason['text']}" for reason in answer.get("reasons", ()) if reason["answer"] != "yes")
        for name, answer in answers.items()
    ]


def _allowed(check: Mapping[str, Any]) -> str:
    parts = (("at least", check["min"]), ("at most", check["max"]))
    return " and ".join(f"{word} {limit:g}" for word, limit in parts if limit is not None)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return []
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines]


def _plain(value: object) -> str:
    """Return a text that does not end a table's cell; names of recordings and faults come from outside."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
