# SPDX-License-Identifier: Apache-2.0
"""`wam init`: make starting weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Make the weights that training starts from.",
)


@app.callback()
def _group() -> None:
    """Keep the name of what is made a word of its own, although there may be one only."""


@app.command("action-dit")
def action_dit(
    video: Annotated[
        Path,
        typer.Argument(help="Wan 2.2 video DiT: its directory (original or diffusers layout) or one file."),
    ],
    out: Annotated[
        Path, typer.Argument(help="The .pt file to write; training takes it as model.action_backbone.")
    ],
    preset: Annotated[str, typer.Option(help="Sizes of the network: paper or tiny.")] = "paper",
) -> int:
    """Shrink the video DiT to the action expert by linear interpolation; its encoder and head stay random."""
    from wam.core.errors import ConfigError
    from wam.policies.aha_wam.convert.action_backbone import write_action_backbone
    from wam.policies.aha_wam.training.start import preset_config

    if out.exists():
        raise ConfigError(f"{out} exists already", allowed="a new file", where="OUT")
    config = preset_config(preset, {})
    write_action_backbone(video, out, config)
    megabytes = out.stat().st_size / 1e6
    Console().print(
        f"[green]wrote[/green] {out} ({megabytes:.1f} MB): {config.action.layers} layers of {preset}"
    )
    return 0
