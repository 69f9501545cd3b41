# SPDX-License-Identifier: Apache-2.0
"""C2 fit, resampling onto the command grid, and rolling trajectories."""

from __future__ import annotations

import numpy as np
import pytest

from wam.core.safety.limits import JointLimits
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.player import Player
from wam.core.trajectory.reference import (
    DIFFERENCE_ROWS,
    PAST_ROWS,
    SMOOTHING_TICKS,
    _average,
    make_reference,
    resample,
)
from wam.core.trajectory.rolling import MOST_POINTS, NEAR_POINTS, POINT_NS, Rolling
from wam.core.trajectory.rollout import RollOut
from wam.core.trajectory.spline import MATRIX_ROWS, curvature_matrix, sample

TICK = 10_000_000
FREE = np.full(3, np.inf)


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_the_spline_passes_through_every_row(count: int) -> None:
    rows = rows_of(count)
    np.testing.assert_allclose(sample(rows, np.arange(count, dtype=float)), rows, atol=1e-12)


def test_the_spline_equals_scipys_natural_cubic_spline() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rows = rows_of(12)
    at = np.linspace(0, 11, 97)
    expected = interpolate.CubicSpline(np.arange(12), rows, bc_type="natural")(at)
    np.testing.assert_allclose(sample(rows, at), expected, atol=1e-10)


@pytest.mark.parametrize("count", [MATRIX_ROWS, MATRIX_ROWS + 1, 100, 512])
def test_a_long_spline_is_solved_without_its_matrix_to_the_same_result(count: int) -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    rows = rows_of(count)
    at = np.linspace(-1.0, count, 7 * count)
    spline = interpolate.CubicSpline(np.arange(count), rows, bc_type="natural")
    expected = spline(np.clip(at, 0.0, count - 1.0))
    np.testing.assert_allclose(sample(rows, at), expected, rtol=0.0, atol=1e-12)


def test_chunks_of_many_lengths_keep_no_matrices() -> None:
    """One matrix was kept for every number of rows, up to 256 of 4096 x 4096."""
    curvature_matrix.cache_clear()
    for count in range(MATRIX_ROWS + 1, 4 * MATRIX_ROWS):
        sample(np.zeros((count, 2)), np.arange(3.0))
    assert curvature_matrix.cache_info().currsize == 0


def test_outside_its_rows_the_spline_holds_the_end_rows() -> None:
    rows = rows_of(5)
    np.testing.assert_allclose(sample(rows, np.array([-3.0, 9.0])), rows[[0, -1]], atol=1e-12)


def test_the_spline_is_continuous_up_to_its_second_derivative() -> None:
    rows, h = rows_of(8), 1e-3
    for knot in range(1, 7):
        left = sample(rows, np.array([knot - 2 * h, knot - h, float(knot)]))
        right = sample(rows, np.array([float(knot), knot + h, knot + 2 * h]))
        second_left = (left[0] - 2 * left[1] + left[2]) / h**2
        second_right = (right[0] - 2 * right[1] + right[2]) / h**2
        np.testing.assert_allclose(second_left, second_right, atol=0.2)
        np.testing.assert_allclose((left[2] - left[1]) / h, (right[1] - right[0]) / h, atol=0.1)


def test_resampling_starts_where_it_is_told_and_ends_with_the_motion() -> None:
    motion = Motion(1_000_000_000, 33_333_333, rows_of(10))
    fine = resample(motion, from_ns=1_050_000_000, period_ns=TICK, acceleration=FREE)
    assert fine.start_ns == 1_050_000_000 - fine.settled * TICK
    assert fine.end_ns <= motion.end_ns
    assert motion.end_ns - fine.end_ns < TICK


def test_rows_that_a_joint_can_follow_are_passed_through_exactly() -> None:
    rows = 0.3 * np.sin(np.arange(24) * 0.05)[:, None] * np.ones(3)
    motion = Motion(0, 33_333_333, rows)
    exact = resample(motion, from_ns=300_000_000, period_ns=TICK, acceleration=FREE)
    limited = resample(motion, from_ns=300_000_000, period_ns=TICK, acceleration=np.full(3, 2.5))
    np.testing.assert_array_equal(exact.rows, limited.rows)


def test_noise_that_no_joint_can_follow_is_averaged_and_not_followed() -> None:
    """Fed forward, accelerations far beyond the limit are clipped one way and then the other: the arm drifted off."""
    rows = 0.3 * np.sin(np.arange(24) * 0.05)[:, None] + np.random.default_rng(0).normal(0, 0.01, (24, 3))
    motion = Motion(0, 33_333_333, rows)
    limited = resample(motion, from_ns=300_000_000, period_ns=TICK, acceleration=np.full(3, 2.5)).rows
    raw = resample(motion, from_ns=300_000_000, period_ns=TICK, acceleration=FREE).rows
    peak = [np.abs(np.diff(one, n=2, axis=0)).max() / 1e-4 for one in (limited, raw)]
    assert peak[0] < 5.0 < peak[1]
    truth = 0.3 * np.sin((300_000_000 + np.arange(len(limited) - 2) * TICK) / 33_333_333 * 0.05)
    assert np.abs(limited[2:40] - truth[:38, None]).max() < 0.03


def test_a_reference_carries_the_finite_differences_of_its_samples() -> None:
    motion = resample(
        Motion(0, 33_333_333, rows_of(10)), from_ns=50_000_000, period_ns=TICK, acceleration=FREE
    )
    reference = make_reference(motion, tick_ns=TICK)
    assert reference.start_ns == 50_000_000
    p, v, a = reference.at(5, rate=1.0)
    np.testing.assert_allclose(v, (p - reference.positions[4]) / 0.01)
    np.testing.assert_allclose(a, (v - reference.samples[4, 1]) / 0.01)


def test_a_slowed_reference_has_the_same_path_and_smaller_derivatives() -> None:
    motion = resample(
        Motion(0, 33_333_333, rows_of(10)), from_ns=50_000_000, period_ns=TICK, acceleration=FREE
    )
    reference = make_reference(motion, tick_ns=TICK)
    fast, slow = reference.at(4, rate=1.0), reference.at(4, rate=0.5)
    np.testing.assert_array_equal(fast[0], slow[0])
    np.testing.assert_allclose(slow[1], 0.5 * fast[1])
    np.testing.assert_allclose(slow[2], 0.25 * fast[2])


def test_beyond_its_end_a_reference_rests() -> None:
    motion = resample(Motion(0, 33_333_333, rows_of(4)), from_ns=0, period_ns=TICK, acceleration=FREE)
    reference = make_reference(motion, tick_ns=TICK)
    p, v, a = reference.at(1000.0, rate=1.0)
    np.testing.assert_array_equal(p, reference.positions[-1])
    assert not v.any()
    assert not a.any()


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.zeros(3)])
def test_a_motion_without_rows_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rows"):
        Motion(0, TICK, rows)


def led(ticks: int) -> Player:
    """Return a plan along a sine that was played for some ticks; 0: an arm that stands without one."""
    limits = JointLimits(
        ("a", "b"),
        lower=np.full(2, -2.0),
        upper=np.full(2, 2.0),
        velocity=np.full(2, 1.5),
        acceleration=np.full(2, 2.5),
        jerk=np.full(2, 50.0),
    )
    rows = 0.5 * np.sin(np.arange(40) * 0.033)[:, None] * np.ones(2)
    motion = resample(Motion(0, 33_333_333, rows), from_ns=0, period_ns=TICK, acceleration=FREE[:2])
    player = Player(limits, period=0.01, position=np.zeros(2))
    if ticks:
        joint = player.joint(0)
        plan = next(RollOut(limits, period=0.01).run(make_reference(motion, tick_ns=TICK), joint.points))
        assert player.splice(joint, plan.points)
    for _ in range(ticks):
        player.tick()
    return player


def test_a_rolling_trajectory_keeps_the_rules_of_joint_trajectory_controller() -> None:
    """ros2_controllers rejects, without telling a topic's publisher: no points, times that do not increase, a last
    velocity that is not zero (default since Jazzy), and steps at time_from_start 0."""
    plan = Rolling(tick_ns=TICK, lead_ns=40_000_000).plan(led(30))
    assert len(plan.times_ns) >= 3
    assert plan.times_ns[0] == 40_000_000
    assert np.all(np.diff(plan.times_ns) > 0)
    assert not plan.velocities[-1].any()
    assert not plan.accelerations[-1].any()
    assert plan.positions.shape == plan.velocities.shape == plan.accelerations.shape


def test_the_next_rolling_trajectory_continues_the_one_before() -> None:
    """ros2_kortex 412, ros2_controllers 1505: a trajectory replaced at 20 Hz jerked, since each started elsewhere."""
    rolling = Rolling(tick_ns=TICK, lead_ns=40_000_000)
    now, later = led(30), led(35)
    first, second = rolling.plan(now), rolling.plan(later)
    np.testing.assert_allclose(first.positions[1], second.positions[0], atol=1e-9)
    np.testing.assert_allclose(first.velocities[1], second.velocities[0], atol=1e-9)


def test_a_motion_that_is_slowed_to_a_hundredth_has_no_more_points_than_a_slow_one() -> None:
    """With the slider of a UR at a few percent a trajectory had thousands of points, more than a message may be long:
    the arm got none of them. The first points keep their distance, and the path between later ones is a short one."""
    slow = led(30)
    slow.seek(0.01)
    for _ in range(30):
        slow.tick()
    ahead = slow.ahead()
    assert len(ahead.positions) > 4000
    plan = Rolling(tick_ns=TICK, lead_ns=40_000_000).plan(slow)
    assert len(plan.times_ns) <= MOST_POINTS
    assert np.diff(plan.times_ns)[: NEAR_POINTS - 1].tolist() == [POINT_NS] * (NEAR_POINTS - 1)
    assert plan.times_ns[-1] == 40_000_000 + (len(ahead.positions) - 1) * TICK
    assert not plan.velocities[-1].any()
    assert np.abs(np.diff(plan.positions, axis=0)).max() < 0.02


def test_a_rolling_trajectory_ends_at_rest_so_that_silence_is_a_stop() -> None:
    moving = led(30)
    assert np.abs(moving.velocity).max() > 0.2
    plan = Rolling(tick_ns=TICK, lead_ns=40_000_000).plan(moving)
    speed = np.abs(np.diff(plan.positions, axis=0)[-1]) / ((plan.times_ns[-1] - plan.times_ns[-2]) * 1e-9)
    assert speed.max() < 0.05


def test_a_plan_with_a_seam_leaves_out_its_early_points_and_never_its_rest() -> None:
    plan = Rolling(tick_ns=TICK, lead_ns=40_000_000).plan(led(30))
    later = plan.after(100_000_000)
    assert later.times_ns.tolist() == [at for at in plan.times_ns.tolist() if at >= 100_000_000]
    np.testing.assert_array_equal(later.positions, plan.positions[-len(later.times_ns) :])
    rest = plan.after(10**12)
    assert rest.times_ns.tolist() == [plan.times_ns[-1]]
    assert not rest.velocities.any()


def test_an_arm_that_holds_gets_a_trajectory_of_rest_without_velocities() -> None:
    """ros2_controllers 1298: non-zero velocities on points that do not move make loops."""
    plan = Rolling(tick_ns=TICK, lead_ns=40_000_000).plan(led(0))
    assert len(plan.times_ns) >= 2
    assert not plan.velocities.any()
    np.testing.assert_array_equal(plan.positions, np.broadcast_to(plan.positions[0], plan.positions.shape))


@pytest.mark.parametrize("count", [3, 40, 300, 700])
def test_averaging_equals_two_running_means(count: int) -> None:
    rows = rows_of(PAST_ROWS + count, seed=count)
    for half in SMOOTHING_TICKS:
        padded = np.concatenate((rows, np.repeat(rows[-1:], 2 * half, axis=0)))
        kernel = np.convolve(*[np.full(2 * half + 1, 1.0 / (2 * half + 1))] * 2)
        expected = np.array([np.convolve(column, kernel, "valid") for column in padded.T]).T
        smooth = _average(rows, half)
        np.testing.assert_allclose(smooth, expected[-len(smooth) :], atol=1e-12)
        assert len(smooth) == count + DIFFERENCE_ROWS
