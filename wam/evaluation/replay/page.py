# SPDX-License-Identifier: Apache-2.0
"""`index.html` of a replay: verdict, figures, joints recorded against predicted, times, cameras, environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from wam.core.words import counted
from wam.evaluation.metrics.figures import Figures
from wam.evaluation.metrics.metric import JOINT, Shown
from wam.evaluation.metrics.table import shown
from wam.evaluation.metrics.time_gaps import seconds_recorded
from wam.evaluation.replay.answers_page import answer_cards
from wam.evaluation.replay.collect import KeptPicture
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.error_page import error_section, errors_by_unit, is_mixed, step_section
from wam.evaluation.replay.player_page import player_section
from wam.evaluation.replay.safety_page import safety_section
from wam.evaluation.replay.sentences import contexts_and_judged
from wam.evaluation.replay.verdict_page import cell, gate_section, headline_of
from wam.report import plots
from wam.report.imagined import imagined_section
from wam.report.page import (
    Chart,
    Charts,
    Page,
    Section,
    Strip,
    Table,
    Text,
    Tile,
    number,
    picture,
    render,
)
from wam.report.read_on import next_section, words_section

MIXED = "The joints have different units; figures that would mix them are left out here, see the next table."


def build_page(data: ReplayData, figures: Figures, summary: dict[str, Any], timing: dict[str, Any]) -> str:
    """Return the page as HTML.

    Args:
        data: the replay.
        figures: its figures.
        summary: content of summary.json.
        timing: content of timing.json.
    """
    tone, headline, reasons = headline_of(data, figures)
    page = Page(
        title=f"Replay of {summary['recording']['name']}",
        subtitle=f"{data.robot.title} · policy {data.options.policy_name} · “{data.instruction}”",
        tone=tone,
        verdict=headline,
        reasons=reasons,
        answers=answer_cards(figures.answers),
        tiles=_tiles(data, figures, timing),
        sections=tuple(
            section
            for section in (
                player_section(data),
                gate_section(figures),
                _metric_section(data, figures),
                error_section(figures),
                _joint_section(data, figures),
                step_section(data, figures),
                safety_section(data),
                _time_section(data, timing),
                _camera_section(data),
                imagined_section(data.collector.imagined.records(), start_ns=data.first_ns),
                _recording_section(data, summary),
                next_section(STEPS),
                words_section(
                    "planner context",
                    "context age",
                    "chunk",
                    "chunk latency",
                    "phase offset",
                    "rung",
                    "held",
                    "refused",
                ),
                _environment_section(data, summary, timing),
            )
            if section is not None
        ),
        footer="Written by wam replay. Everything on this page is inside this file; the figures are in summary.json.",
    )
    return render(page)


STEPS = (
    ("two policies on this recording", "wam replay compare A B --page compare.html"),
    ("look at it in 3D", "wam replay BAG --robot ROBOT --policy POLICY --report OUT --rerun out.rrd"),
    ("what is wrong with the recording", "wam check BAG --robot ROBOT"),
    ("in closed loop, where it matters", "wam eval --task TASK --policy POLICY --report OUT"),
)
"""What to do after a replay."""


def _tiles(data: ReplayData, figures: Figures, timing: dict[str, Any]) -> tuple[Tile, ...]:
    metrics = figures.metrics
    action = figures.intervals["action_l1_normalised"]
    results = timing["results"]
    offset = metrics["phase_offset_p50_rows"]
    return (
        Tile("recording", f"{data.duration:.1f} s", counted(data.recording.message_count, "message")),
        Tile("chunks", str(data.collector.chunks), contexts_and_judged(metrics)),
        Tile(
            "action error (L1, of the range)",
            _percent(metrics["action_l1_normalised"]),
            f"95 %: {_percent(action.low)} to {_percent(action.high)}; {errors_by_unit(figures)}",
        ),
        Tile(
            "standing still (L1, of the range)",
            _percent(metrics["hold_l1_normalised"]),
            "for comparison",
        ),
        Tile(
            "context age p50",
            f"{_ms(metrics['context_age_p50_s'])} ms",
            f"p99 {_ms(metrics['context_age_p99_s'])} ms",
        ),
        Tile(
            "phase offset p50",
            f"{cell(offset)} rows",
            f"largest {cell(metrics['phase_offset_max_rows'])}",
        ),
        Tile(
            "seam jump p99 (of the range)",
            _percent(metrics["seam_jump_normalised_p99"]),
            f"largest {_percent(metrics['seam_jump_normalised_max'])}",
        ),
        Tile("speed", f"{cell(results['realtime_factor'])} x", "of real time on this host"),
    )


def _metric_section(data: ReplayData, figures: Figures) -> Section:
    rows = []
    mixed = is_mixed(figures)
    for metric in shown(Shown.PAGE | Shown.PAGE_IF_KNOWN):
        value, interval = figures.metrics[metric.name], figures.intervals.get(metric.name)
        if value is None and metric.shown & Shown.PAGE_IF_KNOWN:
            continue
        if mixed and metric.unit.startswith(JOINT):
            continue
        span = "" if interval is None else f"{number(interval.low)} to {number(interval.high)}"
        rows.append((metric.title, cell(value), span, metric.unit, metric.name))
    return Section(
        "Figures",
        (
            Table(
                ("", "value", "95 % interval", "unit", "name in summary.json"),
                tuple(rows),
                last_is_detail=True,
            ),
        ),
        intro=f"Chunks are compared with the {data.reference}. Executed means: always following the newest chunk "
        "that is out. " + (MIXED if mixed else 'Unit "joint": that of every joint of this policy.'),
    )


def _joint_section(data: ReplayData, figures: Figures) -> Section:
    times, targets, truth = data.collector.trajectory()
    seconds = seconds_recorded(times, start_ns=data.first_ns, gaps=data.gaps)
    boundaries = [data.seconds(ready) for ready in data.collector.ready_ns]
    charts = []
    for i, (name, joint) in enumerate(figures.joints.items()):
        lines = [
            plots.Line("reference", seconds, truth[:, i], plots.RECORDED, width=1.3),
            plots.Line("policy", seconds, targets[:, i], plots.PREDICTED, width=0.9),
        ]
        unit = figures.units[name]
        svg = plots.line_chart(lines, x_label="time [s]", y_label=_axis(unit), boundaries=boundaries)
        note = f"L1 {number(joint.l1)} {unit if unit != '1' else ''}".rstrip()
        charts.append(Chart(name, svg, note))
    crowded = len(boundaries) > plots.MAX_BOUNDARIES
    text = "" if crowded else "Faint verticals: a new chunk takes over."
    if crowded:
        text = (
            f"{len(boundaries)} chunks are too many to mark where each takes over; the last drawings show four "
            "seconds around the largest error, with marks."
        )
    legend = ((data.reference, plots.RECORDED), ("policy, as executed", plots.PREDICTED))
    blocks: list[Charts] = [Charts(tuple(charts), legend=legend)]
    if crowded:
        blocks.append(_close_up(data, figures, seconds, targets, truth, boundaries))
    return Section("Joints: recorded against predicted", tuple(blocks), intro=text.strip())


def _close_up(
    data: ReplayData, figures: Figures, seconds: Any, targets: Any, truth: Any, boundaries: list[float]
) -> Charts:
    """Return the joints that move most, over four seconds around the largest error, chunk boundaries marked."""
    joint_range = data.collector.errors.joint_range
    error = np.nan_to_num(np.abs(targets - truth) / joint_range)
    centre = float(seconds[int(np.argmax(error.mean(axis=1)))]) if len(seconds) else 0.0
    low = max(0.0, min(centre - 2.0, float(seconds[-1]) - 4.0)) if len(seconds) else 0.0
    inside = (seconds >= low) & (seconds <= low + 4.0)
    spread = np.ptp(np.nan_to_num(truth), axis=0) / joint_range if len(truth) else np.zeros(len(joint_range))
    marks = [b for b in boundaries if low <= b <= low + 4.0]
    names = tuple(figures.joints)
    charts = []
    for i in np.argsort(-spread)[:3]:
        name = names[int(i)]
        lines = [
            plots.Line("reference", seconds[inside], truth[inside, i], plots.RECORDED, width=1.3),
            plots.Line("policy", seconds[inside], targets[inside, i], plots.PREDICTED, width=0.9),
        ]
        svg = plots.line_chart(
            lines, x_label="time [s]", y_label=_axis(figures.units[name]), boundaries=marks
        )
        charts.append(Chart(f"{name}, around the largest error", svg))
    return Charts(tuple(charts))


def _time_section(data: ReplayData, timing: dict[str, Any]) -> Section:
    collector = data.collector
    age, offset = np.array(collector.context_age_ns) * 1e-6, np.array(collector.phase_offset_rows)
    chunk, plan = np.array(collector.denoise_ns) * 1e-6, np.array(collector.prefill_ns) * 1e-6
    latency = np.array(collector.image_to_chunk_ns) * 1e-6
    charts = tuple(
        Chart(title, plots.histogram(values, x_label=unit, marks=_marks(values)), note)
        for title, values, unit, note in (
            (
                "chunk latency on this host",
                chunk,
                "ms",
                "L_chunk: context, image encoding, routing, denoising",
            ),
            ("planning time on this host", plan, "ms", "L_prefill"),
            ("image to chunk, on the recording's clock", latency, "ms", "from image stamp to chunk out"),
            ("context age at the chunk", age, "ms", "chunk's image minus context's image"),
            ("phase offset", offset, "rows", "rows between the context's image and row 0"),
        )
    )
    settings = data.options.settings
    schedule = (
        f"On the recording's clock a plan takes {_latency(settings.planner_latency_ns)}, a chunk "
        f"{_latency(settings.executor_latency_ns)}, and a chunk starts every "
        f"{settings.executor_period_ns / 1e6:.0f} ms."
    )
    refusals = sorted(collector.refusals.items(), key=lambda item: -item[1])
    rows = tuple((node, reason, str(count)) for (node, reason), count in refusals)
    blocks: tuple[Charts | Table, ...] = (Charts(charts),)
    if rows:
        blocks += (Table(("node", "why it stayed silent", "times"), rows, text=True),)
    return Section("Latency, age and phase", blocks, intro=schedule)


def _camera_section(data: ReplayData) -> Section:
    collector = data.collector
    strips = []
    for camera in data.contract.camera_names:
        spread = tuple(_shown(data, p) for p in collector.pictures if p.camera == camera)
        worst = tuple(_shown(data, p) for p in collector.worst() if p.camera == camera)
        if spread:
            strips.append(Strip(spread, caption=f"{camera}, over the recording"))
        if worst:
            strips.append(
                Strip(
                    worst,
                    caption=f"{camera}, images with the largest errors (of the joints' range)",
                )
            )
    return Section("Cameras", tuple(strips) or (Text(("No image was used.",)),))


def _shown(data: ReplayData, kept: KeptPicture) -> Any:
    seconds = data.seconds(kept.stamp_ns)
    caption = f"{seconds:.2f} s" + ("" if np.isnan(kept.error) else f" · error {_percent(kept.error)}")
    return picture(kept.rgb, caption=caption)


def _recording_section(data: ReplayData, summary: dict[str, Any]) -> Section:
    rows = tuple(
        (
            report.topic,
            str(report.messages),
            number(report.rate),
            number(report.latency_p50_ms),
            str(report.gaps),
            str(report.without_stamp),
            str(report.negative_latency),
            str(report.out_of_order),
            str(report.clock_resets),
        )
        for report in data.stamps
    )
    columns = (
        "topic", "messages", "rate [Hz]", "latency p50 [ms]", "gaps", "no stamp", "negative latency", "out of order",
        "clock resets",
    )  # fmt: skip
    blocks: tuple[Table | Text, ...] = (Table(columns, rows),)
    if data.warnings:
        blocks += (Text(data.warnings, points=True),)
    skipped = summary["recording"]["skipped_topics"]
    if skipped:
        blocks += (Table(("topic not read", "because its type is"), tuple(skipped.items()), text=True),)
    return Section("Recording", blocks)


def _environment_section(data: ReplayData, summary: dict[str, Any], timing: dict[str, Any]) -> Section:
    policy, settings = summary["policy"], summary["settings"]
    rows = [
        ("robot", f"{data.robot.name} ({data.robot.title})"),
        ("policy", f"{policy['name']} ({policy['kind']})"),
        ("contract hash", policy["contract_hash"]),
        *((f"stage {name}", text) for name, text in policy["backends"].items()),
        *((name.replace("_", " "), str(value)) for name, value in settings.items() if value != ""),
        *((name.replace("_", " "), str(value)) for name, value in timing["machine"].items()),
        ("run time", f"{timing['results']['wall_s']} s"),
        ("peak memory", f"{timing['results']['peak_rss_mb']} MB"),
    ]
    return Section("Environment", (Table((), tuple(rows), text=True),))


def _marks(values: Any) -> tuple[tuple[str, float], ...]:
    if not len(values):
        return ()
    return (("p50", float(np.percentile(values, 50))), ("p99", float(np.percentile(values, 99))))


def _percent(share: float | None) -> str:
    told = "–" if share is None else number(100.0 * round(share, 6))
    return told if told == "–" else f"{told} %"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else number(1e3 * seconds)


def _latency(value_ns: int | None) -> str:
    return "as long as it took here" if value_ns is None else f"{value_ns / 1e6:.0f} ms"


def _axis(unit: str) -> str:
    return "share of range" if unit == "1" else f"[{unit}]"
