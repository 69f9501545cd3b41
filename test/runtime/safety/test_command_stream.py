# SPDX-License-Identifier: Apache-2.0
"""The command thread: deadlines that are missed are counted and skipped, errors end it with a word."""

from __future__ import annotations

import threading
import time

from wam.core.turns import Turns
from wam.runtime.safety.mailbox import Mailbox
from wam.runtime.safety.stream import PREPARE_NS, CommandStream, ask_for_realtime

PERIOD_NS = 2_000_000


def test_missed_deadlines_are_counted_and_not_made_up_for_by_a_burst() -> None:
    """A loop that catches up sends ten commands at once, and the arm jumps by ten ticks."""
    starts: list[int] = []
    done = threading.Event()

    def step() -> None:
        starts.append(time.monotonic_ns())
        if len(starts) == 5:
            end = time.monotonic_ns() + 20 * PERIOD_NS
            while time.monotonic_ns() < end:
                pass
        if len(starts) >= 40:
            done.set()

    stream = CommandStream(step, period_ns=PERIOD_NS, on_error=lambda _: None)
    stream.start()
    assert done.wait(30.0)
    assert stream.stop(timeout=10.0)
    health = stream.health()
    assert health.ticks >= 40
    assert health.missed >= 15
    span = starts[39] - starts[0]
    assert span >= (39 + 15) * PERIOD_NS - 4 * PERIOD_NS, "skipped deadlines stay skipped"


def test_an_error_ends_the_thread_and_is_handed_over() -> None:
    errors: list[Exception] = []
    handed = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError("surprise")

    def keep(error: Exception) -> None:
        errors.append(error)
        handed.set()

    stream = CommandStream(fail, period_ns=PERIOD_NS, on_error=keep)
    stream.start()
    assert handed.wait(10.0)
    assert stream.stop(timeout=10.0)
    assert isinstance(errors[0], ZeroDivisionError)


def test_what_a_step_needs_is_fetched_before_its_deadline_and_not_within_the_step() -> None:
    """Joint states were read at the beginning of the step: their 1.5 to 4 ms were the jitter of the commands."""
    period_ns = 200_000_000
    fetched: list[int] = []
    stepped: list[int] = []
    done = threading.Event()

    def fetch() -> None:
        fetched.append(time.monotonic_ns())

    def step() -> None:
        stepped.append(time.monotonic_ns())
        if len(stepped) == 5:
            done.set()

    stream = CommandStream(step, period_ns=period_ns, on_error=lambda _: None, prepare=fetch)
    stream.start()
    assert done.wait(30.0)
    assert stream.stop(timeout=10.0)
    leads = sorted(after - before for before, after in zip(fetched, stepped, strict=False))
    # On a busy machine any of them may be early or late.
    assert leads[len(leads) // 2] >= PREPARE_NS // 2


def test_an_error_while_fetching_ends_the_thread_and_is_handed_over() -> None:
    errors: list[Exception] = []
    handed = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError("surprise")

    def keep(error: Exception) -> None:
        errors.append(error)
        handed.set()

    stream = CommandStream(lambda: None, period_ns=PERIOD_NS, on_error=keep, prepare=fail)
    stream.start()
    assert handed.wait(10.0)
    assert stream.stop(timeout=10.0)
    assert isinstance(errors[0], ZeroDivisionError)


def test_plans_are_free_to_be_made_between_two_steps_and_after_an_error() -> None:
    """A step that raised must not leave others waiting for the end of its turn."""
    turns = Turns()
    seen: list[bool] = []
    handed = threading.Event()

    def step() -> None:
        seen.append(turns.at_work())
        if len(seen) == 3:
            raise ZeroDivisionError("surprise")

    stream = CommandStream(
        step,
        period_ns=PERIOD_NS,
        on_error=lambda _: handed.set(),
        turns=turns,
        prepare=lambda: seen_free(turns),
    )

    def seen_free(one: Turns) -> None:
        assert not one.at_work()

    stream.start()
    assert handed.wait(10.0)
    assert stream.stop(timeout=10.0)
    assert seen == [True, True, True]
    assert not turns.at_work()


def test_a_stream_that_never_started_can_be_stopped() -> None:
    assert CommandStream(lambda: None, period_ns=PERIOD_NS, on_error=lambda _: None).stop(timeout=1.0)


def test_without_the_right_to_real_time_priority_the_answer_is_no() -> None:
    assert ask_for_realtime(1000) is False


def test_a_chunk_that_is_left_waits_and_a_newer_one_replaces_it() -> None:
    box = Mailbox()
    first, second = object(), object()
    box.offer_chunk(first, arrival_ns=1)  # type: ignore[arg-type]
    assert box.take_mail(leave_chunk=True).chunk is None
    box.offer_chunk(second, arrival_ns=2)  # type: ignore[arg-type]
    assert box.take_mail(leave_chunk=False).chunk == (second, 2)
    assert box.take_mail(leave_chunk=False).chunk is None


def test_a_cause_raised_once_is_seen_once_and_a_held_one_until_it_is_withdrawn() -> None:
    box = Mailbox()
    box.estop()
    assert [one.code for one in box.take_mail(leave_chunk=False).causes] == ["estop"]
    assert not box.take_mail(leave_chunk=False).causes
    box.estop(held=True)
    for _ in range(3):
        assert len(box.take_mail(leave_chunk=False).causes) == 1
    box.withdraw_cause("estop")
    assert not box.take_mail(leave_chunk=False).causes
