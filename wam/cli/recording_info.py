# SPDX-License-Identifier: Apache-2.0
"""`wam info BAG|DATASET`: what a recording or a data set holds, as tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wam.core.words import counted
from wam.data.survey import (
    BagSurvey,
    CameraSurvey,
    ColumnSurvey,
    DatasetSurvey,
    EpisodeSurvey,
    FileSize,
    TopicSurvey,
)

TOLD = 8
"""Tasks, files and kinds of episodes that are listed; of more, the number is told."""

NOTHING = "–"


def show_survey(found: BagSurvey | DatasetSurvey) -> None:
    """Print a survey."""
    console = Console()
    if isinstance(found, BagSurvey):
        _show_bag(console, found)
    else:
        _show_dataset(console, found)
    if found.problems:
        _line(console, "\n[italic]Problems[/italic]")
        for problem in found.problems:
            _line(console, f" [yellow]{escape(problem)}[/yellow]")
        target = escape(str(found.path))
        _line(console, f"\nwam check {target} --robot ROBOT says what they mean for replay and training.")


def _show_bag(console: Console, found: BagSurvey) -> None:
    started = ""
    if found.messages:
        when = datetime.fromtimestamp(found.start_ns / 1e9, tz=timezone.utc)
        started = f", {found.duration:.2f} s from {when:%Y-%m-%d %H:%M:%S} UTC"
    _line(
        console,
        f"[bold]{escape(str(found.path))}[/bold]: {found.form}{started}, "
        f"{counted(found.messages, 'message')}",
    )
    _show_files(console, found.files)
    publishers = ("publishers",) if any(topic.publishers for topic in found.topics) else ()
    table = _table("topic", "type", "messages", "Hz", "MB", "clock", *publishers, right=(2, 3, 4))
    for topic in found.topics:
        table.add_row(
            escape(topic.name),
            escape(topic.msgtype.replace("/msg/", "/")),
            str(topic.count),
            _number(topic.rate, ".4g"),
            f"{topic.size / 1e6:.1f}",
            escape(topic.unreadable) or _clock(topic),
            *(_publishers(topic) for _ in publishers),
        )
    _line(console, "")
    console.print(table)
    _line(
        console,
        "clock: when a message was received, after its stamp; median, and how much that grew in the recording",
    )
    for topic in found.joints:
        kind = "commands" if topic.is_command else "joint states"
        _show_columns(console, f"{topic.name} ({kind})", topic.joints)
    if found.joints:
        _say_sample(console, _sampled(found), "messages")
    if found.cameras:
        _show_cameras(
            console, [(topic.name, topic.camera) for topic in found.cameras if topic.camera is not None]
        )
    for key, value in found.custom.items():
        lines = value.splitlines() or [""]
        more = f" ... ({len(lines)} lines)" if len(lines) > 1 else ""
        _line(console, f"{escape(key)}: {escape(lines[0][:200])}{more}")


def _show_dataset(console: Console, found: DatasetSurvey) -> None:
    robot = f", robot_type {found.robot_type}" if found.robot_type else ""
    _line(
        console,
        f"[bold]{escape(str(found.path))}[/bold]: LeRobot data set {found.version}{escape(robot)}, "
        f"{counted(len(found.episodes), 'episode')}, {counted(found.rows, 'row')} at {found.fps:g} Hz "
        f"({found.rows / found.fps:.1f} s)",
    )
    _show_files(console, found.files)
    if found.episodes:
        lengths = sorted(episode.rows for episode in found.episodes)
        middle = lengths[len(lengths) // 2]
        _line(
            console,
            f"episodes: {lengths[0]} to {lengths[-1]} rows, median {middle}{_absent(found.episodes)}",
        )
    tasks = Counter(task for episode in found.episodes for task in episode.tasks)
    for task, number in tasks.most_common(TOLD):
        _line(console, f"task: {escape(task)} ({counted(number, 'episode')})")
    if len(tasks) > TOLD:
        _line(console, f"and {len(tasks) - TOLD} tasks more")
    table = _table("key", "type", "shape", "columns")
    for feature in found.features:
        names = [column.name for column in feature.columns]
        named = names != [str(i) for i in range(len(names))]
        table.add_row(
            escape(feature.name),
            feature.dtype,
            " x ".join(map(str, feature.shape)),
            (f"{len(names)} names" if named else "no names") if names else "",
        )
    _line(console, "")
    console.print(table)
    for feature in found.features:
        if feature.columns:
            _show_columns(console, feature.name, feature.columns)
    if any(feature.columns for feature in found.features):
        part = None if found.sampled == len(found.episodes) else found.sampled_rows
        _say_sample(console, part, f"rows, from {counted(found.sampled, 'episode')}")
    cameras = [(feature.name, feature.camera) for feature in found.features if feature.camera is not None]
    if cameras:
        _show_cameras(console, cameras)


def _absent(episodes: Sequence[EpisodeSurvey]) -> str:
    lacking = sum(bool(episode.missing) for episode in episodes)
    return f"; {lacking} lack files" if lacking else ""


def _show_files(console: Console, files: Sequence[FileSize]) -> None:
    total = sum(file.size for file in files)
    names = ", ".join(f"{escape(file.name)} {_bytes(file.size)}" for file in files[:TOLD])
    more = f" and {len(files) - TOLD} more" if len(files) > TOLD else ""
    _line(console, f"files: {_bytes(total)} ({names}{more})")


def _show_columns(console: Console, title: str, columns: Sequence[ColumnSurvey]) -> None:
    table = _table("joint", "low", "high", "fastest /s", "unit?", right=(1, 2, 3))
    for column in columns:
        table.add_row(
            escape(column.name),
            _number(column.low, ".4g"),
            _number(column.high, ".4g"),
            _number(column.speed, ".3g"),
            column.unit.text + (f", {column.not_finite} not finite" if column.not_finite else ""),
        )
    _line(console, f"\n[italic]{escape(title)}[/italic]")
    console.print(table)


def _say_sample(console: Console, sampled: int | None, what: str) -> None:
    of = "everything was read" if sampled is None else f"ranges are those of a sample of {sampled} {what}"
    _line(console, f"unit?: a guess from the ranges, which nothing takes for granted; {of}")


def _sampled(found: BagSurvey) -> int | None:
    return None if found.complete else found.sampled


def _show_cameras(console: Console, cameras: Sequence[tuple[str, CameraSurvey]]) -> None:
    table = _table("camera", "size", "encoding", "")
    for name, camera in cameras:
        size = f"{camera.width}x{camera.height}" if camera.width else NOTHING
        table.add_row(escape(name), size, escape(camera.encoding), escape(camera.problem))
    _line(console, "")
    console.print(table)


def _publishers(topic: TopicSurvey) -> str:
    return "; ".join(f"{n} x {who}" if n > 1 else who for who, n in Counter(topic.publishers).items())


def _clock(topic: TopicSurvey) -> str:
    clock = topic.clock
    if clock is None:
        return NOTHING
    if clock.without_stamp == clock.messages:
        return "no stamps"
    text = f"{clock.latency_p50_ms:+.1f} ms"
    if abs(clock.drift_ms) >= 0.1:
        text += f", drift {clock.drift_ms:+.1f} ms"
    return text + (f", {clock.without_stamp} without a stamp" if clock.without_stamp else "")


def _table(*headings: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in right else "left", overflow="fold")
    return table


def _number(value: float, form: str) -> str:
    return NOTHING if math.isnan(value) else f"{value:{form}}"


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
