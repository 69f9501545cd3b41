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
from wam.core.words import counted
from wam.evaluation.metrics.table import METRICS
from wam.evaluation.replay.compare import HEADLINE, Comparison, Difference, Parting
from wam.evaluation.replay.compare_charts import time_section
from wam.evaluation.replay.page_pictures import PagePicture, pictures_of
from wam.report.folder import INDEX
from wam.report.numbers import plain_number
from wam.report.page import Link, Page, Picture, Section, Strip, Table, Text, Tile, number, render
from wam.report.tone import Tone

FOOTER = "Written by wam replay compare. Everything on this page but the two reports is inside this file."
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
                    f"{counted(comparison.unpaired, 'chunk')} without a partner",
                ),
            ),
            sections=tuple(
                section
                for section in (
                    _report_section(reports, (first, second), relative_to),
                    time_section(comparison),
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


def _worst(comparison: Comparison) -> Parting | None:
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


def _nearest(pictures: Sequence[PagePicture], stretch: Parting) -> Picture:
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
        '"joint" is the unit of the joints; where they have several, only errors divided by their ranges are shown.',
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
