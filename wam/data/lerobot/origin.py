# SPDX-License-Identifier: Apache-2.0
"""Where a simulated data set comes from: task, seeds and quality of its images, as `wam sim record` writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from wam.core.errors import RecordingError

ABOUT = "wam.json"
"""The plan of a recording: in a folder of bags, or in the meta folder of a data set."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a data set states about its origin.

    Attributes:
        task: name of the simulated task; "" for a data set that was not simulated here.
        seeds: first and last seed of its episodes; empty likewise.
        images: quality of the rendered images; "" likewise.
    """

    task: str = ""
    seeds: tuple[int, ...] = ()
    images: str = ""


def read_origin(root: Path, *, episodes: int) -> Origin:
    """Read the origin of a data set.

    Args:
        root: its folder.
        episodes: that it holds; recordings that do not state their last seed have one seed per episode at least.

    Raises:
        RecordingError: its file is damaged.
    """
    path = root / "meta" / ABOUT
    if not path.is_file():
        return Origin()
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        first = int(about["seed"])
        last = int(about.get("last_seed", first + max(episodes, 1) - 1))
        return Origin(str(about["task"]), (first, last), str(about.get("quality", "full")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{path} is damaged ({type(error).__name__}: {error})",
            allowed="the file as wam sim record wrote it, or none",
            where=str(path),
        ) from error
