# SPDX-License-Identifier: Apache-2.0
"""Share of a run in which the safety node held the robot, by cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder, Verdict
from wam.evaluation.records import SafetyRecord

AT_START = "no_chunk_yet"
"""Cause in force before the first event: the ladder begins in HOLD."""


def held_times(events: Iterable[SafetyRecord], *, begin_ns: int, end_ns: int) -> Mapping[str, float]:
    """Return how long the robot was on the rungs HOLD and STOP, cause -> time [s], the longest first.

    A time belongs to the cause that was reported last; causes that alternate on one rung are not all reported.

    Args:
        events: of the safety node from `begin_ns` on, when it held, in order of time.
        begin_ns: start of the run [ns].
        end_ns: its end [ns].
    """
    times: dict[str, int] = {}
    since_ns, cause = begin_ns, AT_START
    for event in events:
        at_ns = min(max(event.stamp_ns, since_ns), end_ns)
        if cause:
            times[cause] = times.get(cause, 0) + at_ns - since_ns
        since_ns = at_ns
        if event.ladder_to < Ladder.HOLD:
            cause = ""
        elif event.ladder_to is not event.ladder_from or event.verdict >= Verdict.HOLD:
            cause = event.code
    if cause:
        times[cause] = times.get(cause, 0) + end_ns - since_ns
    longest_first = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return {code: time_ns / NS_PER_S for code, time_ns in longest_first if time_ns > 0}
