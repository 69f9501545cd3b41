# SPDX-License-Identifier: Apache-2.0
"""Messages come out in order of their stamps, and every oddity of a recording's clocks is counted."""

from __future__ import annotations

import random
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from wam.data.bag.stamps import BagMessage, StampOrder

MS = 1_000_000
S = 1000 * MS
Raw = tuple[str, str, int, int | None, object]


def raw(topic: str, receive_ns: int, stamp_ns: int | None) -> Raw:
    return (topic, "type", receive_ns, stamp_ns, object())


def ordered(messages: Iterable[Raw], *, use_stamps: bool = True) -> tuple[list[BagMessage], StampOrder]:
    order = StampOrder(use_stamps=use_stamps)
    return list(order.order(messages)), order


def test_a_camera_with_more_latency_than_the_joints_is_put_back_into_its_place() -> None:
    joints = [raw("/joints", S + i * 10 * MS, S + i * 10 * MS) for i in range(100)]
    images = [raw("/camera", S + i * 33 * MS + 80 * MS, S + i * 33 * MS) for i in range(20)]
    out, order = ordered(sorted(joints + images, key=lambda m: m[2]))
    times = [message.time_ns for message in out]
    assert times == sorted(times)
    assert [m.time_ns for m in out if m.topic == "/camera"] == [S + i * 33 * MS for i in range(20)]
    camera = {report.topic: report for report in order.reports()}["/camera"]
    assert camera.latency_p50_ms == 80.0
    assert camera.late == 0


def test_messages_of_one_instant_keep_the_order_of_the_file() -> None:
    out, _ = ordered([raw("/b", S, S), raw("/a", S, S), raw("/c", S, S)])
    assert [message.topic for message in out] == ["/b", "/a", "/c"]


def test_receive_time_stands_in_for_a_missing_stamp_and_is_counted() -> None:
    out, order = ordered(
        [raw("/text", S + 5 * MS, None), raw("/joints", S, S), raw("/joints", S + 9 * MS, S + 9 * MS)]
    )
    assert [(m.topic, m.time_ns) for m in out] == [
        ("/joints", S),
        ("/text", S + 5 * MS),
        ("/joints", S + 9 * MS),
    ]
    assert {r.topic: r.without_stamp for r in order.reports()} == {"/text": 1, "/joints": 0}


def test_a_message_without_stamp_follows_the_others_when_the_clocks_differ_by_days() -> None:
    """Recording what `ros2 bag play` publishes gives historical stamps under receive times of today."""
    day = 86_400 * S
    joints = [raw("/joints", day + i * 10 * MS, S + i * 10 * MS) for i in range(100)]
    out, _ = ordered([*joints[:50], raw("/text", day + 495 * MS, None), *joints[50:]])
    place = [message.topic for message in out].index("/text")
    assert place == 50


def test_a_clock_that_is_set_back_starts_a_new_stretch_instead_of_holding_everything_up() -> None:
    before = [raw("/joints", 100 * S + i * 10 * MS, 100 * S + i * 10 * MS) for i in range(200)]
    after = [raw("/joints", 102 * S + i * 10 * MS, 50 * S + i * 10 * MS) for i in range(200)]
    out, order = ordered(before + after)
    assert [m.time_ns for m in out] == [m[3] for m in before + after]
    assert order.clock_resets == 1
    assert order.reports()[0].clock_resets == 1


def test_stragglers_of_the_clock_before_it_was_set_back_are_dropped_and_counted() -> None:
    first = [raw("/joints", 100 * S + i * 10 * MS, 100 * S + i * 10 * MS) for i in range(100)]
    first += [raw("/camera", 100 * S + 900 * MS, 100 * S + 900 * MS)]
    reset = [raw("/joints", 101 * S, 10 * S)]
    straggler = [raw("/camera", 101 * S + MS, 100 * S + 950 * MS)]
    rest = [
        raw("/joints", 101 * S + 10 * MS, 10 * S + 10 * MS),
        raw("/camera", 101 * S + 20 * MS, 10 * S + 15 * MS),
    ]
    out, order = ordered(first + reset + straggler + rest)
    assert order.dropped == 1
    assert [m.time_ns for m in out][-3:] == [10 * S, 10 * S + 10 * MS, 10 * S + 15 * MS]
    assert order.clock_resets == 1


def test_negative_latency_gaps_bursts_and_disorder_are_reported() -> None:
    stamps = [S + i * 10 * MS for i in range(50)] + [2 * S + i * 10 * MS for i in range(50)]
    stamps[20], stamps[21] = stamps[21], stamps[20]
    messages = [raw("/joints", stamp - 2 * MS, stamp) for stamp in stamps]
    messages[60] = raw("/joints", messages[59][2] + MS // 10, stamps[60])
    _, order = ordered(messages)
    report = order.reports()[0]
    assert report.negative_latency == 100
    assert report.gaps == 1
    assert 0.5 < report.longest_gap_s < 0.52
    assert report.out_of_order == 1
    assert report.bursts >= 1
    assert abs(report.rate - 100.0) < 1.0


def test_receive_time_decides_when_asked_for() -> None:
    out, _ = ordered([raw("/a", S, 9 * S), raw("/b", S + MS, S)], use_stamps=False)
    assert [(m.topic, m.time_ns) for m in out] == [("/a", S), ("/b", S + MS)]


def test_memory_holds_no_more_than_the_window() -> None:
    order = StampOrder()
    waiting = 0
    given_out = 0
    for count, _ in enumerate(
        order.order(raw("/joints", i * 10 * MS, i * 10 * MS) for i in range(5000)), start=1
    ):
        given_out = count
        waiting = max(waiting, len(order._heap))
    assert given_out == 5000
    assert waiting <= 101  # one second at 100 Hz


@given(st.integers(0, 2**32), st.floats(0.0, 0.9))
@settings(max_examples=60)
def test_no_message_is_lost_or_doubled_whatever_the_latencies(seed: int, spread: float) -> None:
    generator = random.Random(seed)
    messages = [
        raw(topic, int(S + i * 20 * MS + generator.random() * spread * S), S + i * 20 * MS)
        for topic in ("/a", "/b")
        for i in range(80)
    ]
    messages.sort(key=lambda m: m[2])
    out, order = ordered(messages)
    assert sorted(id(m.message) for m in out) == sorted(id(m[4]) for m in messages)
    times = [m.time_ns for m in out]
    assert times == sorted(times)
    assert sum(report.late for report in order.reports()) == 0
