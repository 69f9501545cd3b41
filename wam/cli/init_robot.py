# SPDX-License-Identifier: Apache-2.0
"""`wam init robot`: a draft of a robot file from a recording, a data set or a URDF."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from wam.core.errors import ConfigError
from wam.core.file_modes import make_public
from wam.core.words import counted

if TYPE_CHECKING:
    from wam.data.draft import RobotDraft

MODELS = (".urdf", ".xacro", ".xml")
SUFFIXES = (".yaml", ".yml")


def robot(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Recording (rosbag2 folder, .mcap, .db3, ROS 1 .bag), folder of a LeRobot data set, or URDF (.urdf, "
            ".xacro).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Robot file to write, a .yaml file.", show_default=False)],
    urdf: Annotated[
        Path | None,
        typer.Option(help="URDF or xacro file of the robot: gives limits.", show_default=False),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Name of the robot for people; default: made from SOURCE.", show_default=False)
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Draft the robot file of a recording, a data set or a URDF.

    The draft of a recording replays it at once; its header has the command. It is for replay only: no robot is moved by
    it until a person has entered what no recording tells. Ranges that were observed are marked as such, units are
    guessed in comments, and nothing is taken for granted.

    Example: wam init robot run1 --out robot.yaml
    """
    from wam.data.draft import draft_from_urdf, draft_robot
    from wam.data.survey import survey

    if out.suffix not in SUFFIXES:
        raise ConfigError("option --out", value=str(out), allowed="a file that ends in .yaml", where="--out")
    if out.exists() and not force:
        raise ConfigError(
            f"{out} exists", allowed="a new file", where="--out, or pass --force to overwrite it"
        )
    for path, what in ((source, "the argument SOURCE"), (urdf, "--urdf")):
        if path is not None and not path.exists():
            raise ConfigError(f"{path} does not exist", where=what)
    if source.is_file() and source.suffix in MODELS:
        if urdf is not None:
            raise ConfigError("two models", value=f"{source}, {urdf}", allowed="one", where="--urdf")
        draft = draft_from_urdf(source, title=name)
    else:
        draft = draft_robot(survey(source), urdf=urdf, title=name)
    _write(draft, out)
    _tell(draft, out)


def _write(draft: RobotDraft, out: Path) -> None:
    """Write the file, once it is known that it can be read back.

    Raises:
        ConfigError: it cannot be written there.
    """
    from wam.data.draft import draft_text
    from wam.devices.loader import load_robot

    text = draft_text(draft, out=out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix=f".{out.stem}.", suffix=".yaml", dir=out.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror})", where="--out") from error
    made = Path(path)
    try:
        if draft.can_replay:
            load_robot(made, moves=False)
        make_public(made)
        made.replace(out)
    finally:
        made.unlink(missing_ok=True)


def _tell(draft: RobotDraft, out: Path) -> None:
    console = Console(stderr=True)
    joints = sum(len(group.joints) for group in draft.groups)
    typer.echo(
        f"{out}: {counted(joints, 'joint')} in {counted(len(draft.groups), 'group')}, "
        f"{counted(len(draft.cameras), 'camera')}"
    )
    for group in draft.groups:
        names = ", ".join(joint.driver_name for joint in group.joints)
        typer.echo(f"  {group.topic or '(topic not known)':<28} {names}")
    for camera in draft.cameras:
        typer.echo(f"  {camera.topic:<28} {camera.width}x{camera.height} at {camera.rate:g} Hz")
    for command in draft.commands:
        typer.echo(f"next: {command.replace('ROBOT', str(out))}")
    for remark in draft.remarks:
        console.print(f"[yellow]note:[/yellow] {escape(remark)}", soft_wrap=True)
