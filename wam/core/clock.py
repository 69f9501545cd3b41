# SPDX-License-Identifier: Apache-2.0
"""Time: integer nanoseconds from an injected clock."""

from __future__ import annotations

import threading
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Source of the present time. Called from any thread; never blocks."""

    def now_ns(self) -> int:
        """Return the present time [ns] on the axis of the message stamps (wall or simulated)."""
        ...


class ManualClock:
    """A clock that is set by hand: for tests and for replay on a recording's own time.

    Args:
        start_ns: first reading [ns].
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        """Return the time last set [ns]."""
        with self._lock:
            return self._now_ns

    def set(self, now_ns: int) -> None:
        """Move the clock to `now_ns` [ns]; moving back is allowed (a recording may loop)."""
        with self._lock:
            self._now_ns = now_ns

    def advance(self, by_ns: int) -> int:
        """Move the clock by `by_ns` [ns] and return the new time."""
        with self._lock:
            self._now_ns += by_ns
            return self._now_ns


def seconds_to_ns(seconds: float) -> int:
    """Return `seconds` [s] as whole nanoseconds, rounded to the nearest."""
    return round(seconds * NS_PER_S)


def ns_to_seconds(ns: int) -> float:
    """Return `ns` [ns] in seconds."""
    return ns / NS_PER_S
