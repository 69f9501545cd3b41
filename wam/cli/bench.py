# SPDX-License-Identifier: Apache-2.0
"""`wam bench NAME`: run one measurement, show it beside its limits, say by the exit code whether they were kept."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.bench import BENCHES, load_bench
from wam.bench.result import Measured
from wam.core.errors import ConfigError

EXIT_MISSED = 1
EXIT_UNKNOWN = 2


def bench(
    name: Annotated[str, typer.Argument(help=f"What to measure: {', '.join(sorted(BENCHES))}.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results, bars and machine as one JSON object.")
    ] = False,
) -> None:
    """Measure a part of the suite on this machine and compare it with its limits.

    Exit codes: 0 every limit was kept, 1 one was missed, 2 there is no such bench.
    """
    progress = Console(stderr=True)
    try:
        run = load_bench(name)
    except ConfigError as error:
        progress.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(EXIT_UNKNOWN) from None
    with progress.status(f"bench {name}") as status:
        measured = run(lambda text: status.update(f"bench {name}: {text}"))
    if as_json:
        typer.echo(json.dumps(measured.as_json(), indent=2))
    else:
        Console().print(_table(name, measured))
    for note in measured.notes:
        progress.print(f"note: {escape(note)}")
    if not measured.ok:
        raise typer.Exit(EXIT_MISSED)


def _table(name: str, measured: Measured) -> Table:
    machine = measured.as_json()["machine"]
    table = Table(
        title=f"wam bench {name}",
        caption=f"{machine['cpu']}, {machine['usable_cores']} cores, load {machine['load_1min']}",
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("")
    for metric in [*measured.results, *(set(measured.bars) - set(measured.results))]:
        value, bar = measured.results.get(metric), measured.bars.get(metric)
        shown = "not measured" if value is None else f"{value:,.6g}"
        if bar is None:
            table.add_row(metric, shown, "", "")
            continue
        verdict = "[green]ok[/green]" if bar.ok(value) else "[red]missed[/red]"
        table.add_row(metric, shown, f"{'≤' if bar.kind == 'max' else '≥'} {bar.limit:,.6g}", verdict)
    return table
