# SPDX-License-Identifier: Apache-2.0
"""`wam sim ...`: simulated tasks without ROS."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.cli.progress import row_progress
from wam.cli.sim_pictures import gif, picture
from wam.cli.sim_record import record

if TYPE_CHECKING:
    from wam.evaluation.closed_loop.experts import Rate

EXIT_MISSED = 2
REQUIRED = 0.95
"""Required success rate of an expert."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulated tasks, without ROS: list and render them, run and record their scripted experts.",
)
app.command()(record)
app.command()(picture)
app.command()(gif)


@app.command()
def tasks(
    robot: Annotated[str, typer.Option(help="List the tasks of this robot only.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the tasks as JSON.")] = False,
) -> None:
    """List the tasks with their instruction, variants, stages and settings."""
    from wam.sim.tasks.registry import TASKS, tasks_of

    chosen = tasks_of(robot) if robot else tuple(TASKS.values())
    if as_json:
        rows = [
            {
                "name": task.name,
                "robot": task.robot,
                "title": task.title,
                "instruction": task.instruction,
                "variants": [one.name for one in task.variants],
                "unseen_variants": [one.name for one in task.unseen],
                "stages": list(task.stage_names),
                "settings": [one.value for one in task.settings],
                "time_limit_s": task.time_limit,
            }
            for task in chosen
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(title="wam sim tasks")
    table.add_column("task", no_wrap=True)
    for column in ("instruction and objects", "stages"):
        table.add_column(column, overflow="fold")
    for task in chosen:
        variants = ", ".join(one.name for one in task.variants)
        stages = "\n".join(f"{i} {name}" for i, name in enumerate(task.stage_names, start=1))
        table.add_row(task.name, f"{escape(task.instruction)}\n[dim]{escape(variants)}[/dim]", stages)
    Console().print(table)


@app.command()
def experts(
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task to run; may be repeated. Default: all.", show_default=False),
    ] = None,
    robot: Annotated[str, typer.Option(help="Run all tasks of this robot.", show_default=False)] = "",
    seeds: Annotated[int, typer.Option(help="Episodes per task: seeds 0, 1, 2, ...", min=1)] = 50,
    setting: Annotated[str, typer.Option(help="'seen', or one of the task's unseen settings.")] = "seen",
    processes: Annotated[
        int,
        typer.Option(help="Number of parallel processes; 0 uses one per core.", min=0, show_default=False),
    ] = 0,
    table: Annotated[
        Path | None,
        typer.Option(
            help="Write the table to this Markdown file (docs/reference/experts.md).", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rates and episodes as JSON.")] = False,
) -> None:
    """Run the scripted experts on their tasks and report their success rates.

    Exit codes: 0 every expert succeeds in at least 95 % of its episodes, 1 could not run, 2 one does not.
    """
    from wam.evaluation.closed_loop.experts import as_markdown, rates
    from wam.sim.measure import batches, run_batches
    from wam.sim.tasks.registry import TASKS, find_setting, find_task, tasks_of

    names = [find_task(name).name for name in task or ()]
    names += [one.name for one in tasks_of(robot)] if robot else []
    names = list(dict.fromkeys(names)) or list(TASKS)
    conditions = [find_setting(TASKS[name], setting) for name in names]
    work = batches(names, range(seeds), setting=conditions[0])
    console = Console(stderr=True)
    with row_progress(console, "wam sim experts", unit="episodes") as progress:
        count = 0

        def done(result: object) -> None:
            nonlocal count
            count += 1
            progress(count, seeds * len(names))

        results = run_batches(work, processes=processes or os.cpu_count() or 1, done=done)
    measured = rates(results)
    if table is not None:
        table.write_text(as_markdown(measured), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in measured], indent=2))
    else:
        _print(measured)
    for result in results:
        if not result.success:
            text = f"{result.task}, seed {result.seed}, {result.variant}: {result.progress} of 3"
            console.print(escape(text + (f": {result.error}" if result.error else "")), soft_wrap=True)
    if any(one.rate.value < REQUIRED for one in measured):
        raise typer.Exit(EXIT_MISSED)


def _print(measured: Sequence[Rate]) -> None:
    table = Table(
        title="wam sim experts", caption="interval: Wilson, 95 %; score, time: mean; force: maximum"
    )
    table.add_column("task", no_wrap=True)
    for column in ("success", "interval", "score", "time", "force"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in measured:
        colour = "green" if one.rate.value >= REQUIRED else "red"
        table.add_row(
            one.task,
            f"[{colour}]{one.successes}/{one.episodes}[/{colour}]",
            f"{one.rate.low:.2f}..{one.rate.high:.2f}",
            f"{one.mean_score:.2f}",
            f"{one.mean_time:.1f} s",
            f"{one.max_force:.0f} N",
        )
    Console().print(table)
