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
            series = self._series[key] = _Series([], [], index)
        if series.stamps and stamp_ns == series.stamps[-1]:
            return
        series.stamps.append(stamp_ns)
        series.values.append(np.asarray(values, dtype=np.float64))

    @property
    def complete_ns(self) -> int | None:
        """Time up to which every joint that has samples has them [ns], or None before the first sample."""
        newest: dict[int, int] = {}
        for series in self._series.values():
            for column in series.index.tolist():
                newest[column] = max(newest.get(column, series.stamps[-1]), series.stamps[-1])
        return min(newest.values(), default=None)

    @property
    def columns(self) -> Index:
        """Columns that some topic has values for, in order, intp [K]."""
        if not self._series:
            return np.empty(0, dtype=np.intp)
        return np.unique(np.concatenate([series.index for series in self._series.values()]))

    def at(self, times_ns: Stamps) -> Table:
        """Return float64 [T, N] at int64 [T] times, linear between samples; NaN where nothing is known."""
        table = np.full((len(times_ns), len(self.joint_names)), np.nan)
        for series in sorted(self._series.values(), key=lambda one: one.stamps[-1]):
            values = series.at(times_ns, self._max_gap_ns)
            table[:, series.index] = np.where(np.isnan(values), table[:, series.index], values)
        return table

    def forget(self, before_ns: int) -> None:
        """Drop samples that are not needed from time `before_ns` on [ns]."""
        for series in self._series.values():
            keep_from = max(0, bisect_left(series.stamps, before_ns) - 1)
            # Cutting a list takes time proportional to its length.
            if keep_from > 256:
                del series.stamps[:keep_from], series.values[:keep_from]


class _Series:
    def __init__(self, stamps: list[int], values: list[Table], index: Index) -> None:
        self.stamps = stamps
        self.values = values
        self.index = index

    def at(self, times_ns: Stamps, max_gap_ns: int) -> Table:
        first = max(0, bisect_left(self.stamps, int(times_ns[0])) - 1)
        last = bisect_left(self.stamps, int(times_ns[-1])) + 1
        stamps = np.array(self.stamps[first:last], dtype=np.int64)
        out = np.full((len(times_ns), len(self.index)), np.nan)
        if not stamps.size:
            return out
        values = np.stack(self.values[first:last])
        right = np.searchsorted(stamps, times_ns)
        exact = (right < len(stamps)) & (stamps[np.minimum(right, len(stamps) - 1)] == times_ns)
        out[exact] = values[right[exact]]
        between = ~exact & (right > 0) & (right < len(stamps))
        low, high = right[between] - 1, right[between]
        gap = stamps[high] - stamps[low]
        share = ((times_ns[between] - stamps[low]) / gap)[:, None]
        mixed = values[low] + share * (values[high] - values[low])
        mixed[gap > max_gap_ns] = np.nan
        out[between] = mixed
        return out
