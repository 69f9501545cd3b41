# SPDX-License-Identifier: Apache-2.0
"""`wam sim picture` and `wam sim gif`: render a task's world, or its expert as a GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wam.core.errors import ConfigError

EXIT_NOT_DONE = 2

RATE = 8.0
"""Images per second of simulated time [Hz]."""

SPEED = 1.5
"""Playback speed of a GIF relative to real time."""


TaskOption = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task to show; may be repeated. Default: all.", show_default=False),
]
OutOption = Annotated[
    Path,
    typer.Option("--out", help="File to write; for several tasks a folder with one file per task."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the episode.", min=0)]
SettingOption = Annotated[
    str, typer.Option("--setting", help="'seen', or one of the task's unseen settings.")
]


def picture(
    out: OutOption,
    task: TaskOption = None,
    seed: SeedOption = 0,
    setting: SettingOption = "seen",
    width: Annotated[
        int, typer.Option(help="Width of the image [px]; the height is 3/4 of it.", min=64, max=2048)
    ] = 480,
) -> None:
    """Render the start of a task's episode as a PNG.

    Example: wam sim picture --task franka_box_to_bowl --out world.png
    """
    from wam.sim.recording.pictures import draw_world, write_png
    from wam.sim.tasks.registry import TASKS, find_setting, find_task

    for name, path in _files(task or list(TASKS), out, ".png").items():
        chosen = find_task(name)
        rgb = draw_world(
            chosen, setting=find_setting(chosen, setting), seed=seed, height=width * 3 // 4, width=width
        )
        write_png(path, rgb)
        typer.echo(f"{path} ({path.stat().st_size // 1000} kB)")


def gif(
    out: OutOption,
    task: TaskOption = None,
    seed: SeedOption = 0,
    setting: SettingOption = "seen",
    width: Annotated[
        int, typer.Option(help="Width of the images [px]; the height is 3/4 of it.", min=64, max=640)
    ] = 240,
    max_kb: Annotated[
        int, typer.Option(help="Maximum file size [kB]; larger GIFs use fewer colours.", min=20)
    ] = 700,
    policy: Annotated[
        str,
        typer.Option(
            help="Show this policy instead of the expert: a name of `wam info`, or the directory of a bundle.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Render an episode of a task as a GIF at 1.5 times real time: its expert, or a policy and its safety chain.

    A policy plays as in `wam eval --mode fast`: the result does not depend on how fast this machine is. Exit code 2 if
    an episode did not succeed.

    Example: wam sim gif --task franka_box_to_bowl_near --policy state/franka_box_to_bowl_near --seed 1000 --out a.gif
    """
    from wam.evaluation.closed_loop.player import film_policy
    from wam.sim.recording.pictures import film_expert, write_gif
    from wam.sim.tasks.registry import TASKS, find_setting, find_task

    console = Console(stderr=True)
    failed = False
    for name, path in _files(task or list(TASKS), out, ".gif").items():
        chosen = find_task(name)
        what, height = find_setting(chosen, setting), width * 3 // 4
        if policy:
            episode, pictures = film_policy(
                chosen, policy, setting=what, seed=seed, height=height, width=width, rate=RATE
            )
            success, score = episode.success, episode.score
        else:
            result, pictures = film_expert(
                chosen, setting=what, seed=seed, height=height, width=width, rate=RATE
            )
            success, score = result.success, result.progress
        if not success:
            failed = True
            console.print(
                f"[yellow]warning:[/yellow] {policy or 'the expert'} did not do {name}, seed {seed}: "
                f"{score} of 3 stages",
                soft_wrap=True,
            )
        written = write_gif(path, pictures, period=1 / (RATE * SPEED), max_bytes=1000 * max_kb)
        typer.echo(f"{path} ({written // 1000} kB)")
    if failed:
        raise typer.Exit(EXIT_NOT_DONE)


def _files(tasks: list[str], out: Path, suffix: str) -> dict[str, Path]:
    if out.suffix != suffix:
        return {name: out / f"{name}{suffix}" for name in tasks}
    if len(tasks) > 1:
        raise ConfigError(
            "several tasks cannot share one file",
            value=str(out),
            allowed=f"a folder, or one --task with a file {suffix}",
            where="--out",
        )
    return {tasks[0]: out}
