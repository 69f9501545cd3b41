# SPDX-License-Identifier: Apache-2.0
"""Positions of joints over time, from the samples of one or more publishers.

Replay compares chunks with the recorded action at the times of their rows; conversion reads states and actions at the
times of even rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


class JointSamples:
    """Samples of joints, linear in between; old samples are dropped on request.

    Every set of joints that a topic's messages have is interpolated by itself: two publishers may take turns on one
    topic, each with joints of its own. Where sets overlap, the one that has been heard of last counts.

    Args:
        joint_names: joints, one per column.
        max_gap_ns: nothing is interpolated between samples further apart than this [ns].
    """

    def __init__(self, joint_names: tuple[str, ...], *, max_gap_ns: int) -> None:
        self.joint_names = joint_names
        self._max_gap_ns = max_gap_ns
        self._series: dict[tuple[str, bytes], _Series] = {}
        self._newest: list[tuple[_Series, ...]] | None = None

    def add(self, source: str, stamp_ns: int, index: Index, values: Sequence[float] | Table) -> None:
        """Store one sample.

        Args:
            source: topic.
            stamp_ns: its time [ns]; a sample older than the last one of its joints starts them anew.
            index: intp [K], columns of `values`.
            values: float64 [K].
        """
        key = (source, index.tobytes())
        series = self._series.get(key)
        if series is None or (series.stamps and stamp_ns < series.stamps[-1]):
            series = self._series[key] = _Series(index)
            self._newest = None
        if series.stamps and stamp_ns == series.stamps[-1]:
            return
        series.add(stamp_ns, values)

    @property
    def complete_ns(self) -> int | None:
        """Time up to which every joint that has samples has them [ns], or None before the first sample."""
        if self._newest is None:
            self._newest = list(self._of_columns())
        return min((max(one.stamps[-1] for one in several) for several in self._newest), default=None)

    def _of_columns(self) -> set[tuple[_Series, ...]]:
        """Return the series of every column that has samples, each set of them once."""
        found: dict[int, tuple[_Series, ...]] = {}
        for series in self._series.values():
            for column in series.index.tolist():
                found[column] = (*found.get(column, ()), series)
        return set(found.values())

    @property
    def columns(self) -> Index:
        """Columns that some topic has values for, in order, intp [K]."""
        if not self._series:
            return np.empty(0, dtype=np.intp)
        return np.unique(np.concatenate([series.index for series in self._series.values()]))

    def at(self, times_ns: Stamps) -> Table:
        """Return float64 [T, N] at int64 [T] times, linear between samples; NaN where nothing is known."""
        table = np.full((len(times_ns), len(self.joint_names)), np.nan)
        if len(self._series) == 1:
            (series,) = self._series.values()
            table[:, series.index] = series.at(times_ns, self._max_gap_ns)
            return table
        for series in sorted(self._series.values(), key=lambda one: one.stamps[-1]):
            values = series.at(times_ns, self._max_gap_ns)
            table[:, series.index] = np.where(np.isnan(values), table[:, series.index], values)
        return table

    def forget(self, before_ns: int) -> None:
        """Drop samples that are not needed from time `before_ns` on [ns]."""
        for series in self._series.values():
            keep_from = max(0, bisect_left(series.stamps, before_ns) - 1)
            # Cutting takes time proportional to the length.
            if keep_from > 256:
                series.cut(keep_from)


class _Series:
    """Samples of one set of joints; the values lie in one growing table, since gathering rows takes long."""

    def __init__(self, index: Index) -> None:
        self.stamps: list[int] = []
        self.index = index
        self._times = np.empty(512, dtype=np.int64)
        self._values = np.empty((512, len(index)))

    def add(self, stamp_ns: int, values: Sequence[float] | Table) -> None:
        """Append a sample."""
        count = len(self.stamps)
        if count == len(self._times):
            self._times = np.concatenate((self._times, np.empty_like(self._times)))
            self._values = np.concatenate((self._values, np.empty_like(self._values)))
        self._times[count] = stamp_ns
        self._values[count] = values
        self.stamps.append(stamp_ns)

    def cut(self, count: int) -> None:
        """Drop the first `count` samples."""
        left = len(self.stamps) - count
        del self.stamps[:count]
        self._times[:left] = self._times[count : count + left].copy()
        self._values[:left] = self._values[count : count + left].copy()

    def at(self, times_ns: Stamps, max_gap_ns: int) -> Table:
        """Return float64 [T, K] at int64 [T] times, ascending."""
        first = max(0, bisect_left(self.stamps, int(times_ns[0])) - 1)
        last = min(bisect_left(self.stamps, int(times_ns[-1])) + 1, len(self.stamps))
        stamps, values = self._times[first:last], self._values[first:last]
        out = np.full((len(times_ns), len(self.index)), np.nan)
        if not len(stamps):
            return out
        right = stamps.searchsorted(times_ns)
        exact = (right < len(stamps)) & (stamps[np.minimum(right, len(stamps) - 1)] == times_ns)
        if exact.any():
            out[exact] = values[right[exact]]
        between = ~exact & (right > 0) & (right < len(stamps))
        if not between.any():
            return out
        high = right[between]
        low = high - 1
        gap = stamps[high] - stamps[low]
        share = ((times_ns[between] - stamps[low]) / gap)[:, None]
        mixed = values[low] + share * (values[high] - values[low])
        mixed[gap > max_gap_ns] = np.nan
        out[between] = mixed
        return out
