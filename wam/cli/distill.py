# SPDX-License-Identifier: Apache-2.0
"""`wam distill`: distil a policy to fewer integration steps; one subcommand per policy that supports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from wam.cli.training_options import RESULT, Config, Resume, Settings, Until
from wam.policies.kind import TrainingCommand
from wam.policies.registry import registry

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Distil a trained policy bundle into one that needs fewer integration steps.",
)


@app.callback()
def _group() -> None:
    """Keep the policy's name a subcommand even where only one policy can be distilled."""


def _command(distillation: TrainingCommand) -> Callable[..., None]:
    def distill(
        config: Config,
        teacher: Annotated[
            Path | None,
            typer.Option(
                help="Bundle of the teacher; overrides model.bundle of the file.", show_default=False
            ),
        ] = None,
        settings: Settings = None,
        resume: Resume = False,
        until: Until = None,
    ) -> None:
        from wam.training.progress import train_from_file

        given = [f"model.bundle={teacher}"] if teacher is not None else []
        train_from_file(
            distillation.load(), config, overrides=[*(settings or ()), *given], resume=resume, until=until
        )

    return distill


for _kind in registry().kinds.values():
    if _kind.distill is not None:
        app.command(_kind.command, help=_kind.distill.help + RESULT)(_command(_kind.distill))
