# SPDX-License-Identifier: Apache-2.0
"""Charts are SVG that a browser can draw, keep what matters of long lines, and have ticks that a person can read."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wam.report.axes import spread, ticks
from wam.report.plots import PREDICTED, Line, Span, bar_chart, histogram, line_chart, thin, timeline

TAG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in drawn(svg).iter(f"{TAG}text")]


def lines_of(svg: str, color: str) -> list[str]:
    return [one.attrib["d"] for one in drawn(svg).iter(f"{TAG}path") if one.attrib["stroke"] == color]


def test_a_line_breaks_where_nothing_is_known_and_holds_its_value_in_steps() -> None:
    x, y = np.arange(5.0), np.array([0.0, 1.0, np.nan, 1.0, 0.0])
    (path,) = lines_of(line_chart([Line("a", x, y, PREDICTED)], x_label="t", y_label="q"), PREDICTED)
    assert (path.count("M"), path.count("L")) == (2, 2)
    (path,) = lines_of(
        line_chart([Line("a", x, y, PREDICTED, steps=True)], x_label="t", y_label="q"), PREDICTED
    )
    assert (path.count("M"), path.count("H"), path.count("V")) == (2, 2, 2)


@pytest.mark.parametrize(
    "values", [[], [math.nan] * 3, [2.0] * 3, [1e9, 1e9 + 1.0], [1e-12, 2e-12], [-5.0, 1e7]]
)
def test_any_values_make_a_drawing_with_finite_numbers(values: list[float]) -> None:
    table = np.array(values, dtype=np.float64)
    line = Line("a", np.arange(len(values), dtype=np.float64), table, PREDICTED)
    for svg in (
        line_chart([line], x_label="time [s]", y_label="[rad]"),
        histogram(table, x_label="ms", marks=(("p50", 2.0),)),
        bar_chart([f"j{i}" for i in range(len(values))], values, x_label="%"),
    ):
        assert "nan" not in svg
        assert "inf" not in svg
        assert drawn(svg).tag == f"{TAG}svg"


def test_names_are_escaped() -> None:
    assert "<b> & j" in texts(bar_chart(["<b> & j"], [1.0], x_label="%"))
    assert "a < b" in texts(timeline([Span(0.0, 1.0, 0, "#fff")], ["a < b"], x_label="t", x_range=(0.0, 1.0)))


def test_a_histogram_counts_every_value_and_names_its_marks() -> None:
    svg = histogram([1.0, 1.0, 2.0, math.nan], x_label="ms", marks=(("p50", 1.0), ("p99", 2.0)))
    assert {"p50", "p99", "count", "ms"} <= set(texts(svg))


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6), most=st.integers(2, 9), whole=st.booleans())
def test_ticks_lie_inside_are_few_and_differ_in_their_texts(
    low: float, width: float, most: int, whole: bool
) -> None:
    high = low + width
    found = ticks(low, high, most, whole=whole)
    slack = 1e-6 * max(width, abs(low)) + (1e-8 if whole else 0.0)
    assert len(found) <= most + 1
    assert all(low - slack <= value <= high + slack for value, _ in found)
    names = [text for _, text in found]
    assert len(set(names)) == len(names)
    assert not whole or all(value == round(value) for value, _ in found)


def test_ticks_are_the_numbers_that_a_person_would_choose() -> None:
    assert [text for _, text in ticks(-0.52, 0.52, 5)] == ["−0.50", "−0.25", "0.00", "0.25", "0.50"]
    assert [text for _, text in ticks(0.0, 60.0, 7)] == ["0", "10", "20", "30", "40", "50", "60"]
    assert [text for _, text in ticks(0.0, 2.5e-5, 5)] == [
        "0",
        "5e−06",
        "1e−05",
        "1.5e−05",
        "2e−05",
        "2.5e−05",
    ]


def test_a_constant_gets_a_range_about_it() -> None:
    low, high = spread(np.array([3.0, 3.0]))
    assert low < 3.0 < high
    assert spread(np.array([np.nan])) == (0.0, 1.0)


@given(st.lists(st.one_of(st.floats(-9, 9), st.just(math.nan)), min_size=30, max_size=400))
def test_a_thinned_line_keeps_extremes_breaks_and_order(values: list[float]) -> None:
    y = np.array(values)
    x, kept = thin(np.arange(len(y), dtype=np.float64), y, 20)
    assert len(kept) <= 40 or len(y) <= 20
    assert (np.diff(x) > 0).all()
    assert np.array_equal(y[x.astype(int)], kept, equal_nan=True)
    if not np.isnan(y).all():
        assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(y), np.nanmax(y))
    assert np.isnan(kept).any() == np.isnan(y).any()
