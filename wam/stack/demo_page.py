# SPDX-License-Identifier: Apache-2.0
"""The report of a demo: the video of its episode, whether the task was done, latencies, safety, joints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.page import LOGS, video_sections
from wam.evaluation.happened import plain, since_first_chunk
from wam.report import plots
from wam.report.folder import INDEX, SUMMARY, report_folder, write_json
from wam.report.imagined import imagined_section
from wam.report.numbers import SampleSummary, distribution, finite_or_none, interval_errors
from wam.report.page import (
    Chart,
    Charts,
    Page,
    Section,
    Table,
    Tile,
    number,
    render,
)
from wam.report.read_on import words_section
from wam.report.tone import Tone
from wam.sim.tasks.free import FREE
from wam.stack.demo_recording import DemoRecording, DemoSignals
from wam.stack.demo_sections import event_section, joint_section, ladder_section, steps_section

DEMO_SCHEMA = "wam/demo-report/2"

Values = npt.NDArray[np.float64]


def build_demo_report(run: DemoRecording, out_dir: Path) -> Path:
    """Write `summary.json` and `index.html` to `out_dir` and return the path of the page.

    Args:
        run: what the demo recorded.
        out_dir: absent, empty, or an earlier report, which it replaces as a whole; its `logs` stay.

    Raises:
        ConfigError: `out_dir` holds anything else; nothing was written.
    """
    samples = _samples(run.signals)
    times = {name: distribution(values) for name, values in samples.items()}
    with report_folder(out_dir, keep=(LOGS,)) as folder:
        write_json(folder / SUMMARY, demo_summary(run))
        (folder / INDEX).write_text(render(_page(run, samples, times)), encoding="utf-8")
    return out_dir / INDEX


def demo_summary(run: DemoRecording) -> dict[str, Any]:
    """Return the content of summary.json: the outcome of the episode, and the times of the nodes."""
    evaluation, episode, signals = run.evaluation, run.episode, run.signals
    results: dict[str, float | None] = {"duration_s": episode.time}
    for name, values in _samples(signals).items():
        d = distribution(values)
        stem, _, unit = name.rpartition("_")
        for label, value in (("p50", d.p50), ("p99", d.p99), ("p99_9", d.p99_9), ("max", d.maximum)):
            results[f"{stem}_{label}_{unit}"] = finite_or_none(value)
    return {
        "schema": DEMO_SCHEMA,
        "headline": run.headline,
        "success": episode.success,
        "score": episode.score,
        "stages": {name: round(at, 6) for name, at in episode.stages},
        "held_share": finite_or_none(episode.held_share),
        "held_causes": run.held_causes,
        "motion": None if episode.motion is None else episode.motion.as_json(),
        "chunks_refused": episode.refused,
        "chunks_accepted": episode.accepted,
        "machine_too_slow": episode.slow,
        "stopped": run.stopped,
        "seed": episode.seed,
        "task": evaluation.task,
        "policy": evaluation.policy,
        "trained_for_task": run.trained,
        "robot": evaluation.robot,
        "contract_hash": evaluation.contract_hash,
        "backends": dict(evaluation.backends),
        "instruction": episode.instruction,
        "notes": list(run.notes),
        "problems": list(run.problems),
        "warnings": list(evaluation.warnings),
        "worst_rung": episode.worst_rung.name,
        "counts": {
            "chunks": len(signals.chunks),
            "contexts": len(signals.contexts),
            "commands": sum(len(series.stamps_ns) for series in signals.commanded),
            "safety_events": len(episode.safety),
            "imagined_images": len(signals.imagined),
        },
        "results": results,
        "settings": dict(evaluation.settings),
        "machine": dict(evaluation.machine),
    }


def _samples(signals: DemoSignals) -> dict[str, Values]:
    """Return every measured quantity by its flat name; unit [ms], except for the phase offset [rows].

    Nothing is measured from a stamp to an arrival: stamps are simulated time, arrivals are wall time.
    """
    chunks = signals.chunks
    samples = {
        "chunk_inference_ms": _ms([record.chunk.inference_ns for record in chunks]),
        "planning_ms": _ms([record.header.plan_ns for record in signals.contexts]),
        "context_age_ms": _ms([record.chunk.context_age_ns for record in chunks]),
        "phase_offset_rows": np.array(
            [record.chunk.phase_offset_rows for record in chunks], dtype=np.float64
        ),
    }
    for series in signals.commanded:
        # The commands go out at the pace of the controller, however slowly simulated time passes.
        jitter = interval_errors(series.arrivals_ns, rate=series.rate)
        samples[f"command_jitter_{series.name}_ms"] = 1e3 * jitter
    return samples


def _ms(values_ns: list[int]) -> Values:
    return np.array(values_ns, dtype=np.float64) * 1e-6


def _page(run: DemoRecording, samples: dict[str, Values], times: dict[str, SampleSummary]) -> Page:
    evaluation, signals = run.evaluation, run.signals
    sections = (
        *video_sections(evaluation),
        _stage_section(run),
        _times_section(samples, times),
        ladder_section(run),
        event_section(run),
        imagined_section(signals.imagined, start_ns=signals.start_ns),
        joint_section(signals),
        steps_section(run),
        words_section(
            "planner context",
            "context age",
            "chunk",
            "chunk latency",
            "phase offset",
            "command jitter",
            "rung",
            "held",
            "refused",
            "moved",
            "stage",
            "contract hash",
        ),
        _facts_section(run),
    )
    return Page(
        title=f"Demo on {run.robot_title}",
        subtitle=f"task {evaluation.task} · policy {evaluation.policy} · “{run.episode.instruction}”",
        tone=_tone(run),
        verdict=run.outcome,
        reasons=(*run.problems, *run.episode.happened, *run.notes, *evaluation.warnings),
        tiles=_tiles(run, times),
        sections=tuple(section for section in sections if section is not None),
        footer="Written by wam demo. Everything on this page is inside this file.",
    )


def _tone(run: DemoRecording) -> Tone:
    if not run.is_well:
        return Tone.BAD
    return Tone.GOOD if run.episode.success else Tone.WARN


def _tiles(run: DemoRecording, times: dict[str, SampleSummary]) -> tuple[Tile, ...]:
    episode = run.episode
    chunk, age = times["chunk_inference_ms"], times["context_age_ms"]
    rung = episode.worst_rung
    rung_tone = Tone.GOOD if rung == Ladder.NOMINAL else Tone.WARN if rung < Ladder.STOP else Tone.BAD
    rate = len(run.signals.chunks) / episode.time if episode.time > 0 else float("nan")
    limit = run.evaluation.settings.get("time limit", "")
    return (
        Tile(
            "task",
            "done" if episode.success else "not done",
            f"{episode.score} of {len(run.evaluation.stage_names)} stages, seed {episode.seed}",
            _tone(run),
        ),
        Tile("time", f"{episode.time:.1f} s", f"simulated; limit {limit}"),
        Tile(
            "held",
            f"{number(100 * episode.held_share)} %",
            next((f"most of it: {plain(cause)}" for cause in episode.held), "from the go to the end"),
        ),
        Tile(
            "chunk latency p50", f"{number(chunk.p50)} ms", f"p99 {number(chunk.p99)} ms, {number(rate)} /s"
        ),
        Tile("context age p50", f"{number(age.p50)} ms", f"p99 {number(age.p99)} ms"),
        Tile("worst rung", rung.name, since_first_chunk(len(episode.moving)), rung_tone),
    )


def _stage_section(run: DemoRecording) -> Section | None:
    if run.evaluation.task == FREE:
        return None
    times = dict(run.episode.stages)
    rows = tuple(
        (name.replace("_", " "), f"{times[name]:.1f} s" if name in times else "never")
        for name in run.evaluation.stage_names
    )
    block = Table(("stage", "reached at"), rows)
    return Section("Stages", (block,), intro="A stage counts once the one before it has been reached.")


_ROW_TITLES = {
    "chunk_inference_ms": "chunk latency (routing and denoising) [ms]",
    "planning_ms": "planning time of a context [ms]",
    "context_age_ms": "context age at the chunk [ms]",
    "phase_offset_rows": "phase offset [rows]",
}


def _row_title(name: str) -> str:
    if name in _ROW_TITLES:
        return _ROW_TITLES[name]
    group = name.removeprefix("command_jitter_").removesuffix("_ms")
    return f"command jitter, {group} [ms]"


def _times_section(samples: dict[str, Values], times: dict[str, SampleSummary]) -> Section:
    table = Table(
        ("quantity", "p50", "p99", "max", "count"),
        tuple(
            (
                _row_title(name),
                *(number(value) for value in (d.p50, d.p99, d.maximum)),
                str(d.count),
            )
            for name, d in times.items()
        ),
    )
    shown = [name for name in samples if samples[name].size]
    charts = tuple(
        Chart(
            _row_title(name),
            plots.histogram(
                samples[name],
                x_label=name.rpartition("_")[2],
                marks=(("p50", times[name].p50), ("p99", times[name].p99)),
            ),
        )
        for name in shown
    )
    return Section(
        "Times",
        (table, Charts(charts)),
        intro="Latencies are of this machine; ages are simulated time. Command jitter is the deviation of each "
        "interval between two commands, as received, from the nominal interval.",
    )


def _facts_section(run: DemoRecording) -> Section:
    evaluation = run.evaluation
    rows = [
        ("robot", f"{evaluation.robot} ({run.robot_title})"),
        ("variant", run.episode.variant),
        ("contract hash", evaluation.contract_hash),
        *((f"stage {name}", text) for name, text in evaluation.backends.items()),
        *((name, str(value)) for name, value in evaluation.settings.items()),
        *((name.replace("_", " "), str(value)) for name, value in evaluation.machine.items()),
    ]
    return Section("Environment", (Table((), tuple(rows), text=True),), folded=True)
