# SPDX-License-Identifier: Apache-2.0
"""Rows of chunks against the limits of the joints: how many leave them, and the furthest of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Excess:
    """The furthest that rows went beyond a limit.

    Attributes:
        time_ns: when the row is due [ns].
        column: joint, as an index into the policy's action.
        value: what was asked for (rad, m, or per second).
        limit: the limit it crosses, in the same unit.
        share: excess as a share of the joint's range for a position, speed over limit for a velocity.
    """

    time_ns: int
    column: int
    value: float
    limit: float
    share: float


class LimitWatch:
    """Counts rows beyond limits. One thread.

    Args:
        lower: float64 [N], lower position limits.
        upper: float64 [N], upper position limits, above `lower`.
        velocity: float64 [N], velocity limits, positive.

    Attributes:
        rows: rows seen.
        rows_beyond: rows with a joint beyond its position limits.
        steps_too_fast: steps between two rows with a joint beyond its velocity limit.
        furthest: the row furthest beyond a position limit as a share of the joint's range; None for none.
        fastest: the step with the largest speed over its limit; None for none above it.
    """

    def __init__(self, lower: Table, upper: Table, velocity: Table) -> None:
        self._lower, self._upper, self._velocity = lower, upper, velocity
        self.rows = 0
        self.rows_beyond = 0
        self.steps_too_fast = 0
        self.furthest: Excess | None = None
        self.fastest: Excess | None = None

    @property
    def furthest_share(self) -> float:
        """Largest excess beyond a position limit as a share of the joint's range; NaN without rows."""
        if not self.rows:
            return float("nan")
        return 0.0 if self.furthest is None else self.furthest.share

    def take(self, chunk: ActionChunk) -> None:
        """Take a chunk, float64 [H, N], joints as the limits."""
        self.rows += len(chunk.rows)
        excess = np.maximum(self._lower - chunk.rows, chunk.rows - self._upper)
        beyond = (excess > 0.0).any(axis=1)
        if beyond.any():
            self.rows_beyond += int(beyond.sum())
            self._note_position(chunk, excess / (self._upper - self._lower))
        speed = np.abs(np.diff(chunk.rows, axis=0)) / (chunk.row_period_ns / NS_PER_S)
        too_fast = (speed > self._velocity).any(axis=1)
        if too_fast.any():
            self.steps_too_fast += int(too_fast.sum())
            self._note_speed(chunk, speed)

    def _note_position(self, chunk: ActionChunk, share: Table) -> None:
        row, column = np.unravel_index(int(np.nanargmax(share)), share.shape)
        largest = float(share[row, column])
        if self.furthest is None or largest > self.furthest.share:
            value = float(chunk.rows[row, column])
            limit = self._upper[column] if value > self._upper[column] else self._lower[column]
            self.furthest = Excess(_due_ns(chunk, int(row)), int(column), value, float(limit), largest)

    def _note_speed(self, chunk: ActionChunk, speed: Table) -> None:
        ratio = speed / self._velocity
        row, column = np.unravel_index(int(np.nanargmax(ratio)), ratio.shape)
        largest = float(ratio[row, column])
        if self.fastest is None or largest > self.fastest.share:
            value, limit = float(speed[row, column]), float(self._velocity[column])
            self.fastest = Excess(_due_ns(chunk, int(row)), int(column), value, limit, largest)


def _due_ns(chunk: ActionChunk, row: int) -> int:
    return chunk.stamp_ns + row * chunk.row_period_ns
