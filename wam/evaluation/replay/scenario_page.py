# SPDX-License-Identifier: Apache-2.0
"""`index.html` of a scenario: verdict, variants side by side, every run with its own report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from wam.evaluation.metrics.metric import Shown
from wam.evaluation.metrics.table import shown
from wam.evaluation.replay.scenario import Checked, Run, Scenario
from wam.report.folder import INDEX
from wam.report.page import Link, Page, Section, Table, Tile, Tone, number, render

TONES = {
    "pass": Tone.GOOD,
    "fail": Tone.BAD,
    "fault": Tone.BAD,
    "could not run": Tone.BAD,
    "not judged": Tone.PLAIN,
}
HEADLINES = {
    "pass": "Gate passed",
    "fail": "Gate failed",
    "fault": "A policy produced what must not reach a robot",
    "could not run": "Not every run could be done",
    "not judged": "Not judged: the scenario has no gate",
}


def build_scenario_page(
    scenario: Scenario,
    runs: Sequence[Run],
    summary: dict[str, Any],
    timing: dict[str, Any],
    checked: Sequence[Checked],
) -> str:
    """Return the page as HTML."""
    return render(
        Page(
            title=f"Scenario {scenario.name}",
            subtitle=f"{len(scenario.recordings)} recordings of {scenario.robot}, {len(scenario.variants)} variants",
            tone=TONES[summary["verdict"]],
            verdict=HEADLINES[summary["verdict"]],
            reasons=_reasons(runs, checked),
            tiles=(
                Tile("recordings", str(len(scenario.recordings))),
                Tile("variants", str(len(scenario.variants))),
                Tile("runs", str(len(runs)), f"{sum(bool(run.error) for run in runs)} could not run"),
            ),
            sections=(
                _variant_section(summary),
                _run_section(runs),
                _timing_section(timing),
            ),
            footer="Written by wam replay scenario. Every run has a report of its own in runs/.",
        )
    )


def _reasons(runs: Sequence[Run], checked: Sequence[Checked]) -> tuple[str, ...]:
    lines = [f"{run.recording}, {run.variant}: {run.error}" for run in runs if run.error]
    lines += [
        f"{variant.name}: {check.threshold.metric} is {_cell(check.value)}, allowed {check.threshold.text()}"
        for variant, checks in checked
        for check in checks
        if not check.passed
    ]
    return tuple(lines[:12])


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
        intro="Means over recordings, with 95 % bootstrap intervals over recordings.",
    )


def _run_section(runs: Sequence[Run]) -> Section:
    names = tuple(metric.name for metric in shown(Shown.RUNS))
    rows = tuple(
        (
            run.recording,
            run.variant,
            *(
                ("could not run", *("" for _ in names), run.error)
                if run.error
                else (
                    run.summary["verdict"],
                    *(_cell(run.summary["metrics"][name]) for name in names),
                    Link("open", quote(f"{run.folder}/{INDEX}")),
                )
            ),
        )
        for run in runs
    )
    return Section("Runs", (Table(("recording", "variant", "verdict", *names, "report"), rows, text=True),))


def _timing_section(timing: dict[str, Any]) -> Section:
    rows = [(name, _cell(value)) for name, value in timing["results"].items()]
    rows += [(name.replace("_", " "), str(value)) for name, value in timing["machine"].items()]
    return Section(
        "Times and machine",
        (Table((), (("processes at a time", str(timing["jobs"])), *rows), text=True),),
        intro="L_prefill and L_chunk: means per recording, averaged, without the first of a variant (warm-up).",
    )


def _cell(value: float | None) -> str:
    return "–" if value is None else number(value)
