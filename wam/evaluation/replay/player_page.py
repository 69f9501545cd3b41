# SPDX-License-Identifier: Apache-2.0
"""The interactive view of a replay's page: what was gathered, in whole numbers, within a budget of bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.metrics.chunks import Stamps, Table
from wam.evaluation.metrics.time_gaps import seconds_recorded
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.player import FanChunk, MarkKind
from wam.report import plots
from wam.report.ladder import RUNG_COLORS
from wam.report.page import Section, evenly
from wam.report.player import NO_PLOTLY, PlayerVideo, Scrubber, as_json, plotly_script

TITLE = "Video, joints and predictions at one time"

COMMANDED = "#059669"

DATA_BYTES = 3_500_000
"""Most bytes of the numbers; chunks of the fan are left out until they fit. With the videos (`film.MP4_BYTES`, a third
more in base64) and plotly.js (2 MB) the view then has at most 13 MB."""

LINE_NUMBERS = 240_000
"""Most numbers of all lines."""

LINE_POINTS = 2500
"""Most points of one line; a longer one is thinned so that no extreme is lost."""

RUNGS = 1500
"""Most stretches of the safety node's ladder."""

STEPS_PER_RANGE = 4
"""Decimals of a joint's range that numbers are rounded to."""

DIGITS = 4
"""Most decimals of the values at the cursor."""

LARGEST = 10**9
"""Numbers beyond are left out (as are those that are not finite) [steps]."""

MARK_COLORS = {
    MarkKind.FAULT: "#7f1d1d",
    MarkKind.LADDER: "#dc2626",
    MarkKind.REFUSED: "#f97316",
    MarkKind.SILENT: "#eab308",
    MarkKind.RECORDING: "#64748b",
    MarkKind.INSTRUCTION: "#0891b2",
    MarkKind.CONTEXT: "#94a3b8",
}

Rows = list[list[int | None]]


def player_section(data: ReplayData) -> Section:
    """Return the section with videos, joints, the fan of chunks and the events under one time cursor."""
    if not plotly_script():
        return Section(TITLE, (Scrubber((), "{}", missing=NO_PLOTLY),))
    filmed = data.player.filmed
    videos = tuple(PlayerVideo(one.camera, one.mp4, one.width, one.height, one.problem) for one in filmed)
    block = Scrubber(videos, _fitted(data))
    intro = (
        "Drag the bar, move over a plot, click an event, or use the arrow keys: all follow. Drag in a plot to zoom, "
        "double-click to undo it. The fan is what the chunk in force predicts, its neighbours faint; #t=12.3 in the "
        "address opens the page at that time."
    )
    return Section(TITLE, (block,), intro=" ".join((intro, *_thinned(data))))


def player_data(data: ReplayData, *, every: int = 1) -> dict[str, Any]:
    """Return what player.js draws.

    Times are whole milliseconds since the start without gaps, positions whole multiples of the joint's `step`, null
    where there is none.

    Args:
        data: the replay.
        every: only every n-th chunk that was kept is drawn.
    """
    steps = _steps(data)
    fan = data.player.fan.entries[::every]
    offsets = list(dict.fromkeys(tuple(chunk.offsets_ns.tolist()) for chunk in fan))
    numbers = {one: i for i, one in enumerate(offsets)}
    return {
        "end": round(1e3 * data.duration),
        "joints": _joints(data, steps),
        "shown": _moving_most(data, steps),
        "lines": _lines(data, steps),
        "offsets": [[round(offset / 1e6) for offset in one] for one in offsets],
        "chunks": [_chunk(data, chunk, steps, numbers) for chunk in fan],
        "kinds": [
            {"kind": kind.name.lower(), "label": kind.value, "color": MARK_COLORS[kind]} for kind in MarkKind
        ],
        "events": _events(data),
        "rungs": _rungs(data),
        "colors": {rung.name: color for rung, color in RUNG_COLORS.items()},
        "films": [{"camera": one.camera, "images": list(one.images_ms)} for one in data.player.filmed],
    }


def _fitted(data: ReplayData) -> str:
    """Return the data as JSON, with so few chunks that it fits."""
    every = 1
    while True:
        text = as_json(player_data(data, every=every))
        if len(text) <= DATA_BYTES or every > len(data.player.fan.entries):
            return text
        every *= 2


def _thinned(data: ReplayData) -> tuple[str, ...]:
    """Return a sentence for what was left out."""
    lines = []
    if data.player.fan.every > 1:
        lines.append(f"Of the chunks of this long recording every {data.player.fan.every}th is kept.")
    left_out = data.player.left_out()
    if left_out:
        names = ", ".join(f"every {every}th of “{kind.value}”" for kind, every in left_out.items())
        lines.append(f"Events are too many to mark: kept are {names}.")
    return tuple(lines)


def _steps(data: ReplayData) -> npt.NDArray[np.float64]:
    """Return what positions are whole multiples of, float64 [N]: a ten-thousandth of the range, or less."""
    span = data.collector.errors.joint_range
    return np.array([10.0 ** (math.floor(math.log10(one)) - STEPS_PER_RANGE) for one in span])


def _joints(data: ReplayData, steps: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    groups = {joint.name: group.name for group in data.robot.groups for joint in group.joints}
    units = {joint.name: joint.kind.unit for joint in data.robot.joints}
    return [
        {
            "name": name,
            "group": groups[name],
            "unit": units[name],
            "step": float(step),
            "digits": min(DIGITS, max(0, -round(math.log10(step)) - 1)),
        }
        for name, step in zip(data.contract.action_joints, steps, strict=True)
    ]


def _moving_most(data: ReplayData, steps: npt.NDArray[np.float64]) -> list[int]:
    """Return the joints by how much of their range they move, most first: as recorded, else as predicted."""
    table = data.player.reference()[1]
    if not table.size or np.isnan(table).all():
        table = data.collector.trajectory()[1]
    if not len(table):
        return list(range(len(steps)))
    known = np.where(np.isnan(table), 0.0, table)
    spread = (known.max(axis=0) - known.min(axis=0)) / data.collector.errors.joint_range
    return [int(i) for i in np.argsort(-spread, kind="stable")]


def _lines(data: ReplayData, steps: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    executed_ns, executed, _ = data.collector.trajectory()
    commanded_ns, commanded, _ = data.collector.commanded()
    limit = max(2, min(LINE_POINTS, LINE_NUMBERS // (3 * len(steps))))
    drawn = (
        (data.reference, plots.RECORDED, 2.0, *data.player.reference()),
        ("executed: newest chunk", plots.PREDICTED, 1.2, executed_ns, executed),
        ("commanded", COMMANDED, 1.2, commanded_ns, commanded),
    )
    return [
        {"name": name, "color": color, "width": width, **_line(data, times, table, steps, limit)}
        for name, color, width, times, table in drawn
        if len(times)
    ]


def _line(
    data: ReplayData, times_ns: Stamps, table: Table, steps: npt.NDArray[np.float64], limit: int
) -> dict[str, Any]:
    """Return the times, common to all joints or one list each, and a list of positions for every joint."""
    seconds = seconds_recorded(times_ns, start_ns=data.first_ns, gaps=data.gaps)
    if len(seconds) <= limit:
        return {"t": _ms(seconds), "v": _whole(table.T, steps[:, None])}
    # Half the limit: of every stretch up to four points are kept.
    thinned = [plots.thin(seconds, column, limit // 2) for column in table.T]
    return {
        "at": [_ms(x) for x, _ in thinned],
        "v": [_whole(y[None, :], steps[i])[0] for i, (_, y) in enumerate(thinned)],
    }


def _chunk(
    data: ReplayData,
    chunk: FanChunk,
    steps: npt.NDArray[np.float64],
    numbers: Mapping[tuple[int, ...], int],
) -> dict[str, Any]:
    return {
        "n": chunk.sequence,
        "r": round(1e3 * data.seconds(chunk.ready_ns)),
        "s": round(1e3 * data.seconds(chunk.stamp_ns)),
        "a": round(chunk.context_age_ns / 1e6),
        "o": numbers[tuple(chunk.offsets_ns.tolist())],
        "v": [number for row in _whole(chunk.rows, steps) for number in row],
    }


def _events(data: ReplayData) -> list[dict[str, Any]]:
    events = [
        {"t": round(1e3 * data.seconds(mark.time_ns)), "k": mark.kind.name.lower(), "x": mark.text}
        for mark in data.player.marks()
    ]
    events += [
        {
            "t": round(1e3 * data.seconds(gap.start_ns)),
            "k": MarkKind.RECORDING.name.lower(),
            "x": f"nothing was recorded for {gap.length_ns / NS_PER_S:.1f} s, left out here",
        }
        for gap in data.gaps
    ]
    return sorted(events, key=lambda event: int(event["t"]))


def _rungs(data: ReplayData) -> list[dict[str, Any]]:
    """Return where every stretch on the ladder begins."""
    safety = data.collector.safety
    if not safety.moves and not safety.rungs:
        return []
    # Every run begins in HOLD.
    moves = [(0.0, Ladder.HOLD), *((data.seconds(time_ns), rung) for time_ns, rung in safety.moves)]
    return [{"t": round(1e3 * moves[i][0]), "name": moves[i][1].name} for i in evenly(len(moves), RUNGS)]


def _ms(seconds: npt.NDArray[np.float64]) -> list[int]:
    whole: list[int] = np.rint(1e3 * seconds).astype(np.int64).tolist()
    return whole


def _whole(table: npt.ArrayLike, step: npt.ArrayLike) -> Rows:
    """Return a table in whole steps; None where a number is not finite or absurd."""
    scaled = np.rint(np.asarray(table, dtype=np.float64) / np.asarray(step))
    known = np.isfinite(scaled) & (np.abs(scaled) < LARGEST)
    whole = np.where(known, scaled, 0.0).astype(np.int64).tolist()
    if known.all():
        rows: Rows = whole
        return rows
    return [
        [number if good else None for number, good in zip(*pair, strict=True)]
        for pair in zip(whole, known.tolist(), strict=True)
    ]
