# SPDX-License-Identifier: Apache-2.0
"""What `wam bench command` says beside its figures."""

from __future__ import annotations

from wam.bench.command import notes_of

GOOD = {
    "command_realtime": 1.0,
    "command_chunks_accepted": 590.0,
    "command_chunks_received": 600.0,
    "flood_chunks_accepted": 472.0,
    "flood_chunks_received": 559.0,
}


def test_a_run_in_which_the_arm_was_held_says_so() -> None:
    """A starved driver was taken for one that does not follow: 7 of 200 chunks were played, and the time to a swap was
    reported like any other."""
    assert notes_of(GOOD) == ()
    (note,) = notes_of({**GOOD, "command_chunks_accepted": 7.0, "command_chunks_received": 200.0})
    assert "7 of 200" in note
    (note,) = notes_of({**GOOD, "command_realtime": 0.0})
    assert "SCHED_FIFO" in note
