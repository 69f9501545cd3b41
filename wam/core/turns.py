# SPDX-License-Identifier: Apache-2.0
"""A thread that computes for long lets one with deadlines go first.

Python runs one thread at a time, and a thread that wakes has to wait until another one gives way, which takes a
millisecond or more. A thread that knows when the other is due can stop before that, at a place of its own choosing.
"""

from __future__ import annotations

import threading
import time

MARGIN_NS = 400_000
"""A computing thread stops this long before the other one is due [ns]: longer than between most of its `pause`."""

LONGEST_S = 0.01
"""A turn is waited for no longer than this in all [s]: its thread may hang, or wait for what the other one holds."""


class Turns:
    """When a thread with deadlines is due, and whether it is at work.

    The thread with deadlines calls `expect` before it sleeps and `over` when its work is done.
    """

    def __init__(self) -> None:
        self._due_ns: int | None = None
        self._given_up_ns: int | None = None
        self._over = threading.Event()

    def expect(self, due_ns: int) -> None:
        """Take note that the thread is due at `due_ns` of the monotonic clock [ns]."""
        self._over.clear()
        self._due_ns = due_ns

    def over(self) -> None:
        """Let the others go on, until the next `expect`."""
        self._due_ns = None
        self._over.set()

    def at_work(self) -> bool:
        """Return whether the thread with deadlines is at work or about to be."""
        due_ns = self._due_ns
        return due_ns is not None and time.monotonic_ns() > due_ns - MARGIN_NS

    def pause(self) -> None:
        """Wait while the thread with deadlines is at work or about to be; once for a turn that does not end."""
        due_ns = self._due_ns
        if due_ns != self._given_up_ns and self.at_work() and not self._over.wait(LONGEST_S):
            self._given_up_ns = due_ns

    def mind(self) -> None:
        """Let `pause` of this module wait for these turns in the calling thread, from now on."""
        _minded.turns = self


def pause() -> None:
    """Let the thread go first that the calling one minds; in other threads this does nothing.

    Called every few tenths of a millisecond by computations that a thread with deadlines would have to wait for.
    """
    turns: Turns | None = getattr(_minded, "turns", None)
    if turns is not None:
        turns.pause()


_minded = threading.local()
