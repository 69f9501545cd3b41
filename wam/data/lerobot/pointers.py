# SPDX-License-Identifier: Apache-2.0
"""Files that stand in for others: a data set that was cloned without Git LFS holds 130 bytes for each of its files."""

from __future__ import annotations

from pathlib import Path

from wam.core.errors import RecordingError

_MARK = b"version https://git-lfs.github.com/spec/"


def is_pointer(path: Path) -> bool:
    """Return whether `path` is a Git LFS pointer; False for what does not exist."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


def refuse_pointer(path: Path) -> None:
    """Refuse a Git LFS pointer; anything else passes.

    Raises:
        RecordingError: `path` is one.
    """
    if is_pointer(path):
        raise RecordingError(
            f"{path} is a Git LFS pointer, not the file",
            value="a text of a few lines",
            allowed="the file itself",
            where="the folder of the data set: `git lfs install`, then `git lfs pull`",
        )
