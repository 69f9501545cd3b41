# SPDX-License-Identifier: Apache-2.0
"""`index.html` of a replay: verdict, figures, joints recorded against predicted, times, cameras, environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from wam.core.clock import NS_PER_S
from wam.evaluation.metrics.figures import (
    ReplayData,
    flat_metrics,
    intervals,
    joint_numbers,
    joint_units,
    verdict,
)
from wam.evaluation.metrics.gate import GateCheck
from wam.evaluation.replay.collect import KeptPicture
from wam.evaluation.replay.safety_page import safety_section
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
    Tone,
    number,
    picture,
    render,
)

METRIC_TITLES = {
    "action_mse": "mean squared error of all rows",
    "action_mse_normalised": "the same, joints divided by their range",
    "action_l1": "mean absolute error of all rows",
    "action_l1_normalised": "mean absolute error, joints divided by their range",
    "first_action_l1": "mean absolute error of the first row",
    "warped_l1": "mean absolute error when timing is forgiven (time warping)",
    "hold_l1": "mean absolute error of standing still",
    "skill": "skill against standing still (1 is perfect, 0 no better)",
    "executed_mse": "mean squared error of what would have been executed",
    "executed_l1": "mean absolute error of what would have been executed",
    "commanded_l1": "mean absolute error of what the safety node would have sent",
    "gripper_agreement": "agreement about when grippers and fingers open and close (F1, within 0.3 s)",
    "coverage": "share of time with a valid row",
    "jerk_rms": "jerk of the executed rows, RMS over time, mean over joints",
    "commanded_jerk_rms": "jerk of what the safety node would have sent",
    "reference_jerk_rms": "jerk of the reference",
    "seam_jump_mean": "largest joint's jump where chunks meet, mean",
    "seam_jump_p99": "the same, 99th percentile",
    "seam_jump_max": "the same, largest",
    "overlap_l1": "disagreement of consecutive chunks about common rows",
    "safety_refused_rate": "share of chunks that the safety chain would have refused",
    "safety_nominal_share": "share of time on the ladder's lowest rung, all well",
    "safety_hold_share": "share of time in which the arm would have been held",
    "safety_stops": "latched stops",
    "deadline_miss_rate": "share of chunks that took longer than the executor's period",
    "imagination_mse": "mean squared error of the imagined future, in the policy's features",
    "imagination_still_mse": "the same of a future that looks like the present",
    "imagination_skill": "skill of the imagination against that (1 is perfect, 0 no better)",
    "imagination_cosine": "cosine similarity of imagined and observed future",
    "rows_beyond_limits": "rows beyond a joint's position limits",
    "steps_too_fast": "steps between rows faster than a joint's velocity limit",
}


def build_page(
    judged: ReplayData, summary: dict[str, Any], timing: dict[str, Any], checks: tuple[GateCheck, ...]
) -> str:
    """Return the page as HTML."""
    tone, headline, reasons = _headline(judged, checks)
    page = Page(
        title=f"Replay of {summary['recording']['name']}",
        subtitle=f"{judged.robot.title} · policy {judged.options.policy_name} · “{judged.instruction}”",
        tone=tone,
        verdict=headline,
        reasons=reasons,
        tiles=_tiles(judged, timing),
        sections=tuple(
            section
            for section in (
                _gate_section(checks),
                _metric_section(judged),
                _joint_section(judged),
                _step_section(judged),
                safety_section(judged),
                _time_section(judged, timing),
                _camera_section(judged),
                imagined_section(judged.collector.imagined.records(), start_ns=judged.first_ns),
                _recording_section(judged, summary),
                _environment_section(judged, summary, timing),
            )
            if section is not None
        ),
        footer="Written by wam replay. Everything on this page is inside this file; the figures are in summary.json.",
    )
    return render(page)


def _headline(judged: ReplayData, checks: tuple[GateCheck, ...]) -> tuple[Tone, str, tuple[str, ...]]:
    outcome = verdict(judged, checks)
    if outcome == "fault":
        return (
            Tone.BAD,
            "The policy produced what must not reach a robot",
            tuple(
                f"{event.node} at {(event.time_ns - judged.first_ns) / NS_PER_S:.2f} s: {event.error}"
                for event in judged.collector.faults
            ),
        )
    failed = [check for check in checks if not check.passed]
    if failed:
        return (
            Tone.BAD,
            f"Gate failed: {len(failed)} of {len(checks)} thresholds",
            tuple(
                f"{check.threshold.metric} is {_value(check.value)}, allowed {check.threshold.text()}"
                for check in failed
            ),
        )
    remarks = judged.warnings[:6]
    if checks:
        return Tone.GOOD, f"Gate passed: all {len(checks)} thresholds", remarks
    return Tone.PLAIN, "Not judged: no gate was given", (_plain_words(judged), *remarks)


def _plain_words(judged: ReplayData) -> str:
    metrics = flat_metrics(judged)
    skill = metrics["skill"]
    if skill is None:
        return "nothing was recorded that the chunks could be compared with"
    interval = intervals(judged)["better_than_hold_rate"]
    comparison = "closer to" if skill > 0 else "further from"
    return (
        f"the chunks are {comparison} the {_reference(judged)} than standing still would be "
        f"(better in {100 * interval.value:.0f} % of {interval.count} chunks)"
    )


def _reference(judged: ReplayData) -> str:
    return "recorded action" if judged.from_action else "state measured later"


def _tiles(judged: ReplayData, timing: dict[str, Any]) -> tuple[Tile, ...]:
    metrics = flat_metrics(judged)
    action = intervals(judged)["action_l1"]
    results = timing["results"]
    offset = metrics["phase_offset_p50_rows"]
    return (
        Tile("recording", f"{judged.duration:.1f} s", f"{judged.recording.message_count} messages"),
        Tile("chunks", str(judged.collector.chunks), f"{judged.collector.contexts} planner contexts"),
        Tile(
            "action error (L1)",
            _value(metrics["action_l1"]),
            f"95 %: {number(action.low)} to {number(action.high)}",
        ),
        Tile("standing still (L1)", _value(metrics["hold_l1"]), "for comparison"),
        Tile(
            "context age p50",
            f"{_ms(metrics['context_age_p50_s'])} ms",
            f"p99 {_ms(metrics['context_age_p99_s'])} ms",
        ),
        Tile(
            "phase offset p50",
            f"{_value(offset)} rows",
            f"largest {_value(metrics['phase_offset_max_rows'])}",
        ),
        Tile(
            "seam jump p99", _value(metrics["seam_jump_p99"]), f"largest {_value(metrics['seam_jump_max'])}"
        ),
        Tile("speed", f"{_value(results['realtime_factor'])} x", "of real time on this host"),
    )


def _gate_section(checks: tuple[GateCheck, ...]) -> Section | None:
    if not checks:
        return None
    rows = tuple(
        (c.threshold.metric, c.threshold.text(), _value(c.value), "pass" if c.passed else "FAIL")
        for c in checks
    )
    return Section("Gate", (Table(("metric", "allowed", "measured", ""), rows, text=True),))


def _metric_section(judged: ReplayData) -> Section:
    metrics, spans = flat_metrics(judged), intervals(judged)
    rows = tuple(
        (
            title,
            _value(metrics[name]),
            f"{number(spans[name].low)} to {number(spans[name].high)}" if name in spans else "",
            name,
        )
        for name, title in METRIC_TITLES.items()
        if metrics[name] is not None or not name.startswith(("imagination", "gripper"))
    )
    return Section(
        "Figures",
        (Table(("", "value", "95 % interval", "name in summary.json"), rows, last_is_detail=True),),
        intro=f"Chunks are compared with the {_reference(judged)}, in the joints' own units (rad, m, or 1 for a "
        "fraction of the range). Executed means: always following the newest chunk that is out.",
    )


def _joint_section(judged: ReplayData) -> Section:
    times, targets, truth = judged.collector.trajectory()
    seconds = (times - judged.first_ns) / NS_PER_S
    boundaries = [(ready - judged.first_ns) / NS_PER_S for ready in judged.collector.ready_ns]
    numbers, units = joint_numbers(judged), joint_units(judged)
    charts = []
    for i, (name, figures) in enumerate(numbers.items()):
        lines = [
            plots.Line("reference", seconds, truth[:, i], plots.RECORDED, width=1.3),
            plots.Line("policy", seconds, targets[:, i], plots.PREDICTED, width=0.9),
        ]
        svg = plots.line_chart(lines, x_label="time [s]", y_label=_axis(units[i]), boundaries=boundaries)
        note = f"L1 {number(figures.l1)} {units[i] if units[i] != '1' else ''}".rstrip()
        charts.append(Chart(name, svg, note))
    crowded = len(boundaries) > plots.MAX_BOUNDARIES
    text = "" if crowded else "Faint verticals: a new chunk takes over."
    if crowded:
        text = (
            f"{len(boundaries)} chunks are too many to mark where each takes over; the last drawings show four "
            "seconds around the largest error, with marks."
        )
    legend = ((_reference(judged), plots.RECORDED), ("policy, as executed", plots.PREDICTED))
    blocks: list[Charts] = [Charts(tuple(charts), legend=legend)]
    if crowded:
        blocks.append(_close_up(judged, seconds, targets, truth, boundaries))
    return Section("Joints: recorded against predicted", tuple(blocks), intro=text.strip())


def _close_up(judged: ReplayData, seconds: Any, targets: Any, truth: Any, boundaries: list[float]) -> Charts:
    """Return the joints that move most, over four seconds around the largest error, chunk boundaries marked."""
    error = np.nan_to_num(np.abs(targets - truth))
    centre = float(seconds[int(np.argmax(error.mean(axis=1)))]) if len(seconds) else 0.0
    low = max(0.0, min(centre - 2.0, float(seconds[-1]) - 4.0)) if len(seconds) else 0.0
    inside = (seconds >= low) & (seconds <= low + 4.0)
    spread = np.nan_to_num(np.nanmax(np.nan_to_num(truth), axis=0) - np.nanmin(np.nan_to_num(truth), axis=0))
    marks = [b for b in boundaries if low <= b <= low + 4.0]
    charts = []
    for i in np.argsort(-spread)[:3]:
        name = judged.contract.action_joints[int(i)]
        lines = [
            plots.Line("reference", seconds[inside], truth[inside, i], plots.RECORDED, width=1.3),
            plots.Line("policy", seconds[inside], targets[inside, i], plots.PREDICTED, width=0.9),
        ]
        svg = plots.line_chart(
            lines, x_label="time [s]", y_label=_axis(joint_units(judged)[int(i)]), boundaries=marks
        )
        charts.append(Chart(f"{name}, around the largest error", svg))
    return Charts(tuple(charts))


def _step_section(judged: ReplayData) -> Section | None:
    l1 = judged.collector.errors.per_step()[1]
    if not len(l1) or np.isnan(l1).all():
        return None
    x = np.arange(len(l1)) * judged.contract.control_period_ns / NS_PER_S
    steps = Chart(
        "error by row of the chunk",
        plots.line_chart(
            [plots.Line("L1", x, l1, plots.PREDICTED)],
            x_label="time after the image [s]",
            y_label="L1",
            height=1.9,
        ),
    )
    numbers = joint_numbers(judged)
    worst = sorted(numbers, key=lambda name: -np.nan_to_num(numbers[name].l1))[:12]
    bars = Chart(
        "joints with the largest error",
        plots.bar_chart(worst, [numbers[name].l1 for name in worst], x_label="L1 [unit of the joint]"),
    )
    return Section("Where the error is", (Charts((steps, bars)),))


def _time_section(judged: ReplayData, timing: dict[str, Any]) -> Section:
    collector = judged.collector
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
    settings = judged.options.settings
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


def _camera_section(judged: ReplayData) -> Section:
    collector = judged.collector
    strips = []
    for camera in judged.contract.camera_names:
        spread = tuple(_shown(judged, p) for p in collector.pictures if p.camera == camera)
        worst = tuple(_shown(judged, p) for p in collector.worst() if p.camera == camera)
        if spread:
            strips.append(Strip(spread, caption=f"{camera}, over the recording"))
        if worst:
            strips.append(Strip(worst, caption=f"{camera}, images with the largest errors"))
    return Section("Cameras", tuple(strips) or (Text(("No image was used.",)),))


def _shown(judged: ReplayData, kept: KeptPicture) -> Any:
    seconds = (kept.stamp_ns - judged.first_ns) / NS_PER_S
    caption = f"{seconds:.2f} s" + ("" if np.isnan(kept.error) else f" · L1 {number(kept.error)}")
    return picture(kept.rgb, caption=caption)


def _recording_section(judged: ReplayData, summary: dict[str, Any]) -> Section:
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
        for report in judged.stamps
    )
    columns = (
        "topic", "messages", "rate [Hz]", "latency p50 [ms]", "gaps", "no stamp", "negative latency", "out of order",
        "clock resets",
    )  # fmt: skip
    blocks: tuple[Table | Text, ...] = (Table(columns, rows),)
    if judged.warnings:
        blocks += (Text(judged.warnings, points=True),)
    skipped = summary["recording"]["skipped_topics"]
    if skipped:
        blocks += (Table(("topic not read", "because its type is"), tuple(skipped.items()), text=True),)
    return Section("Recording", blocks)


def _environment_section(judged: ReplayData, summary: dict[str, Any], timing: dict[str, Any]) -> Section:
    policy, settings = summary["policy"], summary["settings"]
    rows = [
        ("robot", f"{judged.robot.name} ({judged.robot.title})"),
        ("policy", f"{policy['name']} ({policy['kind']})"),
        ("contract hash", policy["contract_hash"]),
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


def _value(value: float | None) -> str:
    if value is None:
        return "–"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else number(value)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else number(1e3 * seconds)


def _latency(value_ns: int | None) -> str:
    return "as long as it took here" if value_ns is None else f"{value_ns / 1e6:.0f} ms"


def _axis(unit: str) -> str:
    return "share of range" if unit == "1" else f"[{unit}]"
