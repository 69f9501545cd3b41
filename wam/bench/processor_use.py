# SPDX-License-Identifier: Apache-2.0
"""Processor time of running processes, by thread name, from procfs. No ROS.

The kernel knows threads, not functions: what one Python thread does (callbacks and their conversion, inference, waiting
for the interpreter's lock) cannot be told apart here, nor can time that it waits for a core.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

MAIN = "callbacks"
"""The first thread of a process: it runs the callbacks of rclpy, with the conversion of their messages."""

OTHER = "other"
"""Threads without a name of their own."""

DDS = "dds"

_NUMBERS = re.compile(r"[^a-z]+")

_UNNAMED = re.compile(r"python[0-9.]*|wam")

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_USER, _SYSTEM = 11, 12  # fields of `stat` after the name

Use = Mapping[str, float]
"""Part of a process -> processor time since the process was started [s]."""


def thread_use(pid: int, proc: Path = Path("/proc")) -> Use:
    """Return the processor time of a process by part; empty where it has ended.

    Time of threads that have ended belongs to `OTHER`, so that the sum is that of the process.

    Args:
        pid: of the process.
        proc: the procfs.
    """
    folder = proc / str(pid)
    parts: dict[str, float] = {}
    try:
        _, whole = _read(folder / "stat")
        threads = sorted(folder.joinpath("task").iterdir())
    except (OSError, ValueError):
        return {}
    for thread in threads:
        try:
            name, used = _read(thread / "stat")
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        part = MAIN if thread.name == str(pid) else part_of(name)
        parts[part] = parts.get(part, 0.0) + used
    ended = whole - sum(parts.values())
    if ended > 0.0:
        parts[OTHER] = parts.get(OTHER, 0.0) + ended
    return parts


def part_of(thread: str) -> str:
    """Return the part that a thread's name stands for: its first words, in small letters."""
    if thread.startswith("dds."):
        return DDS
    if _UNNAMED.fullmatch(thread):
        return OTHER
    return _NUMBERS.sub("_", thread.lower()).strip("_") or OTHER


class ProcessorUse:
    """Adds up the processor time of processes over the intervals between calls of `sample`."""

    def __init__(self) -> None:
        self._before: dict[str, Use] = {}
        self._at_ns: int | None = None
        self._used: dict[str, dict[str, float]] = {}
        self._watched = 0.0

    def pause(self) -> None:
        """Leave out the time until the next sample."""
        self._at_ns = None

    def sample(self, uses: Mapping[str, Use], *, at_ns: int) -> None:
        """Add the time since the last sample, unless there was a pause.

        Args:
            uses: process -> its use now.
            at_ns: monotonic time [ns].
        """
        if self._at_ns is not None:
            self._watched += (at_ns - self._at_ns) * 1e-9
            for process, use in uses.items():
                sums = self._used.setdefault(process, {})
                before = self._before.get(process, {})
                for part, used in use.items():
                    sums[part] = sums.get(part, 0.0) + used - before.get(part, 0.0)
        self._before, self._at_ns = dict(uses), at_ns

    def cores(self) -> dict[str, dict[str, float]]:
        """Return process -> part -> share of one core, 0 to 1 and above for parts with several threads."""
        if self._watched <= 0.0:
            return {}
        return {
            process: {part: max(0.0, used) / self._watched for part, used in parts.items()}
            for process, parts in self._used.items()
        }


def _read(stat: Path) -> tuple[str, float]:
    """Return the name and the processor time [s] of a `stat` file."""
    text = stat.read_text(errors="replace")
    name, _, fields = text.partition("(")[2].rpartition(")")
    values = fields.split()
    return name, (int(values[_USER]) + int(values[_SYSTEM])) / _TICKS_PER_S
