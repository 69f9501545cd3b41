# SPDX-License-Identifier: Apache-2.0
"""Reduced speed: one publisher that asks for it is enough, and one that has gone goes on asking."""

from __future__ import annotations

from wam.runtime.safety.reduced_speed import ANONYMOUS, MAX_PUBLISHERS, ReducedSpeed

A, B, C = b"a", b"b", b"c"


def test_a_publisher_does_not_overrule_another_that_asks() -> None:
    """The last word counted: a second panel that said false lifted what the first one asked for."""
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    words.hear(B, False, live=True)
    assert words.asked
    words.hear(A, False, live=True)
    assert not words.asked


def test_a_publisher_that_has_gone_goes_on_asking_until_one_that_came_later_says_false() -> None:
    """A panel that had said false all along lifted what a switch had asked for before it died."""
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    words.hear(B, False, live=True)
    words.look([A, B])
    words.look([B])
    words.hear(B, False, live=True)
    assert words.asked
    words.hear(C, True, live=True)
    words.hear(C, False, live=False)
    assert words.asked, "what is latched is older than what was said"
    words.hear(C, False, live=True)
    assert not words.asked


def test_a_publisher_that_the_graph_does_not_show_yet_has_not_gone() -> None:
    """Its message came before the graph knew it, or the two have different ids: the false of another lifted it."""
    words = ReducedSpeed(asked=False)
    words.hear(A, True, live=True)
    words.look([B])
    words.hear(B, False, live=True)
    assert words.asked
    words.look([A + b" and more", B])
    words.hear(A, False, live=True)
    assert not words.asked


def test_publishers_without_an_id_do_not_overrule_one_another() -> None:
    words = ReducedSpeed(asked=False)
    words.look([A, B])
    words.hear(ANONYMOUS, True, live=True)
    words.hear(ANONYMOUS, False, live=True)
    assert words.asked, "which of the two said it is unknown"
    words.look([A])
    words.hear(ANONYMOUS, False, live=True)
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
        words.hear(bytes([number, 1]), False, live=True)
    assert len(words._words) == MAX_PUBLISHERS
    assert words.asked
    words.hear(A, False, live=True)
    assert not words.asked
