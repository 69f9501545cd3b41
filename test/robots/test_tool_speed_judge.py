# SPDX-License-Identifier: Apache-2.0
"""The judge of tool speed against the tool points of the suite, and against a speed that is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

from tool_speed import ToolSpeedJudge

from wam.devices.loader import load_robot
from wam.runtime.safety.filters import ChainOptions, FilterInputs

PERIOD_NS = 250_000
ROBOTS = ("piper", "franka", "ur5e_inspire")


@functools.cache
def judge_of(name: str) -> ToolSpeedJudge:
    return ToolSpeedJudge(load_robot(name).source)


def stamps(rows: np.ndarray, period_ns: int = PERIOD_NS) -> np.ndarray:
    return np.arange(len(rows), dtype=np.int64) * period_ns


def wander(name: str, rng: np.random.Generator, rows: int = 200) -> np.ndarray:
    """Return a smooth motion of every joint about a random state, float64 [K, N], `PERIOD_NS` apart."""
    limits = load_robot(name).limits()
    span = limits.upper - limits.lower
    middle = limits.lower + span * rng.uniform(0.3, 0.7, len(span))
    t = np.arange(rows)[:, None] * (PERIOD_NS * 1e-9)
    omega, phase = rng.uniform(1.0, 6.0, len(span)), rng.uniform(0.0, 2 * np.pi, len(span))
    return middle + np.minimum(0.15, 0.2 * span) * np.sin(omega * t + phase)


@pytest.mark.parametrize("name", ROBOTS)
def test_judge_and_product_agree_to_a_hundredth_on_random_motions(name: str) -> None:
    """The product gives upper bounds: never below the speed between two commands, hardly above it in small steps."""
    judge, rng = judge_of(name), np.random.default_rng(65)
    points = FilterInputs(load_robot(name), ChainOptions()).points
    assert points is not None
    assert [one.name for one in judge.points] == [one.name for one in points.points]
    for _ in range(5):
        rows = wander(name, rng)
        seen = judge.speeds(rows, stamps(rows)).max(axis=1)
        bound = points.speeds(rows, points.points, period_ns=PERIOD_NS).max(axis=1)
        assert seen.min() > 0.0
        np.testing.assert_allclose(bound, seen, rtol=0.01)
        assert np.all(bound >= seen - 1e-9)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_turn_about_the_base_has_radius_times_rate_and_a_step_that_is_too_fast_is_found(name: str) -> None:
    """The first joint stands upright: its points go round in circles, one of them too fast for one step."""
    judge, tick_ns = judge_of(name), 10_000_000
    first = load_robot(name).joint_names[0]
    axis = judge._data.oMi[judge._model.getJointId(first)].translation
    radii = np.linalg.norm((judge.places(judge.home[None])[:, 0] - axis)[:, :2], axis=1)
    turned = [number for number, point in enumerate(judge.points) if not point.name.startswith("right")]
    rate = 0.2 / radii[turned].max()
    angles = rate * 0.01 * np.arange(50.0)
    angles[31:] += 0.5 * rate * 0.01
    rows = np.repeat(judge.home[None], 50, axis=0)
    rows[:, 0] += angles
    speeds = judge.speeds(rows, stamps(rows, tick_ns))
    np.testing.assert_allclose(
        np.delete(speeds[turned], 30, axis=1).T, np.tile(rate * radii[turned], (48, 1)), atol=1e-4
    )
    assert speeds.max() == pytest.approx(0.3, abs=1e-4)
    assert int(speeds.max(axis=0).argmax()) == 30


def test_a_command_that_was_lost_leaves_a_longer_step_and_no_speed_of_its_own() -> None:
    judge = judge_of("piper")
    rows = wander("piper", np.random.default_rng(3))
    kept = np.delete(np.arange(len(rows)), [20, 21, 90])
    whole, thinned = judge.fastest(rows, stamps(rows)), judge.fastest(rows[kept], stamps(rows)[kept])
    assert thinned == pytest.approx(whole, rel=0.01)


def test_commands_of_a_piper_are_read_in_its_driver_s_radians() -> None:
    judge = judge_of("piper")
    group = load_robot("piper").groups[0]
    rows = np.repeat(judge.home[None], 2, axis=0)
    rows[1, :6] += 0.1
    sent = (rows[:, :7] * np.array(group.command_factors)).tolist()
    np.testing.assert_allclose(judge.positions("left", sent), rows, atol=1e-12)
