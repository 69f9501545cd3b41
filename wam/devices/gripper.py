# SPDX-License-Identifier: Apache-2.0
"""A gripper that only opens or closes: a stream of openings becomes few, well-spaced commands."""

from __future__ import annotations

import enum
import math

from wam.core.clock import NS_PER_MS


class Side(enum.Enum):
    """Commanded side of a gripper that is either open or closed."""

    OPEN = "open"
    CLOSED = "closed"


class Discretiser:
    """Turns openings into sides, with hysteresis and a minimum time between two changes.

    An opening below `close_below` closes, one above `open_above` opens, and between them the side stays. After a
    change no other follows for the dwell time; the opening wanted at its end then decides.

    Args:
        close_below: [m].
        open_above: [m]; larger than `close_below`.
        dwell_ns: minimum time between two changes [ns].

    Raises:
        ValueError: the thresholds are not in order.
    """

    def __init__(self, *, close_below: float, open_above: float, dwell_ns: int = 400 * NS_PER_MS) -> None:
        if not 0.0 < close_below < open_above:
            raise ValueError(
                f"close_below {close_below} and open_above {open_above}; wanted: 0 < close < open"
            )
        self._close_below, self._open_above, self._dwell_ns = close_below, open_above, dwell_ns
        self.side: Side | None = None
        self._changed_ns: int | None = None

    def seed(self, measured: float) -> None:
        """Take the present opening, so that no command is sent for the side it is on already.

        Args:
            measured: opening [m]; NaN leaves the side unknown.
        """
        self._changed_ns = None
        if math.isnan(measured):
            self.side = None
        else:
            middle = 0.5 * (self._close_below + self._open_above)
            self.side = Side.OPEN if measured > middle else Side.CLOSED

    def step(self, opening: float, now_ns: int) -> Side | None:
        """Return the side to command now, or None.

        Args:
            opening: wanted opening [m]; one that is not finite changes nothing.
            now_ns: present time [ns].
        """
        if opening < self._close_below:
            wanted = Side.CLOSED
        elif opening > self._open_above:
            wanted = Side.OPEN
        else:  # between the thresholds, or NaN
            return None
        if wanted is self.side or math.isinf(opening):
            return None
        # A clock that went back ends the dwell: it must not keep the gripper shut for the length of the jump.
        if self._changed_ns is not None and 0 <= now_ns - self._changed_ns < self._dwell_ns:
            return None
        self.side, self._changed_ns = wanted, now_ns
        return wanted
