# SPDX-License-Identifier: Apache-2.0
"""Latency of a stage over a sliding window, so that a warm-up outlier is forgotten."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Protocol

import numpy as np


class Stopwatch(Protocol):
    """Source of elapsed time; injected, so that replay can use configured latencies."""

    def __call__(self) -> int:
        """Return a monotonic reading [ns]."""
        ...


def monotonic_ns() -> int:
    """Return the host's monotonic time [ns]."""
    return time.perf_counter_ns()


class LatencyWindow:
    """Percentiles over the last `size` measurements.

    Args:
        size: measurements kept.
    """

    def __init__(self, size: int = 200) -> None:
        self._values: deque[int] = deque(maxlen=size)

    def add(self, elapsed_ns: int) -> None:
        """Record one measurement [ns]."""
        self._values.append(elapsed_ns)

    def percentile(self, q: float) -> float:
        """Return the `q`-th percentile (0..100) [s], NaN before the first measurement."""
        if not self._values:
            return math.nan
        return float(np.percentile(np.fromiter(self._values, dtype=np.float64), q)) * 1e-9
