# SPDX-License-Identifier: Apache-2.0
"""`wam init`: draft a robot file, create initial weights for training; each policy adds its own subcommands."""

from __future__ import annotations

import typer

from wam.cli.init_robot import robot
from wam.policies.registry import registry

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Draft the robot file of a recording; create initial weights for training.",
)


@app.callback()
def _group() -> None:
    """Keep `wam init` a group even where the policies add a single subcommand."""


app.command()(robot)
for _kind in registry().kinds.values():
    for _name, _function in _kind.load_initialisers().items():
        app.command(_name)(_function)
