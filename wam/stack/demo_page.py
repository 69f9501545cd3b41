# SPDX-License-Identifier: Apache-2.0
"""The report of a demo run: latencies, ages, command jitter, joints, cameras, safety."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.records import DemoRecording, SafetyRecord, TopicSeries
from wam.report import plots
from wam.report.folder import INDEX, SUMMARY, report_folder, write_json
from wam.report.imagined import imagined_section
from wam.report.numbers import SampleSummary, distribution, finite_or_none, interval_errors
from wam.report.page import (
    Chart,
    Charts,
    Page,
    Section,
    Strip,
    Table,
    Text,
    Tile,
    Tone,
    evenly,
    number,
    picture,
    render,
)

DEMO_SCHEMA = "wam/demo-report/1"
LOGS = "logs"
STRIP_IMAGES = 12
CHUNKS_SHOWN = 40
EVENTS_SHOWN = 60

_RUNG_COLORS = {
    Ladder.NOMINAL: "#86c79b",
    Ladder.LATE: "#f4c95d",
    Ladder.SLOW: "#f0a04b",
    Ladder.HOLD: "#e0724f",
    Ladder.STOP: "#b91c1c",
}

Values = npt.NDArray[np.float64]


def build_demo_report(run: DemoRecording, out_dir: Path) -> Path:
    """Write `summary.json` and `index.html` to `out_dir` and return the path of the page.

    Args:
        run: what the demo recorded.
        out_dir: absent, empty, or an earlier report, which it replaces as a whole; its `logs` stay.

    Raises:
        ConfigError: `out_dir` holds anything else; nothing was written.
    """
    samples = _samples(run)
    times = {name: distribution(values) for name, values in samples.items()}
    with report_folder(out_dir, keep=(LOGS,)) as folder:
        write_json(folder / SUMMARY, _summary(run, times))
        (folder / INDEX).write_text(render(_page(run, samples, times)), encoding="utf-8")
    return out_dir / INDEX


def ladder_spans(
    events: Sequence[SafetyRecord], *, start_ns: int, end_ns: int
) -> tuple[tuple[float, float, Ladder], ...]:
    """Return the rungs in force as (start, end, rung), in seconds from `start_ns`.

    The rung before the first event is the one the event left; without events it is NOMINAL.
    """
    current = events[0].ladder_from if events else Ladder.NOMINAL
    since, spans = start_ns, []
    for event in events:
        if event.ladder_to != current:
            spans.append((since, event.stamp_ns, current))
            current, since = event.ladder_to, event.stamp_ns
    spans.append((since, max(end_ns, since), current))
    return tuple(((a - start_ns) / NS_PER_S, (b - start_ns) / NS_PER_S, rung) for a, b, rung in spans)


def _samples(run: DemoRecording) -> dict[str, Values]:
    """Return every measured quantity by its flat name; unit [ms], except for the phase offset [rows]."""
    chunks = run.chunks
    samples = {
        "chunk_inference_ms": _ms([record.chunk.inference_ns for record in chunks]),
        "image_to_chunk_ms": _ms([record.arrival_ns - record.chunk.stamp_ns for record in chunks]),
        "planning_ms": _ms([record.header.plan_ns for record in run.contexts]),
        "context_age_ms": _ms([record.chunk.context_age_ns for record in chunks]),
        "phase_offset_rows": np.array(
            [record.chunk.phase_offset_rows for record in chunks], dtype=np.float64
        ),
    }
    for series in run.commanded:
        for kind, stamps_ns in (("jitter", series.stamps_ns), ("arrival_jitter", series.arrivals_ns)):
            jitter = interval_errors(stamps_ns, rate=series.rate)
            samples[f"command_{kind}_{series.name}_ms"] = 1e3 * jitter
    return samples


def _ms(values_ns: list[int]) -> Values:
    return np.array(values_ns, dtype=np.float64) * 1e-6


def _summary(run: DemoRecording, times: dict[str, SampleSummary]) -> dict[str, Any]:
    results: dict[str, float | None] = {"duration_s": (run.end_ns - run.start_ns) / NS_PER_S}
    for name, d in times.items():
        stem, _, unit = name.rpartition("_")
        for label, value in (("p50", d.p50), ("p99", d.p99), ("p99_9", d.p99_9), ("max", d.maximum)):
            results[f"{stem}_{label}_{unit}"] = finite_or_none(value)
    return {
        "schema": DEMO_SCHEMA,
        "robot": run.robot,
        "policy": run.policy,
        "contract_hash": run.contract_hash,
        "instruction": run.instruction,
        "problems": list(run.problems),
        "worst_rung": _worst_rung(run).name,
        "counts": {
            "chunks": len(run.chunks),
            "contexts": len(run.contexts),
            "commands": sum(len(series.stamps_ns) for series in run.commanded),
            "safety_events": len(run.safety),
            "imagined_images": len(run.imagined),
        },
        "results": results,
        "settings": dict(run.settings),
        "machine": dict(run.machine),
    }


def _since_moving(run: DemoRecording) -> tuple[SafetyRecord, ...]:
    """Return the safety events from the first NOMINAL on: a run begins in HOLD, before its first chunk."""
    for i, event in enumerate(run.safety):
        if event.ladder_from is Ladder.NOMINAL or event.ladder_to is Ladder.NOMINAL:
            return run.safety[i:]
    return run.safety


def _worst_rung(run: DemoRecording) -> Ladder:
    """Return the highest rung since the arm first moved."""
    return max((event.ladder_to for event in _since_moving(run)), default=Ladder.NOMINAL)


def _verdict(run: DemoRecording) -> tuple[Tone, str, tuple[str, ...]]:
    if run.problems:
        return Tone.BAD, "The run had problems", run.problems
    if not run.chunks:
        return Tone.BAD, "No action chunk arrived", ("see the log of the executor node",)
    rung = _worst_rung(run)
    if rung >= Ladder.HOLD:
        causes = tuple(
            dict.fromkeys(event.text for event in _since_moving(run) if event.ladder_to >= Ladder.HOLD)
        )
        return Tone.WARN, f"The robot moved, and was brought to {rung.name} on the way", causes[:6]
    return Tone.GOOD, "The robot followed the policy throughout", (f"degrade ladder: {rung.name} at worst",)


def _page(run: DemoRecording, samples: dict[str, Values], times: dict[str, SampleSummary]) -> Page:
    tone, verdict, reasons = _verdict(run)
    seconds = (run.end_ns - run.start_ns) / NS_PER_S
    return Page(
        title=f"Demo on {run.robot_title}",
        subtitle=f"policy {run.policy} · “{run.instruction}”",
        tone=tone,
        verdict=verdict,
        reasons=reasons,
        tiles=_tiles(run, times, seconds),
        sections=tuple(
            section
            for section in (
                _times_section(samples, times),
                _ladder_section(run, seconds),
                _camera_section(run),
                imagined_section(run.imagined, start_ns=run.start_ns),
                _joint_section(run),
                _facts_section(run),
            )
            if section is not None
        ),
        footer="Written by wam demo. Everything on this page is inside this file.",
    )


def _tiles(run: DemoRecording, times: dict[str, SampleSummary], seconds: float) -> tuple[Tile, ...]:
    jitter = [d for name, d in times.items() if name.startswith("command_jitter_")]
    chunk, age = times["chunk_inference_ms"], times["context_age_ms"]
    rung = _worst_rung(run)
    rung_tone = Tone.GOOD if rung == Ladder.NOMINAL else Tone.WARN if rung < Ladder.STOP else Tone.BAD
    rate = len(run.chunks) / seconds if seconds > 0 else float("nan")
    return (
        Tile("run", f"{seconds:.1f} s", f"{len(run.contexts)} planner contexts"),
        Tile("action chunks", str(len(run.chunks)), f"{number(rate)} per second"),
        Tile("chunk latency p50", f"{number(chunk.p50)} ms", f"p99 {number(chunk.p99)} ms"),
        Tile("context age p50", f"{number(age.p50)} ms", f"p99 {number(age.p99)} ms"),
        Tile(
            "command jitter p99",
            f"{number(max((d.p99 for d in jitter), default=float('nan')))} ms",
            f"p99.9 {number(max((d.p99_9 for d in jitter), default=float('nan')))} ms",
        ),
        Tile("worst rung", rung.name, f"{len(run.safety)} safety events", rung_tone),
    )


_ROW_TITLES = {
    "chunk_inference_ms": "chunk latency (routing and denoising) [ms]",
    "image_to_chunk_ms": "image stamp to chunk received [ms]",
    "planning_ms": "planning time of a context [ms]",
    "context_age_ms": "context age at the chunk [ms]",
    "phase_offset_rows": "phase offset [rows]",
}


def _row_title(name: str) -> str:
    if name in _ROW_TITLES:
        return _ROW_TITLES[name]
    arrival = name.startswith("command_arrival_jitter_")
    group = name.removeprefix("command_arrival_jitter_" if arrival else "command_jitter_").removesuffix("_ms")
    return f"command jitter, {group}, {'as received' if arrival else 'as sent'} [ms]"


def _times_section(samples: dict[str, Values], times: dict[str, SampleSummary]) -> Section:
    table = Table(
        ("quantity", "p50", "p99", "p99.9", "max", "count"),
        tuple(
            (
                _row_title(name),
                *(number(value) for value in (d.p50, d.p99, d.p99_9, d.maximum)),
                str(d.count),
            )
            for name, d in times.items()
        ),
    )
    shown = [
        name
        for name in samples
        if samples[name].size and (name in _ROW_TITLES or name.startswith("command_jitter_"))
    ]
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
        intro="Command jitter is the deviation of each interval between two commands from the nominal interval.",
    )


def _ladder_section(run: DemoRecording, seconds: float) -> Section:
    spans = ladder_spans(run.safety, start_ns=run.start_ns, end_ns=run.end_ns)
    drawing = plots.timeline(
        [plots.Span(a, b, rung - 1, _RUNG_COLORS[rung]) for a, b, rung in spans],
        [rung.name for rung in Ladder],
        x_label="time [s]",
        x_range=(0.0, max(seconds, 1e-3)),
    )
    shown = run.safety[:EVENTS_SHOWN]
    rows = tuple(
        (
            f"{(event.stamp_ns - run.start_ns) / NS_PER_S:.3f} s",
            f"{event.ladder_from.name} → {event.ladder_to.name}",
            event.verdict.name,
            event.code,
            event.text,
        )
        for event in shown
    )
    left = len(run.safety) - len(shown)
    table = Table(
        ("time", "ladder", "verdict", "cause", "text"),
        rows,
        caption=f"and {left} more" if left else "",
        text=True,
    )
    blocks = (
        Charts((Chart("rung in force", drawing),), wide=True),
        table if rows else Text(("No safety event.",)),
    )
    return Section("Degrade ladder and safety events", blocks)


def _camera_section(run: DemoRecording) -> Section:
    cameras = tuple(dict.fromkeys(frame.camera for frame in run.frames))
    strips = []
    for camera in cameras:
        frames = [frame for frame in run.frames if frame.camera == camera]
        pictures = tuple(
            picture(frames[i].rgb, caption=f"{(frames[i].stamp_ns - run.start_ns) / NS_PER_S:.1f} s")
            for i in evenly(len(frames), STRIP_IMAGES)
        )
        strips.append(Strip(pictures, caption=f"camera {camera}"))
    return Section("Cameras", tuple(strips) or (Text(("No image was recorded.",)),))


def _joint_section(run: DemoRecording) -> Section:
    commanded = {name: (series, i) for series in run.commanded for i, name in enumerate(series.joint_names)}
    chunks = [run.chunks[i].chunk for i in evenly(len(run.chunks), CHUNKS_SHOWN)]
    charts = []
    for series in run.measured:
        for column, joint in enumerate(series.joint_names):
            lines = [_series_line("measured", series, column, plots.RECORDED, run.start_ns)]
            if joint in commanded:
                other, i = commanded[joint]
                lines.append(_series_line("commanded", other, i, plots.PREDICTED, run.start_ns))
            lines.append(_chunk_line(chunks, joint, run.start_ns))
            charts.append(Chart(joint, plots.line_chart(lines, x_label="time [s]", y_label="rad or m")))
    legend = (
        ("measured", plots.RECORDED),
        ("commanded", plots.PREDICTED),
        (f"rows of {len(chunks)} of {len(run.chunks)} chunks", plots.ROWS),
    )
    return Section("Joints", (Charts(tuple(charts), legend=legend),))


def _series_line(label: str, series: TopicSeries, column: int, color: str, start_ns: int) -> plots.Line:
    x = (series.stamps_ns - start_ns) / NS_PER_S
    return plots.Line(label, x, series.positions[:, column], color)


def _chunk_line(chunks: Sequence[ActionChunk], joint: str, start_ns: int) -> plots.Line:
    """Return all rows of `chunks` for one joint as a single line, broken between chunks."""
    xs, ys = [], []
    for chunk in chunks:
        if joint not in chunk.joint_names:
            continue
        rows = np.arange(len(chunk.rows)) * chunk.row_period_ns
        xs.append(np.append((chunk.stamp_ns - start_ns + rows) / NS_PER_S, np.nan))
        ys.append(np.append(chunk.rows[:, chunk.joint_names.index(joint)], np.nan))
    x = np.concatenate(xs) if xs else np.empty(0)
    y = np.concatenate(ys) if ys else np.empty(0)
    return plots.Line("chunk rows", x, y, plots.ROWS, width=0.8)


def _facts_section(run: DemoRecording) -> Section:
    rows = [
        ("robot", f"{run.robot} ({run.robot_title})"),
        ("policy", run.policy),
        ("contract hash", run.contract_hash),
        *((name, str(value)) for name, value in run.settings.items()),
        *((name.replace("_", " "), str(value)) for name, value in run.machine.items()),
    ]
    return Section("Environment", (Table((), tuple(rows), text=True),))
