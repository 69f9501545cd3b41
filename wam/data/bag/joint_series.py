# SPDX-License-Identifier: Apache-2.0
"""What a chunk is compared with: the recorded action (or measured state) at the times of its rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Stamps = npt.NDArray[np.int64]
Table = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


class Reference:
    """Samples of one or more topics, interpolated over time; old ones are forgotten on request.

    Args:
        joint_names: joints, one per column.
        max_gap_ns: no value is invented between samples further apart than this [ns].
    """

    def __init__(self, joint_names: tuple[str, ...], *, max_gap_ns: int) -> None:
        self.joint_names = joint_names
        self._max_gap_ns = max_gap_ns
        self._series: dict[str, _Series] = {}

    def add(self, source: str, stamp_ns: int, index: Index, values: Sequence[float] | Table) -> None:
        """Store one sample.

        Args:
            source: topic; each is interpolated by itself.
            stamp_ns: its time [ns]; samples older than the source's last start the source anew.
            index: intp [K], columns that it has values for.
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
        """Time up to which every source has been heard [ns], or None before that."""
        if not self._series:
            return None
        return min(series.stamps[-1] for series in self._series.values())

    @property
    def columns(self) -> Index:
        """Columns that some source has values for, in order, intp [K]."""
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
        """Drop samples that no time from `before_ns` on can need."""
        for series in self._series.values():
            keep_from = max(0, bisect_left(series.stamps, before_ns) - 1)
            # Cutting a list costs its length: do it seldom.
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
