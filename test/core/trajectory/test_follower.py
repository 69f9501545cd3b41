# SPDX-License-Identifier: Apache-2.0
"""The follower keeps every limit, whatever it is asked for, and follows what can be followed exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_follower import SlowFollower

from wam.core.safety.limits import JointLimits, VelocityEnvelope
from wam.core.trajectory.follower import Follower

DT = 0.01
SHARE = 1.0 + 1e-6


def limits(n: int = 3, **changes: object) -> JointLimits:
    values = {
        "lower": np.full(n, -2.0),
        "upper": np.full(n, 2.0),
        "velocity": np.full(n, 1.5),
        "acceleration": np.full(n, 2.5),
        "jerk": np.full(n, 50.0),
    }
    return JointLimits(tuple(f"j{i}" for i in range(n)), **{**values, **changes})  # type: ignore[arg-type]


def shares(rows: np.ndarray, of: JointLimits) -> tuple[float, float, float, float]:
    """Largest share of each limit in the finite differences of `rows`; position: distance outside."""
    v = np.diff(rows, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    j = np.diff(a, axis=0) / DT
    outside = np.maximum(of.lower - rows, rows - of.upper).max()
    return (
        float(outside),
        float(np.abs(v / of.velocity).max()),
        float(np.abs(a / of.acceleration).max()),
        float(np.abs(j / of.jerk).max()),
    )


def run(follower: Follower, references: np.ndarray, velocities: np.ndarray | None = None) -> np.ndarray:
    rows = [follower.position] * 3
    zero = np.zeros(references.shape[1])
    for k, reference in enumerate(references):
        rows.append(follower.step(reference, zero if velocities is None else velocities[k], zero))
    return np.array(rows)


def assert_kept(rows: np.ndarray, of: JointLimits) -> None:
    outside, v, a, j = shares(rows, of)
    assert outside <= 1e-9
    assert max(v, a, j) <= SHARE


finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=150)
@given(
    targets=st.lists(
        st.tuples(st.lists(finite, min_size=3, max_size=3), st.integers(1, 60)), min_size=1, max_size=12
    )
)
def test_no_sequence_of_targets_leaves_a_limit(targets: list[tuple[list[float], int]]) -> None:
    follower = Follower(limits(), period=DT, position=np.zeros(3))
    rows = [follower.position] * 3
    zero = np.zeros(3)
    with np.errstate(over="ignore"):
        for target, ticks in targets:
            for _ in range(ticks):
                rows.append(follower.step(np.clip(np.array(target), -1e6, 1e6), zero, zero))
    assert_kept(np.array(rows), limits())


@settings(max_examples=60)
@given(data=st.data())
def test_no_velocity_or_acceleration_feed_forward_leaves_a_limit(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    follower = Follower(limits(), period=DT, position=rng.uniform(-2, 2, 3))
    rows = [follower.position] * 3
    for _ in range(30):
        p, v, a = rng.uniform(-3, 3, 3), rng.uniform(-9, 9, 3), rng.uniform(-30, 30, 3)
        for _ in range(rng.integers(1, 30)):
            rows.append(follower.brake() if rng.random() < 0.1 else follower.step(p, v, a))
    assert_kept(np.array(rows), limits())


def test_no_choice_of_limits_makes_the_bounds_contradict_each_other() -> None:
    """2000 joints with limits over three decades each, driven at random for 15 s: jerk, acceleration, velocity and
    position are kept together, so there was a way out of every state that was entered.

    Over arrays of joints; that `Follower` gives the same to the last bit is tested in `test_follower_is_exact`."""
    rng = np.random.default_rng(0)
    n = 2000
    acceleration = 10 ** rng.uniform(-1, 1.2, n)
    velocity = acceleration * 10 ** rng.uniform(-1.2, 0.3, n)
    span = 10 ** rng.uniform(-1.5, 0.8, n) * velocity
    of = limits(
        n,
        lower=-span / 2,
        upper=span / 2,
        velocity=velocity,
        acceleration=acceleration,
        jerk=acceleration * 10 ** rng.uniform(0.7, 2.5, n),
    )
    follower = SlowFollower(of, period=DT)
    rows = [follower.position] * 3
    target, speed, push = np.zeros(n), np.zeros(n), np.zeros(n)
    for k in range(1500):
        new = rng.random(n) < 0.03
        wide = np.where(rng.random(n) < 0.5, 0.5, 3.0)
        target = np.where(new, rng.uniform(-1, 1, n) * span * wide, target + speed * DT)
        speed = np.where(new, rng.uniform(-3, 3, n) * velocity * (rng.random(n) < 0.3), speed)
        push = np.where(new, rng.uniform(-5, 5, n) * acceleration * (rng.random(n) < 0.3), push)
        rows.append(follower.brake() if k % 500 > 480 else follower.step(target, speed, push))
    assert_kept(np.array(rows), of)


def test_a_reference_inside_the_limits_is_followed_exactly() -> None:
    times = np.arange(-3, 600) * DT
    reference = (0.4 * (1 - np.cos(1.5 * np.maximum(times, 0.0))))[:, None] * np.ones(3)
    velocity = np.diff(reference, axis=0) / DT
    acceleration = np.diff(velocity, axis=0) / DT
    follower = Follower(limits(), period=DT, position=np.zeros(3))
    rows = [follower.step(p, v, a) for p, v, a in zip(reference[2:], velocity[1:], acceleration, strict=True)]
    np.testing.assert_allclose(rows, reference[2:], atol=1e-9)


def test_a_step_is_reached_without_overshoot() -> None:
    follower = Follower(limits(1), period=DT, position=np.zeros(1))
    rows = run(follower, np.full((600, 1), 1.0))
    assert rows.max() < 1.0 + 2e-3
    assert abs(rows[-1, 0] - 1.0) < 1e-6


def test_braking_comes_to_rest_and_stays() -> None:
    follower = Follower(limits(1), period=DT, position=np.zeros(1))
    run(follower, np.full((60, 1), 5.0))
    assert follower.velocity[0] > 1.0
    ticks = 0
    while not follower.at_rest():
        follower.brake()
        ticks += 1
        assert ticks < 200
    at = float(follower.position[0])
    for _ in range(300):
        follower.brake()
    assert abs(follower.position[0] - at) < 1e-4
    assert abs(follower.velocity[0]) < 1e-9


def test_braking_takes_at_most_twice_the_shortest_possible_time() -> None:
    """Ruckig gives the time-optimal stop; ours need not be optimal, but a hold must not take for ever."""
    ruckig = pytest.importorskip("ruckig")
    follower = Follower(limits(1), period=DT, position=np.zeros(1))
    run(follower, np.full((60, 1), 5.0))
    given_ = ruckig.InputParameter(1)
    given_.control_interface = ruckig.ControlInterface.Velocity
    given_.current_position = follower.position.tolist()
    given_.current_velocity = follower.velocity.tolist()
    given_.current_acceleration = follower.acceleration.tolist()
    given_.target_velocity = [0.0]
    given_.target_acceleration = [0.0]
    given_.max_acceleration = [2.5]
    given_.max_jerk = [50.0]
    best = ruckig.Trajectory(1)
    ruckig.Ruckig(1).calculate(given_, best)
    ticks = 0
    while not follower.at_rest():
        follower.brake()
        ticks += 1
    assert ticks * DT < 2.0 * best.duration


def test_an_arm_that_starts_outside_its_limits_is_only_moved_inwards() -> None:
    """A Piper reports -0.002 rad at its one-sided joints; clamping that at the first command would be a step."""
    follower = Follower(limits(2), period=DT, position=np.array([2.05, -2.05]))
    rows = run(follower, np.tile([3.0, -3.0], (50, 1)))
    assert np.all(rows[:, 0] <= 2.05 + 1e-12)
    assert np.all(rows[:, 1] >= -2.05 - 1e-12)
    rows = run(follower, np.zeros((400, 2)))
    assert abs(rows[-1]).max() < 1e-3
    _, v, a, j = shares(rows, limits(2))
    assert max(v, a, j) <= SHARE


def test_position_dependent_velocity_limits_are_kept() -> None:
    """libfranka's limits of the FR3 shrink towards the joint ends: a flat velocity limit is wrong there."""
    slope = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    corner = np.array([0.3, 0.2, 0.2, 0.3, 0.35, 0.35, 0.35])
    top = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    bottom = -np.array([2.7501, 1.7918, 2.9065, 3.0481, 2.8101, -0.54092, 3.0196])
    envelope = VelocityEnvelope(slope, corner, top, bottom)
    of = limits(
        7,
        lower=np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]),
        upper=np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]),
        velocity=np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
        acceleration=np.full(7, 10.0),
        jerk=np.full(7, 1500.0),
        velocity_envelope=envelope,
    )
    rng = np.random.default_rng(3)
    follower = Follower(of, period=DT)
    rows = [follower.position] * 3
    for _ in range(60):
        target = np.where(rng.random(7) < 0.5, of.lower - 1.0, of.upper + 1.0)
        for _ in range(int(rng.integers(20, 150))):
            rows.append(follower.step(target, np.zeros(7), np.zeros(7)))
    stream = np.array(rows)
    assert_kept(stream, of)
    speed = np.diff(stream, axis=0) / DT
    upper, lower = envelope.bounds(stream[1:])
    assert np.all(speed <= upper + 1e-6)
    assert np.all(speed >= lower - 1e-6)


def test_a_period_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="period"):
        Follower(limits(), period=0.0)
