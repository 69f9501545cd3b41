# SPDX-License-Identifier: Apache-2.0
"""`wam convert bag`: recordings into a LeRobot data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.cli.bag_options import (
    STAMPS,
    ActionTopics,
    ClockOffsets,
    Remap,
    TimeBase,
    parse_offsets,
    parse_remap,
    use_stamps,
)
from wam.cli.progress import row_progress
from wam.core.words import counted
from wam.data.lerobot.format import Version


def bag(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC...", help="Recordings (rosbag2, MCAP, ROS 1), one episode each."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder of the new data set; it must not exist.")
    ],
    robot: Annotated[
        str,
        typer.Option(
            help="Robot that was recorded: a name in config/robots or a YAML file.", show_default=False
        ),
    ],
    version: Annotated[Version, typer.Option(help="Format of the data set.")] = Version.V21,
    fps: Annotated[
        float, typer.Option(help="Rows per second [Hz]; 0 uses the rate of the first camera.", min=0.0)
    ] = 0.0,
    camera: Annotated[
        list[str] | None,
        typer.Option(
            help="Camera of the robot file to convert; may be repeated. Default: all.", show_default=False
        ),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="Task text of all rows; default: the recorded one.", show_default=False)
    ] = "",
    namespace: Annotated[
        str, typer.Option(help="Namespace of the robot in the recordings.", show_default=False)
    ] = "",
    remap: Remap = None,
    action_topic: ActionTopics = None,
    time: TimeBase = STAMPS,
    clock_offset: ClockOffsets = None,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Hold values over gaps and report faults as warnings.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write recordings as episodes of a LeRobot data set with evenly spaced rows and one image per row.

    Joint states and actions are interpolated to the row times; each row gets the nearest image. The action is /action
    or, where that was not recorded, the robot's own command topics. A conversion that fails leaves no files behind.

    Example: wam convert bag run1 run2 ~/g1_pick --robot g1_inspire
    """
    from wam.data.bag.binding import TopicNames, parse_action_topics
    from wam.data.to_lerobot import BagOptions, convert_bags
    from wam.devices.loader import load_robot

    description = load_robot(robot, moves=False)
    console = Console(stderr=True)
    options = BagOptions(
        version=version,
        fps=fps,
        cameras=tuple(camera or ()),
        names=TopicNames(
            namespace=namespace,
            renamed=parse_remap(remap),
            actions=parse_action_topics(action_topic or [], option="--action-topic"),
        ),
        instruction=instruction,
        use_stamps=use_stamps(time),
        clock_offsets=parse_offsets(clock_offset or []),
        lenient=lenient,
    )
    with row_progress(console, out.name, unit="images") as progress:
        done = convert_bags(sources, out, robot=description, options=options, progress=progress)
    for warning in done.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    if as_json:
        written = {
            "dataset": str(done.dataset),
            "version": version.value,
            "fps": done.fps,
            "rows": list(done.rows),
            "tasks": list(done.tasks),
            "action_names": list(done.action_names),
            "warnings": list(done.warnings),
        }
        typer.echo(json.dumps(written, indent=2, ensure_ascii=False))
        return
    typer.echo(
        f"{done.dataset}: LeRobot {version.value}, {counted(len(done.rows), 'episode')}, "
        f"{counted(sum(done.rows), 'row')} at {done.fps:g} Hz"
    )


def register(app: typer.Typer) -> None:
    """Add the verb to `wam convert`."""
    app.command()(bag)
