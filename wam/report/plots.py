# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG: small, deterministic, and drawn with the page's own font."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wam.report.axes import Axes, Values, spread

RECORDED = "#64748b"
PREDICTED = "#1d4ed8"
ROWS = "#f59e0b"
BOUNDARY = "#e2e8f0"
WARN = "#b45309"
BARS = "#93b4f5"
MAX_BOUNDARIES = 60
"""Most verticals that can still be distinguished."""

MAX_POINTS = 600
"""Most points of one line; a longer one is thinned so that no extreme is lost."""

WIDTH, LEFT = 3.4, 0.66
"""Width of a drawing and of the margin for its numbers [inch]."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart.

    Attributes:
        label: text of the legend.
        x: float64 [T].
        y: float64 [T]; NaN breaks the line.
        color: CSS colour.
        width: line width [pt].
        steps: whether a value holds until the next.
    """

    label: str
    x: Values
    y: Values
    color: str
    width: float = 1.1
    steps: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the x axis that a timeline colours.

    Attributes:
        start: left edge.
        end: right edge.
        level: row of the timeline, from 0.
        color: CSS colour.
    """

    start: float
    end: float
    level: int
    color: str


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    boundaries: Sequence[float] = (),
    height: float = 1.7,
) -> str:
    """Return a chart of `lines` with faint verticals at `boundaries`, as SVG.

    Args:
        lines: what to draw, the first lowest.
        x_label: text under the axis, with unit.
        y_label: text beside the axis, with unit.
        boundaries: x values of the verticals; left out where there are too many to distinguish.
        height: of the drawing [inch]; the width is 3.4.
    """
    thinned = [(line, *thin(line.x, line.y)) for line in lines]
    known = [np.isfinite(x) & np.isfinite(y) for _, x, y in thinned]
    axes = Axes(
        width=WIDTH,
        height=height,
        left=LEFT,
        x_range=spread(_joined([x[good] for (_, x, _), good in zip(thinned, known, strict=True)])),
        y_range=spread(_joined([y[good] for (_, _, y), good in zip(thinned, known, strict=True)])),
        x_label=x_label,
        y_label=y_label,
    )
    if len(boundaries) <= MAX_BOUNDARIES:
        axes.verticals(boundaries, color=BOUNDARY, width=0.6)
    for (line, x, y), good in zip(thinned, known, strict=True):
        axes.path(
            _polyline(axes.x(x), axes.y(y), good, steps=line.steps), stroke=line.color, width=line.width
        )
    return axes.svg()


def histogram(values: npt.ArrayLike, *, x_label: str, marks: Sequence[tuple[str, float]] = ()) -> str:
    """Return a histogram of `values` with named verticals at `marks`, as SVG."""
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    counts, edges = np.zeros(1, dtype=np.int64), np.array([0.0, 1.0])
    if sample.size:
        low, high = float(sample.min()), float(sample.max())
        if high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - 0.5, high + 0.5
        counts, edges = np.histogram(
            sample, bins=min(40, max(8, int(np.sqrt(sample.size)))), range=(low, high)
        )
    axes = Axes(
        width=WIDTH,
        height=1.9,
        left=LEFT,
        x_range=spread(edges),
        y_range=(0.0, 1.05 * max(1, int(counts.max(initial=0)))),
        x_label=x_label,
        y_label="count",
        whole=True,
    )
    axes.path(
        _bars(axes.x(edges[:-1]), axes.x(edges[1:]), axes.y(counts.astype(float)), axes.bottom), fill=BARS
    )
    for i, (label, x) in enumerate(marks if sample.size else ()):
        axes.verticals([x], color=WARN, width=0.9)
        at = float(axes.x(np.array(x)))
        right = x > (edges[0] + edges[-1]) / 2
        # The marks stand one below the other: those of a narrow distribution lie side by side.
        height = axes.top + 7.0 + 0.1 * i * (axes.bottom - axes.top)
        axes.text(
            at + (-2.5 if right else 2.5),
            height,
            label,
            anchor="end" if right else "start",
            color=WARN,
            size=7.0,
        )
    return axes.svg()


def bar_chart(labels: Sequence[str], values: npt.ArrayLike, *, x_label: str) -> str:
    """Return horizontal bars, the first on top, as SVG."""
    sizes = np.nan_to_num(np.asarray(values, dtype=np.float64))
    low, high = min(0.0, float(sizes.min(initial=0.0))), max(0.0, float(sizes.max(initial=0.0)))
    axes = Axes(
        width=WIDTH,
        height=0.55 + 0.16 * len(labels),
        left=0.15 + 0.068 * max(map(len, labels), default=0),
        x_range=(1.05 * low, 1.05 * high) if high > low else (0.0, 1.0),
        y_range=(len(labels) - 0.4, -0.6),
        x_label=x_label,
        y_names=[(float(i), label) for i, label in enumerate(labels)],
    )
    zero = axes.x(np.zeros(len(sizes)))
    y = np.arange(len(sizes), dtype=np.float64)
    axes.path(_bars(zero, axes.x(sizes), axes.y(y - 0.35), axes.y(y + 0.35)), fill=BARS)
    return axes.svg()


def timeline(
    spans: Sequence[Span], levels: Sequence[str], *, x_label: str, x_range: tuple[float, float]
) -> str:
    """Return a timeline with one row per name in `levels`, the first lowest, as SVG."""
    axes = Axes(
        width=7.2,
        height=0.5 + 0.25 * len(levels),
        left=0.8,
        x_range=x_range,
        y_range=(-0.6, len(levels) - 0.4),
        x_label=x_label,
        y_names=[(float(i), level) for i, level in enumerate(levels)],
    )
    for color in dict.fromkeys(span.color for span in spans):
        ours = [span for span in spans if span.color == color]
        level = np.array([span.level for span in ours], dtype=np.float64)
        start, end = (
            np.clip(np.array([getattr(span, side) for span in ours], dtype=np.float64), *x_range)
            for side in ("start", "end")
        )
        axes.path(
            _bars(axes.x(start), axes.x(np.maximum(end, start)), axes.y(level + 0.35), axes.y(level - 0.35)),
            fill=color,
        )
    return axes.svg()


def thin(x: Values, y: Values, limit: int = MAX_POINTS) -> tuple[Values, Values]:
    """Return at most about `limit` points of a line, keeping the lowest and highest of every stretch.

    A stretch that holds NaN keeps one of them, so that breaks stay visible.
    """
    if len(x) <= limit:
        return x, y
    stretches = limit // 2
    short, longer = divmod(len(x), stretches)
    lengths = np.full(stretches, short)
    lengths[:longer] += 1
    starts = np.cumsum(lengths) - lengths
    places = np.arange(short + (longer > 0))
    inside = places < lengths[:, None]
    values = np.where(inside, y[np.minimum(starts[:, None] + places, len(x) - 1)], np.nan)
    missing = np.isnan(values)
    some = ~missing.all(axis=1)
    picks = (
        np.argmax(missing & inside, axis=1),
        np.where(some, np.argmin(np.where(missing, np.inf, values), axis=1), 0),
        np.where(some, np.argmax(np.where(missing, -np.inf, values), axis=1), 0),
    )
    index = np.unique(np.concatenate([starts, *(starts + pick for pick in picks)]))
    return x[index], y[index]


def _joined(parts: Sequence[Values]) -> Values:
    return np.concatenate(parts) if parts else np.empty(0)


def _polyline(x: Values, y: Values, known: npt.NDArray[np.bool_], *, steps: bool) -> str:
    """Return a path through the points that are known; it breaks at the others."""
    words = []
    begins = True
    for across, down, good in zip(x.tolist(), y.tolist(), known.tolist(), strict=True):
        if not good:
            begins = True
        elif begins:
            words.append(f"M{across:.2f} {down:.2f}")
            begins = False
        else:
            words.append(f"H{across:.2f}V{down:.2f}" if steps else f"L{across:.2f} {down:.2f}")
    return "".join(words)


def _bars(left: Values, right: Values, top: Values, bottom: Values | float) -> str:
    """Return the outlines of rectangles, without those of no height."""
    lower = np.broadcast_to(np.asarray(bottom, dtype=np.float64), top.shape)
    return "".join(
        f"M{x0:.2f} {y1:.2f}V{y0:.2f}H{x1:.2f}V{y1:.2f}z"
        for x0, x1, y0, y1 in zip(left.tolist(), right.tolist(), top.tolist(), lower.tolist(), strict=True)
        if y0 != y1
    )
