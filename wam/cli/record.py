# SPDX-License-Identifier: Apache-2.0
"""`wam record OUT --robot R`: a robot's and its nodes' messages as a rosbag2 that `wam replay` and ROS tools read."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wam.cli.bag_options import parse_pairs
from wam.cli.progress import changing_line
from wam.core.words import counted

EXIT_DROPPED = 2


def record(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new bag; it must not exist.")],
    robot: Annotated[
        str,
        typer.Option(help="Robot to record: a name in config/robots or a YAML file.", show_default=False),
    ],
    namespace: Annotated[
        str, typer.Option(help="Namespace of the robot and the nodes.", show_default=False)
    ] = "",
    topic: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME:=PACKAGE/msg/TYPE, an additional topic; may be repeated.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Stop after this time [s]; 0 records until Ctrl-C.", min=0.0)
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was recorded as JSON.")] = False,
) -> None:
    """Record a robot's joint states, commands and cameras, and the chunks, events and status of the nodes.

    It only subscribes and publishes nothing, on the ROS domain and range of the shell. The bag (MCAP) also holds
    robot, contract hash and instruction. It is written in chunks of half a second, so a recording survives kill -9
    (read it with --lenient). A full disk ends the recording; the robot is not affected.

    Example: wam record run1 --robot piper

    Exit codes: 0 recorded, 1 could not record, 2 recorded, but the disk was too slow and some messages were dropped,
    3 the disk is full or may not be written.
    """
    from wam.ros.environment import join

    console = Console(stderr=True)
    console.print(f"[dim]listens on {join('record', os.environ)}[/dim]", soft_wrap=True, highlight=False)
    # rclpy reads the environment when it is imported.
    from wam.devices.loader import load_robot
    from wam.ros.process import ending_signals
    from wam.stack.record import RecordOptions
    from wam.stack.record import record as run_record

    description = load_robot(robot, moves=False)
    form = "NAME:=PACKAGE/msg/TYPE"
    options = RecordOptions(
        out=out,
        namespace=namespace,
        topics=parse_pairs(topic or [], separator=":=", option="--topic", form=form),
        seconds=seconds,
    )
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in ending_signals()}
    try:
        with changing_line(console, "waiting for messages; Ctrl-C ends the recording") as show:
            done = run_record(
                description,
                options,
                stop=stop,
                on_progress=lambda counts, size: (
                    show(
                        f"{counted(sum(counts.values()), 'message')} on {counted(len(counts), 'topic')}, "
                        f"{size / 1e6:.1f} MB"
                    )
                    if counts
                    else None
                ),
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if as_json:
        content = {
            "bag": str(done.out),
            "messages": dict(done.counts),
            "bytes": done.size,
            "dropped": done.dropped,
            "silent": list(done.silent),
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(f"{done.out}: {counted(sum(done.counts.values()), 'message')}, {done.size / 1e6:.1f} MB")
    for name in done.silent:
        console.print(f"[yellow]warning:[/yellow] no message on {name}", soft_wrap=True)
    if done.dropped:
        console.print(f"[red]problem:[/red] the disk was too slow: {done.dropped} messages were dropped")
        raise typer.Exit(EXIT_DROPPED)
