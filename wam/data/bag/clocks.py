# SPDX-License-Identifier: Apache-2.0
"""Corrections of the clocks that stamped the topics of a recording: an offset and a drift, stated or to be fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wam.core.clock import NS_PER_S

OPTION = "--clock-offset"


@dataclass(frozen=True, slots=True)
class ClockRequest:
    """How the stamps of a topic are to be corrected.

    Attributes:
        offset_ns: what is added to its first stamp [ns]; None fits offset and drift.
        ppm: what is added for each second after that [µs].
    """

    offset_ns: int | None
    ppm: float = 0.0


@dataclass(frozen=True, slots=True)
class ClockCorrection:
    """What is added to the stamps of a topic.

    Attributes:
        offset_ns: at the stamp `anchor_ns` [ns].
        ppm: for each second after that [µs].
        anchor_ns: a stamp of the topic, as recorded [ns].
        fit: how it was fitted, for people; "" where it was stated.
    """

    offset_ns: int
    ppm: float = 0.0
    anchor_ns: int = 0
    fit: str = ""

    def correct(self, stamp_ns: int) -> int:
        """Return a stamp on the clock of the other topics [ns]."""
        drift_ns = round((stamp_ns - self.anchor_ns) * self.ppm * 1e-6) if self.ppm else 0
        return stamp_ns + self.offset_ns + drift_ns

    def line(self, topic: str) -> str:
        """Return one sentence about it."""
        drift = f" and by {self.ppm:+.1f} ppm of the time since its first one" if self.ppm else ""
        fit = f"; {self.fit}" if self.fit else " (--clock-offset)"
        return f"{topic}: its stamps were corrected by {self.offset_ns / NS_PER_S:+.6f} s{drift}{fit}"


def correction_lines(clocks: Mapping[str, ClockCorrection]) -> tuple[str, ...]:
    """Return one sentence for each topic whose stamps are corrected."""
    return tuple(clock.line(topic) for topic, clock in sorted(clocks.items()))
