# SPDX-License-Identifier: Apache-2.0
"""Who owns a context: a process named so that a later one with the same pid is another."""

from __future__ import annotations

import functools
import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, told apart from every other of this boot.

    Attributes:
        pid: process number in this pid namespace.
        start_ticks: start of the process since boot [clock ticks]; pids are reused, pairs are not.
    """

    pid: int
    start_ticks: int


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process; a forked child gets its own."""
    return _identity_of(os.getpid())


def is_alive(process: ProcessIdentity) -> bool:
    """Return whether `process` runs in this pid namespace; a zombie does not: its memory is gone."""
    stat = _read_stat(process.pid)
    return stat is not None and stat[0] not in "ZX" and stat[1] == process.start_ticks


def new_token() -> str:
    """Return 16 random hex digits that tell one publisher from every other."""
    return secrets.token_hex(8)


@functools.lru_cache(maxsize=1)
def _identity_of(pid: int) -> ProcessIdentity:
    """Return the identity of a running process; cached, since the hand-over within a process asks each time."""
    stat = _read_stat(pid)
    return ProcessIdentity(pid, 0 if stat is None else stat[1])


def _read_stat(pid: int) -> tuple[str, int] | None:
    """Return state letter and start time of a process, or None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name stands in parentheses and may itself hold spaces and parentheses (proc(5)).
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
