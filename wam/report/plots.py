# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG: small, deterministic, and drawn with the page's own font."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

Values = npt.NDArray[np.float64]

RECORDED = "#64748b"
PREDICTED = "#1d4ed8"
ROWS = "#f59e0b"
BOUNDARY = "#e2e8f0"
WARN = "#b45309"
MAX_BOUNDARIES = 60
"""Most verticals that can still be distinguished."""

MAX_POINTS = 600
"""Most points of one line; a longer one is thinned so that no extreme is lost."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "wam",
    "font.family": "sans-serif",
    "font.size": 8.0,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#475569",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": "#f1f5f9",
}


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
    figure, axes = _canvas(height)
    if len(boundaries) <= MAX_BOUNDARIES:
        # One collection: a line of its own for each would take as long as all the rest.
        ends = [((boundary, 0.0), (boundary, 1.0)) for boundary in boundaries]
        marks = LineCollection(
            ends, colors=BOUNDARY, linewidths=0.6, zorder=0, transform=axes.get_xaxis_transform()
        )
        axes.add_collection(marks, autolim=False)
    for line in lines:
        x, y = thin(line.x, line.y)
        axes.plot(
            x, y, color=line.color, linewidth=line.width, drawstyle="steps-post" if line.steps else "default"
        )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return _svg(figure)


def histogram(values: npt.ArrayLike, *, x_label: str, marks: Sequence[tuple[str, float]] = ()) -> str:
    """Return a histogram of `values` with named verticals at `marks`, as SVG."""
    sample = np.asarray(values, dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    figure, axes = _canvas(1.9)
    if sample.size:
        low, high = float(sample.min()), float(sample.max())
        if high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - 0.5, high + 0.5
        axes.hist(sample, bins=min(40, max(8, int(np.sqrt(sample.size)))), range=(low, high), color="#93b4f5")
        top = axes.get_ylim()[1]
        for i, (label, x) in enumerate(marks):
            axes.axvline(x, color=WARN, linewidth=0.9)
            side = "right" if x > (low + high) / 2 else "left"
            axes.text(x, top * (1 - 0.1 * i), f" {label} ", color=WARN, ha=side, va="top", fontsize=7.0)
    axes.set_xlabel(x_label)
    axes.set_ylabel("count")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    return _svg(figure)


def bar_chart(labels: Sequence[str], values: npt.ArrayLike, *, x_label: str) -> str:
    """Return horizontal bars, the first on top, as SVG."""
    figure, axes = _canvas(0.55 + 0.16 * len(labels), left=0.15 + 0.068 * max(map(len, labels), default=0))
    y = np.arange(len(labels))
    axes.barh(y, np.asarray(values, dtype=np.float64), color="#93b4f5", height=0.7)
    axes.set_yticks(y, labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(x_label)
    return _svg(figure)


def timeline(
    spans: Sequence[Span], levels: Sequence[str], *, x_label: str, x_range: tuple[float, float]
) -> str:
    """Return a timeline with one row per name in `levels`, the first lowest, as SVG."""
    figure, axes = _canvas(0.5 + 0.25 * len(levels), width=7.2, left=0.8)
    for span in spans:
        axes.broken_barh(
            [(span.start, max(span.end - span.start, 0.0))], (span.level - 0.35, 0.7), facecolors=span.color
        )
    axes.set_yticks(range(len(levels)), levels)
    axes.set_ylim(-0.6, len(levels) - 0.4)
    axes.set_xlim(*x_range)
    axes.set_xlabel(x_label)
    return _svg(figure)


def thin(x: Values, y: Values, limit: int = MAX_POINTS) -> tuple[Values, Values]:
    """Return at most about `limit` points of a line, keeping the lowest and highest of every stretch.

    A stretch that holds NaN keeps one of them, so that breaks stay visible.
    """
    if len(x) <= limit:
        return x, y
    keep: list[int] = []
    for part in np.array_split(np.arange(len(x)), limit // 2):
        values = y[part]
        bad = np.isnan(values)
        picks = {int(part[0])}
        if bad.any():
            picks.add(int(part[int(np.argmax(bad))]))
        if not bad.all():
            picks |= {int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])}
        keep += sorted(picks)
    index = np.array(keep, dtype=np.intp)
    return x[index], y[index]


def _canvas(height: float, width: float = 3.4, left: float = 0.66) -> tuple[Figure, Axes]:
    """Return a figure with margins in inches; a layout engine would draw everything twice to find them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        figure.subplots_adjust(
            left=left / width, right=1 - 0.1 / width, bottom=0.42 / height, top=1 - 0.08 / height
        )
        figure.patch.set_alpha(0.0)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        axes.grid(visible=True)
        axes.set_axisbelow(True)
        # A fixed place for the axis label: wide tick labels would push it out of the drawing.
        axes.yaxis.set_label_coords(-(left - 0.1) / (width - left - 0.1), 0.5)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The size comes from the page: a fixed width would not shrink on a phone.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r"\n\s*", "\n", text)
