# SPDX-License-Identifier: Apache-2.0
"""`wam train`: train a policy on a LeRobot data set; one subcommand per policy that has a recipe."""

from __future__ import annotations

from collections.abc import Callable

import typer

from wam.cli.training_options import RESULT, Config, EvalEvery, Resume, Settings, Until
from wam.policies.kind import TrainingCommand
from wam.policies.registry import registry

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="""Train a policy on a LeRobot v2.0, v2.1 or v3.0 data set; the result is a policy bundle.

On several GPUs: `torchrun --nproc-per-node N -m wam.cli.main train aha-wam --config FILE`.""",
)


@app.callback()
def _group() -> None:
    """Keep the policy's name a subcommand even where only one policy can be trained."""


def _command(training: TrainingCommand) -> Callable[..., None]:
    def train(
        config: Config,
        settings: Settings = None,
        resume: Resume = False,
        until: Until = None,
        eval_every: EvalEvery = None,
    ) -> None:
        from wam.evaluation.closed_loop.during_training import score_bundle
        from wam.training.progress import train_from_file

        overrides = list(settings or ())
        if eval_every is not None:
            overrides.append(f"run.eval_every={eval_every}")
        train_from_file(
            training.load(),
            config,
            overrides=overrides,
            resume=resume,
            until=until,
            closed_loop=score_bundle,
        )

    return train


for _kind in registry().kinds.values():
    if _kind.train is not None:
        app.command(_kind.command, help=_kind.train.help + RESULT)(_command(_kind.train))
