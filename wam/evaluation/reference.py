# SPDX-License-Identifier: Apache-2.0
"""The tables of metrics in the documentation, written from the tables in the code.

    python -m wam.evaluation.reference

rewrites them between the markers of the pages that `pages` returns; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wam.core.errors import ConfigError
from wam.evaluation.closed_loop import table as episodes
from wam.evaluation.metrics import table
from wam.evaluation.metrics.default_gate import DEFAULT_GATE
from wam.evaluation.metrics.metric import Metric

ROOT = Path(__file__).resolve().parents[2]


def markdown(rows: Iterable[Metric[Any]]) -> str:
    """Return the metrics as Markdown tables: those that a gate may use, and those that are only in `intervals`."""
    rows = tuple(rows)
    lines = _table(tuple(row for row in rows if row.gate))
    rest = tuple(row for row in rows if not row.gate)
    if rest:
        lines += ["", "Only in `intervals`:", "", *_table(rest)]
    return "\n".join(lines) + "\n"


def default_gate() -> str:
    """Return the default gate as a Markdown table."""
    columns = ("question", "metric", "threshold", "why")
    rows = [
        (
            one.question.value + (" (condition)" if one.is_condition else ""),
            f"`{one.metric}`",
            one.threshold.text(),
            one.why,
        )
        for one in DEFAULT_GATE
    ]
    return "\n".join([_line(columns), "|---" * len(columns) + "|", *(_line(row) for row in rows)]) + "\n"


def insert(text: str, content: str, *, page: str, name: str = "metrics") -> str:
    """Return a page with `content` between its markers.

    Args:
        text: the page.
        content: Markdown, ends with a line break.
        page: its name, for the error.
        name: what the markers say.

    Raises:
        ConfigError: the page does not have the two markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ConfigError(f"{page} has no place for {name}", allowed=f"{begin} and {end}, once each")
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    return f"{head}{begin}\n{content}{end}{tail}"


def pages() -> Mapping[tuple[Path, str], str]:
    """Return the content of every pair of markers, by page and name of the markers."""
    summary = ROOT / "docs" / "reference" / "summary.md"
    return {
        (summary, "metrics"): markdown(table.METRICS),
        (summary, "default gate"): default_gate(),
        (ROOT / "docs" / "how-to" / "simulate.md", "metrics"): markdown((*episodes.SCORES, *episodes.TIMES)),
    }


def main() -> None:
    """Write the pages."""
    for (path, name), content in pages().items():
        text = path.read_text(encoding="utf-8")
        path.write_text(insert(text, content, page=str(path), name=name), encoding="utf-8")
        print(path)


def _table(rows: tuple[Metric[Any], ...]) -> list[str]:
    spans = any(row.interval is not None for row in rows)
    columns = ("name", "unit", *(["interval"] if spans else []), "meaning")
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for row in rows:
        interval = ["95 %" if row.interval is not None else ""] if spans else []
        lines.append(_line((f"`{row.name}`", row.unit, *interval, row.meaning or row.title)))
    return lines


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
