# SPDX-License-Identifier: Apache-2.0
"""What `wam replay` and `wam replay compare` print."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_outcome(console: Console, outcome: Any) -> None:
    """Print the figures of a replay (`wam.evaluation.replay.session.ReplayOutcome`)."""
    from wam.evaluation.metrics.metric import Shown
    from wam.evaluation.metrics.table import shown

    metrics = outcome.summary["metrics"]
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("verdict", outcome.summary["verdict"])
    table.add_row("chunks", f"{metrics['chunks']:.0f} ({metrics['contexts']:.0f} planner contexts)")
    for metric in shown(Shown.TERMINAL):
        value = metrics[metric.name]
        table.add_row(metric.name, "–" if value is None else f"{value:.4g}")
    factor = outcome.timing["results"]["realtime_factor"]
    table.add_row("speed", f"{factor:.1f} x real time" if factor else "–")
    for check in outcome.figures.checks:
        mark = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]"
        table.add_row(
            f"gate: {check.threshold.metric}", f"{mark} {check.value} (allowed {check.threshold.text()})"
        )
    console.print(table)


def print_comparison(console: Console, result: Any) -> None:
    """Print two replays side by side (`wam.evaluation.replay.compare.Comparison`)."""
    for name, values in result.settings.items():
        console.print(f"{name}: {values[0]} | {values[1]}", highlight=False)
    table = Table("error", "A", "B", "B - A", "95 % interval", "", box=None, pad_edge=False)
    for d in result.differences:
        span = f"{d.difference.low:.2g} to {d.difference.high:.2g}"
        numbers = (f"{d.first:.4g}", f"{d.second:.4g}", f"{d.difference.value:+.2g}")
        # The whole table fits a terminal of 80 columns.
        said = {"second is better": "B is better", "first is better": "A is better"}
        table.add_row(d.name, *numbers, span, said.get(d.verdict, "not significant"))
    console.print(table)
    console.print(
        f"{result.pairs} pairs of chunks, {result.unpaired} chunks without a partner", highlight=False
    )
