# SPDX-License-Identifier: Apache-2.0
"""A stream's history is ordered by stamp, bounded, and starts anew when its clock is reset."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.runtime.ingest.stream_buffer import MOST, RESET_TOLERANCE_NS, Pushed, StreamBuffer


def filled(*stamps: int, capacity: int = 10) -> StreamBuffer[str]:
    buffer: StreamBuffer[str] = StreamBuffer(capacity)
    for stamp in stamps:
        buffer.push(stamp, f"v{stamp}")
    return buffer


def stamp_at(buffer: StreamBuffer[str], t_ns: int) -> int | None:
    sample = buffer.newest_at(t_ns)
    return sample.stamp_ns if sample else None


def test_the_newest_sample_at_or_before_a_time_is_chosen() -> None:
    buffer = filled(10, 20, 30)
    assert [stamp_at(buffer, t) for t in (9, 10, 19, 20, 1000)] == [None, 10, 10, 20, 30]


def test_a_late_sample_is_sorted_in() -> None:
    buffer = filled(10, 30)
    assert buffer.push(20, "late") is Pushed.LATE
    sample = buffer.newest_at(25)
    assert sample is not None
    assert sample.value == "late"
    assert buffer.newest is not None
    assert buffer.newest.stamp_ns == 30


def test_of_two_samples_with_one_stamp_the_first_stays() -> None:
    buffer = filled(10)
    assert buffer.push(10, "again") is Pushed.DUPLICATE
    assert buffer.newest is not None
    assert buffer.newest.value == "v10"
    assert len(buffer) == 1


def test_a_full_buffer_drops_the_oldest() -> None:
    buffer = filled(1, 2, 3, 4, capacity=3)
    assert len(buffer) == 3
    assert stamp_at(buffer, 1) is None
    assert buffer.push(1, "x") is Pushed.TOO_OLD


def test_samples_that_are_young_enough_are_kept_however_many_they_are() -> None:
    """A driver that publishes faster than its file says pushed out what an image needs: no chunk was ever made."""
    buffer: StreamBuffer[str] = StreamBuffer(3, span_ns=50)
    for stamp in range(0, 100, 10):
        buffer.push(stamp, "v")
    assert [stamp_at(buffer, t) for t in (39, 40, 95)] == [None, 40, 90]
    assert buffer.push(45, "late") is Pushed.LATE
    assert buffer.push(35, "too late") is Pushed.TOO_OLD
    buffer.push(1000, "after a pause")
    assert len(buffer) == 3
    flood: StreamBuffer[str] = StreamBuffer(3, span_ns=10**9)
    for stamp in range(3 * MOST):
        flood.push(stamp, "v")
    assert len(flood) == MOST


def test_a_step_back_within_the_tolerance_keeps_the_history() -> None:
    start = 10 * RESET_TOLERANCE_NS
    buffer = filled(start)
    assert buffer.push(start - RESET_TOLERANCE_NS, "late") is Pushed.LATE
    assert len(buffer) == 2


def test_a_step_back_beyond_the_tolerance_starts_a_new_history() -> None:
    start = 10 * RESET_TOLERANCE_NS
    buffer = filled(start)
    assert buffer.push(start - RESET_TOLERANCE_NS - 1, "reset") is Pushed.RESET
    assert len(buffer) == 1
    assert buffer.newest is not None
    assert buffer.newest.value == "reset"


def test_a_discarded_sample_uncovers_the_one_before_it() -> None:
    buffer = filled(10, 20)
    buffer.discard(20)
    buffer.discard(15)
    assert stamp_at(buffer, 100) == 10


def test_a_buffer_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        StreamBuffer(0)


@given(st.lists(st.integers(0, 3 * RESET_TOLERANCE_NS), max_size=40), st.integers(1, 8))
def test_stamps_stay_sorted_distinct_and_bounded_whatever_arrives(stamps: list[int], capacity: int) -> None:
    buffer = filled(*stamps, capacity=capacity)
    seen, t = [], 10**18
    while (stamp := stamp_at(buffer, t)) is not None:
        seen.append(stamp)
        t = stamp - 1
    assert len(seen) == len(buffer) <= capacity
    assert seen == sorted(set(seen), reverse=True)
    if stamps:
        assert buffer.newest is not None
        assert buffer.newest.stamp_ns == seen[0]
