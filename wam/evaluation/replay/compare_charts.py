# SPDX-License-Identifier: Apache-2.0
"""How the errors of two runs went over the recording, and where they part, as charts."""

from __future__ import annotations

import numpy as np

from wam.evaluation.replay.compare import Comparison, Values
from wam.report import plots
from wam.report.page import Chart, Charts, Section, Table, number

FIRST, SECOND = "#1d4ed8", "#c2410c"
SMOOTHED_S = 1.0
"""The drawn errors are means over about this time [s]; single chunks are drawn faint."""

FAINT = {FIRST: "#c7d7fb", SECOND: "#f6cfb5"}


def time_section(comparison: Comparison) -> Section | None:
    """Return the charts, or None where no error of one of the runs is known."""
    errors = comparison.errors
    if not len(errors.seconds) or np.isnan(errors.first).all() or np.isnan(errors.second).all():
        return None
    window = smoothing(errors.seconds)
    lines = [
        *(
            plots.Line("", errors.seconds, values, FAINT[color], width=0.6)
            for values, color in ((errors.first, FIRST), (errors.second, SECOND))
        ),
        *(
            plots.Line(name, errors.seconds, rolling_mean(values, window), color, width=1.4)
            for name, values, color in (("A", errors.first, FIRST), ("B", errors.second, SECOND))
        ),
    ]
    difference = rolling_mean(errors.second - errors.first, window)
    zero = np.zeros(len(errors.seconds))
    span = (float(errors.seconds[0]), float(errors.seconds[-1]))
    bars = [
        plots.Span(one.start_s, max(one.end_s, one.start_s + 0.004 * (span[1] - span[0])), level, color)
        for one in errors.stretches
        for level, color in ((0, SECOND),) * (one.second > one.first)
        + ((1, FIRST),) * (one.first > one.second)
    ]
    axis = "share of range"
    blocks: list[Charts | Table] = [
        Charts(
            (
                Chart(
                    "error of each chunk",
                    plots.line_chart(lines, x_label="time [s]", y_label=axis, height=2.1),
                ),
                Chart(
                    "B minus A",
                    plots.line_chart(
                        [
                            plots.Line("", errors.seconds, zero, plots.BOUNDARY, width=0.8),
                            plots.Line("B - A", errors.seconds, difference, plots.WARN, width=1.4),
                        ],
                        x_label="time [s]",
                        y_label=axis,
                        height=2.1,
                    ),
                    "below zero: B is better",
                ),
            ),
            legend=(("A", FIRST), ("B", SECOND)),
        )
    ]
    if bars:
        blocks.append(
            Charts(
                (
                    Chart(
                        "where they part",
                        plots.timeline(bars, ("B worse", "A worse"), x_label="time [s]", x_range=span),
                    ),
                ),
                wide=True,
            )
        )
        blocks.append(
            Table(
                ("from [s]", "to [s]", "most at [s]", "A there", "B there"),
                tuple(
                    (
                        f"{s.start_s:.1f}",
                        f"{s.end_s:.1f}",
                        f"{s.peak_s:.1f}",
                        number(s.first),
                        number(s.second),
                    )
                    for s in errors.stretches
                ),
            )
        )
    return Section(
        "Error over time",
        tuple(blocks),
        intro="Mean absolute error of a chunk, every joint divided by its range, at the time of its image; means over "
        f"about {SMOOTHED_S:g} s, single chunks faint. Runs part where they differ by more than a quarter of their "
        "mean error.",
    )


def smoothing(seconds: Values) -> int:
    """Return how many chunks make up the time over which drawn errors are averaged; at least one.

    Args:
        seconds: float64 [P], times of the chunks [s].
    """
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return max(1, round(SMOOTHED_S / step)) if step > 0 else 1


def rolling_mean(values: Values, window: int) -> Values:
    """Return the means over `window` neighbours (fewer at the ends), float64 [P]; NaN do not count.

    Args:
        values: float64 [P].
        window: number of neighbours, at least 1.
    """
    kernel = np.ones(min(window, max(1, len(values))))
    known = np.isfinite(values)
    counts = np.convolve(known.astype(np.float64), kernel, mode="same")
    sums = np.convolve(np.where(known, values, 0.0), kernel, mode="same")
    means: Values = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0.5)
    return means
