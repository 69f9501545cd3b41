# SPDX-License-Identifier: Apache-2.0
"""The enabling device: the arm moves only while a fresh true is held."""

from __future__ import annotations

from wam.core.clock import NS_PER_MS, ManualClock
from wam.core.ladder import CAUSES
from wam.core.verdict import Ladder
from wam.runtime.safety.enable import MAX_AGE_NS, MAX_PUBLISHERS, EnablingDevice

A, B = b"a", b"b"


def device() -> tuple[EnablingDevice, ManualClock]:
    clock = ManualClock(NS_PER_MS)
    return EnablingDevice(clock=clock.now_ns), clock


def test_the_arm_holds_until_the_device_is_held_and_200_ms_after_its_last_true() -> None:
    enabling, clock = device()
    lacking = enabling.finding()
    assert lacking is not None
    assert lacking.code == "not_enabled"
    assert CAUSES["not_enabled"].rung is Ladder.HOLD
    enabling.hear(A, True)
    clock.advance(200 * NS_PER_MS)
    assert enabling.finding() is None
    clock.advance(1)
    assert enabling.finding() is not None


def test_letting_go_counts_at_once() -> None:
    enabling, _ = device()
    enabling.hear(A, True)
    enabling.hear(A, False)
    assert enabling.finding() is not None


def test_more_devices_than_can_be_kept_enable_nothing_and_fill_no_memory() -> None:
    """Each word of one of 1,000 publishers went through those of all others, in the thread of the emergency stops."""
    enabling, clock = device()
    for number in range(1000):
        enabling.hear(number.to_bytes(16, "big"), True)
    assert len(enabling._votes) <= MAX_PUBLISHERS + 1
    assert enabling.finding() is not None
    clock.advance(MAX_AGE_NS + 1)
    enabling.hear(A, True)
    assert enabling.finding() is None


def test_a_second_device_cannot_overrule_one_that_is_let_go() -> None:
    enabling, clock = device()
    enabling.hear(A, False)
    enabling.hear(B, True)
    assert enabling.finding() is not None
    clock.advance(MAX_AGE_NS // 2)
    enabling.hear(B, True)
    assert enabling.finding() is not None
    clock.advance(MAX_AGE_NS // 2 + 1)
    assert enabling.finding() is None, "A is no longer there"
