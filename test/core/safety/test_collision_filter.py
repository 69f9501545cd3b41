# SPDX-License-Identifier: Apache-2.0
"""The seam of collision checks: which states are looked at, and that no answer is never a pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wam.core.safety.collision import MAX_STEP, CollisionFilter, FakeChecker, thin_out
from wam.core.trajectory.motion import Motion
from wam.core.verdict import Verdict


def apply(checker: FakeChecker, rows: np.ndarray, settled: int = 0) -> object:
    return CollisionFilter(checker).apply(Motion(0, 10_000_000, rows, settled), measured=rows[0]).finding


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 80), size=st.floats(1e-6, 0.5))
def test_no_two_checked_states_are_further_apart_than_the_step(seed: int, count: int, size: float) -> None:
    rows = np.cumsum(np.random.default_rng(seed).normal(0, size, (count, 3)), axis=0)
    states = thin_out(rows)
    np.testing.assert_allclose(states[[0, -1]], rows[[0, -1]], atol=1e-9)
    if len(states) > 1:
        assert np.abs(np.diff(states, axis=0)).max() <= MAX_STEP * (1 + 1e-6)


def test_a_motion_that_stands_still_is_looked_at_twice_and_not_sixty_times() -> None:
    assert len(thin_out(np.zeros((60, 4)))) == 2


def test_the_first_contact_is_reported_as_a_stop() -> None:
    rows = np.linspace([0.0, 0.0], [1.0, 0.0], 40)
    finding = apply(FakeChecker(joint=0, limit=0.5), rows)
    assert finding is not None
    assert finding.verdict is Verdict.STOP  # type: ignore[attr-defined]
    assert finding.joint == "arm/wall"  # type: ignore[attr-defined]


def test_a_checker_that_does_not_answer_holds_and_never_passes() -> None:
    checker = FakeChecker()
    checker.silent = True
    finding = apply(checker, np.zeros((5, 2)))
    assert finding is not None
    assert finding.verdict is Verdict.HOLD  # type: ignore[attr-defined]
    assert finding.code == "no_collision_answer"  # type: ignore[attr-defined]


def test_rows_that_were_executed_already_are_not_checked() -> None:
    rows = np.linspace([1.0, 0.0], [0.0, 0.0], 40)
    assert apply(FakeChecker(joint=0, limit=0.5), rows, settled=30) is None


@pytest.mark.parametrize("rows", [np.zeros((1, 2)), np.ones((2, 2))])
def test_short_motions_are_checked_as_they_are(rows: np.ndarray) -> None:
    checker = FakeChecker()
    assert apply(checker, rows) is None
    assert checker.states == len(rows)
