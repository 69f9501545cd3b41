# SPDX-License-Identifier: Apache-2.0
"""Order statistics that every report shows in the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

SIGNIFICANT = 9
"""Digits of a figure in a report's JSON files."""


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """Summary of a sample; every field but `count` is NaN for an empty one.

    Attributes:
        count: number of values.
        mean: arithmetic mean.
        p50: median.
        p99: 99th percentile.
        p99_9: 99.9th percentile.
        maximum: largest value.
    """

    count: int
    mean: float
    p50: float
    p99: float
    p99_9: float
    maximum: float


def distribution(values: npt.ArrayLike) -> SampleSummary:
    """Return the summary of `values`, any shape, in the unit of the values; NaN are left out."""
    sample = np.asarray(values, dtype=np.float64).ravel()
    sample = sample[~np.isnan(sample)]
    if not sample.size:
        return SampleSummary(0, math.nan, math.nan, math.nan, math.nan, math.nan)
    p50, p99, p99_9 = np.percentile(sample, (50.0, 99.0, 99.9))
    return SampleSummary(
        sample.size, float(sample.mean()), float(p50), float(p99), float(p99_9), float(sample.max())
    )


def interval_errors(stamps_ns: npt.NDArray[np.int64], *, rate: float) -> Values:
    """Return how far each interval between stamps is from nominal, as magnitudes.

    Args:
        stamps_ns: int64 [T] [ns].
        rate: nominal rate [Hz], positive.

    Returns:
        float64 [T-1] [s]; empty for fewer than two stamps.
    """
    if len(stamps_ns) < 2:
        return np.empty(0)
    return np.abs(np.diff(stamps_ns) * 1e-9 - 1.0 / rate)


def plain_number(value: float) -> float | None:
    """Return a figure for JSON: rounded to `SIGNIFICANT` digits, None where it is not finite."""
    # More digits would show in which order a machine adds.
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None


def finite_or_none(value: float) -> float | None:
    """Return `value`, or None where JSON has no number for it."""
    return value if math.isfinite(value) else None
