# SPDX-License-Identifier: Apache-2.0
"""Simulated time from wall time, and what is due in it."""

from __future__ import annotations

import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.sim.pace import MAX_STEP_NS, START_NS, Pace, SimTime


class Wall:
    """Wall time that a test sets."""

    def __init__(self) -> None:
        self.ns = 5 * NS_PER_S

    def __call__(self) -> int:
        return self.ns


def after(time: SimTime, wall: Wall, *, ms: float, calls: int = 1) -> int:
    for _ in range(calls):
        wall.ns += round(ms * NS_PER_MS)
        time.advance()
    return time.now_ns - START_NS


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0])
def test_it_runs_at_its_speed(speed: float) -> None:
    wall = Wall()
    time = SimTime(speed=speed, step_ns=1, wall=wall)
    assert time.advance() == START_NS > 0
    assert after(time, wall, ms=1.001, calls=1000) == pytest.approx(1.001 * NS_PER_S * speed, abs=2)


def test_a_machine_that_is_too_slow_makes_time_slower_and_skips_nothing() -> None:
    wall = Wall()
    time = SimTime(speed=1.0, step_ns=1, wall=wall)
    time.advance()
    assert after(time, wall, ms=500.0) == MAX_STEP_NS
    assert after(time, wall, ms=1.0) == MAX_STEP_NS + NS_PER_MS


def test_free_running_goes_on_by_one_step_at_every_call() -> None:
    time = SimTime(speed=0.0, step_ns=4 * NS_PER_MS, wall=Wall())
    time.advance()
    assert [time.advance() - START_NS for _ in range(3)] == [4 * NS_PER_MS, 8 * NS_PER_MS, 12 * NS_PER_MS]


def test_a_pause_does_not_count() -> None:
    wall = Wall()
    time = SimTime(speed=1.0, step_ns=1, wall=wall)
    time.advance()
    time.pause()
    assert after(time, wall, ms=15.0) == 0
    assert after(time, wall, ms=1.0) == NS_PER_MS


@pytest.mark.parametrize(("speed", "step_ns"), [(-1.0, 1), (1.0, 0)])
def test_an_impossible_time_is_refused(speed: float, step_ns: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        SimTime(speed=speed, step_ns=step_ns, wall=Wall())


def test_a_pace_keeps_its_mean_rate_and_begins_anew_after_a_pause() -> None:
    pace = Pace(100)
    assert sum(pace.due(now) for now in range(1000, 2000, 30)) == 10
    assert pace.due(50_000)
    assert not pace.due(50_050)
    assert pace.due(10), "a clock that was set back"
    with pytest.raises(ValueError, match="must be positive"):
        Pace(0)
