# SPDX-License-Identifier: Apache-2.0
"""Which share of a run the robot was held, and why."""

from __future__ import annotations

import pytest

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.held import held_times
from wam.evaluation.records import SafetyRecord

END_NS = 10 * NS_PER_S


def event(at: float, before: Ladder, after: Ladder, code: str, verdict: Verdict) -> SafetyRecord:
    return SafetyRecord(round(at * NS_PER_S), before, after, verdict, code, "")


FOLLOWS = event(0.2, Ladder.HOLD, Ladder.NOMINAL, "recovered", Verdict.OK)


def held(*events: SafetyRecord) -> dict[str, float]:
    return dict(held_times(events, begin_ns=0, end_ns=END_NS))


def test_a_robot_that_nobody_moves_is_held_from_the_first_to_the_last_moment() -> None:
    assert held() == {"no_chunk_yet": 10.0}


def test_a_hold_counts_until_it_is_left_and_a_stop_until_the_end() -> None:
    times = held(
        FOLLOWS,
        event(2.0, Ladder.NOMINAL, Ladder.HOLD, "jump", Verdict.HOLD),
        event(3.5, Ladder.HOLD, Ladder.NOMINAL, "recovered", Verdict.OK),
        event(6.0, Ladder.NOMINAL, Ladder.STOP, "tracking_error", Verdict.STOP),
    )
    assert times == pytest.approx({"tracking_error": 4.0, "jump": 1.5, "no_chunk_yet": 0.2})
    assert list(times) == ["tracking_error", "jump", "no_chunk_yet"]


def test_a_cause_that_takes_over_on_the_same_rung_gets_the_time_from_then_on() -> None:
    times = held(
        FOLLOWS,
        event(2.0, Ladder.NOMINAL, Ladder.HOLD, "chunk_timeout", Verdict.HOLD),
        event(3.0, Ladder.HOLD, Ladder.HOLD, "jump", Verdict.HOLD),
        event(7.0, Ladder.HOLD, Ladder.NOMINAL, "recovered", Verdict.OK),
    )
    assert times == pytest.approx({"jump": 4.0, "chunk_timeout": 1.0, "no_chunk_yet": 0.2})


def test_what_only_slows_the_robot_does_not_hold_it_and_is_no_cause_of_a_hold() -> None:
    times = held(
        FOLLOWS,
        event(1.0, Ladder.NOMINAL, Ladder.LATE, "chunk_late", Verdict.OK),
        event(2.0, Ladder.LATE, Ladder.HOLD, "rows_exhausted", Verdict.HOLD),
        event(2.5, Ladder.HOLD, Ladder.HOLD, "velocity_limit", Verdict.SCALED),
        event(3.0, Ladder.HOLD, Ladder.SLOW, "chunk_late", Verdict.OK),
    )
    assert times == pytest.approx({"rows_exhausted": 1.0, "no_chunk_yet": 0.2})
