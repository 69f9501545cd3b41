# SPDX-License-Identifier: Apache-2.0
"""What `wam replay` prints at its end: both answers with their reasons, then the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.evaluation.metrics.default_gate import Question
from wam.evaluation.metrics.gate import GateSource
from wam.evaluation.replay.answers import AnswerWord

if TYPE_CHECKING:
    from wam.evaluation.replay.answers import ReplayAnswer
    from wam.evaluation.replay.session import ReplayOutcome

COLORS = {AnswerWord.YES: "green", AnswerWord.NO: "red", AnswerWord.UNKNOWN: "bright_black"}
MARKS = {AnswerWord.YES: "+", AnswerWord.NO: "-", AnswerWord.UNKNOWN: "?"}
VERDICT_COLORS = {"pass": "green", "fail": "red", "fault": "red"}


def print_outcome(console: Console, outcome: ReplayOutcome) -> None:
    """Print the answers, the verdict and the figures of a replay."""
    from wam.evaluation.metrics.metric import Shown
    from wam.evaluation.metrics.table import shown
    from wam.evaluation.replay.sentences import contexts_and_judged

    figures, metrics = outcome.figures, outcome.summary["metrics"]
    if outcome.stopped:
        console.print("[bold yellow]Stopped before the end: what follows is of a part of the recording.[/]\n")
    for answer in figures.answers.both:
        _print_answer(console, answer)
    color = VERDICT_COLORS.get(figures.verdict, "default")
    by = {GateSource.DEFAULT: "by the default gate", GateSource.FILE: "by --gate", GateSource.NONE: ""}
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("verdict", f"[{color}]{figures.verdict}[/] {by[figures.gate_source]}".rstrip())
    table.add_row("chunks", f"{metrics['chunks']:.0f} ({contexts_and_judged(metrics)})")
    for metric in shown(Shown.TERMINAL):
        value = metrics[metric.name]
        table.add_row(metric.name, "–" if value is None else f"{value:.4g}")
    for one in figures.unit_errors:
        unit = "of the range" if one.unit == "1" else one.unit
        table.add_row(f"action_l1 of {escape(one.group)}", f"{one.l1:.4g} {unit}")
    factor = outcome.timing["results"]["realtime_factor"]
    table.add_row("speed", f"{factor:.1f} x real time" if factor else "–")
    if figures.gate_source is GateSource.FILE:
        for check in figures.checks:
            mark = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
            table.add_row(
                f"gate: {check.threshold.metric}", f"{mark} {check.value} (allowed {check.threshold.text()})"
            )
    console.print(table)


def print_scenario(summary: Mapping[str, Any]) -> None:
    """Print how many runs of a scenario have which answer, and the verdict."""
    for name, question in (("safe", Question.SAFE), ("like", Question.LIKE)):
        told = Counter(run["answers"][name] for run in summary["runs"] if run["answers"])
        counts = ", ".join(f"{reply.value} {told[reply.value]}" for reply in AnswerWord if told[reply.value])
        typer.echo(f"{question.value} {counts or 'no run came to an end'}")
    by = " (every run, by the default gate)" if summary["gate_source"] == GateSource.DEFAULT.value else ""
    typer.echo(f"verdict: {summary['verdict']}{by}")


def _print_answer(console: Console, answer: ReplayAnswer) -> None:
    color = COLORS[answer.reply]
    word = answer.reply.value.capitalize()
    console.print(f"{answer.question.value} [bold {color}]{word}[/]", highlight=False)
    for reason in answer.deciding:
        mark = f"[{COLORS[reason.reply]}]{MARKS[reason.reply]}[/]"
        console.print(f"  {mark} {escape(reason.text)}", soft_wrap=True, highlight=False)
    console.print()
