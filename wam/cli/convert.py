# SPDX-License-Identifier: Apache-2.0
"""`wam convert`: data sets into bags and back, and the converters of the policies (checkpoints into bundles)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.cli import convert_bag, convert_units
from wam.cli.bag_options import parse_pairs
from wam.cli.progress import row_progress
from wam.core.words import counted
from wam.data.bag.writing import Storage
from wam.policies.registry import registry

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Convert data sets to bags, bags to data sets, and released checkpoints to policy bundles.",
    no_args_is_help=True,
)


@app.callback()
def convert() -> None:
    """Convert data sets to bags, bags to data sets, and released checkpoints to policy bundles."""


@app.command()
def lerobot(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder of a LeRobot data set (v2.0, v2.1, v3.0).")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new bag; it must not exist.")],
    robot: Annotated[
        str,
        typer.Option(
            help="Robot that was recorded: a name in config/robots or a YAML file.", show_default=False
        ),
    ],
    episode: Annotated[int, typer.Option(help="Number of the episode.", min=0)] = 0,
    storage: Annotated[Storage, typer.Option(help="Storage plugin of the bag.")] = Storage.MCAP,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="DATASET_NAME=ROBOT_NAME, for a camera with another name in the robot file; may be repeated.",
            show_default=False,
        ),
    ] = None,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order", help="The columns of state and action are the robot file's joints, in its order."
        ),
    ] = False,
    state_name: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=JOINT, for a column of the state with another name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    action_name: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=JOINT, for a column of the action with another name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            help="UNIT for all joints it can go for, or JOINT=UNIT: rad, deg, m, mm, percent (-100..100 between the "
            "limits), share (0..1), ticks (4096 a turn) or a factor; may be repeated. Default: SI units.",
            show_default=False,
        ),
    ] = None,
    action_unit: Annotated[
        list[str] | None,
        typer.Option(help="The same for the action; default: as the state.", show_default=False),
    ] = None,
    state_key: Annotated[
        str, typer.Option(help="Feature of the state; default: observation.state.", show_default=False)
    ] = "",
    action_key: Annotated[
        str, typer.Option(help="Feature of the action; default: action.", show_default=False)
    ] = "",
    lenient: Annotated[
        bool,
        typer.Option("--lenient", help="Report short videos, wrong rates and impossible values as warnings."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write one episode of a LeRobot data set as a rosbag2 with the robot's own topics and joint names.

    Joint states go to the state topics of the robot file, images (JPEG) to its cameras, the recorded action to
    /action and the task text to /instruction. Image i is row i's where a video has as many images as rows; else time
    decides. A conversion that fails leaves no files behind.

    Example: wam convert lerobot ~/g1_pick g1_ep1 --robot g1_inspire --episode 1
    """
    from wam.data.columns import ColumnOptions
    from wam.data.to_bag import convert_lerobot
    from wam.devices.loader import load_robot

    description = load_robot(robot, moves=False)
    units = _units(unit, "--unit")
    console = Console(stderr=True)
    with row_progress(console, f"episode {episode}", unit="rows") as progress:
        result = convert_lerobot(
            source,
            out,
            robot=description,
            episode=episode,
            storage=storage,
            cameras=parse_pairs(
                camera or [], separator="=", option="--camera", form="DATASET_NAME=ROBOT_NAME"
            ),
            state=ColumnOptions(_names(state_name, "--state-name"), units, in_order, state_key),
            action=ColumnOptions(
                _names(action_name, "--action-name"),
                _units(action_unit, "--action-unit") if action_unit else units,
                in_order,
                action_key,
            ),
            lenient=lenient,
            progress=progress,
        )
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "bag": str(result.bag),
                    "episode": result.episode,
                    "rows": result.rows,
                    "messages": result.messages,
                    "topics": dict(result.topics),
                    "instruction": result.instruction,
                    "warnings": list(result.warnings),
                },
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    typer.echo(
        f"{result.bag}: {counted(result.messages, 'message')}, {counted(result.rows, 'row')}, “{result.instruction}”"
    )
    for topic, origin in result.topics.items():
        typer.echo(f"  {topic:<44} {origin}")


convert_bag.register(app)
app.command()(convert_units.units)
for _kind in registry().kinds.values():
    for _name, _function in _kind.load_converters().items():
        app.command(_name)(_function)


def _names(values: list[str] | None, option: str) -> dict[str, str]:
    return parse_pairs(values or [], separator="=", option=option, form="COLUMN=JOINT")


def _units(values: list[str] | None, option: str) -> dict[str, str]:
    """Return joint -> unit; "" for a unit of all joints."""
    named = [value for value in values or [] if "=" in value]
    units = parse_pairs(named, separator="=", option=option, form="UNIT or JOINT=UNIT")
    plain = [value for value in values or [] if "=" not in value]
    return {"": plain[-1], **units} if plain else units
