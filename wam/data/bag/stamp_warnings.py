# SPDX-License-Identifier: Apache-2.0
"""What a person should know of the stamps of a recording."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wam.core.words import counted
from wam.data.bag.stamps import StampReport

CLOCKS_DIFFER_S = 0.3
"""Offset between the stamps of two topics that is told [s]."""

DRIFT_MS = 50.0
"""Change of a topic's latency in the recording that is told [ms]."""


def stamp_warnings(reports: Sequence[StampReport], *, unstamped: Collection[str] = ()) -> tuple[str, ...]:
    """Return a line for every oddity in the stamps that a person should know.

    Args:
        reports: of the topics of one recording.
        unstamped: topics whose type has no header.
    """
    lines = []
    usual = min((r.latency_p50_ms for r in reports if r.latency_p50_ms >= 0), default=0.0)
    for report in reports:
        behind_s = (report.latency_p50_ms - usual) / 1e3
        if abs(behind_s) > CLOCKS_DIFFER_S:
            late = "it came late, or its" if behind_s > 0 else "its"
            lines.append(
                f"{report.topic}: received {abs(behind_s):.2f} s {'later' if behind_s > 0 else 'earlier'} after its "
                f"stamps than the other topics: {late} clock differs (--clock-offset {report.topic}={behind_s:.3f}, "
                "or --time receive)"
            )
        if abs(report.drift_ms) > DRIFT_MS:
            lines.append(
                f"{report.topic}: its clock drifts against the recorder's, by {report.drift_ms:.0f} ms in all "
                f"(--clock-offset {report.topic}=auto, or --time receive)"
            )
        oddities = (
            (
                report.without_stamp * (report.topic not in unstamped),
                "without a stamp (receive time was taken)",
            ),
            (report.negative_latency, "received before they were stamped"),
            (report.clock_resets, "clock reset" if report.clock_resets == 1 else "clock resets"),
            (
                report.gaps,
                f"gap of {report.longest_gap_s:.2f} s"
                if report.gaps == 1
                else f"gaps, the longest {report.longest_gap_s:.2f} s",
            ),
            (report.late, "too late to be put in order"),
        )
        found = [f"{count} {text}" for count, text in oddities if count]
        if found:
            lines.append(f"{report.topic} ({counted(report.messages, 'message')}): {'; '.join(found)}")
    return tuple(lines)
