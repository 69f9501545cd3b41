# SPDX-License-Identifier: Apache-2.0
"""`wam sim record`: experts' episodes as bags or as a LeRobot data set."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.cli.progress import row_progress
from wam.core.errors import ConfigError
from wam.core.words import counted
from wam.data.lerobot.format import Version
from wam.sim.quality import Quality
from wam.sim.recording.plan import Format


def record(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="New folder: the data set, or one bag per episode.")
    ],
    task: Annotated[str, typer.Option(help="Task to record; see `wam sim tasks`.", show_default=False)],
    episodes: Annotated[int, typer.Option(help="Number of episodes.", min=1)] = 10,
    form: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.LEROBOT,
    version: Annotated[Version, typer.Option(help="Format of a LeRobot data set.")] = Version.V30,
    seed: Annotated[
        int, typer.Option(help="Seed of the first episode; each further episode adds 1.", min=0)
    ] = 0,
    setting: Annotated[str, typer.Option(help="'seen', or one of the task's unseen settings.")] = "seen",
    fps: Annotated[float, typer.Option(help="Rows and images per second [Hz].", min=1.0, max=60.0)] = 15.0,
    cameras: Annotated[
        list[str] | None,
        typer.Option("--camera", help="Camera to record; may be repeated. Default: all.", show_default=False),
    ] = None,
    no_cameras: Annotated[bool, typer.Option("--no-cameras", help="Record no images; needs no EGL.")] = False,
    truth: Annotated[
        bool,
        typer.Option("--truth", help="Record where the objects are: column observation.environment_state."),
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            help="Number of episodes recorded in parallel; 0 uses one per core.", min=0, show_default=False
        ),
    ] = 0,
    quality: Annotated[
        Quality, typer.Option(help="Images: 'fast' without shadows and smooth edges, a fifth of the time.")
    ] = Quality.FULL,
    kicks: Annotated[
        bool,
        typer.Option(
            "--kicks", help="Push the arms off the expert's path now and then; it shows the way back."
        ),
    ] = False,
    keep_failures: Annotated[
        bool, typer.Option("--keep-failures", help="Keep episodes in which the expert fails.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was recorded as JSON.")] = False,
) -> None:
    """Record episodes of a task's expert: bags for `wam replay`, or a data set for `wam train`.

    Records successful episodes only, in the order of their seeds. An interrupted recording (Ctrl-C, kill -9, a full
    disk) is resumed by the same command; finished episodes are readable in OUT.partial until then.

    Example: wam sim record box_to_bowl --task franka_box_to_bowl --episodes 50
    """
    from wam.devices.loader import load_robot
    from wam.sim.recording.plan import RecordPlan
    from wam.sim.recording.record import record as run
    from wam.sim.recording.record import work_folder
    from wam.sim.rendering import require_egl
    from wam.sim.rollout import find_camera
    from wam.sim.tasks.registry import find_setting, find_task

    chosen = find_task(task)
    robot = load_robot(chosen.robot)
    if no_cameras and cameras:
        raise ConfigError("--camera with --no-cameras", value=", ".join(cameras), allowed="one of the two")
    if truth and form is not Format.LEROBOT:
        raise ConfigError(
            "--truth with --format", value=form.value, allowed=Format.LEROBOT.value, where="--format"
        )
    names = tuple(cameras or (camera.name for camera in robot.cameras))
    views = () if no_cameras else tuple(find_camera(robot, name).name for name in names)
    if views:
        require_egl()
    plan = RecordPlan(
        task=chosen.name,
        setting=find_setting(chosen, setting),
        seed=seed,
        format=form,
        version=version,
        fps=fps,
        cameras=views,
        keep_failures=keep_failures,
        quality=quality,
        truth=truth,
        kicks=kicks,
    )
    console = Console(stderr=True)
    with (
        _hint(console, work_folder(out)),
        row_progress(console, "wam sim record", unit="episodes") as progress,
    ):
        result = run(
            plan,
            out,
            episodes=episodes,
            processes=processes or os.cpu_count() or 1,
            done=lambda played, count: progress(count, episodes),
        )
    if as_json:
        rows = {"episodes": result.episodes, "left_out": result.left_out}
        lists = {name: [asdict(one) for one in played] for name, played in rows.items()}
        typer.echo(
            json.dumps({"out": str(result.out), **plan.as_json(), **lists}, indent=2, ensure_ascii=False)
        )
    for played in result.left_out:
        why = played.error or f"{played.score} of 3 stages"
        console.print(
            f"left out: seed {played.seed}, {escape(played.variant)}: {escape(why)}", soft_wrap=True
        )
    rows_in_all = sum(played.rows for played in result.episodes)
    what = "bags" if form is Format.BAG else f"LeRobot {version.value} data set"
    console.print(
        f"{what}: {result.out} ({counted(len(result.episodes), 'episode')}, {counted(rows_in_all, 'row')})",
        soft_wrap=True,
        highlight=False,
    )


@contextlib.contextmanager
def _hint(console: Console, folder: Path) -> Iterator[None]:
    """When a recording is interrupted, print what is finished and how to resume."""
    try:
        yield
    except BaseException:
        if finished := len(list(folder.glob("seed_*.json"))):
            console.print(
                f"{finished} finished episodes are in {folder}; run the same command again to resume",
                soft_wrap=True,
                highlight=False,
            )
        raise
