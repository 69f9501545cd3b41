# SPDX-License-Identifier: Apache-2.0
"""Two replays of one recording, chunk by chunk: which is better, and is the difference more than chance?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wam.core.errors import RecordingError
from wam.evaluation.metrics.table import compared
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.summary import SUMMARY_SCHEMA
from wam.report.folder import EVENTS, SUMMARY
from wam.report.numbers import plain_number
from wam.report.statistics import Interval, bootstrap_mean

COMPARE_SCHEMA = "wam/replay-compare/1"


@dataclass(frozen=True, slots=True)
class Difference:
    """One error in both runs.

    Attributes:
        name: error of a chunk, as in the event `score`: l1, mse, ...
        first: mean over the paired chunks in the first run.
        second: mean in the second run.
        difference: second minus first with its 95 % interval; negative means that the second is better.
    """

    name: str
    first: float
    second: float
    difference: Interval

    @property
    def verdict(self) -> str:
        """Return "second is better", "first is better" or "no significant difference"."""
        if not self.difference.excludes_zero:
            return "no significant difference"
        return "second is better" if self.difference.value < 0 else "first is better"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports of one recording.

    Attributes:
        pairs: chunks compared.
        unpaired: chunks of either run that have no partner near enough in time.
        differences: one for every error of a chunk.
        metrics: metric -> its values in both runs.
        settings: settings and policy facts that differ, name -> both values.
    """

    pairs: int
    unpaired: int
    differences: tuple[Difference, ...]
    metrics: dict[str, tuple[float | None, float | None]]
    settings: dict[str, tuple[Any, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as plain values."""
        return {
            "schema": COMPARE_SCHEMA,
            "pairs": self.pairs,
            "unpaired": self.unpaired,
            "differences": {
                d.name: {
                    "first": plain_number(d.first),
                    "second": plain_number(d.second),
                    "difference": plain_number(d.difference.value),
                    "low": plain_number(d.difference.low),
                    "high": plain_number(d.difference.high),
                    "verdict": d.verdict,
                }
                for d in self.differences
            },
            "metrics": {name: list(values) for name, values in self.metrics.items()},
            "settings": {name: list(values) for name, values in self.settings.items()},
        }


def compare_reports(first: Path, second: Path) -> Comparison:
    """Compare two report folders of one recording.

    Chunks are paired by the stamp of their image, the nearest within half an executor period, so that runs with other
    latencies can be compared too. Differences are bootstrapped over blocks of neighbouring pairs.

    Raises:
        RecordingError: a folder is no replay report, or they are of two recordings or two references.
    """
    summaries = (_read_summary(first), _read_summary(second))
    for key, value in (("name", "recording"), ("start_ns", "start of the recording")):
        have = [summary["recording"][key] for summary in summaries]
        if have[0] != have[1]:
            raise _unlike(first, second, value, have)
    have = [summary["settings"]["reference"] for summary in summaries]
    if have[0] != have[1]:
        raise _unlike(first, second, "reference", have)
    scores = [list(read_events(folder / EVENTS, "score")) for folder in (first, second)]
    tolerance_ns = int(0.5e9 * max(summary["settings"]["executor_period_s"] for summary in summaries))
    pairs = pair_by_time(
        [score["stamp_ns"] for score in scores[0]], [score["stamp_ns"] for score in scores[1]], tolerance_ns
    )
    block = _block(summaries[0], scores[0])
    differences = tuple(
        _difference(
            name,
            np.array([_value(scores[0][i].get(name)) for i, _ in pairs]),
            np.array([_value(scores[1][j].get(name)) for _, j in pairs]),
            block,
        )
        for name in compared()
    )
    left, right = (summary["metrics"] for summary in summaries)
    return Comparison(
        pairs=len(pairs),
        unpaired=len(scores[0]) + len(scores[1]) - 2 * len(pairs),
        differences=differences,
        metrics={name: (left[name], right.get(name)) for name in left},
        settings=_changes(summaries[0], summaries[1]),
    )


def pair_by_time(first: list[int], second: list[int], tolerance_ns: int) -> list[tuple[int, int]]:
    """Return index pairs of times at most `tolerance_ns` apart, each used once, in order."""
    pairs, j = [], 0
    for i, time_ns in enumerate(first):
        while j < len(second) and second[j] < time_ns - tolerance_ns:
            j += 1
        while j + 1 < len(second) and abs(second[j + 1] - time_ns) < abs(second[j] - time_ns):
            j += 1
        if j < len(second) and abs(second[j] - time_ns) <= tolerance_ns:
            pairs.append((i, j))
            j += 1
    return pairs


def _difference(name: str, first: Any, second: Any, block: int) -> Difference:
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    mean = (float(first.mean()), float(second.mean())) if len(first) else (math.nan, math.nan)
    return Difference(name, *mean, bootstrap_mean(second - first, block=block))


def _block(summary: dict[str, Any], scores: list[dict[str, Any]]) -> int:
    """Return how many consecutive chunks share rows with one another."""
    if len(scores) < 2:
        return 1
    step_s = float(np.median(np.diff([score["stamp_ns"] for score in scores]))) * 1e-9
    policy = summary["policy"]
    return max(1, math.ceil(policy["chunk_rows"] * policy["row_period_s"] / step_s)) if step_s > 0 else 1


def _changes(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    changes = {}
    for part in ("policy", "settings"):
        for name, value in first[part].items():
            if value != second[part].get(name):
                changes[f"{part}.{name}"] = (value, second[part].get(name))
    return changes


def _read_summary(folder: Path) -> dict[str, Any]:
    path = folder / SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordingError(
            f"{folder} is no replay report ({error})", allowed=f"a folder with {SUMMARY}"
        ) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SUMMARY_SCHEMA:
        raise RecordingError(
            f"{path}: schema", value=str(schema), allowed=SUMMARY_SCHEMA, where="wam replay writes it"
        )
    return dict(content)


def _unlike(first: Path, second: Path, what: str, have: list[Any]) -> RecordingError:
    return RecordingError(
        f"{first} and {second} cannot be compared: they have another {what}",
        value=f"{have[0]} and {have[1]}",
        allowed="two replays of one recording",
        where="the arguments A and B",
    )


def _value(value: float | None) -> float:
    return math.nan if value is None else value
