# SPDX-License-Identifier: Apache-2.0
"""The report of closed-loop episodes: success, score, times, forces, safety, and the worst and the best to look at."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from wam.core.verdict import Ladder
from wam.evaluation.closed_loop import table
from wam.evaluation.closed_loop.controls import CONTROLS
from wam.evaluation.closed_loop.options import NODES
from wam.evaluation.closed_loop.scores import EpisodeRecord, Evaluation, seconds
from wam.evaluation.closed_loop.table import EvaluationFigures
from wam.evaluation.closed_loop.verdict import headline, verdict_of
from wam.evaluation.happened import plain, since_first_chunk
from wam.evaluation.metrics.gate import GateCheck
from wam.report import plots
from wam.report.folder import EVENTS, INDEX, SUMMARY, TIMING, report_folder, write_json
from wam.report.numbers import distribution, finite_or_none
from wam.report.page import (
    Block,
    Chart,
    Charts,
    Page,
    Section,
    Table,
    Text,
    Tile,
    Videos,
    number,
    render,
    video,
)
from wam.report.read_on import next_section, words_section
from wam.report.statistics import wilson
from wam.report.tone import Tone
from wam.sim.recording.sinks import EXPERT

EVAL_SCHEMA = "wam/eval-report/1"
EVAL_TIMING_SCHEMA = "wam/eval-timing/1"
LOGS = "logs"

_TIME_TITLES = {
    "prefill_ms": "prefill: one planner context [ms]",
    "chunk_ms": "chunk: routing and denoising [ms]",
    "context_age_ms": "context age at the chunk [ms]",
}


def build_evaluation_report(run: Evaluation, figures: EvaluationFigures, out_dir: Path) -> Path:
    """Write `summary.json`, `timing.json`, `events.jsonl` and `index.html`, and return the path of the page.

    Args:
        run: the episodes.
        figures: their figures.
        out_dir: absent, empty, or an earlier report, which it replaces as a whole; its `logs` stay.

    Raises:
        ConfigError: `out_dir` holds anything else; nothing was written.
    """
    with report_folder(out_dir, keep=(LOGS,)) as folder:
        write_json(folder / SUMMARY, summary_of(run, figures))
        write_json(folder / TIMING, timing_of(run, figures))
        with (folder / EVENTS).open("w", encoding="utf-8") as file:
            for episode in run.episodes:
                _write_events(file, episode)
        (folder / INDEX).write_text(render(_page(run, figures)), encoding="utf-8")
    return out_dir / INDEX


def summary_of(run: Evaluation, figures: EvaluationFigures) -> dict[str, Any]:
    """Return the content of summary.json: nothing in it depends on how fast the machine was in mode "fast"."""
    return {
        "schema": EVAL_SCHEMA,
        "task": run.task,
        "setting": run.setting,
        "robot": run.robot,
        "policy": run.policy,
        "contract_hash": run.contract_hash,
        "mode": run.mode,
        "backends": dict(run.backends),
        "verdict": figures.verdict,
        "headline": headline(run, figures),
        "metrics": dict(figures.scores.metrics),
        "held_s": _rounded(figures.held),
        "episodes": [
            {
                "seed": one.seed,
                "variant": one.variant,
                "instruction": one.instruction,
                "success": one.success,
                "score": one.score,
                "stages": {name: round(at, 6) for name, at in one.stages},
                "time_s": round(one.time, 6),
                "max_contact_force_n": round(one.max_contact_force, 6),
                "held_share": None if math.isnan(one.held_share) else round(one.held_share, 6),
                "held_s": _rounded(one.held),
                "worst_rung": one.worst_rung.name,
                "safety_events": len(one.moving),
                "chunks_accepted": one.accepted,
                "chunks_refused": one.refused,
                "motion": None if one.motion is None else one.motion.as_json(),
                "machine_too_slow": one.slow,
                "error": one.error,
            }
            for one in run.episodes
        ],
        "gate": [
            {
                "metric": check.threshold.metric,
                "allowed": check.threshold.text(),
                "value": check.value,
                "passed": check.passed,
            }
            for check in figures.checks
        ],
        "warnings": list(run.warnings),
        "settings": dict(run.settings),
    }


def _rounded(times: Mapping[str, float]) -> dict[str, float]:
    return {cause: round(time, 6) for cause, time in times.items()}


def timing_of(run: Evaluation, figures: EvaluationFigures) -> dict[str, Any]:
    """Return the content of timing.json: what this machine needed."""
    return {
        "schema": EVAL_TIMING_SCHEMA,
        "results": dict(figures.times.metrics),
        "machine": dict(run.machine),
    }


def _write_events(file: IO[str], episode: EpisodeRecord) -> None:
    """Write an episode as lines: its start, what happened in order of time, its end."""
    lines: list[tuple[float, dict[str, Any]]] = [
        (at, {"event": "stage", "stage": name}) for name, at in episode.stages
    ]
    lines += [
        (
            seconds(event.stamp_ns),
            {
                "event": "safety",
                "ladder_from": event.ladder_from.name,
                "ladder_to": event.ladder_to.name,
                "verdict": event.verdict.name,
                "code": event.code,
                "text": event.text,
                "joint": event.joint,
                "value": finite_or_none(event.value),
                "limit": finite_or_none(event.limit),
            },
        )
        for event in episode.safety
    ]
    start = {"event": "start", "variant": episode.variant, "instruction": episode.instruction}
    end = {
        "event": "end",
        "success": episode.success,
        "score": episode.score,
        "max_contact_force_n": round(episode.max_contact_force, 6),
        "error": episode.error,
    }
    for at, fields in ((0.0, start), *sorted(lines, key=lambda line: line[0]), (episode.time, end)):
        whole = {"seed": episode.seed, "time_s": round(at, 6), **fields}
        file.write(json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")


def _page(run: Evaluation, figures: EvaluationFigures) -> Page:
    tone, verdict, reasons = verdict_of(run, figures)
    sections = (
        *video_sections(run),
        _episode_section(run),
        _stage_section(run),
        *_time_sections(run),
        *_held_sections(run, figures),
        _safety_section(run),
        *_gate_sections(figures.checks),
        _next_section(run),
        words_section(
            "planner context",
            "context age",
            "chunk",
            "rung",
            "held",
            "refused",
            "moved",
            "stage",
            "score",
            "contract hash",
        ),
        _figure_section(figures),
        _facts_section(run),
    )
    return Page(
        title=f"Evaluation: {run.title}",
        subtitle=f"task {run.task} · policy {run.policy} · {run.mode} · setting {run.setting}",
        tone=tone,
        verdict=verdict,
        reasons=reasons,
        tiles=_tiles(run, figures),
        sections=sections,
        footer="Written by wam eval. Everything on this page is inside this file.",
    )


def _tiles(run: Evaluation, figures: EvaluationFigures) -> tuple[Tile, ...]:
    scores, times = figures.scores.metrics, figures.times.metrics

    def shown(value: float | None, unit: str = "") -> str:
        return "–" if value is None else f"{number(value)}{unit}"

    rung = max((one.worst_rung for one in run.episodes), default=Ladder.NOMINAL)
    events = scores["safety_events"] or 0.0
    tiles = [
        Tile(
            "success",
            "–" if scores["success_rate"] is None else f"{100 * scores['success_rate']:.0f} %",
            f"95 %: {shown(scores['success_low'])} to {shown(scores['success_high'])}",
        ),
        Tile(
            "mean score",
            f"{shown(scores['mean_score'])} of {len(run.stage_names)}",
            f"stages reached; 95 %: {shown(scores['score_low'])} to {shown(scores['score_high'])}",
        ),
        Tile("time to success", shown(scores["mean_time_to_success_s"], " s"), "mean, simulated"),
        Tile(
            "largest contact force",
            shown(scores["max_contact_force_n"], " N"),
            f"mean of the episodes {shown(scores['mean_contact_force_n'], ' N')}",
        ),
    ]
    if run.all_times("chunk_ms").size:
        tiles += [
            Tile(
                "chunk latency p50",
                shown(times["chunk_p50_ms"], " ms"),
                f"p99 {shown(times['chunk_p99_ms'], ' ms')}",
            ),
            Tile(
                "prefill p50",
                shown(times["prefill_p50_ms"], " ms"),
                f"p99 {shown(times['prefill_p99_ms'], ' ms')}",
            ),
            Tile(
                "held",
                "–" if scores["held_share"] is None else f"{100 * scores['held_share']:.0f} %",
                f"of the time; most of it: {next((plain(cause) for cause in figures.held), '–')}",
            ),
            Tile(
                "worst rung",
                rung.name,
                since_first_chunk(round(events)),
                Tone.GOOD if rung <= Ladder.LATE else Tone.WARN if rung < Ladder.STOP else Tone.BAD,
            ),
        ]
    return tuple(tiles)


def video_sections(run: Evaluation) -> tuple[Section, ...]:
    """Return the section with the films of an evaluation; none where nothing was filmed."""
    if not run.videos:
        return ()
    videos = tuple(video(mp4, caption=caption) for caption, mp4 in run.videos.items())
    title = "The worst and the best episode" if len(videos) > 1 else "The episode"
    return (Section(title, (Videos(videos),)),)


def _episode_section(run: Evaluation) -> Section:
    rows = tuple(
        (
            f"{one.seed}",
            one.variant,
            "success" if one.success else "error" if one.error else "failed",
            f"{one.score}",
            f"{one.time:.1f} s",
            f"{one.max_contact_force:.0f} N",
            "–" if math.isnan(one.held_share) else f"{100 * one.held_share:.0f} %",
            f"{one.worst_rung.name}, {len(one.moving)}",
            one.instruction if not one.error else one.error,
        )
        for one in run.episodes
    )
    columns = (
        "seed",
        "variant",
        "outcome",
        "score",
        "time",
        "force",
        "held",
        "worst rung, events since the first chunk",
        "instruction or error",
    )
    return Section("Episodes", (Table(columns, rows, text=True, last_is_detail=True),))


def _stage_section(run: Evaluation) -> Section:
    count = len(run.episodes)
    rows = []
    for place, name in enumerate(run.stage_names):
        times = [one.stages[place][1] for one in run.episodes if len(one.stages) > place]
        rate, d = wilson(len(times), count), distribution(times)
        share = f"{len(times)} of {count}"
        rows.append((name, share, f"{rate.low:.2f} to {rate.high:.2f}", number(d.p50), number(d.maximum)))
    block = Table(("stage", "reached", "95 % interval", "time p50 [s]", "time max [s]"), tuple(rows))
    return Section(
        "Stages", (block,), intro="A stage counts once the one before it has been reached. Interval: Wilson."
    )


def _time_sections(run: Evaluation) -> tuple[Section, ...]:
    rows, charts = [], []
    for name, title in _TIME_TITLES.items():
        values = run.all_times(name)
        if not values.size:
            continue
        d = distribution(values)
        rows.append((title, *(number(x) for x in (d.p50, d.p99, d.p99_9, d.maximum)), str(d.count)))
        marks = (("p50", d.p50), ("p99", d.p99))
        charts.append(Chart(title, plots.histogram(values, x_label="ms", marks=marks)))
    if not rows:
        return ()
    block = Table(("quantity", "p50", "p99", "p99.9", "max", "count"), tuple(rows))
    return (Section("Times of the policy", (block, Charts(tuple(charts)))),)


def _held_sections(run: Evaluation, figures: EvaluationFigures) -> tuple[Section, ...]:
    if not figures.held:
        return ()
    total = sum(one.time for one in run.episodes)
    rows = tuple(
        (
            f"{plain(cause)} ({cause})",
            f"{time:.1f} s",
            f"{100 * time / total:.1f} %",
            str(sum(cause in one.held for one in run.episodes)),
        )
        for cause, time in figures.held.items()
    )
    block = Table(("cause", "time", "share", "episodes"), rows, text=True)
    intro = (
        "Time on HOLD and STOP, by the cause that was reported last; “no chunk yet” is the wait at the start."
    )
    return (Section("Time held", (block,), intro=intro),)


def _safety_section(run: Evaluation) -> Section:
    counts = Counter((event.code, event.ladder_to) for one in run.episodes for event in one.moving)
    texts = {event.code: event.text for one in run.episodes for event in one.moving}
    if not counts:
        return Section("Safety events", (Text(("None.",)),))
    rows = tuple(
        (code.replace("_", " "), rung.name, str(count), texts[code])
        for (code, rung), count in counts.most_common()
    )
    block: Block = Table(("cause", "rung", "times", "for example"), rows, text=True)
    return Section(
        "Safety events", (block,), intro="Counted once the robot follows the policy; before that it holds."
    )


def _gate_sections(checks: Sequence[GateCheck]) -> tuple[Section, ...]:
    if not checks:
        return ()
    rows = tuple(
        (
            check.threshold.metric,
            "–" if check.value is None else f"{check.value:.4g}",
            check.threshold.text(),
            "pass" if check.passed else "FAIL",
        )
        for check in checks
    )
    return (Section("Gate", (Table(("metric", "value", "allowed", ""), rows, text=True),)),)


def _figure_section(figures: EvaluationFigures) -> Section:
    """Return every metric that a gate may name."""
    values = {**figures.scores.values, **figures.times.values}
    rows = tuple(
        (
            metric.title,
            "–" if (value := values[metric.name]) is None else number(value),
            metric.unit,
            metric.name,
        )
        for metric in (*table.SCORES, *table.TIMES)
    )
    return Section(
        "Figures", (Table(("", "value", "unit", "name in a gate"), rows, last_is_detail=True),), folded=True
    )


def _next_section(run: Evaluation) -> Section:
    """Return what to do next; the worst episode is the one to look at."""
    named = f"--task {run.task} --policy {run.policy}"
    steps = [("compare policies on the same seeds", "wam eval compare FILE")]
    if run.episodes and run.policy not in (EXPERT, *CONTROLS):
        worst = min(run.episodes, key=lambda one: one.rank)
        steps.insert(
            0,
            (
                "look at the worst episode with the real nodes",
                f"wam demo {run.robot} {named} --seed {worst.seed}",
            ),
        )
    return next_section(steps, logs=LOGS if run.mode == NODES else "")


def _facts_section(run: Evaluation) -> Section:
    rows = [
        ("robot", run.robot),
        ("policy", run.policy),
        ("contract hash", run.contract_hash or "–"),
        *((f"stage {name}", text) for name, text in run.backends.items()),
        *run.settings.items(),
        *((name.replace("_", " "), str(value)) for name, value in run.machine.items()),
    ]
    return Section("Environment", (Table((), tuple(rows), text=True),), folded=True)
