# SPDX-License-Identifier: Apache-2.0
"""`wam check`: a doctor for recordings and data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.cli.bag_options import ActionTopics, Remap, parse_remap
from wam.cli.progress import row_progress
from wam.core.words import counted
from wam.evaluation.check import CheckReport, Severity, check_recording

EXIT_FAILED_CHECK = 2
COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def check(
    recording: Annotated[
        Path,
        typer.Argument(
            metavar="BAG|DATASET",
            help="A rosbag2 folder, an .mcap, .db3 or ROS 1 .bag file, or the folder of a LeRobot data set.",
        ),
    ],
    robot: Annotated[
        str,
        typer.Option(
            help="Robot that was recorded: a name in config/robots or a YAML file. Without it, only what needs no "
            "robot is checked.",
            show_default=False,
        ),
    ] = "",
    namespace: Annotated[
        str, typer.Option(help="Namespace of the robot in the recording.", show_default=False)
    ] = "",
    remap: Remap = None,
    action_topic: ActionTopics = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    junit: Annotated[
        Path | None,
        typer.Option(
            help="Also write this JUnit XML file: one test case per kind of check.", show_default=False
        ),
    ] = None,
) -> None:
    """Name every problem of a recording or a data set, what it means for replay and training, and what helps.

    The whole recording is read; nothing is changed. An error is what `wam replay` or `wam convert` refuses, or would
    judge wrongly; a warning is what a person should know; a note is what other tools may not cope with.

    Exit codes: 0 no error, 1 could not run, 2 errors were found.

    Example: wam check my_bag --robot piper
    """
    from wam.data.bag.binding import TopicNames, parse_action_topics
    from wam.devices.loader import load_robot

    names = TopicNames(
        namespace=namespace,
        renamed=parse_remap(remap),
        actions=parse_action_topics(action_topic or [], option="--action-topic"),
    )
    description = load_robot(robot) if robot else None
    with row_progress(Console(stderr=True), f"checking {recording.name}", unit="messages") as progress:
        report = check_recording(recording, robot=description, names=names, progress=progress)
    if junit is not None:
        from wam.evaluation.check.junit import check_cases
        from wam.report.junit import write_junit

        write_junit(junit, f"wam check {recording.name}", check_cases(report))
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(EXIT_FAILED_CHECK)


def _show(report: CheckReport) -> None:
    console = Console()

    def line(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    for problem in report.problems:
        colour = COLOURS[problem.severity]
        times = f" ({problem.times} times)" if problem.times > 1 else ""
        line(
            f"[{colour}]{problem.severity.value}[/] [bold]{escape(problem.where)}[/bold]: "
            f"{escape(problem.text)}{times}"
        )
        line(f"  means: {problem.meaning}")
        if problem.remedy:
            line(f"  [bold]→ {escape(problem.remedy)}[/bold]")
    counts = ", ".join(counted(report.count(severity), severity.value) for severity in Severity)
    robot = (
        f" as {report.robot}"
        if report.robot
        else ", without a robot (--robot checks joints, limits and topics)"
    )
    line(f"{'' if report.problems else 'nothing found; '}{counts}; checked {report.checked}{escape(robot)}")
