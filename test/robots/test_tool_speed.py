# SPDX-License-Identifier: Apache-2.0
"""The rate at which a plan is played keeps tools, elbows and arms near obstacles within their speeds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pinocchio", reason="pin is not installed (make setup)")

from path_oracle import PathOracle, fine
from tool_speed import ToolSpeedJudge

from wam.core.errors import ConfigError
from wam.core.verdict import Verdict
from wam.devices.loader import load_robot
from wam.robots.collision import PinocchioChecker
from wam.robots.tool_points import ToolPoints
from wam.robots.tool_speed import REDUCED_SPEED, Approach, SpeedLimits, foreign_pairs
from wam.robots.zones import parse_zone
from wam.runtime.safety.filters import ChainOptions, build_speed_limits

PERIOD_NS = 10_000_000
ROBOTS = ("piper", "franka", "ur5e_inspire")
CHECKERS = {name: PinocchioChecker(load_robot(name)) for name in ROBOTS}
POINTS = {name: ToolPoints(one.model, one.pinocchio[2]) for name, one in CHECKERS.items()}
JUDGES = {name: ToolSpeedJudge(one.model.robot.source) for name, one in CHECKERS.items()}
HOME = {name: np.array([j.home for j in one.model.robot.joints]) for name, one in CHECKERS.items()}


def motion(name: str, rng: np.random.Generator, rate: float = 1.0, rows: int = 60) -> np.ndarray:
    limits = CHECKERS[name].model.robot.limits()
    direction = rng.uniform(-1, 1, len(HOME[name]))
    travel = rate * 0.5 * (1 - np.cos(np.linspace(0, np.pi, rows))) * (rows * PERIOD_NS * 1e-9) * 2 / np.pi
    return np.clip(HOME[name] + direction * travel[:, None], limits.lower, limits.upper)


def seen_speed(name: str, rows: np.ndarray) -> np.ndarray:
    """Return the highest speed of every point by fine differences of the judge's places, float64 [n]."""
    steps = fine(rows, (len(rows) - 1) * 10 + 1)
    return JUDGES[name].speeds(steps, np.arange(len(steps)) * (PERIOD_NS // 10)).max(axis=1)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_speed_is_never_underestimated_and_hardly_overestimated(name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(4):
        rows = motion(name, rng)
        bound = POINTS[name].speeds(rows, POINTS[name].points, period_ns=PERIOD_NS).max(axis=1)
        seen = seen_speed(name, rows)
        assert np.all(bound >= seen - 1e-9)
        assert np.all(bound <= 1.15 * seen + 0.005)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_plan_played_at_its_cap_keeps_the_speed_limit(name: str) -> None:
    rng = np.random.default_rng(1)
    limits = SpeedLimits(POINTS[name], max_speed=0.3)
    rows = motion(name, rng, 1.5)
    cap = limits.cap(rows, period_ns=PERIOD_NS)
    assert cap.finding is not None
    assert (cap.finding.code, cap.finding.verdict) == ("tool_speed", Verdict.SCALED)
    assert 0.8 * 0.3 < (seen_speed(name, rows) * cap.rate).max() <= 0.3
    slow = motion(name, rng, 0.02)
    assert limits.cap(slow, period_ns=PERIOD_NS).rate == 1.0


def test_reduced_mode_is_250_mm_per_second_whatever_the_other_limit() -> None:
    rows = motion("piper", np.random.default_rng(2), 1.5)
    fast, none = SpeedLimits(POINTS["piper"], max_speed=1.0), SpeedLimits(POINTS["piper"])
    assert none.cap(rows, period_ns=PERIOD_NS).rate == 1.0
    for one in (fast, none):
        cap = one.cap(rows, period_ns=PERIOD_NS, reduced=True)
        assert (seen_speed("piper", rows) * cap.rate).max() <= REDUCED_SPEED
    slower = SpeedLimits(POINTS["piper"], max_speed=0.1).cap(rows, period_ns=PERIOD_NS, reduced=True)
    assert (seen_speed("piper", rows) * slower.rate).max() <= 0.1


def test_only_a_point_inside_a_slow_zone_is_slowed() -> None:
    points = POINTS["piper"]
    rows = np.repeat(HOME["piper"][None], 60, axis=0)
    rows[:, 0] += np.linspace(0.0, 0.8, 60)
    places = points.places(rows, points.points[:1])[0]
    box = " ".join(
        f"{low - 0.01} {high + 0.01}"
        for low, high in zip(places[-8:].min(0), places[-8:].max(0), strict=True)
    )
    zone = parse_zone(f"slow 0.1 left {box}", points)
    limits = SpeedLimits(points, zones=(zone,))
    cap = limits.cap(rows, period_ns=PERIOD_NS)
    assert cap.finding is not None
    assert cap.finding.code == "slow_zone"
    assert cap.finding.joint == "left_link6"
    speed = JUDGES["piper"].speeds(rows, np.arange(60) * PERIOD_NS)[0]
    assert 0.09 < speed[-1] * cap.rate <= 0.1
    assert limits.cap(rows[:40], period_ns=PERIOD_NS).rate == 1.0
    stop = parse_zone(f"stop left {box}", points)
    assert SpeedLimits(points, zones=(stop,)).cap(rows, period_ns=PERIOD_NS).rate == 1.0


def test_the_rate_falls_steadily_with_the_distance() -> None:
    approach = Approach(far=0.2, near=0.05, least=0.1)
    rates = [approach.rate(distance) for distance in np.linspace(-0.1, 0.3, 81)]
    assert rates == sorted(rates)
    assert rates[0] == 0.1
    assert rates[-1] == 1.0
    with pytest.raises(ValueError, match="far"):
        Approach(far=0.05, near=0.05, least=0.1)


def test_an_arm_is_slowed_by_what_is_not_part_of_it() -> None:
    for name, checker in CHECKERS.items():
        named = {frozenset(checker.pairs[number].names) for number in foreign_pairs(checker)}
        assert any("table" in pair for pair in named), name
        if name == "piper":
            assert all("table" in pair or len({link[:4] for link in pair}) == 2 for pair in named)
        else:
            assert all("table" in pair for pair in named), name


@pytest.mark.parametrize("name", ROBOTS)
def test_no_arm_comes_closer_than_the_distance_that_its_rate_is_for(name: str) -> None:
    rng = np.random.default_rng(4)
    checker = CHECKERS[name]
    approach = Approach(far=0.3, near=0.0, least=0.05)
    limits = SpeedLimits(POINTS[name], approach=approach, checker=checker)
    oracle = PathOracle(checker.model.robot, margin=0.0)
    foreign = {checker.pairs[number].names for number in foreign_pairs(checker)}
    chosen = [number for number, names in enumerate(oracle.names) if names in foreign]
    slowed = 0
    for _ in range(6):
        rows = motion(name, rng, 1.5)
        seen = min(oracle.clearances(state)[chosen].min() for state in fine(rows, 120))
        cap = limits.near(rows)
        assert cap.rate <= approach.rate(seen) + 1e-9
        assert cap.rate >= approach.rate(seen - 0.03) - 1e-9
        slowed += cap.rate < 1.0
    assert slowed


def test_the_parameters_make_the_limits() -> None:
    robot = load_robot("piper")
    rows = motion("piper", np.random.default_rng(2), 1.5)
    one = build_speed_limits(robot, ChainOptions(max_tcp_speed=0.2, slow_distance=0.5))
    assert one is not None
    assert one.cap(rows, period_ns=PERIOD_NS).rate < 0.5
    off = build_speed_limits(robot)
    assert off is not None
    assert off.cap(rows, period_ns=PERIOD_NS).rate == 1.0
    assert build_speed_limits(robot, model=False) is None
    with pytest.raises(ConfigError, match="slow_distance"):
        build_speed_limits(robot, ChainOptions(slow_distance=0.01))
