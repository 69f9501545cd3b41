# SPDX-License-Identifier: Apache-2.0
"""How execution blends or switches from the previous chunk to a new one: five strategies behind one interface.

strategy     row 0 is due at                takes over                     for policies that
SEQUENTIAL   the end of the rows at hand    when those are finished        need longer than one chunk to compute
LATEST       its stamp; head is discarded   at once                        give consistent consecutive chunks
BLEND        its stamp; head is discarded   over a window, weights 0 -> 1  give slightly different chunks (default)
COMMITTED    its stamp; head is discarded   after the measured delay       were conditioned on the prefix (RTC)
ROLL         its stamp + measured delay     at once                        predict from the state rolled forward
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.core.chunk.action_chunk import ActionChunk
from wam.core.chunk.timeline import HISTORY_ROWS, Timeline
from wam.core.errors import StaleContext
from wam.core.trajectory.motion import Motion

Rows = npt.NDArray[np.float64]


class StaleChunk(StaleContext):
    """Every row of a chunk is due before it could take over."""


class Strategy(enum.Enum):
    """Names of the strategies, as parameters and policy files spell them."""

    SEQUENTIAL = "sequential"
    LATEST = "latest"
    BLEND = "blend"
    COMMITTED = "committed"
    ROLL = "roll"


@dataclass(frozen=True, slots=True)
class SpliceTimes:
    """Times a strategy decides by.

    Attributes:
        takeover_ns: earliest time that can still be changed: now plus lead [ns].
        blend_ns: window over which a chunk takes over [ns].
        delay_ns: measured inference delay [ns].
    """

    takeover_ns: int
    blend_ns: int
    delay_ns: int


@dataclass(frozen=True, slots=True)
class RowPlacement:
    """What a strategy decides about a chunk.

    Attributes:
        row0_ns: time at which row 0 is due [ns].
        from_ns: first time at which the chunk has any weight [ns].
        blend_ns: time from there until it has all the weight [ns].
    """

    row0_ns: int
    from_ns: int
    blend_ns: int


class Splicer(Protocol):
    """Places a chunk on the timeline. Pure; called once per valid chunk."""

    def __call__(self, timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
        """Return when the rows of `chunk` are due and when they take over."""
        ...


def _sequential(timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
    row0 = max(times.takeover_ns, timeline.end_ns + chunk.row_period_ns)
    return RowPlacement(row0, min(row0, max(times.takeover_ns, timeline.end_ns)), 0)


def _latest(timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
    return RowPlacement(chunk.stamp_ns, times.takeover_ns, 0)


def _blend(timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
    return RowPlacement(chunk.stamp_ns, times.takeover_ns, times.blend_ns)


def _committed(timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
    return RowPlacement(chunk.stamp_ns, max(times.takeover_ns, chunk.stamp_ns + times.delay_ns), 0)


def _roll(timeline: Timeline, chunk: ActionChunk, times: SpliceTimes) -> RowPlacement:
    return RowPlacement(chunk.stamp_ns + times.delay_ns, times.takeover_ns, 0)


SPLICERS: dict[Strategy, Splicer] = {
    Strategy.SEQUENTIAL: _sequential,
    Strategy.LATEST: _latest,
    Strategy.BLEND: _blend,
    Strategy.COMMITTED: _committed,
    Strategy.ROLL: _roll,
}


def splice(
    timeline: Timeline,
    chunk: ActionChunk,
    rows: Rows,
    *,
    strategy: Strategy,
    times: SpliceTimes,
) -> Timeline:
    """Return the timeline with `chunk` spliced on; the past and the join with it are kept.

    Args:
        timeline: what is being executed (a hold counts).
        chunk: where the times and numbers come from.
        rows: float64 [H, N], the chunk's rows over all joints of the robot.
        strategy: how to switch or blend.
        times: takeover, blend and delay.

    Raises:
        StaleChunk: every row is due before the chunk could take over.
    """
    placed = SPLICERS[strategy](timeline, chunk, times)
    period = chunk.row_period_ns
    first = max(0, -((placed.row0_ns - placed.from_ns) // period))
    if first >= len(rows):
        late_ns = placed.from_ns - placed.row0_ns - (len(rows) - 1) * period
        raise StaleChunk(
            f"chunk {chunk.sequence} is stale: its last row was due {late_ns / 1e6:.0f} ms before it could take over",
            value=f"{len(rows)} rows of {period / 1e6:.1f} ms",
            allowed="at least one row that is still due",
            where="the executor's period, or the policy's chunk length",
        )
    # Rows of the timeline that still count: the join with the past, and what lies before the takeover.
    first_ns = placed.row0_ns + first * period
    kept = HISTORY_ROWS + max(0, (first_ns - times.takeover_ns) // period)
    start_ns = first_ns - kept * period
    count = kept + len(rows) - first
    old = timeline.at(start_ns + np.arange(count, dtype=np.int64) * period)
    new = rows[first:]
    if placed.blend_ns > 0:
        x = (first_ns - placed.from_ns + np.arange(len(new)) * period) / placed.blend_ns
        x = np.minimum(x, 1.0)
        weight = (x * x * (3.0 - 2.0 * x))[:, None]
        old[kept:] += weight * (new - old[kept:])
    else:
        old[kept:] = new
    return Timeline(Motion(start_ns, period, old, settled=kept), chunk.generation, chunk.sequence)
