# SPDX-License-Identifier: Apache-2.0
"""Errors that forgive timing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wam.evaluation.metrics.shape import switch_agreement, switches, warped_l1

S = 1_000_000_000
TIMES = (np.arange(100) * 0.1 * S).astype(np.int64)
LOWER, UPPER = np.zeros(1), np.ones(1)


def square(*edges: float) -> np.ndarray:
    """Return 0 before the first edge [s], 1 before the second, and so on, float64 [100, 1]."""
    values = np.zeros((100, 1))
    for edge in edges:
        values[edge * S <= TIMES] = 1.0 - values[edge * S <= TIMES]
    return values


def test_a_delayed_copy_costs_nothing_once_warped() -> None:
    ramp = np.concatenate([np.zeros(4), np.linspace(0, 1, 8), np.ones(4)])[:, None]
    late = np.concatenate([np.zeros(6), np.linspace(0, 1, 8), np.ones(2)])[:, None]
    assert np.abs(ramp - late).mean() > 0.1
    assert warped_l1(late, ramp) == pytest.approx(0.0, abs=1e-12)


def test_an_offset_stays_an_error_however_it_is_warped() -> None:
    flat = np.zeros((10, 2))
    assert warped_l1(flat + 0.3, flat) == pytest.approx(0.3)


def test_warping_never_costs_more_than_matching_row_by_row() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        a, b = generator.normal(size=(2, 12, 3))
        assert warped_l1(a, b) <= np.abs(a - b).mean() + 1e-12


def test_closings_and_openings_match_within_the_tolerance_and_in_direction() -> None:
    truth = square(2.0, 5.0)
    near = switch_agreement(TIMES, square(2.2, 4.9), truth, lower=LOWER, upper=UPPER)
    assert (near.recorded, near.predicted, near.matched, near.f1) == (2, 2, 2, 1.0)
    late = switch_agreement(TIMES, square(2.5, 5.0), truth, lower=LOWER, upper=UPPER)
    assert late.f1 == 0.5
    inverted = switch_agreement(TIMES, 1.0 - truth, truth, lower=LOWER, upper=UPPER)
    assert inverted.f1 == 0.0


def test_wavering_about_the_middle_is_no_event_and_gaps_are_passed_over() -> None:
    wavering = 0.5 + 0.05 * np.sin(np.arange(100.0))
    assert switches(TIMES, wavering, 0.0, 1.0) == []
    broken = square(2.0)[:, 0]
    broken[15:25] = np.nan
    assert switches(TIMES, broken, 0.0, 1.0) == [(2_500_000_000, True)]


def test_a_gripper_that_never_moves_gives_no_figure() -> None:
    assert math.isnan(switch_agreement(TIMES, square(), square(), lower=LOWER, upper=UPPER).f1)
