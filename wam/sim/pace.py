# SPDX-License-Identifier: Apache-2.0
"""When something that has a rate of its own is due. Pure."""

from __future__ import annotations


class Pace:
    """Says once per period that something is due.

    Args:
        period_ns: [ns].

    Raises:
        ValueError: the period is not positive.
    """

    def __init__(self, period_ns: int) -> None:
        if period_ns <= 0:
            raise ValueError(f"period is {period_ns} ns, must be positive")
        self._period_ns, self._due_ns = period_ns, 0

    def due(self, now_ns: int) -> bool:
        """Return whether something is due at `now_ns` [ns].

        Counted from the moment that was due, which keeps the mean rate; anew after a pause or a clock that was set.
        """
        if 0 < self._due_ns - now_ns <= self._period_ns:
            return False
        late_ns = now_ns - self._due_ns
        self._due_ns = (self._due_ns if 0 <= late_ns < self._period_ns else now_ns) + self._period_ns
        return True
