# SPDX-License-Identifier: Apache-2.0
"""Reduced speed: one publisher that asks for it is enough, and one that has gone goes on asking."""

from __future__ import annotations

from wam.runtime.safety.reduced_speed import MAX_PUBLISHERS, ReducedSpeed

A, B = b"a", b"b"


def test_a_publisher_does_not_overrule_another_that_asks() -> None:
    """The last word counted: a second panel that said false lifted what the first one asked for."""
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    words.hear(B, False, live=True)
    assert words.asked
    words.hear(A, False, live=True)
    assert not words.asked


def test_a_publisher_that_has_gone_goes_on_asking_until_somebody_says_false() -> None:
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    words.look([B])
    assert words.asked
    words.hear(B, True, live=True)
    words.hear(B, False, live=False)
    assert words.asked, "what is latched is older than what was said"
    words.hear(B, False, live=True)
    assert not words.asked


def test_what_is_latched_lifts_nothing_that_was_asked_at_the_start() -> None:
    words = ReducedSpeed(asked=True)
    words.hear(A, False, live=False)
    assert words.asked
    words.hear(A, False, live=True)
    assert not words.asked


def test_whoever_makes_more_publishers_than_are_kept_fills_no_memory_and_lifts_nothing() -> None:
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    for number in range(3 * MAX_PUBLISHERS):
        words.hear(bytes([number, 1]), True, live=True)
    assert len(words._words) == MAX_PUBLISHERS
    assert words.asked
