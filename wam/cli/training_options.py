# SPDX-License-Identifier: Apache-2.0
"""Options that `wam train` and `wam distill` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path, typer.Option("--config", "-c", help="YAML file of the run; see docs/how-to/train.md.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value of the file; may be repeated."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in run.out.")]
Until = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after this step; continue later with --resume.", show_default=False),
]

EvalEvery = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Steps between evaluations in closed loop (run.eval_every): simulated episodes of the data set's task.",
        show_default=False,
    ),
]

RESULT = (
    "\n\nWrites checkpoints, losses.csv, losses.png and a policy bundle in run.out. Ctrl-C ends the run after the "
    "current step with a checkpoint and a bundle."
)
"""End of the help text of every command."""
