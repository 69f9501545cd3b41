# SPDX-License-Identifier: Apache-2.0
"""A bounded history of one stream, ordered by acquisition stamp."""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Generic, TypeVar

from wam.core.clock import NS_PER_MS

T = TypeVar("T")

RESET_TOLERANCE_NS = 500 * NS_PER_MS
"""A larger step back of the stamps is a clock reset, a smaller one late delivery."""


class Pushed(enum.Enum):
    """What became of a sample."""

    STORED = "stored"
    LATE = "late"  # out of order, sorted in
    DUPLICATE = "duplicate"  # there is a sample with its stamp; the first one stays, or is completed
    TOO_OLD = "too_old"  # older than everything in a full buffer
    RESET = "reset"  # the clock went back: the history was dropped, the sample is the first of a new one


@dataclass(frozen=True, slots=True)
class Stamped(Generic[T]):
    """One value of a stream and its stamp.

    Attributes:
        stamp_ns: acquisition time [ns].
        value: the value.
    """

    stamp_ns: int
    value: T


MOST = 2048
"""Samples that are kept for their age at most: 1 s of the fastest driver, twice."""


class StreamBuffer(Generic[T]):
    """The newest samples of a stream. Not thread-safe: the owner locks.

    Args:
        capacity: samples kept.
        span_ns: samples that are at most so much older than the newest are kept beyond `capacity`, up to `MOST`; a
            publisher may be faster than its file says [ns].
        reset_tolerance_ns: largest step back of the stamps that counts as late delivery [ns].
    """

    def __init__(
        self, capacity: int, *, span_ns: int = 0, reset_tolerance_ns: int = RESET_TOLERANCE_NS
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, must be at least 1")
        self._capacity, self._span_ns = capacity, span_ns
        self._tolerance_ns = reset_tolerance_ns
        self._stamps: list[int] = []
        self._samples: list[Stamped[T]] = []

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def capacity(self) -> int:
        """Samples kept at most."""
        return self._capacity

    @property
    def newest(self) -> Stamped[T] | None:
        """The sample with the largest stamp, or None."""
        return self._samples[-1] if self._samples else None

    def push(self, stamp_ns: int, value: T, *, completes: bool = False) -> Pushed:
        """Add a sample and return what became of it.

        Args:
            stamp_ns: its stamp [ns].
            value: the sample.
            completes: it takes the place of one with its stamp, of which it is a fuller version.
        """
        outcome = Pushed.STORED
        if self._stamps and stamp_ns <= self._stamps[-1]:
            if stamp_ns < self._stamps[-1] - self._tolerance_ns:
                self.clear()
                outcome = Pushed.RESET
            else:
                outcome = Pushed.LATE
        at = bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            if completes:
                self._samples[at] = Stamped(stamp_ns, value)
            return Pushed.DUPLICATE
        if at == 0 and len(self._stamps) >= self._capacity and not self._within(stamp_ns):
            return Pushed.TOO_OLD
        self._stamps.insert(at, stamp_ns)
        self._samples.insert(at, Stamped(stamp_ns, value))
        while len(self._stamps) > self._capacity and not self._within(self._stamps[0]):
            del self._stamps[0], self._samples[0]
        return outcome

    def _within(self, stamp_ns: int) -> bool:
        """Return whether a sample is kept for its age, whatever the number of those that are newer."""
        return len(self._stamps) <= MOST and self._stamps[-1] - stamp_ns <= self._span_ns

    def newest_at(self, t_ns: int) -> Stamped[T] | None:
        """Return the newest sample with stamp <= `t_ns` [ns], or None."""
        at = bisect_right(self._stamps, t_ns)
        return self._samples[at - 1] if at else None

    def discard(self, stamp_ns: int) -> None:
        """Remove the sample with this stamp [ns], if it is still in the buffer."""
        at = bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            del self._stamps[at], self._samples[at]

    def clear(self) -> None:
        """Remove everything."""
        self._stamps.clear()
        self._samples.clear()
