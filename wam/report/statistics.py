# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals: bootstrap for means, Wilson for rates. Seeded, so that a report can be repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.report.numbers import plain_number

CONFIDENCE = 0.95
Z_95 = 1.959963984540054
POWER = 0.8
"""Probability with which a difference is to be shown."""
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % confidence interval.

    Attributes:
        value: the estimate; NaN for an empty sample.
        low: lower end.
        high: upper end.
        count: values it rests on.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low > 0.0 or self.high < 0.0


def bootstrap_mean(values: npt.ArrayLike, *, block: int = 1, seed: int = SEED) -> Interval:
    """Return the mean with its percentile-bootstrap interval.

    Neighbouring chunks share most of their rows and so are not independent; whole blocks of neighbours are drawn
    (moving blocks, Kuensch 1989), which keeps the interval from being too narrow.

    Args:
        values: sample in order of time; NaN are left out.
        block: length of a block, 1 for independent values.
        seed: of the draws.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    sample = sample[~np.isnan(sample)]
    n = sample.size
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(sample.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    length = max(1, min(block, n))
    blocks = -(-n // length)
    generator = np.random.default_rng(seed)
    sums = np.concatenate([[0.0], np.cumsum(sample)])
    starts = generator.integers(0, n - length + 1, size=(RESAMPLES, blocks))
    means = (sums[length:] - sums[:-length])[starts].sum(axis=1) / (blocks * length)
    low, high = np.percentile(means, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(mean, float(low), float(high), n)


def interval_as_json(interval: Interval) -> dict[str, float | int | None]:
    """Return an interval as it stands in a report's JSON files; None where a number is unknown."""
    return {
        "value": plain_number(interval.value),
        "low": plain_number(interval.low),
        "high": plain_number(interval.high),
        "count": interval.count,
    }


def sign_test(won: int, lost: int) -> float:
    """Return the two-sided p of the exact sign test: that as many pairs differ one way by chance (exact McNemar).

    Args:
        won: pairs that differ one way.
        lost: pairs that differ the other way; pairs that do not differ say nothing.
    """
    from scipy.stats import binomtest  # takes half a second

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def detectable_share(pairs: int) -> float:
    """Return the share of pairs that have to differ one way for the sign test to show it, with power `POWER`.

    Pairs that differ the other way make it larger: this is the least difference that can be hoped for.

    Args:
        pairs: compared.

    Returns:
        0..1; NaN where no number of them is significant.
    """
    from scipy.stats import binom

    needed = next((won for won in range(1, pairs + 1) if sign_test(won, 0) < 1.0 - CONFIDENCE), None)
    if needed is None:
        return math.nan
    shares = np.linspace(0.0, 1.0, 1001)
    shown = binom.sf(needed - 1, pairs, shares) >= POWER
    return float(shares[shown][0])


def wilson(successes: int, trials: int) -> Interval:
    """Return a rate with its Wilson score interval, that of `scipy.stats`; NaN for no trials."""
    # Every replay needs it, and the import of scipy.stats would take longer than all else that a report does.
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    rate, z2 = successes / trials, Z_95**2
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 / (1 + z2 / trials) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half), trials)
