# SPDX-License-Identifier: Apache-2.0
"""Scores against a reference, and the trajectory that following the newest chunk would give."""

from __future__ import annotations

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.data.bag.joint_samples import JointSamples
from wam.evaluation.metrics.chunks import ChunkErrors, Execution, jerk, root_mean_square, target_at
from wam.evaluation.replay.engine import ChunkEvent

MS = 1_000_000
JOINTS = ("a", "b")
BOTH = np.array([0, 1])


def reference(*, until_ms: int = 2000, step_ms: int = 10, gap_ms: int = 40) -> JointSamples:
    """Return a reference where joint a is the time in seconds and joint b twice that."""
    made = JointSamples(JOINTS, max_gap_ns=gap_ms * MS)
    for t in range(0, until_ms + 1, step_ms):
        made.add("/action", t * MS, BOTH, [t / 1000, t / 500])
    return made


def chunk_event(
    stamp_ms: int,
    *,
    ready_ms: int,
    offset: float = 0.0,
    rows: int = 4,
    period_ms: int = 30,
    sequence: int = 1,
) -> ChunkEvent:
    """Return a chunk that lies `offset` above the reference in both joints; the robot measured zeros."""
    t = (stamp_ms + np.arange(rows) * period_ms) / 1000
    state = RobotState(stamp_ms * MS, JOINTS, np.zeros(2), np.zeros(2))
    image = CameraFrame("cam", stamp_ms * MS, np.zeros((2, 2, 3), dtype=np.uint8))
    chunk = ActionChunk(
        stamp_ns=stamp_ms * MS,
        generation=1,
        sequence=sequence,
        contract_hash="a" * 64,
        context_version=1,
        context_age_ns=0,
        phase_offset_rows=0,
        row_period_ns=period_ms * MS,
        joint_names=JOINTS,
        rows=np.stack([t, 2 * t], axis=1) + offset,
    )
    return ChunkEvent(
        stamp_ms * MS, ready_ms * MS, chunk, Observation(stamp_ms * MS, {"cam": image}, state), 0
    )


def test_the_reference_is_linear_between_samples_and_unknown_outside_and_in_gaps() -> None:
    made = JointSamples(JOINTS, max_gap_ns=40 * MS)
    for t in (0, 20, 100, 120):
        made.add("/action", t * MS, BOTH, [t, 2 * t])
    got = made.at(np.array([-1, 0, 10, 20, 60, 110, 120, 121]) * MS)
    np.testing.assert_allclose(got[:, 0], [np.nan, 0, 10, 20, np.nan, 110, 120, np.nan])
    np.testing.assert_allclose(got[:, 1], 2 * got[:, 0])


def test_two_topics_fill_their_own_columns_and_the_slower_one_decides_what_is_known() -> None:
    made = JointSamples(JOINTS, max_gap_ns=40 * MS)
    for t in (0, 10, 20):
        made.add("/left", t * MS, np.array([0]), [t])
    made.add("/right", 0, np.array([1]), [5.0])
    assert made.complete_ns == 0
    np.testing.assert_allclose(made.at(np.array([0, 10]) * MS), [[0, 5], [10, np.nan]])


def test_forgetting_keeps_what_later_times_need() -> None:
    made = reference(until_ms=20_000)
    before = made.at(np.array([15_003, 15_010]) * MS)
    made.forget(15_000 * MS)
    np.testing.assert_array_equal(made.at(np.array([15_003, 15_010]) * MS), before)
    assert np.isnan(made.at(np.array([1_000]) * MS)).all()


def test_a_chunk_is_scored_when_the_reference_covers_its_last_row_and_not_before() -> None:
    made = reference(until_ms=180)
    errors = ChunkErrors(JOINTS, np.array([2.0, 4.0]), made)
    errors.add(chunk_event(100, ready_ms=150, offset=0.1))
    assert list(errors.score_ready()) == []
    made.add("/action", 190 * MS, BOTH, [0.19, 0.38])
    ((_, score),) = errors.score_ready()
    assert score.rows == 4
    assert score.l1 == pytest.approx(0.1)
    assert score.mse == pytest.approx(0.01)
    assert score.normalised_mse == pytest.approx((0.05**2 + 0.025**2) / 2)
    assert score.first_l1 == pytest.approx(0.1)
    # Standing still at zero misses joint a by t and joint b by 2 t.
    assert score.hold_l1 == pytest.approx(1.5 * np.mean([0.1, 0.13, 0.16, 0.19]))


def test_at_the_end_the_rows_that_can_be_compared_are() -> None:
    errors = ChunkErrors(JOINTS, np.ones(2), reference(until_ms=130))
    errors.add(chunk_event(100, ready_ms=150, offset=0.2))
    errors.add(chunk_event(500, ready_ms=550, sequence=2))
    ((_, score),) = errors.score_ready(final=True)
    assert (score.rows, score.l1) == (2, pytest.approx(0.2))
    mse, l1 = errors.per_step()
    np.testing.assert_allclose(l1[:2], 0.2)
    assert np.isnan(l1[2:]).all()
    assert np.isnan(mse[2:]).all()
    np.testing.assert_allclose(errors.per_joint()[1], 0.2)


def test_targets_are_linear_between_rows_and_absent_outside() -> None:
    chunk = chunk_event(100, ready_ms=150).chunk
    got = target_at(chunk, np.array([99, 100, 115, 190, 191]) * MS)
    np.testing.assert_allclose(got[:, 0], [np.nan, 0.1, 0.115, 0.19, np.nan])


def test_execution_follows_the_newest_chunk_that_is_out_and_measures_the_seam() -> None:
    execution = Execution(JOINTS, 30 * MS)
    execution.add(chunk_event(100, ready_ms=130, rows=8))
    execution.add(chunk_event(200, ready_ms=230, rows=4, offset=0.5, sequence=2))
    execution.finish(400 * MS)
    times, targets = execution.trajectory()
    assert list(times // MS) == [130, 160, 190, 220, 250, 280, 310, 340, 370]
    np.testing.assert_allclose(
        targets[:, 0], [0.13, 0.16, 0.19, 0.22, 0.75, 0.78, np.nan, np.nan, np.nan], atol=1e-12
    )
    (seam,) = execution.seams
    assert seam.time_ns == 230 * MS
    np.testing.assert_allclose(seam.jump, 0.5)


def test_a_seam_after_the_old_chunk_ran_out_is_no_jump() -> None:
    execution = Execution(JOINTS, 30 * MS)
    execution.add(chunk_event(100, ready_ms=130))
    execution.add(chunk_event(500, ready_ms=530, sequence=2))
    assert np.isnan(execution.seams[0].jump).all()


def test_jerk_of_a_cubic_is_constant_and_gaps_stay_unknown() -> None:
    t = np.arange(20)[:, None] * 0.03
    got = jerk(np.concatenate([t**3, 2 * t**3], axis=1), 30 * MS)
    np.testing.assert_allclose(got, np.broadcast_to([6.0, 12.0], got.shape), rtol=1e-6)
    broken = (t**3).copy()
    broken[10] = np.nan
    assert np.isnan(jerk(broken, 30 * MS)).sum() == 4
    np.testing.assert_allclose(root_mean_square(jerk(broken, 30 * MS)), 6.0, rtol=1e-6)
