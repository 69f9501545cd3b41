# SPDX-License-Identifier: Apache-2.0
"""Check of a LeRobot data set: its metadata, the files of every episode, tables and videos against each other.

What is refused here is refused by the reader that conversion and training use. Videos are not decoded beyond their
first images; how many images they have is read from their index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wam.core.errors import WamError
from wam.core.words import counted
from wam.data.columns import ColumnOptions, JointColumns, range_fault
from wam.data.lerobot.episode import EpisodeReader, RecordedEpisode
from wam.data.lerobot.format import ACTION, IMAGES, STATE
from wam.data.lerobot.reader import DatasetEpisode, LeRobotDataset, open_dataset
from wam.data.to_bag import camera_views, commanded_joints, measured_joints
from wam.evaluation.check.messages import LIMIT_TOLERANCE
from wam.evaluation.check.problem import CheckReport, ProblemKind, Problems, Severity
from wam.robots.description import RobotDescription

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
FILES, COLUMNS, ACTIONS = ProblemKind.FILES, ProblemKind.COLUMNS, ProblemKind.ACTION
CAMERAS, RATE, LAYOUT = ProblemKind.CAMERAS, ProblemKind.RATE, ProblemKind.LAYOUT


def check_dataset(
    path: Path, *, robot: RobotDescription | None, progress: Callable[[int, int], None]
) -> CheckReport:
    """Return all problems of a data set.

    Args:
        path: its folder.
        robot: whose it is; None checks what can be checked without.
        progress: called with episodes done and in all.
    """
    problems = Problems()
    rows = episodes = 0
    for file in _of_a_mac(path):
        problems.add(
            WARNING,
            LAYOUT,
            file,
            "a Mac's companion file, which other readers take for data",
            remedy="delete ._*",
        )
    try:
        dataset = open_dataset(path)
    except WamError as error:
        problems.refused(FILES, "meta", error)
        return _report(path, robot, "nothing: its metadata cannot be read", problems)
    present = _files(dataset, problems)
    _keys(dataset, problems, named=robot is not None)
    for episode in present:
        content = _episode(dataset, episode, problems)
        if content is not None:
            rows += len(content.stamps)
            if robot is not None:
                _columns(path, content, robot, problems)
                _cameras(path, content, robot, problems)
        episodes += 1
        progress(episodes, len(present))
    return _report(path, robot, f"{counted(rows, 'row')} of {counted(episodes, 'episode')}", problems)


def _report(path: Path, robot: RobotDescription | None, checked: str, problems: Problems) -> CheckReport:
    return CheckReport(path, "dataset", robot.name if robot else "", checked, tuple(problems))


def _of_a_mac(path: Path) -> list[str]:
    return [str(file.relative_to(path)) for file in sorted(path.rglob("._*"))][:1]


def _files(dataset: LeRobotDataset, problems: Problems) -> list[DatasetEpisode]:
    """Check that files exist; return the episodes whose table does."""
    there = {episode.data_path: episode.data_path.is_file() for episode in dataset.episodes}
    present = [episode for episode in dataset.episodes if there[episode.data_path]]
    absent = len(dataset.episodes) - len(present)
    if absent:
        first = next(episode for episode in dataset.episodes if not there[episode.data_path])
        problems.add(
            WARNING if present else ERROR,
            FILES,
            "data",
            f"{absent} of {len(dataset.episodes)} episodes have no table, for example episode {first.index}: "
            f"{first.data_path.relative_to(dataset.root)}",
            remedy="a complete copy of the data set; those that are there can be used",
        )
    for camera in dataset.cameras:
        clips = {e.videos[camera].path for e in present if camera in e.videos}
        lacking = [path for path in sorted(clips) if not path.is_file()]
        if lacking:
            every = "none of its" if len(lacking) == len(clips) else f"{len(lacking)} of its"
            problems.add(
                WARNING,
                CAMERAS,
                camera,
                f"{every} {len(clips)} video files {'is' if every.startswith('none') else 'are not'} there: "
                f"{lacking[0].relative_to(dataset.root)}",
                remedy="a complete copy of the data set; a robot without this camera does not need it",
            )
    return present


def _keys(dataset: LeRobotDataset, problems: Problems, *, named: bool) -> None:
    """Check that state and action are there; `named` where their columns' names are checked against a robot."""
    for key, severity, kind in ((STATE, ERROR, COLUMNS), (ACTION, WARNING, ACTIONS)):
        feature = dataset.features.get(key)
        if feature is None:
            others = [
                f.name for f in dataset.features.values() if f.dtype.startswith("float") and f.shape != (1,)
            ]
            option = f"--{'state' if key == STATE else 'action'}-key {' or '.join(others) or 'KEY'}"
            problems.add(severity, kind, key, "the data set has no such key", remedy=option)
        elif not feature.names and not named:
            problems.add(
                ERROR,
                COLUMNS,
                key,
                f"meta/info.json names none of its {int(np.prod(feature.shape))} columns",
                remedy="--in-order takes the columns in the order of the robot file",
            )


def _episode(dataset: LeRobotDataset, episode: DatasetEpisode, problems: Problems) -> RecordedEpisode | None:
    """Check an episode by itself; return its table, or None where it cannot be read."""
    where = f"episode {episode.index}"
    _, moved = dataset.locate(episode)
    try:
        # Whatever the lenient reader accepts, a conversion without --lenient refuses.
        reader = EpisodeReader(dataset, episode.index, lenient=True)
    except WamError as error:
        problems.refused(FILES, where, error)
        return None
    told = 0
    if moved:
        problems.add(
            WARNING, LAYOUT, where, moved, remedy="none is needed here; LeRobot's own fix rewrites meta/"
        )
        told = 1
    stamps = reader.episode.stamps
    if len(stamps) and abs(stamps[0]) > 0.5 / dataset.fps:
        problems.add(
            NOTE,
            LAYOUT,
            where,
            f"stamps start at {stamps[0]:.4f} s; image i is row i's, as there are as many of both",
        )
    for camera in reader.episode.cameras:
        key = camera if camera in dataset.features else IMAGES + camera
        part = episode.videos.get(key)
        if part is not None and not part.path.is_file():
            continue
        try:
            next(iter(reader.images(camera)), None)
        except WamError as error:
            problems.refused(CAMERAS, f"{where}, {key}", error)
    for warning in reader.warnings[told:]:
        text, _, remedy = warning.partition("; change it in ")
        kind = RATE if "rate" in text or "images" in text else ProblemKind.MESSAGES
        problems.add(ERROR, kind, where, text, remedy=remedy)
    return reader.episode


def _columns(path: Path, content: RecordedEpisode, robot: RobotDescription, problems: Problems) -> None:
    """Check names and ranges of the columns against the robot's joints."""
    where = f"episode {content.index}"
    options = ColumnOptions()
    warnings: list[str] = []
    tables: Sequence[tuple[str, str, Callable[[], JointColumns | None], np.ndarray | None]] = (
        (STATE, "--unit", lambda: measured_joints(content, robot, path, options), content.state),
        (
            ACTION,
            "--action-unit",
            lambda: commanded_joints(content, robot, path, options, False, warnings),
            content.action,
        ),
    )
    for key, option, read, raw in tables:
        try:
            found = read()
        except WamError as error:
            problems.refused(COLUMNS if key == STATE else ACTIONS, f"{where}, {key}", error)
            continue
        if found is None or raw is None:
            continue
        fault = range_fault(found, raw, what=f"{key} of {path}", option=option)
        if fault is not None:
            problems.refused(COLUMNS, f"{where}, {key}", fault)
            continue
        _limits(key, option, found, robot, problems)


def _limits(key: str, option: str, found: JointColumns, robot: RobotDescription, problems: Problems) -> None:
    ranges = [
        (joint, float(np.nanmin(column)), float(np.nanmax(column)))
        for joint, column in zip(found.joints, found.values.T, strict=True)
        if np.isfinite(column).any()
    ]
    beyond = [
        (max(joint.lower - low, high - joint.upper) / (joint.upper - joint.lower), joint, low, high)
        for joint, low, high in ranges
    ]
    beyond = [one for one in beyond if one[0] > LIMIT_TOLERANCE]
    if not beyond:
        return
    _, joint, low, high = max(beyond, key=lambda one: one[0])
    unit = joint.kind.unit
    problems.add(
        WARNING,
        ProblemKind.JOINTS,
        f"{key} {joint.name}",
        f"positions beyond the limits in an episode: got {low:.4g} .. {high:.4g} {unit} "
        f"(and of {len(beyond) - 1} other joints), allowed: {joint.lower:g} .. {joint.upper:g} {unit}",
        remedy=f"the joint's limits in {robot.source}, or {option}",
    )


def _cameras(path: Path, content: RecordedEpisode, robot: RobotDescription, problems: Problems) -> None:
    """Check that every camera of the robot is there, and of its size."""
    for camera in robot.cameras:
        try:
            camera_views(content, replace(robot, cameras=(camera,)), {}, path)
        except WamError as error:
            problems.refused(CAMERAS, camera.name, error)
