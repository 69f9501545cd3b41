# SPDX-License-Identifier: Apache-2.0
"""Sentences for people agree in number."""

from __future__ import annotations

from wam.core.words import counted
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.stamps import StampReport


def test_one_thing_is_told_in_the_singular() -> None:
    assert [counted(number, "gap") for number in (0, 1, 2)] == ["0 gaps", "1 gap", "2 gaps"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_a_topic_with_one_gap_has_no_gaps() -> None:
    """The page and the terminal said "1 gaps, the longest 0.50 s"."""
    report = StampReport(
        "/joints", 90, 30.0, 0, 1.0, 1.0, 0.0, 0, gaps=1, longest_gap_s=0.5, out_of_order=0, clock_resets=1,
        late=0, bursts=0,
    )  # fmt: skip
    assert stamp_warnings([report], unstamped=set()) == (
        "/joints (90 messages): 1 clock reset; 1 gap of 0.50 s",
    )
