# SPDX-License-Identifier: Apache-2.0
"""The page of `wam replay compare --page`: two reports of one recording side by side, in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from wam.core.errors import ConfigError
from wam.evaluation.metrics.table import METRICS
from wam.evaluation.replay.compare import HEADLINE, Comparison, Difference, Stretch, Values
from wam.evaluation.replay.page_pictures import PagePicture, pictures_of
from wam.report import plots
from wam.report.folder import INDEX
from wam.report.numbers import plain_number
from wam.report.page import (
    Chart,
    Charts,
    Link,
    Page,
    Picture,
    Section,
    Strip,
    Table,
    Text,
    Tile,
    Tone,
    number,
    render,
)

FOOTER = "Written by wam replay compare. Everything on this page but the two reports is inside this file."
FIRST, SECOND = "#1d4ed8", "#c2410c"
SMOOTHED_S = 1.0
"""The drawn errors are means over about this time [s]; single chunks are drawn faint."""

FAINT = {FIRST: "#c7d7fb", SECOND: "#f6cfb5"}
MAX_PICTURES = 3
MAX_CAMERAS = 3
THROUGHOUT = 0.95
"""A stretch of more than this share of the recording is all of it."""

MAX_NAME = 24
"""A longer name of a policy is a path, of which the last part is shown."""

SAID = {"second is better": "B is better", "first is better": "A is better"}
NOT_TOLD = "no difference beyond chance"


def write_compare_page(path: Path, reports: Sequence[Path], comparison: Comparison) -> None:
    """Write the page.

    Args:
        path: the file; an earlier page of this command is replaced.
        reports: both report folders.
        comparison: of these reports.

    Raises:
        ConfigError: the file cannot be written, or is something else.
    """
    try:
        if path.exists() and FOOTER not in path.read_text(encoding="utf-8", errors="replace"):
            raise ConfigError(
                f"{path} would be overwritten, and it is no page of this command",
                allowed="a new file, or an earlier page of wam replay compare",
                where="--page",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        page = build_compare_page(comparison, reports, relative_to=path.resolve().parent)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})", where="--page") from error


def build_compare_page(comparison: Comparison, reports: Sequence[Path], *, relative_to: Path) -> str:
    """Return the page as HTML.

    Args:
        comparison: of two reports.
        reports: their folders.
        relative_to: folder of the page, for the links to the reports.
    """
    first, second = comparison.summaries
    headline = _headline(comparison)
    tone, verdict = _verdict(comparison)
    return render(
        Page(
            title=f"{_named(first, reports[0])} and {_named(second, reports[1])}",
            subtitle=f"two replays of {first['recording']['name']} · robot {first['robot']} · A is {reports[0].name}, "
            f"B is {reports[1].name}",
            tone=tone,
            verdict=verdict,
            reasons=(*_reasons(comparison), *comparison.warnings),
            tiles=(
                Tile("A: error of a chunk", number(headline.first), "of a joint's range"),
                Tile("B: error of a chunk", number(headline.second), "of a joint's range"),
                Tile(
                    "pairs of chunks",
                    str(comparison.pairs),
                    f"{comparison.unpaired} chunks without a partner",
                ),
            ),
            sections=tuple(
                section
                for section in (
                    _report_section(reports, (first, second), relative_to),
                    _time_section(comparison),
                    _picture_section(comparison, reports),
                    _difference_section(comparison),
                    _joint_section(first, second),
                    _setting_section(comparison),
                    _metric_section(comparison),
                )
                if section is not None
            ),
            footer=FOOTER,
        )
    )


def verdict_sentence(comparison: Comparison) -> str:
    """Return which run is better, by how much and how sure that is, in one sentence."""
    return _verdict(comparison)[1]


def _headline(comparison: Comparison) -> Difference:
    return next(d for d in comparison.differences if d.name == HEADLINE)


def _verdict(comparison: Comparison) -> tuple[Tone, str]:
    headline = _headline(comparison)
    interval = headline.difference
    if not interval.count:
        return Tone.WARN, "Cannot be told: no two chunks of A and B were computed from images of one time"
    if not np.isfinite(interval.low):
        return Tone.WARN, f"Cannot be told: only {interval.count} pair of chunks could be compared"
    if not interval.excludes_zero:
        return Tone.PLAIN, (
            f"No difference beyond chance: A errs by {number(headline.first)} and B by {number(headline.second)} of a "
            "joint's range"
        )
    better, worse = ("B", "A") if interval.value < 0 else ("A", "B")
    low, high = sorted((headline.first, headline.second))
    return Tone.GOOD, (
        f"{better} is better: its chunks err by {number(low)} of a joint's range, those of {worse} by {number(high)}, "
        f"{_times(high, low)}"
    )


def _times(high: float, low: float) -> str:
    if low <= 0 or high / low >= 2:
        return f"{number(high / low, 2)} times as much" if low > 0 else "much more"
    return f"{100 * (high / low - 1):.0f} % more"


def _reasons(comparison: Comparison) -> tuple[str, ...]:
    headline = _headline(comparison)
    interval = headline.difference
    lines = []
    if np.isfinite(interval.low):
        lines.append(
            f"95 % interval of the difference: {_signed(interval.low)} to {_signed(interval.high)}, from "
            f"{interval.count} pairs of chunks"
        )
    lines += [
        f"but by {d.name} {SAID[d.verdict]} ({number(d.first)} and {number(d.second)})"
        for d in comparison.differences
        if d.verdict in SAID and d.verdict != headline.verdict
    ]
    for name, summary in zip("AB", comparison.summaries, strict=True):
        if summary["faults"]:
            lines.append(f"the policy of {name} is at fault: {summary['faults'][0]}")
    worst = _worst(comparison)
    if worst is not None:
        span = float(comparison.errors.seconds[-1] - comparison.errors.seconds[0])
        throughout = any(one.end_s - one.start_s > THROUGHOUT * span for one in comparison.errors.stretches)
        part = (
            "from beginning to end"
            if throughout
            else f"first at {comparison.errors.stretches[0].start_s:.1f} s"
        )
        lines.append(
            f"they part {part}, and differ most at "
            f"{worst.peak_s:.1f} s (A {number(worst.first)}, B {number(worst.second)})"
        )
    return tuple(lines)


def _worst(comparison: Comparison) -> Stretch | None:
    return max(comparison.errors.stretches, key=lambda one: abs(one.second - one.first), default=None)


def _report_section(
    reports: Sequence[Path], summaries: Sequence[Mapping[str, Any]], relative_to: Path
) -> Section:
    rows = tuple(
        (name, summary["policy"]["name"], summary["verdict"], Link("open", _link(report, relative_to)))
        for name, report, summary in zip("AB", reports, summaries, strict=True)
    )
    return Section("The two reports", (Table(("", "policy", "verdict", "report"), rows, text=True),))


def _link(report: Path, relative_to: Path) -> str:
    return quote(Path(os.path.relpath(report.resolve() / INDEX, relative_to)).as_posix())


def _time_section(comparison: Comparison) -> Section | None:
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


def _picture_section(comparison: Comparison, reports: Sequence[Path]) -> Section | None:
    """Return the pictures of both reports that are nearest to where the runs differ most."""
    kept = pictures_of(reports[0] / INDEX) or pictures_of(reports[1] / INDEX)
    if not kept or not comparison.errors.stretches:
        return None
    worst = sorted(comparison.errors.stretches, key=lambda one: -abs(one.second - one.first))[:MAX_PICTURES]
    strips = []
    for camera in dict.fromkeys(picture.camera for picture in kept):
        mine = [picture for picture in kept if picture.camera == camera]
        shown = tuple(_nearest(mine, one) for one in sorted(worst, key=lambda one: one.peak_s))
        strips.append(Strip(tuple(dict.fromkeys(shown)), caption=camera, wide=True))
    return Section(
        "Where they differ most",
        tuple(strips[:MAX_CAMERAS]),
        intro="Pictures of the reports nearest in time to the largest differences.",
    )


def _nearest(pictures: Sequence[PagePicture], stretch: Stretch) -> Picture:
    chosen = min(pictures, key=lambda picture: abs(picture.seconds - stretch.peak_s))
    away = abs(chosen.seconds - stretch.peak_s)
    taken = "" if away < 0.05 else f"; the picture is of {chosen.seconds:.1f} s"
    return Picture(
        chosen.source, f"{stretch.peak_s:.1f} s: A {number(stretch.first)}, B {number(stretch.second)}{taken}"
    )


def _difference_section(comparison: Comparison) -> Section:
    titles = {row.compared: (row.title, row.unit) for row in METRICS if row.compared}
    rows = tuple(
        (
            titles[d.name][0],
            number(d.first),
            number(d.second),
            _signed(d.difference.value),
            "–"
            if not np.isfinite(d.difference.low)
            else f"{_signed(d.difference.low)} to {_signed(d.difference.high)}",
            SAID.get(d.verdict, NOT_TOLD),
            titles[d.name][1],
        )
        for d in comparison.differences
    )
    return Section(
        "Paired differences",
        (Table(("", "A", "B", "B - A", "95 % interval", "", "unit"), rows, last_is_detail=True),),
        intro=f"{comparison.pairs} pairs of chunks that were computed from images of one time. The interval is a "
        "bootstrap over blocks of neighbouring pairs; where it excludes zero, the difference is more than chance. "
        '"joint" is the unit of each joint, which mixes where joints have several.',
    )


def _joint_section(first: Mapping[str, Any], second: Mapping[str, Any]) -> Section | None:
    left, right = first["per_joint"], second["per_joint"]
    names = [name for name in left if name in right]
    if not names:
        return None
    rows = []
    for name in sorted(names, key=lambda name: -_gap(left[name], right[name])):
        a, b = left[name], right[name]
        rows.append(
            (
                name,
                _cell(a["l1"]),
                _cell(b["l1"]),
                _less(a["l1"], b["l1"]),
                _cell(a["executed_l1"]),
                _cell(b["executed_l1"]),
                _less(a["executed_l1"], b["executed_l1"]),
                a["unit"],
            )
        )
    head = ("joint", "A", "B", "less", "A executed", "B executed", "less", "unit")
    blocks: tuple[Table | Text, ...] = (Table(head, tuple(rows), last_is_detail=True),)
    alone = [name for name in (*left, *right) if (name in left) != (name in right)]
    if alone:
        blocks += (Text((f"Joints of one run alone: {', '.join(alone)}.",)),)
    return Section(
        "Joints",
        blocks,
        intro="Mean absolute error over all rows, and of what would have been executed; largest difference first.",
    )


def _gap(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    if a["l1_normalised"] is None or b["l1_normalised"] is None:
        return -1.0
    return abs(float(a["l1_normalised"]) - float(b["l1_normalised"]))


def _less(a: float | None, b: float | None) -> str:
    if a is None or b is None:
        return "–"
    return "=" if plain_number(a) == plain_number(b) else ("A" if a < b else "B")


def _setting_section(comparison: Comparison) -> Section:
    rows = tuple((name, _text(a), _text(b)) for name, (a, b) in comparison.settings.items())
    if not rows:
        return Section(
            "Settings", (Text(("Policy and settings are the same: the runs may differ by chance alone.",)),)
        )
    return Section("What was set differently", (Table(("", "A", "B"), rows, text=True),))


def _metric_section(comparison: Comparison) -> Section:
    rows = tuple(
        (row.title, _cell(values[0]), _cell(values[1]), row.unit, row.name)
        for row in METRICS
        if (values := comparison.metrics.get(row.name)) is not None and values != (None, None)
    )
    return Section(
        "All figures",
        (Table(("", "A", "B", "unit", "name in summary.json"), rows, last_is_detail=True),),
        intro="Of all chunks of each run, also those without a partner.",
        folded=True,
    )


def _named(summary: Mapping[str, Any], report: Path) -> str:
    name = str(summary["policy"]["name"])
    return name if len(name) <= MAX_NAME else Path(name).name or report.name


def _text(value: Any) -> str:
    text = ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:24]}…"


def _cell(value: float | None) -> str:
    return "–" if value is None else number(value)


def _signed(value: float) -> str:
    return "–" if not np.isfinite(value) else ("+" if value > 0 else "") + number(value)
