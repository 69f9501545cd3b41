# SPDX-License-Identifier: Apache-2.0
"""`wam distill`: make a policy need fewer integration steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Distil a trained policy bundle into one that needs fewer integration steps.",
)


@app.callback()
def _group() -> None:
    """Keep the name of the policy a word of its own, although there may be one policy only."""


@app.command("aha-wam")
def aha_wam(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="YAML of the run; see docs/how-to/train.md.")
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(help="Bundle of the teacher; replaces model.bundle of the file.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Replace a value of the file; may be repeated."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue after the last checkpoint in run.out.")
    ] = False,
    until: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this step, to be continued with --resume.", show_default=False),
    ] = None,
) -> int:
    """Make AHA-WAM-Flash: a 1-, 2- or 4-step student of a 16-step teacher; the planner stays as it is."""
    from wam.policies.aha_wam.training.config import read_config
    from wam.policies.aha_wam.training.recipe import distill
    from wam.training.progress import run_shown

    given = [f"model.bundle={teacher}"] if teacher is not None else []
    return run_shown(distill, read_config(config, [*(settings or ()), *given]), resume=resume, until=until)
