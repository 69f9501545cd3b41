# SPDX-License-Identifier: Apache-2.0
"""Gaps of a recording: times in which nothing was recorded, or which a clock skipped when it was set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S

MAX_GAP_NS = 10 * NS_PER_S
"""A longer time without any message is jumped [ns]: a clock that was set forward by years is never caught up with."""


@dataclass(frozen=True, slots=True)
class TimeGap:
    """A time that is jumped.

    Attributes:
        start_ns: time of the last message before it [ns].
        end_ns: time of the first message after it [ns].
    """

    start_ns: int
    end_ns: int

    @property
    def length_ns(self) -> int:
        """Its length [ns]."""
        return self.end_ns - self.start_ns


def seconds_recorded(
    times_ns: npt.ArrayLike, *, start_ns: int, gaps: Sequence[TimeGap]
) -> npt.NDArray[np.float64]:
    """Return times since the start of a recording without its gaps, float64 [T] [s].

    Args:
        times_ns: int64 [T].
        start_ns: start of the recording [ns].
        gaps: in order.
    """
    times = np.asarray(times_ns, dtype=np.int64)
    since = times - start_ns
    for gap in gaps:
        since = since - np.where(
            times >= gap.end_ns, gap.length_ns, np.clip(times - gap.start_ns, 0, gap.length_ns)
        )
    return since / NS_PER_S


def gap_warnings(gaps: Sequence[TimeGap], *, start_ns: int) -> list[str]:
    """Return a line for every time that is jumped.

    Args:
        gaps: in order.
        start_ns: start of the recording [ns].
    """
    after = seconds_recorded([gap.start_ns for gap in gaps], start_ns=start_ns, gaps=gaps).tolist()
    return [
        f"nothing was recorded for {gap.length_ns / NS_PER_S:.1f} s after {seconds:.2f} s: the recorder paused, "
        "or the clock was set forward; no chunk spans it, and times in the report leave it out"
        for gap, seconds in zip(gaps, after, strict=True)
    ]
