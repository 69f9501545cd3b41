# SPDX-License-Identifier: Apache-2.0
"""The command `wam train dust`; `wam.cli.train` registers it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def dust(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="YAML of the run; see docs/explanation/dust.md.")
    ],
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
    """Train DUST on robot data or on videos alone, its ablations and its baselines; the result is a bundle.

    Ctrl-C ends the run after the current step with a checkpoint and a bundle.
    """
    from wam.policies.dust.training.config import read_dust_config
    from wam.policies.dust.training.recipe import train_dust
    from wam.training.progress import run_shown

    return run_shown(train_dust, read_dust_config(config, settings or ()), resume=resume, until=until)  # type: ignore[arg-type]
