# SPDX-License-Identifier: Apache-2.0
"""A metric as one row of a table, and the one pass that computes a table's values and intervals."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from wam.report.numbers import plain_number
from wam.report.statistics import Interval

JOINT = "joint"
"""Unit of a mean over joints: rad, m, or 1 for a fraction of the range, whichever each joint has."""

SubjectT = TypeVar("SubjectT")


class Shown(enum.Flag):
    """Where a metric is shown; every metric is in the JSON files and in the reference."""

    NOWHERE = 0
    PAGE = enum.auto()
    """The report's table of figures."""
    PAGE_IF_KNOWN = enum.auto()
    """The same, but only where the run gives a value."""
    TERMINAL = enum.auto()
    """What the command prints at its end."""
    VARIANTS = enum.auto()
    """A scenario's comparison of its variants."""
    RUNS = enum.auto()
    """A scenario's list of runs."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[SubjectT]):
    """One row: all that summary, page, terminal, gate, comparison and reference know of a metric.

    Attributes:
        name: key in the JSON files and in a gate.
        title: what it is, in a few words.
        unit: unit of the value; "" for a count, "1" for a share, `JOINT` for a mean over joints.
        value: computes it; NaN where the run does not give it.
        interval: computes its 95 % interval; None where it has none.
        shown: where it is shown.
        gate: whether `metrics` of summary.json holds it and a gate may name it; False leaves it to `intervals`.
        meaning: exact definition for the reference, as Markdown; "" takes the title.
        compared: error of a chunk (key of the event `score`) that `wam replay compare` pairs; "" for none.
    """

    name: str
    title: str
    unit: str
    value: Callable[[SubjectT], float]
    interval: Callable[[SubjectT], Interval | None] | None = None
    shown: Shown = Shown.NOWHERE
    gate: bool = True
    meaning: str = ""
    compared: str = ""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A table's values for one run.

    Attributes:
        values: name -> value of every row; None where the run does not give it.
        intervals: name -> 95 % interval of the rows that have one.
        metrics: the part of `values` that a gate may name.
    """

    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval]
    metrics: Mapping[str, float | None]


def measure(
    table: Iterable[Metric[SubjectT]],
    subject: SubjectT,
    *,
    plain: Callable[[float], float | None] = plain_number,
) -> Measurement:
    """Compute every row once.

    Args:
        table: the metrics.
        subject: what they are computed from.
        plain: makes a value fit for JSON.

    Raises:
        ValueError: two rows have one name.
    """
    values: dict[str, float | None] = {}
    metrics: dict[str, float | None] = {}
    intervals: dict[str, Interval] = {}
    for row in table:
        if row.name in values:
            raise ValueError(f"two metrics are called {row.name}")
        values[row.name] = plain(row.value(subject))
        if row.gate:
            metrics[row.name] = values[row.name]
        interval = None if row.interval is None else row.interval(subject)
        if interval is not None:
            intervals[row.name] = interval
    return Measurement(values, intervals, metrics)
