# SPDX-License-Identifier: Apache-2.0
"""What the follower computes joint by joint is, to the last bit, what its law gives over arrays."""

from __future__ import annotations

import numpy as np
import pytest
from slow_follower import SlowFollower, SlowRollOut

from wam.core.safety.limits import JointLimits
from wam.core.trajectory.follower import Follower
from wam.core.trajectory.motion import Motion
from wam.core.trajectory.reference import Reference, make_reference
from wam.core.trajectory.rollout import PlanUnsafe, RolledOut, RollOut
from wam.devices.loader import load_robot

DT = 0.01
TICK_NS = 10_000_000


def random_limits(rng: np.random.Generator, n: int) -> JointLimits:
    """Limits over three decades each."""
    acceleration = 10 ** rng.uniform(-1, 1.2, n)
    velocity = acceleration * 10 ** rng.uniform(-1.2, 0.3, n)
    span = 10 ** rng.uniform(-1.5, 0.8, n) * velocity
    jerk = acceleration * 10 ** rng.uniform(0.7, 2.5, n)
    return JointLimits(tuple(f"j{i}" for i in range(n)), -span / 2, span / 2, velocity, acceleration, jerk)


def plans_of(
    rollout: RollOut, reference: Reference, start: np.ndarray, velocity: np.ndarray | None
) -> tuple[list[RolledOut], str]:
    """All plans, and why there are no more."""
    plans = []
    try:
        for plan in rollout.run(reference, start, velocity=velocity):
            plans.append(plan)
    except PlanUnsafe as error:
        return plans, str(error)
    return plans, ""


@pytest.mark.parametrize("robot", ["random", "piper", "franka", "ur5e_inspire"])
def test_every_tick_of_a_driven_follower_is_that_of_the_law(robot: str) -> None:
    """Targets beyond the ends, feed-forward beyond the limits, brakes, lower speeds: every branch of the bounds."""
    rng = np.random.default_rng(5)
    limits = random_limits(rng, 400) if robot == "random" else load_robot(robot).limits()
    n = len(limits.joint_names)
    fast, slow = Follower(limits, period=DT), SlowFollower(limits, period=DT)
    target, speed, push = np.zeros((3, n))
    span = limits.upper - limits.lower
    for tick in range(600):
        new = rng.random(n) < 0.03
        wide = np.where(rng.random(n) < 0.5, 0.5, 3.0)
        target = np.where(new, limits.lower + rng.uniform(-1, 1, n) * span * wide, target + speed * DT)
        speed = np.where(new, rng.uniform(-3, 3, n) * limits.velocity * (rng.random(n) < 0.3), speed)
        push = np.where(new, rng.uniform(-5, 5, n) * limits.acceleration * (rng.random(n) < 0.3), push)
        if tick % 150 == 149:
            lower = limits.velocity * rng.uniform(0.1, 1.0, n)
            fast.limit_velocity(lower)
            slow.limit_velocity(lower)
        if tick % 200 > 180:
            np.testing.assert_array_equal(fast.brake(), slow.brake())
            assert fast.at_rest() == slow.at_rest()
        else:
            np.testing.assert_array_equal(fast.step(target, speed, push), slow.step(target, speed, push))
    np.testing.assert_array_equal(fast.velocity, slow.velocity)
    np.testing.assert_array_equal(fast.acceleration, slow.acceleration)


@pytest.mark.parametrize("robot", ["piper", "franka", "ur5e_inspire"])
def test_every_plan_is_the_one_that_is_made_tick_by_tick(robot: str) -> None:
    """From rest and from motion, along rows too fast or too far away, slowed rows, and lower speeds."""
    rng = np.random.default_rng(11)
    limits = load_robot(robot).limits()
    n = len(limits.joint_names)
    fast, slow = RollOut(limits, period=DT), SlowRollOut(limits, period=DT)
    plans = refused = 0
    for _ in range(20):
        step = limits.velocity * DT
        place = rng.uniform(limits.lower, limits.upper)
        moving = rng.uniform(-1, 1, n) * step * rng.choice([0.0, 0.3, 0.9])
        start = np.clip(place + np.arange(4)[:, None] * moving, limits.lower, limits.upper)
        pace = rng.uniform(-1, 1, n) * step * rng.choice([0.1, 0.5, 1.0, 2.0])
        rows = place + rng.uniform(-0.05, 0.05, n) + np.arange(int(rng.integers(3, 150)))[:, None] * pace
        rows = np.clip(rows + rng.normal(0.0, 1e-4, rows.shape), limits.lower, limits.upper)
        period_ns = int(TICK_NS * rng.choice([1.0, 1.0, 1.37, 2.9]))
        reference = make_reference(Motion(0, period_ns, rows, settled=2), tick_ns=TICK_NS)
        velocity = None if rng.random() < 0.7 else limits.velocity * rng.uniform(0.05, 1.0, n)
        got, why = plans_of(fast, reference, start, velocity)
        expected, expected_why = plans_of(slow, reference, start, velocity)
        assert why == expected_why
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one.points, other.points)
            assert (one.slowing, one.rows_end) == (other.slowing, other.rows_end)
        plans += len(got)
        refused += bool(why)
    assert plans >= 15
    assert refused < 15
