# SPDX-License-Identifier: Apache-2.0
"""The plan of a recording of experts' episodes, and the outcome of each seed."""

from __future__ import annotations

import contextlib
import enum
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError, RecordingError
from wam.data.lerobot.format import Version
from wam.sim.quality import Quality
from wam.sim.rollout import EpisodeResult
from wam.sim.tasks.task import Setting

PLAN_SCHEMA = "wam/sim-recording/1"
PLAN = "plan.json"
PART = "seed_"
"""Prefix of the names of the parts."""


class Format(str, enum.Enum):
    """What a recording is written as."""

    BAG = "bag"
    LEROBOT = "lerobot"


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """Everything that determines the content of a recording; the numbers of episodes and processes do not.

    Attributes:
        task: name of the task.
        setting: of the task.
        seed: of the first episode; the following episodes have the following seeds.
        format: bags, or one data set.
        version: of a data set.
        fps: rows and images per second [Hz].
        cameras: whose images are recorded.
        keep_failures: keep unsuccessful episodes as well.
        time_limit: end of an episode [s]; None takes the task's.
        quality: of the images.
        truth: record where the objects are.
        kicks: push the arms off the expert's path now and then (`wam.sim.kicks`).
    """

    task: str
    setting: Setting
    seed: int
    format: Format
    version: Version
    fps: float
    cameras: tuple[str, ...]
    keep_failures: bool = False
    time_limit: float | None = None
    quality: Quality = Quality.FULL
    truth: bool = False
    kicks: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "schema": PLAN_SCHEMA,
            **asdict(self),
            "setting": self.setting.value,
            "format": self.format.value,
            "quality": self.quality.value,
            "version": self.version.value if self.format is Format.LEROBOT else "",
            "cameras": list(self.cameras),
        }

    def keeps(self, played: Played) -> bool:
        """Return whether an episode belongs in the recording; an aborted one never does."""
        return not played.error and (played.success or self.keep_failures)


@dataclass(frozen=True, slots=True)
class Played:
    """Outcome of one seed.

    Attributes:
        seed: of the episode.
        variant: kind of the episode.
        instruction: task text.
        success: whether the last stage was reached.
        score: stages reached, 0 to 3.
        time: simulated time at the end [s].
        rows: frames.
        max_contact_force: [N].
        error: why the episode was aborted, or "".
    """

    seed: int
    variant: str
    instruction: str
    success: bool
    score: int
    time: float
    rows: int
    max_contact_force: float
    error: str

    @classmethod
    def of(cls, result: EpisodeResult) -> Played:
        """Return the outcome of a roll-out."""
        return cls(
            seed=result.seed,
            variant=result.variant,
            instruction=result.instruction,
            success=result.success,
            score=result.progress,
            time=result.time,
            rows=len(result.traces.times),
            max_contact_force=result.max_contact_force,
            error=result.error,
        )


def part_name(seed: int) -> str:
    """Return the name of the folder of one seed."""
    return f"{PART}{seed:06d}"


def open_work(folder: Path, plan: RecordPlan) -> None:
    """Make the folder of an unfinished recording, or check that the one there belongs to the same plan.

    Raises:
        ConfigError: it belongs to another plan; the text names what differs.
        RecordingError: it cannot be made or read.
    """
    path, wanted = folder / PLAN, plan.as_json()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_whole(path, wanted)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RecordingError(f"{path} is damaged ({error})", where=f"{folder} (remove it)") from error
    different = [name for name in wanted if found.get(name) != wanted[name]]
    if different:
        names = ", ".join(f"{name} {found.get(name)!r}" for name in different)
        raise ConfigError(
            f"{folder} holds an unfinished recording with other options",
            value=names,
            allowed=", ".join(f"{name} {wanted[name]!r}" for name in different),
            where=f"the options, or {folder} (remove it to start over)",
        )


def read_played(folder: Path, seed: int) -> Played | None:
    """Return the outcome of `seed`, or None where it has not been played to its end."""
    path = folder / f"{part_name(seed)}.json"
    try:
        return Played(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError) as error:
        raise RecordingError(f"{path} is damaged ({error})", where=f"{path} (remove it)") from error


def write_whole(path: Path, value: dict[str, Any]) -> None:
    """Write JSON to a file atomically."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


@contextlib.contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `RecordingError` that names `place`."""
    try:
        yield
    except OSError as error:
        raise RecordingError(
            f"recording {place} cannot be written ({error.strerror or error})",
            allowed="a writable folder on a disk with free space",
            where="the argument OUT",
        ) from error
