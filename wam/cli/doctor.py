# SPDX-License-Identifier: Apache-2.0
"""`wam doctor`: check this machine and suggest fixes."""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.cli.checks import all_checks, network_check, robot_checks
from wam.cli.machine_check import Check, Outcome
from wam.core.words import counted

EXIT_FAILED_CHECK = 2
PARALLEL = 2
MIN_TEXT = 20
"""Narrowest column of text [characters]."""
COLOURS = {Outcome.OK: "green", Outcome.INFO: "cyan", Outcome.WARN: "yellow", Outcome.FAIL: "bold red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as one JSON object.")] = False,
    robot: Annotated[
        str,
        typer.Option("--robot", metavar="NAME", help="Check only this robot's drivers."),
    ] = "",
) -> None:
    """Check this machine and suggest fixes. Changes nothing.

    Checks what the suite needs: Python, ROS 2 with a message through DDS, the built messages, torch and GPU, rendering
    without a display, compiler, shared memory, cores, memory and disk, and what a robot's driver wants of a computer:
    real-time priority and kernel, locked memory, isolated cores, clock rate, network cards, synchronised clocks.
    With --robot it listens to a robot's drivers for a few seconds instead, on the ROS domain and range of the shell,
    and shows the state of each joint group and the steps to recover.

    Exit codes: 0 nothing failed (hints and warnings are all right), 2 a check failed.
    """
    from wam.ros.environment import join

    environment = dict(os.environ)
    join("doctor", environment)
    console = Console(stderr=True)
    waiting = console.status("checking this machine") if console.is_terminal else contextlib.nullcontext()
    with waiting, ThreadPoolExecutor(PARALLEL) as pool:
        runs = all_checks(environment)
        if robot:
            runs = [lambda: [network_check(environment)], lambda: robot_checks(robot, environment)]
        checks = [check for group in pool.map(lambda run: run(), runs) for check in group]
    failed = sum(check.outcome is Outcome.FAIL for check in checks)
    if as_json:
        typer.echo(json.dumps(as_object(checks), indent=2))
    else:
        _show(checks)
    if failed:
        raise typer.Exit(EXIT_FAILED_CHECK)


def as_object(checks: list[Check]) -> dict[str, object]:
    """Return the checks as JSON-ready values: ok (nothing failed) and checks."""
    return {
        "ok": all(check.outcome is not Outcome.FAIL for check in checks),
        "checks": [
            {"name": c.name, "outcome": c.outcome.value, "found": c.found, "remedy": c.remedy} for c in checks
        ],
    }


def _show(checks: list[Check]) -> None:
    console = Console()
    marks = max((len(check.outcome.value) for check in checks), default=0) + 2
    indent = marks + max((len(check.name) for check in checks), default=0) + 2
    for check in checks:
        found = [
            line
            for part in check.found.splitlines() or [""]
            for line in textwrap.wrap(
                part, max(console.width - indent, MIN_TEXT), break_long_words=False, break_on_hyphens=False
            )
            or [""]
        ]
        mark = f"[{COLOURS[check.outcome]}]{check.outcome.value:<{marks}}[/]"
        lines = [f"{mark}{escape(f'{check.name:<{indent - marks}}{found[0]}')}"]
        lines += [f"{'':<{indent}}{escape(line)}" for line in found[1:]]
        # Not wrapped here: a command that is broken in two cannot be copied.
        for number, line in enumerate(check.remedy.splitlines()):
            lines.append(f"{'':<{indent}}[bold]{'  ' if number else '→ '}{escape(line)}[/bold]")
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False)
    counts = {outcome: sum(check.outcome is outcome for check in checks) for outcome in Outcome}
    console.print(
        f"{counted(len(checks), 'check')}: {counted(counts[Outcome.INFO], 'hint')}, "
        f"{counted(counts[Outcome.WARN], 'warning')}, "
        f"{counted(counts[Outcome.FAIL], 'failure')}"
    )
