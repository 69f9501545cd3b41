# SPDX-License-Identifier: Apache-2.0
"""Intervals hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from wam.report.numbers import distribution, interval_errors
from wam.report.page import evenly, number
from wam.report.plots import thin
from wam.report.statistics import bootstrap_mean, detectable_share, sign_test, wilson


def test_the_sign_test_is_the_binomial_one_and_says_nothing_without_a_difference() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(3, 3) == pytest.approx(1.0)
    assert sign_test(6, 0) == sign_test(0, 6) == pytest.approx(2 / 64)


def test_the_detectable_share_is_shown_as_often_as_it_says() -> None:
    """Drawn, not derived: of many comparisons of 40 pairs that differ with that probability, four in five show it."""
    share = detectable_share(40)
    won = np.random.default_rng(3).binomial(40, share, size=4000)
    shown = np.mean(won >= 6)
    assert 0.78 < shown < 0.83
    assert sign_test(6, 0) < 0.05 < sign_test(5, 0)
    assert math.isnan(detectable_share(5))


def test_wilson_gives_the_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 29 of 29.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (29, 29, 0.8830, 1),
    ):
        interval = wilson(successes, trials)
        assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_is_scipy_s() -> None:
    """Written out, since the import of scipy.stats takes half as long as the replay of a short recording."""
    for trials in (1, 2, 7, 20, 150):
        for successes in range(trials + 1):
            ours, theirs = (
                wilson(successes, trials),
                binomtest(successes, trials).proportion_ci(0.95, "wilson"),
            )
            assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_unknown_and_of_nonsense_an_error() -> None:
    assert math.isnan(wilson(0, 0).value)
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def test_the_bootstrap_covers_the_mean_of_independent_values_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = bootstrap_mean(generator.normal(2.0, 1.0, size=60))
        hits += interval.low <= 2.0 <= interval.high
    assert 0.88 <= hits / 200 <= 0.99


def test_blocks_widen_the_interval_of_values_that_hang_together() -> None:
    generator = np.random.default_rng(2)
    walk = np.repeat(generator.normal(size=40), 10)
    narrow, wide = bootstrap_mean(walk), bootstrap_mean(walk, block=10)
    assert wide.high - wide.low > 2.0 * (narrow.high - narrow.low)


def test_the_bootstrap_repeats_itself() -> None:
    values = np.random.default_rng(3).normal(size=50)
    assert bootstrap_mean(values, block=4) == bootstrap_mean(values, block=4)


def test_small_samples_have_no_interval_and_gaps_are_left_out() -> None:
    assert bootstrap_mean([]).count == 0
    assert math.isnan(bootstrap_mean([1.0]).low)
    assert bootstrap_mean([1.0, math.nan, 3.0]).value == 2.0
    assert not bootstrap_mean([1.0]).excludes_zero


def test_a_distribution_leaves_gaps_out_and_knows_an_empty_sample() -> None:
    summary = distribution([1.0, math.nan, 3.0])
    assert (summary.count, summary.mean, summary.maximum) == (2, 2.0, 3.0)
    assert math.isnan(distribution([]).p99)


def test_interval_errors_are_magnitudes_about_the_nominal_period() -> None:
    errors = interval_errors(np.array([0, 10, 21, 30]) * 1_000_000, rate=100.0)
    np.testing.assert_allclose(errors, [0.0, 0.001, 0.001], atol=1e-12)


def test_thinning_a_line_keeps_its_extremes_and_its_breaks() -> None:
    x = np.arange(10_000.0)
    y = np.sin(x / 500)
    y[4321] = 9.0
    y[7000:7050] = np.nan
    few_x, few_y = thin(x, y, limit=200)
    assert len(few_x) < 900
    assert np.nanmax(few_y) == 9.0
    assert np.isnan(few_y[(few_x >= 7000) & (few_x < 7050)]).any()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (math.nan, "–"),
        (0.012345, "0.0123"),
        (12345.6, "12346"),
        (1e-9, "1.00e-09"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_evenly_spread_indices_hold_both_ends() -> None:
    assert list(evenly(3, 5)) == [0, 1, 2]
    spread = list(evenly(100, 5))
    assert spread[0] == 0
    assert spread[-1] == 99
    assert len(spread) == 5
