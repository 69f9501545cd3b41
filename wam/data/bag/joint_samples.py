# SPDX-License-Identifier: Apache-2.0
"""Positions of joints over time, from the samples of one or more topics.

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
    """Samples of one or more topics, linear in between; old samples are dropped on request.

    Args:
        joint_names: joints, one per column.
        max_gap_ns: nothing is interpolated between samples further apart than this [ns].
    """

    def __init__(self, joint_names: tuple[str, ...], *, max_gap_ns: int) -> None:
        self.joint_names = joint_names
        self._max_gap_ns = max_gap_ns
        self._series: dict[str, _Series] = {}

    def add(self, source: str, stamp_ns: int, index: Index, values: Sequence[float] | Table) -> None:
        """Store one sample.

        Args:
            source: topic; each topic is interpolated by itself.
            stamp_ns: its time [ns]; a sample older than the last one of its topic starts the topic anew.
            index: intp [K], columns of `values`.
            values: float64 [K].
        """
        series = self._series.get(source)
        if series is None or (series.stamps and stamp_ns < series.stamps[-1]):
            series = self._series[source] = _Series([], [], index)
        if series.stamps and stamp_ns == series.stamps[-1]:
            return
        series.stamps.append(stamp_ns)
        series.values.append(np.asarray(values, dtype=np.float64))

    @property
    def complete_ns(self) -> int | None:
        """Time up to which every topic has samples [ns], or None before the first sample."""
        if not self._series:
            return None
        return min(series.stamps[-1] for series in self._series.values())

    @property
    def columns(self) -> Index:
        """Columns that some topic has values for, in order, intp [K]."""
        if not self._series:
            return np.empty(0, dtype=np.intp)
        return np.unique(np.concatenate([series.index for series in self._series.values()]))

    def at(self, times_ns: Stamps) -> Table:
        """Return float64 [T, N] at int64 [T] times, linear between samples; NaN where nothing is known."""
        table = np.full((len(times_ns), len(self.joint_names)), np.nan)
        for series in self._series.values():
            table[:, series.index] = series.at(times_ns, self._max_gap_ns)
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
