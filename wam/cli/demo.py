# SPDX-License-Identifier: Apache-2.0
"""`wam demo ROBOT`: a simulated robot does a task with the real nodes. Needs no GPU and no hardware."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.sim.quality import Quality

EXIT_NOT_WELL = 2
EXIT_INTERRUPTED = 130

DEMO_SEED = 1000
"""The first of the evaluations' seeds; recordings for training begin at 0."""


def demo(
    robot: Annotated[str, typer.Argument(help="Robot to simulate: piper, franka or ur5e_inspire.")] = "piper",
    task: Annotated[
        str,
        typer.Option(
            help="Task, one of `wam sim tasks`, or 'free' for none; default: that of the robot.",
            show_default=False,
        ),
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            help="Trained policy that ships (`wam info`), directory of a bundle, or random weights "
            "(aha_wam/random, fake); default: the one trained for the task.",
            show_default=False,
        ),
    ] = "",
    any_task: Annotated[
        bool, typer.Option("--any-task", help="Run a policy on a task that it was not trained for.")
    ] = False,
    seed: Annotated[
        int,
        typer.Option(
            help="Seed of the world and of the policy's noise; training uses seeds below 1000.", min=0
        ),
    ] = DEMO_SEED,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Time limit in simulated time [s]; default: that of the task.", min=1.0, show_default=False
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Directory of the report; default reports/ROBOT-TIME.", show_default=False),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help="Task text; default: that of the task.", show_default=False)
    ] = "",
    quality: Annotated[
        Quality | None,
        typer.Option(
            help="Images: 'fast' without shadows and smooth edges; default: as the policy was trained on.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device of the policy: auto (CUDA where there is one), cpu or cuda:N.")
    ] = "auto",
    threads: Annotated[
        int, typer.Option(help="CPU threads of the policy's tensor library, per node.", min=1, max=256)
    ] = 1,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate", help="Run planner and executor in two processes (contexts in shared memory)."
        ),
    ] = False,
    viewer: Annotated[
        bool, typer.Option("--viewer", help="Watch it in MuJoCo's own viewer; needs a display.")
    ] = False,
    rerun: Annotated[
        str,
        typer.Option(
            metavar="WHERE",
            help="Watch it in the rerun viewer: 'live' opens one here, rerun+http://HOST:9876/proxy is one that is "
            "open, and a name that ends in .rrd is a file to write.",
            show_default=False,
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object at the end.")
    ] = False,
) -> None:
    """Run one episode of a task on a simulated robot with the real nodes and write a report with its video.

    It ends when the task is done, or at its time limit. Ctrl-C ends it with a report of what there was.

    Exit codes: 0 success, 1 could not run, 2 ran with problems, the robot never moved, or the task that the policy was
    trained for was not done (the report says why), 3 this machine refused (disk, permission, display), 130 stopped.
    """
    from wam.cli.window_check import require_window
    from wam.core.signals import stop_on_signals
    from wam.ros.environment import join

    console = Console(stderr=as_json)
    network = join("demo", os.environ)
    # rclpy reads the environment when it is imported.
    from wam.evaluation.closed_loop.page import LOGS
    from wam.evaluation.replay.rerun import parse_target, require_rerun
    from wam.report.folder import new_folder, require_free
    from wam.sim.rendering import require_egl
    from wam.stack.demo import run_demo
    from wam.stack.demo_page import build_demo_report, demo_summary
    from wam.stack.demo_plan import plan_demo
    from wam.stack.node_specs import StackOptions
    from wam.stack.table import LiveTable

    if rerun:
        parse_target(rerun)
        require_rerun()
    if viewer:
        require_window(os.environ)
    wanted = StackOptions(
        robot=robot,
        policy=policy,
        device=device,
        threads=threads,
        seed=seed,
        instruction=instruction,
        composed=not separate,
    )
    plan = plan_demo(wanted, task=task, any_task=any_task, seconds=seconds, quality=quality)
    if plan.robot.cameras:
        require_egl()
    if report is None:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        out = new_folder(Path("reports"), f"{plan.robot.name}-{stamp}")
    else:
        out = report
        require_free(out, keep=(LOGS,))
        out.mkdir(parents=True, exist_ok=True)
    look = f"ROS_DOMAIN_ID={network.domain[0]} ROS_AUTOMATIC_DISCOVERY_RANGE={network.reach[0]}"
    console.print(f"[dim]runs on its own ROS domain; to inspect it, set: {look}[/dim]", soft_wrap=True)
    for note in plan.notes:
        console.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    title = f"wam demo: {plan.robot.title}, task {plan.options.task.name}, policy {plan.stack.policy}"
    stop = threading.Event()
    unwatched: list[str] = []
    unseen: list[str] = []
    with contextlib.ExitStack() as stack:
        if viewer:
            from wam.stack.window_viewer import window_beside

            console.print("[dim]opening the window of the viewer[/dim]")
            stack.enter_context(
                window_beside(plan.options, robot=plan.stack.robot, log_dir=out / LOGS, warn=unseen.append)
            )
        if rerun:
            from wam.stack.live_viewer import watched

            stack.enter_context(
                watched(
                    parse_target(rerun),
                    robot=plan.stack.robot,
                    about=title,
                    log_dir=out / LOGS,
                    warn=unwatched.append,
                )
            )
        stack.enter_context(stop_on_signals(stop))
        table = stack.enter_context(LiveTable(console, title))
        recording = run_demo(plan, log_dir=out / LOGS, on_progress=table.show, stopped=stop.is_set)
    page = build_demo_report(recording, out)
    if as_json:
        shown = {**demo_summary(recording), "report": str(page.resolve())}
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    for problem in recording.problems:
        console.print(f"[red]problem:[/red] {escape(problem)}", soft_wrap=True)
    for warning in recording.evaluation.warnings:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    colour = "green" if recording.episode.success else "yellow" if recording.is_well else "red"
    console.print(f"[bold {colour}]{escape(recording.headline)}[/bold {colour}]", soft_wrap=True)
    for warning in unwatched + unseen:
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    if rerun and not unwatched:
        console.print(
            f"rerun: {rerun} (its cost is in {out / LOGS / 'viewer.log'})", soft_wrap=True, highlight=False
        )
    console.print(f"report: {page.resolve()}", soft_wrap=True, highlight=False)
    if recording.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not recording.is_well:
        raise typer.Exit(EXIT_NOT_WELL)
