# SPDX-License-Identifier: Apache-2.0
"""Sections of a demo's report: the degrade ladder and its causes, the joints, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from wam.core.chunk import ActionChunk
from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.page import LOGS
from wam.evaluation.closed_loop.scores import EpisodeRecord
from wam.evaluation.happened import percent, plain
from wam.evaluation.records import SafetyRecord, TopicSeries
from wam.report import plots
from wam.report.ladder import ladder_drawing
from wam.report.page import Block, Chart, Charts, Section, Table, Text, evenly
from wam.report.read_on import next_section
from wam.sim.tasks.free import FREE
from wam.stack.demo_recording import DemoRecording, DemoSignals

CHUNKS_SHOWN = 40
EVENTS_SHOWN = 60


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


def ladder_section(run: DemoRecording) -> Section:
    """Return the rungs over time, what held the robot, and every cause once."""
    episode = run.episode
    spans = ladder_spans(episode.safety, start_ns=0, end_ns=round(episode.time * NS_PER_S))
    drawing = ladder_drawing(spans, end=episode.time)
    blocks: list[Block] = [Charts((Chart("rung of the degrade ladder", drawing),), wide=True)]
    if episode.held:
        texts = {event.code: event.text for event in reversed(episode.safety)}
        held = tuple(
            (f"{plain(cause)} ({cause})", percent(share), texts.get(cause, "before the first event"))
            for cause, share in run.held_causes.items()
        )
        blocks.append(Table(("held by", "time", "for example"), held, text=True))
    blocks.append(_cause_table(episode) if episode.safety else Text(("No safety event.",)))
    return Section("Degrade ladder and safety events", tuple(blocks))


def _cause_table(episode: EpisodeRecord) -> Table:
    """Return every cause once: how often it was reported, when first, and what was said then."""
    first: dict[str, SafetyRecord] = {}
    for event in episode.safety:
        first.setdefault(event.code, event)
    times = Counter(event.code for event in episode.safety)
    rows = tuple(
        (
            code.replace("_", " "),
            f"{times[code]}, first at {event.stamp_ns / NS_PER_S:.2f} s",
            f"{event.ladder_from.name} → {event.ladder_to.name}: {event.text}",
        )
        for code, event in first.items()
    )
    return Table(("event", "times", "what was said first"), rows, text=True)


def event_section(run: DemoRecording) -> Section | None:
    """Return all events in order, folded; None where there are none."""
    episode = run.episode
    shown = episode.safety[:EVENTS_SHOWN]
    rows = tuple(
        (
            f"{event.stamp_ns / NS_PER_S:.2f} s",
            f"{event.ladder_from.name} → {event.ladder_to.name}",
            f"{event.code}: {event.text}",
        )
        for event in shown
    )
    table = Table(
        ("time", "ladder", "cause"),
        rows,
        caption=f"the first {len(shown)} of {len(episode.safety)} events"
        if len(episode.safety) > len(shown)
        else "",
        text=True,
    )
    return Section("Safety events in order", (table,), folded=True) if rows else None


def steps_section(run: DemoRecording) -> Section:
    """Return what to do next."""
    evaluation, seed = run.evaluation, run.episode.seed
    demo = f"wam demo {evaluation.robot} --task {evaluation.task} --policy {evaluation.policy} --seed"
    steps = [("this episode again", f"{demo} {seed}"), ("another arrangement", f"{demo} {seed + 1}")]
    if evaluation.task != FREE:
        steps.append(
            (
                "how often it succeeds",
                f"wam eval --task {evaluation.task} --policy {evaluation.policy} --episodes 20 --report out",
            )
        )
    steps.append(
        (
            "judge a policy on your own recording",
            "wam replay BAG --robot ROBOT --policy POLICY --report out",
        )
    )
    return next_section(steps, logs=LOGS)


def joint_section(run: DemoSignals) -> Section:
    """Return the joints over time, with the chunks behind them."""
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
            charts.append(
                Chart(joint, plots.line_chart(lines, x_label="time [s]", y_label=run.units.get(joint, "")))
            )
    legend = (
        ("measured", plots.RECORDED),
        ("commanded", plots.PREDICTED),
        (f"rows of {len(chunks)} of {len(run.chunks)} chunks", plots.ROWS),
    )
    return Section("Joints", (Charts(tuple(charts), legend=legend),))


def _series_line(label: str, series: TopicSeries, column: int, color: str, start_ns: int) -> plots.Line:
    x = (series.stamps_ns - start_ns) / NS_PER_S
    return plots.Line(label, np.where(x < 0.0, np.nan, x), series.positions[:, column], color)


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
    return plots.Line("chunk rows", np.where(x < 0.0, np.nan, x), y, plots.ROWS, width=0.8)
