# SPDX-License-Identifier: Apache-2.0
"""The degrade ladder over time, drawn the same way in every report: NOMINAL on top, STOP at the bottom."""

from __future__ import annotations

from collections.abc import Sequence

from wam.core.verdict import Ladder
from wam.report import plots

RUNG_COLORS = {
    Ladder.NOMINAL: "#16a34a",
    Ladder.LATE: "#eab308",
    Ladder.SLOW: "#f97316",
    Ladder.HOLD: "#dc2626",
    Ladder.STOP: "#7f1d1d",
}

MAX_SPANS = 2000
"""Most stretches in the drawing; more could not be distinguished."""


def ladder_drawing(spans: Sequence[tuple[float, float, Ladder]], *, end: float) -> str:
    """Return the rungs in force as SVG.

    Args:
        spans: start [s], end [s] and rung of every stretch.
        end: of the drawing, which begins at 0 [s].
    """
    names = [rung.name for rung in sorted(Ladder, reverse=True)]
    drawn = [
        plots.Span(start, stop, len(Ladder) - rung.value, RUNG_COLORS[rung])
        for start, stop, rung in spans[:MAX_SPANS]
    ]
    return plots.timeline(drawn, names, x_label="time [s]", x_range=(0.0, max(end, 1e-3)))
