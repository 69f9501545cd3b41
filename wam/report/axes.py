# SPDX-License-Identifier: Apache-2.0
"""Axes of a drawing as SVG: scales, ticks, grid and labels. A drawing takes a millisecond."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Range = tuple[float, float]

INCH = 72.0
"""Units of the drawing in an inch."""

RIGHT, BOTTOM, TOP = 0.1, 0.42, 0.08
"""Margins [inch]."""

TEXT = "#475569"
EDGE = "#94a3b8"
GRID = "#f1f5f9"
FONT = 8.0
CHARACTER = 4.6
"""Width of a digit in the axes' font, about."""

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
WHOLE_STEPS = (1.0, 2.0, 5.0, 10.0)
MOST_X_TICKS = 7
TICK_HEIGHT = 15.0
"""Least distance of the ticks beside a drawing."""

TICK = 3.5
FLAT = 1e-7
"""A span that is smaller than this share of its values is drawn as a constant."""


class Axes:
    """A drawing with axes, filled from back to front.

    Args:
        width: of the drawing [inch].
        height: of the drawing [inch].
        left: margin for the labels beside it [inch].
        x_range: what lies at both ends of the x axis, ascending.
        y_range: what lies at both ends of the y axis; descending puts the least on top.
        x_label: text under the axis.
        y_label: text beside the axis.
        y_names: value -> text of every tick beside the drawing; None chooses numbers and draws lines at them.
        whole: ticks beside the drawing at whole numbers only.
    """

    def __init__(
        self,
        *,
        width: float,
        height: float,
        left: float,
        x_range: Range,
        y_range: Range,
        x_label: str,
        y_label: str = "",
        y_names: Sequence[tuple[float, str]] | None = None,
        whole: bool = False,
    ) -> None:
        self.width, self.height = width * INCH, height * INCH
        self.left, self.right = left * INCH, (width - RIGHT) * INCH
        self.top, self.bottom = TOP * INCH, (height - BOTTOM) * INCH
        self._x_range, self._y_range = x_range, y_range
        self._label = f"{y_label or 'values'} by {x_label}"
        self._parts: list[str] = []
        self._draw_axes(x_label, y_label, y_names, whole)

    def x(self, values: Values) -> Values:
        """Return where `values` lie from left to right, of any shape."""
        low, high = self._x_range
        return self.left + (values - low) * ((self.right - self.left) / (high - low))

    def y(self, values: Values) -> Values:
        """Return where `values` lie from top to bottom, of any shape."""
        low, high = self._y_range
        return self.bottom - (values - low) * ((self.bottom - self.top) / (high - low))

    def path(self, d: str, *, stroke: str = "none", width: float = 0.0, fill: str = "none") -> None:
        """Add a path; nothing for an empty one."""
        if d:
            self._parts.append(f'<path d="{d}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}"/>')

    def text(self, x: float, y: float, text: str, *, anchor: str, color: str, size: float = FONT) -> None:
        """Add one line of text."""
        self._parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-size="{size:g}" fill="{color}">'
            f"{escape(text)}</text>"
        )

    def verticals(self, values: Sequence[float], *, color: str, width: float) -> None:
        """Add lines from bottom to top at those of `values` that lie inside."""
        low, high = self._x_range
        inside = [value for value in values if low <= value <= high]
        places = self.x(np.array(inside, dtype=np.float64)).tolist()
        self.path(
            "".join(f"M{x:.2f} {self.bottom:.2f}V{self.top:.2f}" for x in places), stroke=color, width=width
        )

    def svg(self) -> str:
        """Return the drawing. The page gives it its size: a fixed one would not shrink on a phone."""
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self._label)}" '
            'stroke-linejoin="round">\n' + "\n".join(self._parts) + "\n</svg>\n"
        )

    def _draw_axes(
        self, x_label: str, y_label: str, y_names: Sequence[tuple[float, str]] | None, whole: bool
    ) -> None:
        x_ticks = _fitting(self._x_range, self.right - self.left)
        most = max(2, int((self.bottom - self.top) / TICK_HEIGHT))
        y_ticks = ticks(*self._y_range, most, whole=whole) if y_names is None else list(y_names)
        across = [(x, text) for (_, text), x in zip(x_ticks, self._places(x_ticks, self.x), strict=True)]
        up = [(y, text) for (_, text), y in zip(y_ticks, self._places(y_ticks, self.y), strict=True)]
        grid = "".join(f"M{x:.2f} {self.bottom:.2f}V{self.top:.2f}" for x, _ in across)
        if y_names is None:
            grid += "".join(f"M{self.left:.2f} {y:.2f}H{self.right:.2f}" for y, _ in up)
        self.path(grid, stroke=GRID, width=0.8)
        marks = "".join(f"M{x:.2f} {self.bottom:.2f}v{TICK}" for x, _ in across)
        marks += "".join(f"M{self.left:.2f} {y:.2f}h-{TICK}" for y, _ in up)
        self.path(marks, stroke=TEXT, width=0.6)
        self.path(
            f"M{self.left:.2f} {self.top:.2f}V{self.bottom:.2f}H{self.right:.2f}", stroke=EDGE, width=0.6
        )
        for x, text in across:
            self.text(x, self.bottom + 13.0, text, anchor="middle", color=TEXT)
        for y, text in up:
            self.text(self.left - 6.5, y + 2.9, text, anchor="end", color=TEXT)
        self.text((self.left + self.right) / 2, self.height - 5.2, x_label, anchor="middle", color=TEXT)
        if y_label:
            middle = (self.top + self.bottom) / 2
            self._parts.append(
                f'<text transform="translate(6.8 {middle:.2f}) rotate(-90)" text-anchor="middle" '
                f'font-size="{FONT:g}" fill="{TEXT}">{escape(y_label)}</text>'
            )

    @staticmethod
    def _places(marked: Sequence[tuple[float, str]], place: Callable[[Values], Values]) -> list[float]:
        return [float(value) for value in place(np.array([value for value, _ in marked], dtype=np.float64))]


def spread(values: Values, margin: float = 0.05) -> Range:
    """Return a range that shows all finite `values` with a share of it free at both ends; 0..1 for none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    largest = max(abs(low), abs(high))
    if high - low <= FLAT * largest:
        half = 0.05 * largest or 0.05
        return low - half, high + half
    free = margin * (high - low)
    return low - free, high + free


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[tuple[float, str]]:
    """Return values between `low` and `high` that are easily read, with their texts.

    Args:
        low: least value.
        high: largest value, greater than `low`.
        most: intervals at most.
        whole: whole numbers only.
    """
    raw = (high - low) / most
    magnitude = 10.0 ** math.floor(math.log10(raw))
    steps = WHOLE_STEPS if whole and magnitude < 10.0 else STEPS
    step = next(one * magnitude for one in steps if one * magnitude >= raw * (1.0 - 1e-9))
    if whole:
        step = max(step, 1.0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [i * step for i in range(first, last + 1)]
    largest = max((abs(value) for value in values), default=0.0)
    place = math.floor(math.log10(step) + 1e-9)
    # A step of 2.5 needs one more digit than its size tells.
    finer = round(step / 10.0**place, 6) != round(step / 10.0**place)
    if largest >= 1e6 or place < -4:
        digits = max(1, (math.floor(math.log10(largest)) if largest else place) - place + 1 + finer)
        texts = [f"{value:.{digits}g}" if value else "0" for value in values]
    else:
        texts = [f"{value:.{max(0, finer - place)}f}" for value in values]
    return [(value, text.replace("-", "−")) for value, text in zip(values, texts, strict=True)]


def _fitting(span: Range, length: float) -> list[tuple[float, str]]:
    """Return ticks whose texts do not touch over `length`."""
    found: list[tuple[float, str]] = []
    for most in range(MOST_X_TICKS, 0, -1):
        found = ticks(*span, most)
        widest = max((len(text) for _, text in found), default=0)
        if len(found) < 2 or (found[1][0] - found[0][0]) / (span[1] - span[0]) * length >= CHARACTER * (
            widest + 1.5
        ):
            break
    return found
