# SPDX-License-Identifier: Apache-2.0
"""Policies and controls on the same seeds: each row is played once and kept, and rows are compared seed by seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wam.core.errors import WamError
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.comparison_file import ComparisonRow, ComparisonTable
from wam.evaluation.closed_loop.options import FAST, EvalOptions, settings_of
from wam.evaluation.closed_loop.page import summary_of
from wam.evaluation.closed_loop.player import PlayerJob, Stopped, never
from wam.evaluation.closed_loop.pool import play_in_processes
from wam.evaluation.closed_loop.run import Done, evaluate_fast
from wam.evaluation.closed_loop.table import compute_evaluation
from wam.policies.shipped import bundle_directory
from wam.report.folder import write_json
from wam.report.statistics import Interval, bootstrap_mean, detectable_share, interval_as_json, sign_test
from wam.runtime.policy import PolicyRequest, require_task
from wam.sim.recording.sinks import EXPERT

ROWS = "rows"
"""Folder below the comparison's that keeps the summary of every row."""

Begun = Callable[[str], None]
"""Called with the label of a row that is going to be played."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A row beside another on the same seeds.

    Attributes:
        won: seeds on which this row alone succeeded.
        lost: seeds on which the other one alone succeeded.
        success: difference of the shares of successes, with its bootstrap interval over seeds.
        score: difference of the mean scores, likewise.
        p: two-sided sign test of `won` against `lost` (exact McNemar).
    """

    won: int
    lost: int
    success: Interval
    score: Interval
    p: float


def play_rows(
    table: ComparisonTable,
    folder: Path,
    *,
    processes: int = 1,
    threads: int = 1,
    begun: Begun = lambda label: None,
    done: Done = lambda episode: None,
    stopped: Stopped = never,
) -> Mapping[str, Mapping[str, Any]] | None:
    """Return the summary of every row, label -> summary; rows that `folder` has are not played again.

    A row is known by the content of its bundle and by its settings, not by the code that plays it: remove its file to
    play it again.

    Args:
        table: what to play.
        folder: of the comparison.
        processes: episodes played at a time.
        threads: CPU threads of each policy.
        begun: called before a row is played.
        done: called after every episode.
        stopped: asked whether to end.

    Returns:
        None when it was stopped; rows that were complete are kept.

    Raises:
        WamError: a policy cannot be loaded, does not fit, or every episode of it ended in an error; rows before it
            are kept.
    """
    summaries = {}
    for label, row in table.rows.items():
        options = options_of(table.options, row)
        key = row_key(options, row)
        path = folder / ROWS / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        summary = _kept(path, key)
        if summary is None:
            begun(label)
            summary = _play(options, row, processes, threads, done, stopped)
            if stopped():
                return None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"key": key, "summary": summary})
        summaries[label] = summary
    return summaries


def options_of(table: EvalOptions, row: ComparisonRow) -> EvalOptions:
    """Return what a row of a table plays."""
    return replace(table, policy=row.policy, sampler=row.sampler, schedule=row.schedule(table.schedule))


def row_key(options: EvalOptions, row: ComparisonRow) -> dict[str, Any]:
    """Return what a row depends on: all of it stands in the row's file."""
    return {
        "task": options.task.name,
        "setting": options.setting.value,
        "seeds": [options.seeds[0], len(options.seeds)],
        "policy": _content(row.policy),
        **settings_of(options, mode=FAST),
        "schedule": _schedule_of(options),
    }


def pair(summary: Mapping[str, Any], other: Mapping[str, Any]) -> Pairing:
    """Compare two rows seed by seed; seeds that only one of them has are left out."""
    theirs = {episode["seed"]: episode for episode in other["episodes"]}
    pairs = [(one, theirs[one["seed"]]) for one in summary["episodes"] if one["seed"] in theirs]
    success = [int(one["success"]) - int(two["success"]) for one, two in pairs]
    won, lost = success.count(1), success.count(-1)
    score = [one["score"] - two["score"] for one, two in pairs]
    return Pairing(won, lost, bootstrap_mean(success), bootstrap_mean(score), sign_test(won, lost))


def comparison_as_json(table: ComparisonTable, summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a table for JSON."""
    options, rows = table.options, []
    for label, summary in summaries.items():
        found = pair(summary, summaries[table.against])
        rows.append(
            {
                "label": label,
                "policy": table.rows[label].policy,
                "contract_hash": summary["contract_hash"],
                "metrics": summary["metrics"],
                "held_s": summary["held_s"],
                "against": None
                if label == table.against
                else {
                    "won": found.won,
                    "lost": found.lost,
                    "success": interval_as_json(found.success),
                    "score": interval_as_json(found.score),
                    "p": found.p,
                },
            }
        )
    return {
        "title": table.title,
        "task": options.task.name,
        "setting": options.setting.value,
        "seeds": [options.seeds[0], len(options.seeds)],
        "images": options.quality.value,
        "against": table.against,
        "rows": rows,
    }


def comparison_as_markdown(tables: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of `comparison_as_json` as Markdown."""
    lines: list[str] = []
    for table in tables:
        first, count = table["seeds"]
        lines += [
            f"### {table['title']}",
            "",
            f"`{table['task']}`, {table['setting']}; seeds {first} to {first + count - 1}, images {table['images']}. "
            f"Against {table['against']}: difference of success on the same seeds with its bootstrap interval, and p "
            f"of the exact sign test. {_power(count)}",
            "",
            f"| policy | success | 95 % | score of 3 | held | time | against {table['against']} |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in table["rows"]]
        lines.append("")
    return "\n".join(lines)


def _power(count: int) -> str:
    """Return what difference so many seeds could show."""
    share = detectable_share(count)
    if math.isnan(share):
        return "So few seeds show no difference at all."
    return (
        f"In 4 of 5 comparisons these seeds show a difference of {share:.2f}, if none differs the other way."
    )


def _line(row: Mapping[str, Any]) -> str:
    metrics, against = row["metrics"], row["against"]

    def shown(name: str, form: str, unit: str = "") -> str:
        value = metrics[name]
        return "-" if value is None else f"{value:{form}}{unit}"

    cells = [
        row["label"],
        f"{metrics['successes']:.0f}/{metrics['episodes']:.0f}",
        f"{shown('success_low', '.2f')} .. {shown('success_high', '.2f')}",
        f"{shown('mean_score', '.2f')} ({shown('score_low', '.2f')} .. {shown('score_high', '.2f')})",
        shown("held_share", ".1%"),
        shown("mean_time_to_success_s", ".1f", " s"),
        "-" if against is None else _difference(against),
    ]
    return "| " + " | ".join(cells) + " |"


def _difference(against: Mapping[str, Any]) -> str:
    success, p = against["success"], against["p"]
    span = "" if success["low"] is None else f" ({success['low']:+.2f} .. {success['high']:+.2f})"
    return f"{success['value']:+.2f}{span}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"


def _play(
    options: EvalOptions,
    row: ComparisonRow,
    processes: int,
    threads: int,
    done: Done,
    stopped: Stopped,
) -> dict[str, Any]:
    robot = load_robot(options.task.robot)
    request = None
    if row.policy != EXPERT:
        request = PolicyRequest(row.policy, planner=True, executor=True, threads=threads, sampler=row.sampler)
    job = PlayerJob(options, request, robot)
    here = processes == 1
    policy = job.load(whole=here)
    if policy is not None:
        require_task(policy.contract, options.task.name, policy=row.policy, any_task=row.any_task)
    plays = None
    if not here:
        plays = play_in_processes(job, options.seeds, processes=processes, stopped=stopped)
    run = evaluate_fast(options, policy, robot=robot, plays=plays, done=done, stopped=stopped)
    errors = [one.error for one in run.episodes if one.error]
    if errors and len(errors) == len(run.episodes):
        raise WamError(f"every episode of {row.policy} ended in an error: {errors[0]}")
    return summary_of(run, compute_evaluation(run))


def _kept(path: Path, key: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the summary that an earlier run has kept, or None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        summary = content["summary"] if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return summary if isinstance(summary, dict) else None


def _schedule_of(options: EvalOptions) -> list[int | None]:
    """Return the times of a row's schedule [ns], which its settings show rounded; the expert has none."""
    if options.policy == EXPERT:
        return []
    times = options.schedule
    return [
        times.planner_latency_ns,
        times.executor_latency_ns,
        times.planner_period_ns,
        times.executor_period_ns,
    ]


def _content(policy: str) -> str:
    """Return a hash of a bundle's files, or the name of anything else."""
    folder = bundle_directory(policy)
    if folder is None:
        return policy
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
