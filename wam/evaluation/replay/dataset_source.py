# SPDX-License-Identifier: Apache-2.0
"""Episodes of a LeRobot data set as the recordings of a scenario.

dataset: ~/g1_pick                     # relative to the scenario's file
episodes: [0, 1, 5-9]                  # default: all whose files are there
convert: {unit: deg, camera: {top: cam_high}, keep: bags}   # as the options of `wam convert lerobot`
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError, WamError, is_machine_fault
from wam.data.columns import ColumnOptions
from wam.data.lerobot.reader import open_dataset
from wam.data.to_bag import convert_lerobot
from wam.robots.description import RobotDescription

ALL = "all"
"""In place of numbers: every episode; in place of a joint: every joint."""

TEXTS = ("state_key", "action_key", "keep")
SWITCHES = ("in_order", "lenient")
TABLES = ("camera", "state_name", "action_name", "unit", "action_unit")
MAX_EPISODES = 10_000
NOTE = "conversion.json"
"""File of a kept folder that says how its episodes were converted."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Which episodes of which data set, and what is stated of its columns.

    Attributes:
        path: folder of the data set.
        episodes: their numbers; None for all whose files are there.
        cameras: data set camera -> robot camera.
        state: what is stated of the state.
        action: what is stated of the action.
        lenient: take data with faults.
        keep: folder in which the converted episodes stay; None for none.
        where: the scenario's file, for error texts.
    """

    path: Path
    episodes: tuple[int, ...] | None
    cameras: Mapping[str, str] = field(default_factory=dict)
    state: ColumnOptions = field(default_factory=ColumnOptions)
    action: ColumnOptions = field(default_factory=ColumnOptions)
    lenient: bool = False
    keep: Path | None = None
    where: str = ""


def parse_dataset(content: Mapping[str, Any], path: Path) -> DatasetSource:
    """Return the data set that a scenario names.

    Args:
        content: of the scenario's file, with the key `dataset`.
        path: the file.

    Raises:
        ConfigError: a value is illegal; the text names it.
    """
    name = content["dataset"]
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{path}: dataset", value=str(name), allowed="a path", where=str(path))
    stated = _stated(content.get("convert"), path)
    units = _table(stated.get("unit"), "unit", path)
    action_units = _table(stated["action_unit"], "action_unit", path) if "action_unit" in stated else units
    in_order = bool(stated.get("in_order", False))
    keep = stated.get("keep", "")
    return DatasetSource(
        path=path.parent / Path(name).expanduser(),
        episodes=_episodes(content.get("episodes", ALL), path),
        cameras=_table(stated.get("camera"), "camera", path),
        state=ColumnOptions(
            _table(stated.get("state_name"), "state_name", path), units, in_order, stated.get("state_key", "")
        ),
        action=ColumnOptions(
            _table(stated.get("action_name"), "action_name", path),
            action_units,
            in_order,
            stated.get("action_key", ""),
        ),
        lenient=bool(stated.get("lenient", False)),
        keep=path.parent / Path(keep).expanduser() if keep else None,
        where=str(path),
    )


@contextlib.contextmanager
def converted(
    source: DatasetSource,
    robot: RobotDescription,
    *,
    beside: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[dict[Path, str]]:
    """Yield bag -> why that episode cannot be converted, "" where it was, in order of the episodes.

    The bags are removed at the end unless they are to be kept; kept ones of an earlier run are taken as they are.

    Args:
        source: which episodes.
        robot: gives topics, joint names and cameras.
        beside: folder in which a temporary one is made.
        progress: called with episodes done and all.

    Raises:
        ConfigError: the data set has no such episode, or the kept ones were converted otherwise.
        RecordingError: the data set cannot be read.
        WamError: this machine refused (disk, permission) while an episode was converted.
    """
    numbers = _numbers(source)
    with contextlib.ExitStack() as stack:
        if source.keep is None:
            beside.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(
                prefix=".wam-episodes-", dir=beside, ignore_cleanup_errors=True
            )
            folder = Path(stack.enter_context(made))
        else:
            folder = source.keep
            _require_same_conversion(source, robot, folder)
        bags: dict[Path, str] = {}
        for done, number in enumerate(numbers, start=1):
            bag = folder / f"episode_{number:06d}"
            bags[bag] = "" if bag.is_dir() else _convert(source, robot, number, bag)
            progress(done, len(numbers))
        yield bags


def _convert(source: DatasetSource, robot: RobotDescription, number: int, bag: Path) -> str:
    try:
        convert_lerobot(
            source.path,
            bag,
            robot=robot,
            episode=number,
            cameras=source.cameras,
            state=source.state,
            action=source.action,
            lenient=source.lenient,
        )
    except WamError as error:
        if is_machine_fault(error):
            raise
        return f"cannot be converted: {error}"
    return ""


def _numbers(source: DatasetSource) -> tuple[int, ...]:
    dataset = open_dataset(source.path)
    present = [episode.index for episode in dataset.present(())]
    if source.episodes is None:
        wanted: Sequence[int] = present
    else:
        wanted = source.episodes
    missing = [number for number in wanted if number not in present]
    if missing or not wanted:
        raise ConfigError(
            f"data set {source.path} lacks episodes",
            value=missing[:10],
            allowed=ranges(present) or "(none is there)",
            where=f"{source.where} (episodes)",
        )
    return tuple(wanted)


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as a short text: "0, 3-5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _require_same_conversion(source: DatasetSource, robot: RobotDescription, folder: Path) -> None:
    """Write how a kept folder's episodes are converted, or check that it is as they were.

    Raises:
        ConfigError: it is another conversion, or the folder cannot be written.
    """
    said = {
        "dataset": str(source.path.resolve()),
        "robot": robot.name,
        "cameras": dict(source.cameras),
        "state": asdict(source.state),
        "action": asdict(source.action),
        "lenient": source.lenient,
    }
    note = folder / NOTE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            note.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        same = json.loads(note.read_text(encoding="utf-8")) == json.loads(json.dumps(said))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} cannot be used ({error})", where=f"{source.where} (convert.keep)"
        ) from error
    if not same:
        raise ConfigError(
            f"{folder} holds episodes that were converted otherwise (see {NOTE} there)",
            allowed="the same data set, robot and options, or another folder",
            where=f"{source.where} (convert.keep)",
        )


def _episodes(value: Any, path: Path) -> tuple[int, ...] | None:
    if value == ALL:
        return None
    numbers: list[int] = []
    for entry in value if isinstance(value, list) else [None]:
        first, _, last = str(entry).partition("-")
        if isinstance(entry, bool) or not first.isdecimal() or not (last or first).isdecimal():
            raise _bad_episodes(value, path)
        numbers += range(int(first), int(last or first) + 1)
    if not numbers or len(set(numbers)) != len(numbers) or len(numbers) > MAX_EPISODES:
        raise _bad_episodes(value, path)
    return tuple(numbers)


def _bad_episodes(value: Any, path: Path) -> ConfigError:
    return ConfigError(
        f"{path}: episodes",
        value=str(value),
        allowed="all, or a list of distinct numbers and ranges like 5-9",
        where=str(path),
    )


def _stated(value: Any, path: Path) -> dict[str, Any]:
    allowed = (*TABLES, *SWITCHES, *TEXTS)
    if value is None:
        return {}
    if not isinstance(value, dict) or not set(value) <= set(allowed):
        given = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise ConfigError(
            f"{path}: convert", value=given, allowed=f"any of {', '.join(allowed)}", where=str(path)
        )
    for names, kind, what in ((SWITCHES, bool, "true or false"), (TEXTS, str, "a text")):
        for name in names:
            if name in value and not isinstance(value[name], kind):
                raise ConfigError(
                    f"{path}: convert.{name}", value=str(value[name]), allowed=what, where=str(path)
                )
    return value


def _table(value: Any, name: str, path: Path) -> dict[str, str]:
    """Return a mapping of texts; a unit alone is that of all joints."""
    if value is None:
        return {}
    if name.endswith("unit") and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return {"": str(value)}
    if not isinstance(value, dict) or not all(isinstance(one, (str, int, float)) for one in value.values()):
        allowed = (
            "a unit, or a mapping joint: unit" if name.endswith("unit") else "a mapping from name to name"
        )
        raise ConfigError(f"{path}: convert.{name}", value=str(value), allowed=allowed, where=str(path))
    return {"" if key == ALL else str(key): str(one) for key, one in value.items()}
