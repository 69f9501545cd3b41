# SPDX-License-Identifier: Apache-2.0
"""`wam bench NAME`: run one benchmark and compare it with its limits; the exit code says whether they are met."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.bench import BENCHES, load_bench
from wam.bench.result import BenchResult
from wam.core.errors import ConfigError

EXIT_MISSED = 1
EXIT_UNKNOWN = 2


def bench(
    name: Annotated[str, typer.Argument(help=f"What to measure: {', '.join(sorted(BENCHES))}.")],
    policy: Annotated[
        str | None,
        typer.Option(
            help="chunk: also time prefill and chunk of this policy. decode: use the sizes of this policy. "
            "loop: the policy; default: that of `wam demo ROBOT`.",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="decode: preset of ud_vla whose sizes are used instead of a policy's, e.g. paper.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="decode: override the number of layers.", min=1, show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="decode: cpu or cuda; default: the GPU, if there is one.", show_default=False),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="decode: float32 or bfloat16.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="decode: T of JD3P; default 72.", min=1, show_default=False)
    ] = None,
    chunks: Annotated[
        int | None, typer.Option(help="seams: number of chunks.", min=1, show_default=False)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="command, sim, loop: length of the run [s].", min=1.0, show_default=False),
    ] = None,
    q: Annotated[
        str | None,
        typer.Option(
            help="chunk of a dust policy: vision steps per action step, e.g. 1,4,16.", show_default=False
        ),
    ] = None,
    robot: Annotated[
        str | None,
        typer.Option(
            help="attack, seams, command, collision, loop: name of the robot file.", show_default=False
        ),
    ] = None,
    cases: Annotated[
        int | None, typer.Option(help="attack, fuzz: number of cases.", min=1, show_default=False)
    ] = None,
    walls: Annotated[
        int | None, typer.Option(help="attack: runs against a wall.", min=0, show_default=False)
    ] = None,
    streams: Annotated[
        int | None, typer.Option(help="attack: streams of chunks.", min=0, show_default=False)
    ] = None,
    geometry: Annotated[
        int | None, typer.Option(help="attack: runs on the robot's geometry.", min=0, show_default=False)
    ] = None,
    per_type: Annotated[
        int | None, typer.Option(help="fuzz: messages of each type.", min=1, show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="attack, fuzz: seed of the campaign.", min=0, show_default=False)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="attack: processes; default: one per core.", min=1, show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="attack, fuzz: file of what is finished; a later run with it goes on from there.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print results, limits and machine as one JSON object.")
    ] = False,
) -> None:
    """Measure a part of the suite on this machine and compare it with its limits.

    Exit codes: 0 all limits met, 1 a limit missed, 2 no such bench or option, or a file of another campaign.
    """
    from wam.ros.environment import join

    progress = Console(stderr=True)
    # Before a bench is loaded: rclpy reads the environment when it is imported.
    join("bench", os.environ)
    given = {
        "policy": policy,
        "preset": preset,
        "layers": layers,
        "device": device,
        "dtype": dtype,
        "steps": steps,
        "chunks": chunks,
        "seconds": seconds,
        "q": q,
        "robot": robot,
        "cases": cases,
        "walls": walls,
        "streams": streams,
        "geometry": geometry,
        "per_type": per_type,
        "seed": seed,
        "jobs": jobs,
        "resume": resume,
    }
    try:
        run = load_bench(name)
        options = options_for(name, run, given)
    except ConfigError as error:
        progress.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(EXIT_UNKNOWN) from None
    try:
        with progress.status(f"bench {name}") as status:

            def announce(text: str) -> None:
                status.update(f"bench {name}: {text}")
                if not progress.is_terminal:  # where nothing turns, a line tells how far it is
                    progress.print(f"bench {name}: {text}", highlight=False, soft_wrap=True)

            measured = run(announce, **options)
    except ConfigError as error:
        progress.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(EXIT_UNKNOWN) from None
    if as_json:
        typer.echo(json.dumps(measured.as_json(), indent=2))
    else:
        Console().print(_table(name, measured))
    for note in measured.notes:
        progress.print(f"note: {escape(note)}")
    if not measured.ok:
        raise typer.Exit(EXIT_MISSED)


def options_for(name: str, run: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were set, checked against those of the bench.

    Raises:
        ConfigError: an option was set that this bench does not have.
    """
    has = [option for option in inspect.signature(run).parameters if option in given]
    chosen = {option: value for option, value in given.items() if value is not None}
    for option in chosen:
        if option not in has:
            raise ConfigError(
                f"bench {name} has no option --{option.replace('_', '-')}",
                allowed=", ".join(f"--{one.replace('_', '-')}" for one in has) or "no option but --json",
                where="the command line",
            )
    return chosen


def _table(name: str, measured: BenchResult) -> Table:
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
