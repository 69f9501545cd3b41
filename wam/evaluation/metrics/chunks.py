# SPDX-License-Identifier: Apache-2.0
"""How well chunks match what was recorded, and how smooth their execution would have been."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.data.bag.joint_samples import JointSamples
from wam.evaluation.metrics.shape import warped_l1
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS
from wam.evaluation.replay.engine import ChunkEvent

Table = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChunkScore:
    """How far one chunk is from the reference, over the rows whose reference is known.

    Attributes:
        sequence: number of the chunk.
        generation: generation of the chunk.
        stamp_ns: time of row 0 [ns].
        rows: rows compared.
        mse: mean squared error over rows and joints (units of the joints, squared).
        l1: mean absolute error.
        normalised_mse: the same as `mse` with every joint divided by its range.
        normalised_l1: the same as `l1` with every joint divided by its range.
        first_l1: mean absolute error of the first row; NaN where it was not compared.
        hold_l1: mean absolute error of staying where the robot was measured, over the same rows.
        repeat_l1: mean absolute error of repeating the command in force at the chunk's image, over the same rows; NaN
            where none is known.
        normalised_hold_l1: `hold_l1` with every joint divided by its range.
        normalised_repeat_l1: `repeat_l1` with every joint divided by its range.
        warped_l1: mean absolute error along the best matching in time; NaN where a row was not compared.
    """

    sequence: int
    generation: int
    stamp_ns: int
    rows: int
    mse: float
    l1: float
    normalised_mse: float
    normalised_l1: float
    first_l1: float
    hold_l1: float
    repeat_l1: float
    normalised_hold_l1: float
    normalised_repeat_l1: float
    warped_l1: float


class ChunkErrors:
    """Compares every chunk with the reference as soon as that is known for all its rows.

    Args:
        joint_names: joints of the chunks.
        joint_range: float64 [N], upper minus lower limit, positive.
        reference: what to compare with.
    """

    def __init__(self, joint_names: tuple[str, ...], joint_range: Table, reference: JointSamples) -> None:
        self.joint_range = joint_range
        self._reference = reference
        self._pending: deque[ChunkEvent] = deque()
        n = len(joint_names)
        self._squared = np.zeros((0, n))
        self._absolute = np.zeros((0, n))
        self._count = np.zeros((0, n))
        self.due_numbers = 0
        """Numbers of chunks whose time the recording reached."""
        self.scores: list[ChunkScore] = []

    def add(self, event: ChunkEvent) -> None:
        """Add a chunk."""
        self._pending.append(event)

    def score_ready(self, *, final: bool = False) -> Iterator[tuple[ChunkEvent, ChunkScore]]:
        """Yield the chunks whose reference is complete, with their scores.

        Args:
            final: the reference is complete as it is; compare the rows for which it is known.
        """
        known_ns = self._reference.complete_ns
        while self._pending:
            chunk = self._pending[0].chunk
            if not final and (known_ns is None or chunk.end_ns > known_ns):
                break
            event = self._pending.popleft()
            score = self._compare(event)
            if score is not None:
                self.scores.append(score)
                yield event, score

    @property
    def oldest_ns(self) -> int | None:
        """Time from which on the reference is still needed [ns], or None when it is not."""
        return self._pending[0].chunk.stamp_ns if self._pending else None

    @property
    def compared_numbers(self) -> int:
        """Numbers of chunks that were compared with a reference: rows times joints."""
        return int(self._count.sum())

    @property
    def compared_joints(self) -> int:
        """Joints of which anything was compared."""
        return int((self._count.sum(0) > 0).sum())

    def per_joint(self) -> tuple[Table, Table]:
        """Return mean squared and mean absolute error per joint, float64 [N]; NaN where nothing was compared."""
        return _mean(self._squared.sum(0), self._count.sum(0)), _mean(
            self._absolute.sum(0), self._count.sum(0)
        )

    def per_step(self, *, normalised: bool = False) -> tuple[Table, Table]:
        """Return mean squared and mean absolute error per row of the chunk, float64 [H].

        Args:
            normalised: every joint divided by its range.
        """
        span = self.joint_range if normalised else np.ones_like(self.joint_range)
        count = self._count.sum(1)
        return _mean((self._squared / span**2).sum(1), count), _mean((self._absolute / span).sum(1), count)

    def per_joint_step(self) -> Table:
        """Return mean absolute error per row and joint, float64 [H, N]."""
        return _mean(self._absolute, self._count)

    def _compare(self, event: ChunkEvent) -> ChunkScore | None:
        chunk = event.chunk
        times = row_times(chunk)
        truth = self._reference.at(times)
        error = chunk.rows - truth
        known = ~np.isnan(error)
        self.due_numbers += int((times <= (self._reference.complete_ns or 0)).sum()) * error.shape[1]
        if not known.any():
            return None
        self._grow(len(error))
        filled = np.where(known, error, 0.0)
        h = len(error)
        self._squared[:h] += filled**2
        self._absolute[:h] += np.abs(filled)
        self._count[:h] += known
        count = int(known.sum())
        hold = np.abs(event.observation.state.select(chunk.joint_names).positions[None, :] - truth)
        repeat = np.abs(self._reference.at(times[:1]) - truth)
        return ChunkScore(
            sequence=chunk.sequence,
            generation=chunk.generation,
            stamp_ns=chunk.stamp_ns,
            rows=int(known.any(axis=1).sum()),
            mse=float((filled**2).sum() / count),
            l1=float(np.abs(filled).sum() / count),
            normalised_mse=float(((filled / self.joint_range) ** 2).sum() / count),
            normalised_l1=float((np.abs(filled) / self.joint_range).sum() / count),
            first_l1=float(np.abs(error[0]).mean()) if known[0].all() else math.nan,
            hold_l1=float(hold[known].mean()),
            repeat_l1=_known_mean(repeat),
            normalised_hold_l1=float((hold / self.joint_range)[known].mean()),
            normalised_repeat_l1=_known_mean(repeat / self.joint_range),
            warped_l1=warped_l1(chunk.rows, truth) if known.all() else math.nan,
        )

    def _grow(self, rows: int) -> None:
        missing = rows - len(self._count)
        if missing > 0:
            pad = np.zeros((missing, self._count.shape[1]))
            self._squared, self._absolute, self._count = (
                np.concatenate([table, pad]) for table in (self._squared, self._absolute, self._count)
            )


@dataclass(frozen=True, slots=True)
class ChunkSeam:
    """Where one chunk took over from another.

    Attributes:
        time_ns: when [ns].
        jump: float64 [N], new minus old target at that time; NaN where the old chunk had no row left.
    """

    time_ns: int
    jump: Table


class Execution:
    """Targets of a robot that always follows the newest chunk, on a grid of one row period.

    Args:
        joint_names: joints of the chunks.
        row_period_ns: step of the grid [ns].
    """

    def __init__(self, joint_names: tuple[str, ...], row_period_ns: int) -> None:
        self._period_ns = row_period_ns
        self._joint_names = joint_names
        self._active: ActionChunk | None = None
        self._next_ns: int | None = None
        self._times: list[Stamps] = []
        self._targets: list[Table] = []
        self.seams: list[ChunkSeam] = []

    def add(self, event: ChunkEvent) -> tuple[Stamps, Table]:
        """Take a chunk that is out from `event.ready_ns` on; return the grid times and targets before it."""
        done = self._until(event.ready_ns)
        if self._active is not None:
            times = np.array([event.ready_ns], dtype=np.int64)
            old, new = target_at(self._active, times)[0], target_at(event.chunk, times)[0]
            self.seams.append(ChunkSeam(event.ready_ns, new - old))
        self._active = event.chunk
        if self._next_ns is None or event.ready_ns < self._next_ns - self._period_ns:
            self._next_ns = event.ready_ns
        return done

    def finish(self, end_ns: int) -> tuple[Stamps, Table]:
        """Follow the last chunk to `end_ns`; return the grid times and targets added."""
        return self._until(end_ns)

    def trajectory(self) -> tuple[Stamps, Table]:
        """Return int64 [T] and float64 [T, N]; NaN where no chunk had a row for the time."""
        n = len(self._joint_names)
        if not self._times:
            return np.empty(0, dtype=np.int64), np.empty((0, n))
        return np.concatenate(self._times), np.concatenate(self._targets)

    def _until(self, end_ns: int) -> tuple[Stamps, Table]:
        if self._active is None or self._next_ns is None or self._next_ns >= end_ns:
            return np.empty(0, dtype=np.int64), np.empty((0, len(self._joint_names)))
        is_gap = end_ns - self._next_ns > MAX_GAP_NS
        until_ns = max(self._next_ns + self._period_ns, self._active.end_ns) if is_gap else end_ns
        times = np.arange(self._next_ns, until_ns, self._period_ns, dtype=np.int64)
        targets = target_at(self._active, times)
        self._next_ns = end_ns if is_gap else int(times[-1]) + self._period_ns
        self._times.append(times)
        self._targets.append(targets)
        return times, targets


def row_times(chunk: ActionChunk) -> Stamps:
    """Return the times at which the rows are due, int64 [H] [ns]."""
    return chunk.stamp_ns + np.arange(len(chunk.rows), dtype=np.int64) * chunk.row_period_ns


def target_at(chunk: ActionChunk, times_ns: Stamps) -> Table:
    """Return the chunk's targets at `times_ns`, float64 [T, N], linear between rows; NaN outside of them."""
    position = (times_ns - chunk.stamp_ns) / chunk.row_period_ns
    last = len(chunk.rows) - 1
    inside = (position >= 0) & (position <= last)
    low = np.clip(np.floor(position).astype(np.intp), 0, max(last - 1, 0))
    share = (position - low)[:, None]
    mixed = chunk.rows[low] + share * (chunk.rows[np.minimum(low + 1, last)] - chunk.rows[low])
    mixed[~inside] = np.nan
    return mixed


def jerk(targets: Table, period_ns: int) -> Table:
    """Return the third finite difference of positions on a grid, float64 [T-3, N] (per s^3); NaN next to gaps."""
    if len(targets) < 4:
        return np.empty((0, targets.shape[1]))
    return np.diff(targets, n=3, axis=0) / (period_ns / NS_PER_S) ** 3


def root_mean_square(table: Table) -> Table:
    """Return the root mean square of every column, NaN left out; float64 [N]."""
    known = ~np.isnan(table)
    return np.sqrt(_mean((np.where(known, table, 0.0) ** 2).sum(0), known.sum(0).astype(np.float64)))


def _known_mean(table: Table) -> float:
    """Return the mean of what is known; NaN for nothing."""
    known = ~np.isnan(table)
    return float(table[known].mean()) if known.any() else math.nan


def _mean(total: Table, count: Table) -> Table:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
