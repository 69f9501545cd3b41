# SPDX-License-Identifier: Apache-2.0
"""Two replays of one recording, chunk by chunk: which is better, and is the difference more than chance?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.errors import RecordingError
from wam.evaluation.metrics.table import compared
from wam.evaluation.replay.events import read_events
from wam.evaluation.replay.identity import require_same_recording
from wam.evaluation.replay.summary import SUMMARY_SCHEMA
from wam.report.folder import EVENTS, SUMMARY
from wam.report.numbers import plain_number
from wam.report.statistics import Interval, bootstrap_mean

Values = npt.NDArray[np.float64]

COMPARE_SCHEMA = "wam/replay-compare/1"

HEADLINE = "normalised_l1"
"""The error that a comparison is summed up by: the only mean absolute error in which units do not mix."""

PARTING_SHARE = 0.25
"""Runs part where their errors differ by more than this share of the mean error of both."""

MAX_STRETCHES = 5
"""Stretches that are kept, those with the largest difference."""


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
class Parting:
    """A part of the recording over which one run is worse than the other.

    Attributes:
        start_s: start [s].
        end_s: end [s].
        peak_s: where the errors differ most [s].
        first: error of the first run there.
        second: error of the second run there.
    """

    start_s: float
    end_s: float
    peak_s: float
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class PairedErrors:
    """The headline error of every pair of chunks, in order of time.

    Attributes:
        seconds: float64 [P], time of the image since the start of the recording, without gaps [s].
        first: float64 [P], error in the first run; NaN where it is unknown.
        second: float64 [P], error in the second run.
        stretches: where the runs part, in order of time; the worst where there are many.
    """

    seconds: Values
    first: Values
    second: Values
    stretches: tuple[Parting, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports of one recording.

    Attributes:
        summaries: content of summary.json of both.
        errors: how the headline error went over time.
        warnings: what limits the comparison, one sentence each.
        pairs: chunks compared.
        unpaired: chunks of either run that have no partner near enough in time.
        differences: one for every error of a chunk that has one unit.
        metrics: metric -> its values in both runs.
        settings: settings and policy facts that differ, name -> both values.
    """

    summaries: tuple[dict[str, Any], dict[str, Any]]
    errors: PairedErrors
    warnings: tuple[str, ...]
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
            "warnings": list(self.warnings),
        }


def compare_reports(first: Path, second: Path) -> Comparison:
    """Compare two report folders of one recording.

    Chunks are paired by the stamp of their image, the nearest within half an executor period, so that runs with other
    latencies can be compared too. Differences are bootstrapped over blocks of neighbouring pairs.

    Raises:
        RecordingError: a folder is no replay report, or they are of two recordings or two references.
    """
    summaries = (_read_summary(first), _read_summary(second))
    warnings = require_same_recording((first, second), [summary["recording"] for summary in summaries])
    have = [summary["settings"]["reference"] for summary in summaries]
    if have[0] != have[1]:
        raise RecordingError(
            f"{first} and {second} cannot be compared: they have another reference",
            value=f"{have[0]} and {have[1]}",
            allowed="two replays with one reference",
            where="the arguments A and B, or `wam replay --action-topic` of one of them",
        )
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
        for name in _comparable(summaries)
    )
    left, right = (summary["metrics"] for summary in summaries)
    return Comparison(
        summaries=summaries,
        errors=_paired_errors(summaries[0]["recording"], scores, pairs, block),
        warnings=warnings,
        pairs=len(pairs),
        unpaired=len(scores[0]) + len(scores[1]) - 2 * len(pairs),
        differences=differences,
        metrics={name: (left[name], right.get(name)) for name in left},
        settings=_changes(summaries[0], summaries[1]),
    )


def _comparable(summaries: tuple[dict[str, Any], dict[str, Any]]) -> tuple[str, ...]:
    """Return the errors to compare: where joints have several units, only those that do not depend on them."""
    units = {joint["unit"] for summary in summaries for joint in summary["per_joint"].values()}
    return compared(mixed=len(units) > 1)


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


def _paired_errors(
    recording: dict[str, Any], scores: list[list[dict[str, Any]]], pairs: list[tuple[int, int]], block: int
) -> PairedErrors:
    stamps_ns = np.array([scores[0][i]["stamp_ns"] for i, _ in pairs], dtype=np.int64)
    seconds = seconds_of(stamps_ns, recording)
    first = np.array([_value(scores[0][i].get(HEADLINE)) for i, _ in pairs], dtype=np.float64)
    second = np.array([_value(scores[1][j].get(HEADLINE)) for _, j in pairs], dtype=np.float64)
    return PairedErrors(seconds, first, second, stretches(seconds, first, second, merge=block))


def seconds_of(stamps_ns: npt.NDArray[np.int64], recording: dict[str, Any]) -> Values:
    """Return times since the start of a recording, without its gaps, float64 [P] [s].

    Args:
        stamps_ns: int64 [P] [ns].
        recording: `recording` of a summary.
    """
    seconds: Values = (stamps_ns - recording["start_ns"]) * 1e-9
    for gap in recording.get("gaps", ()):
        seconds = np.where(seconds > gap["after_s"] + gap["length_s"] / 2, seconds - gap["length_s"], seconds)
    return seconds


def stretches(seconds: Values, first: Values, second: Values, *, merge: int) -> tuple[Parting, ...]:
    """Return where two runs part, in order of time.

    Args:
        seconds: float64 [P], times [s].
        first: float64 [P], error in the first run; NaN where it is unknown.
        second: float64 [P], error in the second run.
        merge: stretches that are fewer pairs apart are one: so many neighbours share rows.
    """
    if not len(seconds) or np.isnan(first).all() or np.isnan(second).all():
        return ()
    difference = np.abs(np.nan_to_num(second - first))
    apart = np.flatnonzero(difference > PARTING_SHARE * 0.5 * (np.nanmean(first) + np.nanmean(second)))
    if not len(apart):
        return ()
    found = []
    for part in np.split(apart, np.flatnonzero(np.diff(apart) > merge) + 1):
        peak = int(part[np.argmax(difference[part])])
        start, end, at = (float(seconds[i]) for i in (part[0], part[-1], peak))
        found.append(Parting(start, end, at, float(first[peak]), float(second[peak])))
    worst = sorted(found, key=lambda one: -abs(one.second - one.first))[:MAX_STRETCHES]
    return tuple(sorted(worst, key=lambda one: one.start_s))


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


def _value(value: float | None) -> float:
    return math.nan if value is None else value
