# SPDX-License-Identifier: Apache-2.0
"""`index.html` of a scenario: verdict, variants side by side, every run with its own report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wam.core.words import counted
from wam.evaluation.metrics.gate import GateSource
from wam.evaluation.metrics.metric import Shown
from wam.evaluation.metrics.table import shown
from wam.evaluation.replay.scenario import FEWEST_FOR_INTERVAL, Checked, Run, Scenario
from wam.evaluation.replay.scenario_browser import browser_section
from wam.report.page import Page, Section, Table, Tile, number, render
from wam.report.read_on import next_section, words_section
from wam.report.tone import Tone

TONES = {
    "pass": Tone.GOOD,
    "fail": Tone.BAD,
    "fault": Tone.BAD,
    "could not run": Tone.BAD,
    "cannot be told": Tone.PLAIN,
    "not judged": Tone.PLAIN,
}
HEADLINES = {
    "pass": "Gate passed",
    "fail": "Gate failed",
    "fault": "A policy produced what must not reach a robot",
    "could not run": "Not every run could be done",
    "not judged": "Not judged: gate: none",
}
BY_DEFAULT = {
    "pass": "Passed by the default gate",
    "fail": "Failed by the default gate",
    "cannot be told": "The default gate cannot judge every run",
}
_ANSWERS = "Safe?, as the person?: the default gate's two answers, explained in the report of the run."
RUN_VERDICTS = {
    "default": "Without a gate, every run is judged by the default gate, and the worst run decides. "
    + _ANSWERS,
    "file": "The gate judges the means over recordings; verdict: the same thresholds on this run alone. "
    + _ANSWERS,
    "none": "Nothing is judged (gate: none). " + _ANSWERS,
}
"""What the verdict of a run means, by the source of the gate."""


def build_scenario_page(
    scenario: Scenario,
    runs: Sequence[Run],
    summary: dict[str, Any],
    timing: dict[str, Any],
    checked: Sequence[Checked],
    folder: Path,
) -> str:
    """Return the page as HTML.

    Args:
        scenario: what was replayed.
        runs: every run.
        summary: content of the scenario's summary.json.
        timing: content of its timing.json.
        checked: the gate of every variant.
        folder: in which the reports of the runs lie.
    """
    return render(
        Page(
            title=f"Scenario {scenario.name}",
            subtitle=f"{counted(len(scenario.recordings), 'recording')} of {scenario.robot}, "
            f"{counted(len(scenario.variants), 'variant')}",
            tone=TONES[summary["verdict"]],
            verdict=_headline(summary),
            reasons=_reasons(runs, checked, by_default=_by_default(summary)),
            tiles=(
                Tile("recordings", str(len(scenario.recordings))),
                Tile("variants", str(len(scenario.variants))),
                Tile("runs", str(len(runs)), f"{sum(bool(run.error) for run in runs)} could not run"),
            ),
            sections=(
                _variant_section(summary),
                browser_section(runs, folder, tones=TONES, intro=RUN_VERDICTS[summary["gate_source"]]),
                *_last_sections(),
                _timing_section(timing),
            ),
            footer="Written by wam replay scenario. Every run has a report of its own in runs/.",
        )
    )


def _by_default(summary: dict[str, Any]) -> bool:
    return bool(summary["gate_source"] == GateSource.DEFAULT.value)


def _headline(summary: dict[str, Any]) -> str:
    verdict = summary["verdict"]
    if not _by_default(summary) or verdict not in BY_DEFAULT:
        return HEADLINES[verdict]
    judged = [run["verdict"] for run in summary["runs"]]
    return f"{BY_DEFAULT[verdict]}: {judged.count('pass')} of {len(judged)} runs passed"


def _reasons(runs: Sequence[Run], checked: Sequence[Checked], *, by_default: bool) -> tuple[str, ...]:
    lines = [f"{run.recording}, {run.variant}: {run.error}" for run in runs if run.error]
    lines += [
        f"{variant.name}: {check.threshold.metric} is {_cell(check.value)}, allowed {check.threshold.text()}"
        for variant, checks in checked
        for check in checks
        if not check.passed
    ]
    if by_default:
        lines += [line for run in runs if not run.error for line in _against(run)]
    return tuple(lines[:12])


def _against(run: Run) -> list[str]:
    """Return the first reason of every answer of a run that is not yes."""
    return [
        f"{run.recording}, {run.variant}: {answer['question']} {answer['answer'].capitalize()}: "
        f"{answer['reasons'][0]['text']}"
        for answer in run.summary["answers"].values()
        if answer["answer"] != "yes"
    ]


def _variant_section(summary: dict[str, Any]) -> Section:
    names = tuple(metric.name for metric in shown(Shown.VARIANTS))
    rows = []
    for name, variant in summary["variants"].items():
        metrics = variant["metrics"]
        cells = []
        for metric in names:
            mean = metrics.get(metric)
            if mean is None or mean["value"] is None:
                cells.append("–")
            elif mean["low"] is None:
                cells.append(_cell(mean["value"]))
            else:
                cells.append(f"{_cell(mean['value'])} ({_cell(mean['low'])} to {_cell(mean['high'])})")
        rows.append((name, str(variant["recordings"]), *cells))
    return Section(
        "Variants",
        (Table(("variant", "recordings", *names), tuple(rows)),),
        intro=f"Means over recordings, with 95 % bootstrap intervals over recordings where there are at least "
        f"{FEWEST_FOR_INTERVAL} of them.",
    )


def _timing_section(timing: dict[str, Any]) -> Section:
    measured = [(name, number(value)) for name, value in timing["results"].items() if value is not None]
    rows = measured or [
        ("L_prefill, L_chunk", "no variant was timed: each needs two recordings, the first warms up")
    ]
    rows += [(name.replace("_", " "), str(value)) for name, value in timing["machine"].items()]
    return Section(
        "Times and machine",
        (Table((), (("processes at a time", str(timing["jobs"])), *rows), text=True),),
        intro="L_prefill and L_chunk: means per recording, averaged, without the first of a variant (warm-up).",
        folded=True,
    )


def _last_sections() -> tuple[Section, ...]:
    steps = (
        ("two runs side by side", "wam replay compare OUT/runs/A OUT/runs/B --page compare.html"),
        (
            "one run on the real nodes",
            "wam replay BAG --robot ROBOT --policy POLICY --mode live --report live",
        ),
        ("for CI", "wam replay scenario FILE --report OUT --junit junit.xml --markdown summary.md"),
    )
    return next_section(steps), words_section("planner context", "chunk", "held", "refused")


def _cell(value: float | None) -> str:
    return "–" if value is None else number(value)
