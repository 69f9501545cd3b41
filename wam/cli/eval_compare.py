# SPDX-License-Identifier: Apache-2.0
"""`wam eval compare`: policies and controls on the same seeds, as a table."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wam.core.errors import ConfigError

EXIT_INTERRUPTED = 130
BLOCK = "policies"


def compare(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="YAML file of the comparison: tables of a task, seeds and rows."),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder that keeps the rows; a row that it has is not played again.")
    ],
    page: Annotated[
        Path | None,
        typer.Option(
            help="Markdown page whose block between <!-- policies: begin --> and <!-- policies: end --> is replaced.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(help="Episodes played at a time, each in its own process.", min=1)
    ] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of each policy.", min=1)] = 1,
) -> None:
    """Play every row of a comparison in mode fast, and compare the rows seed by seed.

    Writes comparison.json and comparison.md to OUT. Ctrl-C keeps the rows that are complete.

    Example: wam eval compare policies.yaml --out runs/policies --processes 2
    """
    from wam.core.signals import stop_on_signals
    from wam.evaluation.closed_loop.comparison import (
        comparison_as_json,
        comparison_as_markdown,
        play_rows,
    )
    from wam.evaluation.closed_loop.comparison_file import read_comparison
    from wam.evaluation.closed_loop.scores import EpisodeRecord
    from wam.evaluation.reference import insert
    from wam.report.folder import write_json

    tables = read_comparison(file)
    if page is not None and not page.is_file():
        raise ConfigError("there is no such page", value=str(page), allowed="a Markdown file", where="--page")
    before = page.read_text(encoding="utf-8") if page is not None else ""
    if page is not None:
        insert(before, "", page=str(page), name=BLOCK)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    stop = threading.Event()
    done = []
    with stop_on_signals(stop):
        for table in tables:
            count, total = 0, len(table.options.seeds)

            def begun(label: str, task: str = table.options.task.name) -> None:
                nonlocal count
                count = 0
                console.print(f"{task}: {label}")

            def told(episode: EpisodeRecord, total: int = total) -> None:
                nonlocal count
                count += 1
                console.print(f"  {episode.line(count, total)}")

            summaries = play_rows(
                table, out, processes=processes, threads=threads, begun=begun, done=told, stopped=stop.is_set
            )
            if summaries is None:
                console.print(f"stopped; complete rows are in {out}")
                raise typer.Exit(EXIT_INTERRUPTED)
            done.append(comparison_as_json(table, summaries))
    text = comparison_as_markdown(done)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "comparison.json", {"schema": "wam/eval-comparison/1", "tables": done})
    (out / "comparison.md").write_text(text, encoding="utf-8")
    if page is not None:
        page.write_text(insert(before, text, page=str(page), name=BLOCK), encoding="utf-8")
    typer.echo(text)
