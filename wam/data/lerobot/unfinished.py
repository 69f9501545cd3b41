# SPDX-License-Identifier: Apache-2.0
"""Parquet files that were never finished: their recorder was killed, and where every row lies stands at the end.

Nothing in such a file can be read. What it held is known from the metadata: LeRobot counts the rows of each episode in
meta/info.json when the episode ends, and finishes its tables when the recording does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

END = b"PAR1"
LEAST_BYTES = 12

NAMED = 8
"""Episodes that a line names at most."""


@dataclass(frozen=True, slots=True)
class UnfinishedFile:
    """A table that was never finished, and what is lost with it.

    Attributes:
        path: the file.
        episodes: numbers of the episodes that it held, as far as they are known.
        count: how many episodes are lost; None where it is not known.
        frames: rows that are lost; None where it is not known.
        seconds: what these last [s].
    """

    path: Path
    episodes: tuple[int, ...]
    count: int | None
    frames: int | None
    seconds: float | None

    def text(self) -> str:
        """Return one line for people."""
        if self.frames is None or self.seconds is None:
            lost = "what it held is not known"
        else:
            names = ", ".join(map(str, self.episodes[:NAMED])) + (
                " ..." if len(self.episodes) > NAMED else ""
            )
            which = f" ({names})" if self.episodes else ""
            lost = f"lost are {self.count} episodes{which} of {self.frames} frames ({self.seconds:.2f} s)"
        return (
            f"{self.path} has no end, since its recorder was killed or the copy is incomplete, and nothing in it can "
            f"be read: {lost}"
        )


def is_finished(path: Path) -> bool:
    """Return whether a parquet file ends as one does; False for one that does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(-len(END), 2)
            return path.stat().st_size >= LEAST_BYTES and file.read() == END
    except OSError:
        return False


def lines(unfinished: Iterable[UnfinishedFile]) -> tuple[str, ...]:
    """Return one line for each file."""
    return tuple(file.text() for file in unfinished)
