# SPDX-License-Identifier: Apache-2.0
"""The folder of a report: written next to its destination, then moved there as a whole; the user's files stay."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError
from wam.core.file_modes import make_public

SUMMARY = "summary.json"
TIMING = "timing.json"
EVENTS = "events.jsonl"
INDEX = "index.html"
TIMELINE = "timeline.parquet"
RUNS = "runs"
"""Folder of a scenario's report that holds a report for every run."""

OWN_FILES = frozenset({SUMMARY, TIMING, EVENTS, INDEX, TIMELINE, RUNS})
SCHEMA_PREFIX = "wam/"


def require_free(out_dir: Path, *, keep: Collection[str] = ()) -> None:
    """Check that a report may be written to `out_dir`: it is absent, empty, or an earlier report.

    Args:
        out_dir: where the report is wanted.
        keep: names in it that belong to the run itself (its logs) and will stay.

    Raises:
        ConfigError: it is a file, or a folder that holds anything else.
    """
    if not out_dir.exists() and not out_dir.is_symlink():
        return
    if not out_dir.is_dir():
        raise _refusal(out_dir, "it is a file")
    entries = sorted(entry.name for entry in out_dir.iterdir() if entry.name not in keep)
    if not entries:
        return
    foreign = [name for name in entries if name not in OWN_FILES]
    if foreign:
        raise _refusal(out_dir, f"it holds {', '.join(foreign[:5])}{' and more' if len(foreign) > 5 else ''}")
    if not _is_own_summary(out_dir / SUMMARY):
        raise _refusal(out_dir, f"its {SUMMARY} was not written by this program")
    if RUNS in entries:
        for run in sorted((out_dir / RUNS).iterdir()):
            require_free(run)


def new_folder(parent: Path, name: str) -> Path:
    """Make and return a folder that nobody else has: `name`, or `name-2` and so on where that is taken.

    Raises:
        OSError: it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("counting does not end")


@contextlib.contextmanager
def report_folder(out_dir: Path, *, keep: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new folder to write to; on success it replaces `out_dir`, on error it is removed.

    Args:
        out_dir: where the report is wanted.
        keep: names in `out_dir` that move into the new folder as they are.

    Raises:
        ConfigError: `out_dir` may not be replaced, or cannot be written.
    """
    require_free(out_dir, keep=keep)
    target = out_dir.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigError(
            f"report folder {out_dir} cannot be written ({error.strerror})",
            allowed="a writable folder",
            where="--report",
        ) from error
    try:
        yield work
        _replace(work, target, keep)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON: keys in the order given, two spaces, no NaN.

    Raises:
        ValueError: a value is not finite; JSON has no number for it.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _replace(work: Path, target: Path, keep: Collection[str]) -> None:
    # mkdtemp makes a folder for the owner alone; a report is for whoever may read its place.
    make_public(work)
    if target.exists():
        require_free(target, keep=keep)  # another process may have put a file there meanwhile
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        target.rename(old / "old")
        for name in keep:
            if (old / "old" / name).exists():
                (old / "old" / name).rename(work / name)
        work.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(target)


def _is_own_summary(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("schema", "")).startswith(SCHEMA_PREFIX)


def _refusal(out_dir: Path, why: str) -> ConfigError:
    return ConfigError(
        f"report folder {out_dir} would be overwritten, and {why}",
        allowed="a new folder, an empty one, or an earlier report",
        where="--report",
    )
