# SPDX-License-Identifier: Apache-2.0
"""Makers of rows that several metrics of a replay share: means over chunks, rates, counts, percentiles."""

from __future__ import annotations

import math
from collections.abc import Callable

from wam.core.verdict import Ladder
from wam.evaluation.metrics.basis import ReplayBasis, mean, ratio
from wam.evaluation.metrics.metric import JOINT, Metric, Shown
from wam.report.statistics import wilson

Row = Metric[ReplayBasis]


def chunk_error(
    name: str,
    title: str,
    score: str,
    *,
    unit: str = JOINT,
    shown: Shown = Shown.PAGE,
    meaning: str = "",
    compared: bool = False,
) -> Row:
    """Return the mean over chunks of one error of `ChunkScore`, bootstrapped over blocks of chunks."""

    def errors(basis: ReplayBasis) -> list[float]:
        return [getattr(one, score) for one in basis.scores]

    return Metric(
        name,
        title,
        unit,
        lambda basis: mean(errors(basis)),
        lambda basis: basis.bootstrap(errors(basis)),
        shown=shown,
        meaning=meaning,
        compared=score if compared else "",
    )


def joint_mean(name: str, title: str, unit: str, figure: str, meaning: str = "") -> Row:
    """Return the mean over joints of one figure of `JointNumbers`."""
    return Metric(
        name,
        title,
        unit,
        lambda basis: mean([getattr(joint, figure) for joint in basis.joints.values()]),
        shown=Shown.PAGE,
        meaning=meaning,
    )


def imagination_mean(name: str, title: str, figure: str, meaning: str, *, interval: bool = True) -> Row:
    """Return the mean over imagined futures of one figure of `ImaginationError`."""

    def errors(basis: ReplayBasis) -> list[float]:
        return [getattr(one, figure) for one in basis.imaginations]

    return Metric(
        name,
        title,
        "",
        lambda basis: mean(errors(basis)),
        (lambda basis: basis.bootstrap(errors(basis)) if basis.imaginations else None) if interval else None,
        shown=Shown.PAGE_IF_KNOWN,
        meaning=meaning,
    )


def count(
    name: str,
    title: str,
    number: Callable[[ReplayBasis], int],
    *,
    shown: Shown = Shown.NOWHERE,
    known: Callable[[ReplayBasis], bool] = lambda basis: True,
) -> Row:
    """Return a count; a run where it is not `known` has none, not 0."""
    return Metric(
        name, title, "", lambda basis: float(number(basis)) if known(basis) else math.nan, shown=shown
    )


def rate(
    name: str,
    title: str,
    parts: Callable[[ReplayBasis], tuple[int, int]],
    *,
    shown: Shown = Shown.PAGE,
    gate: bool = True,
    meaning: str = "",
) -> Row:
    """Return a share of (part, whole) with its Wilson interval."""
    return Metric(
        name,
        title,
        "1",
        lambda basis: ratio(*parts(basis)),
        lambda basis: wilson(*parts(basis)),
        shown=shown,
        gate=gate,
        meaning=meaning,
    )


def ladder_share(rung: Ladder, title: str, *, shown: Shown = Shown.NOWHERE) -> Row:
    """Return the share of time on a rung of the degrade ladder."""
    return Metric(
        f"safety_{rung.name.lower()}_share",
        title,
        "1",
        lambda basis: basis.collector.safety.share(rung),
        shown=shown,
    )


def spread(
    name: str,
    title: str,
    unit: str,
    sample: Callable[[ReplayBasis], list[int]],
    *,
    scale: float = 1.0,
    p50: Shown = Shown.NOWHERE,
) -> tuple[Row, ...]:
    """Return median, 99th and 99.9th percentile and maximum of a sample; `name` has a place for the label."""

    def row(label: str, words: str, field: str, shown: Shown) -> Row:
        def value(basis: ReplayBasis) -> float:
            return float(getattr(basis.distribution(name, sample(basis), scale), field))

        return Metric(name.format(label), f"{title}, {words}", unit, value, shown=shown)

    return (
        row("p50", "median", "p50", p50),
        row("p99", "99th percentile", "p99", Shown.NOWHERE),
        row("p99_9", "99.9th percentile", "p99_9", Shown.NOWHERE),
        row("max", "largest", "maximum", Shown.NOWHERE),
    )
