# SPDX-License-Identifier: Apache-2.0
"""`wam train`: train a policy on a LeRobot data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wam.policies.dust.train_command import dust
from wam.policies.ud_vla.train_command import ud_vla

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="""Train a policy on a LeRobot v2.1 or v3.0 data set; the result is a policy bundle.

On many GPUs: `torchrun --nproc-per-node N -m wam.cli.main train aha-wam --config FILE`.""",
)


@app.callback()
def _group() -> None:
    """Keep the name of the policy a word of its own, since each policy has settings of its own."""


@app.command("aha-wam")
def aha_wam(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="YAML of the run; see docs/how-to/train.md.")
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
    """Train planner and executor of AHA-WAM together: checkpoints, losses.csv, losses.png, and a bundle.

    Ctrl-C ends the run after the current step with a checkpoint and a bundle.
    """
    from wam.policies.aha_wam.training.config import read_config
    from wam.policies.aha_wam.training.recipe import train
    from wam.training.progress import run_shown

    return run_shown(train, read_config(config, settings or ()), resume=resume, until=until)


app.command("dust")(dust)
app.command("ud-vla")(ud_vla)
