# SPDX-License-Identifier: Apache-2.0
"""A thread that computes for long lets one with deadlines go first, and is never kept for good."""

from __future__ import annotations

import threading
import time

from wam.core.turns import LONGEST_S, Turns, pause

FAR_NS = 3_600_000_000_000
"""Longer than any test takes [ns]."""


class Waits:
    """Stands in for the event of a turn's end: notes every wait, and lets none take time."""

    def __init__(self, turns: Turns, *, ends: bool) -> None:
        self.count = 0
        self._ends = ends
        turns._over.wait = self.wait  # type: ignore[assignment]

    def wait(self, timeout: float) -> bool:
        assert timeout == LONGEST_S
        self.count += 1
        return self._ends


def pauses_of_a_thread_that_minds(turns: Turns, count: int) -> None:
    def compute() -> None:
        turns.mind()
        for _ in range(count):
            pause()

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    thread.join(30.0)
    assert not thread.is_alive()


def test_a_thread_goes_on_while_the_other_one_is_not_due() -> None:
    turns = Turns()
    waits = Waits(turns, ends=True)
    turns.expect(time.monotonic_ns() + FAR_NS)
    pauses_of_a_thread_that_minds(turns, 3)
    assert waits.count == 0


def test_a_thread_waits_at_every_pause_while_the_other_one_is_at_work_and_no_more_when_it_is_done() -> None:
    turns = Turns()
    waits = Waits(turns, ends=True)
    turns.expect(time.monotonic_ns())
    pauses_of_a_thread_that_minds(turns, 2)
    assert waits.count == 2
    turns.over()
    pauses_of_a_thread_that_minds(turns, 2)
    assert waits.count == 2


def test_the_end_of_a_turn_lets_a_waiting_thread_go_on() -> None:
    turns = Turns()
    waits, went_on = threading.Event(), threading.Event()
    wait = turns._over.wait

    def watched(timeout: float) -> bool:
        waits.set()
        return wait(60.0 + timeout)

    def compute() -> None:
        turns.mind()
        pause()
        went_on.set()

    turns._over.wait = watched  # type: ignore[assignment]
    turns.expect(time.monotonic_ns())
    threading.Thread(target=compute, daemon=True).start()
    assert waits.wait(30.0)
    turns.over()
    assert went_on.wait(30.0)


def test_a_turn_that_does_not_end_is_waited_for_once_and_the_next_one_again() -> None:
    """A step that waits for the plan in hand was waited for by that plan, at each of its hundreds of pauses."""
    turns = Turns()
    waits = Waits(turns, ends=False)
    turns.expect(time.monotonic_ns())
    pauses_of_a_thread_that_minds(turns, 100)
    assert waits.count == 1
    turns.over()
    turns.expect(time.monotonic_ns())
    pauses_of_a_thread_that_minds(turns, 100)
    assert waits.count == 2


def test_a_thread_that_minds_nobody_is_not_held_up() -> None:
    turns = Turns()
    waits = Waits(turns, ends=False)
    turns.expect(time.monotonic_ns())
    pause()
    assert waits.count == 0
