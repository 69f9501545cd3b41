# SPDX-License-Identifier: Apache-2.0
"""A delay line: what was put in comes out a fixed time later."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Values in the order of their times; one thread.

    Args:
        delay_ns: time from `put` to the moment at which `get` returns the value [ns].
        first: returned until the first value comes out.

    Raises:
        ValueError: the delay is negative.
    """

    def __init__(self, delay_ns: int, first: T) -> None:
        if delay_ns < 0:
            raise ValueError(f"delay is {delay_ns} ns, must not be negative")
        self._delay_ns = delay_ns
        self._waiting: deque[tuple[int, T]] = deque()
        self._out = first

    def put(self, now_ns: int, value: T) -> None:
        """Put a value in at `now_ns` [ns], not earlier than the one before it."""
        self._waiting.append((now_ns + self._delay_ns, value))

    def get(self, now_ns: int) -> T:
        """Return the newest value that is due at `now_ns` [ns]."""
        while self._waiting and self._waiting[0][0] <= now_ns:
            self._out = self._waiting.popleft()[1]
        return self._out

    def reset(self, value: T) -> None:
        """Forget what is on its way and return `value` from now on."""
        self._waiting.clear()
        self._out = value
