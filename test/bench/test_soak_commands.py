# SPDX-License-Identifier: Apache-2.0
"""The soak's own check of every command."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed (make setup)")

from wam.bench.soak.commands import GroupJudge
from wam.devices.loader import load_robot
from wam.robots.paths import config_dir
from wam.stack.samples import JointSample

pytestmark = pytest.mark.ros

GROUP = load_robot("piper").groups[0]
TICK_NS = 10_000_000
HOME = np.array([joint.home for joint in GROUP.joints])


def judged(offsets: Iterable[float], *, skip: Callable[[int], bool] = lambda tick: False) -> GroupJudge:
    """Return the judge after commands whose first joint is this far from home; some ticks are left out."""
    judge = GroupJudge(GROUP, config_dir() / "robots" / "piper.yaml")
    for tick, offset in enumerate(offsets):
        if not skip(tick):
            judge.take(JointSample(10**9 + tick * TICK_NS, HOME + offset * np.eye(len(HOME))[0]), 0)
    return judge


def wave(amplitude: float, frequency: float = 0.5) -> list[float]:
    t = np.arange(300) * TICK_NS * 1e-9
    return list(amplitude * np.sin(2.0 * np.pi * frequency * t))


def test_a_wave_within_the_limits_has_no_violation_and_its_speed_is_measured() -> None:
    judge = judged(wave(0.2))
    assert not judge.violations
    assert judge.peak_speed == pytest.approx(0.2 * np.pi / 1.5, rel=0.01)
    assert judge.worst_share == pytest.approx(0.2 * np.pi**2 / 2.5, rel=0.01)


def test_a_wave_that_is_too_fast_a_step_and_a_number_that_is_none_are_violations() -> None:
    assert {"velocity", "acceleration"} <= set(judged(wave(0.6)).violations)
    assert "jerk" in judged([0.0] * 10 + [1e-3] * 10).violations
    assert set(judged([0.0] * 10 + [float("nan")] + [0.0] * 10).violations) == {"not_finite"}


def test_leaving_the_range_is_a_violation_and_coming_back_is_none() -> None:
    beyond = 2.6179 + 1e-4
    slowly = np.linspace(0.0, -5e-5, 50)
    assert set(judged([beyond - 2e-4, *(beyond - slowly)]).violations) >= {"position"}
    assert not judged(list(beyond + slowly)).violations


def test_a_command_that_was_lost_on_its_way_is_no_violation() -> None:
    """Differences across the gap would show twice the speed."""
    judge = judged(wave(0.4, 0.35), skip=lambda tick: tick % 50 == 7)
    assert judge.gaps == 6
    assert not judge.violations


def test_after_the_driver_was_away_the_stream_may_begin_elsewhere() -> None:
    judge = judged([0.0] * 10)
    judge.away = True
    judge.take(JointSample(10**9 + 10 * TICK_NS, HOME + 0.3), 0)
    judge.away = False
    judge.take(JointSample(10**9 + 11 * TICK_NS, HOME + 0.3), 0)
    assert not judge.violations
    judge.take(JointSample(10**9 + 12 * TICK_NS, HOME), 0)
    assert "velocity" in judge.violations
