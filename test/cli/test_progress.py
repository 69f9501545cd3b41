# SPDX-License-Identifier: Apache-2.0
"""What a command tells of its progress where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from wam.cli.progress import COUNT_PERIOD_S, LINE_PERIOD_S, changing_line, row_progress


def test_a_pipe_gets_the_first_line_at_once_and_then_what_has_changed_now_and_then() -> None:
    """`wam record` into a pipe said nothing until it ended: nobody could tell that it had begun."""
    out, now = io.StringIO(), [0.0]
    with changing_line(Console(file=out), "waiting for messages", clock=lambda: now[0]) as show:
        assert out.getvalue() == "waiting for messages\n"
        show("1 message")
        now[0] = LINE_PERIOD_S
        show("waiting for messages")
        show("800 messages")
        show("801 messages")
        now[0] = 2 * LINE_PERIOD_S
        show("1600 messages [b]")
    assert out.getvalue().splitlines() == ["waiting for messages", "800 messages", "1600 messages [b]"]


def test_a_terminal_gets_a_line_that_changes() -> None:
    out = io.StringIO()
    with changing_line(Console(file=out, force_terminal=True, width=80), "waiting") as show:
        show("800 messages")
    assert "800 messages" in out.getvalue()


def test_counted_work_says_in_a_pipe_now_and_then_how_far_it_is() -> None:
    """`wam sim record` of 70 episodes wrote nothing for five minutes; a newcomer looked whether it was alive."""
    out, now = io.StringIO(), [0.0]
    with row_progress(Console(file=out), "wam sim record", unit="episodes", clock=lambda: now[0]) as progress:
        progress(1, 70)
        now[0] = COUNT_PERIOD_S
        progress(9, 70)
        progress(10, 70)
        now[0] = 2 * COUNT_PERIOD_S
        progress(21, 70)
    assert out.getvalue().splitlines() == [
        "wam sim record: 9 of 70 episodes",
        "wam sim record: 21 of 70 episodes",
    ]
