# SPDX-License-Identifier: Apache-2.0
"""What a viewer is shown of a replay: cameras, joints, chunks, the robot twice, rungs and events, and the arrangement.

recording, read again -> cameras, measured joints -> the robot as it was
collector             -> reference, policy as executed, commands -> the robot as it would have been told
events.jsonl          -> chunks (a series each, and where the tip would go), rungs, the log
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.verdict import Ladder
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.viewer_recording import JPEG_WIDTH, MAX_BYTES, RecordedView, read_again
from wam.evaluation.replay.viewer_robot import COMMANDED as COMMANDED_ROBOT
from wam.evaluation.replay.viewer_robot import RECORDED, ViewedRobot
from wam.evaluation.replay.viewer_sink import Colour, Entity, Layout, LogLevel, Times, Values, ViewerSink

MEASURED: Colour = (15, 23, 42, 255)
REFERENCE: Colour = (100, 116, 139, 255)
POLICY: Colour = (29, 78, 216, 255)
COMMANDED: Colour = (194, 65, 12, 255)
CHUNK: Colour = (96, 165, 250, 110)

JOINTS_OF_A_TAB = 9
MAX_LANES = 32
"""Series that the chunks of a joint are dealt out to; chunks that overlap even then are cut where the next begins."""

MAX_LINES = 5_000
"""Lines of the log; further ones are counted."""

RUNG: Entity = ("safety", "rung")
AGE: Entity = ("times", "context age")
LATENCY: Entity = ("times", "image to chunk")
LOG: Entity = ("events",)
FANS: Entity = ("chunks in 3D",)
ABOUT: Entity = ("about", "this replay")


@dataclass(frozen=True, slots=True)
class ViewedChunk:
    """One predicted chunk.

    Attributes:
        ready_ns: when it was out [ns].
        times_ns: int64 [K], of its rows [ns].
        rows: float64 [K, N], joints of the action.
    """

    ready_ns: int
    times_ns: Times
    rows: npt.NDArray[np.float64]


def fill(sink: ViewerSink, data: ReplayData, events: Path) -> None:
    """Show a finished replay.

    Args:
        sink: what takes it.
        data: the replay; its recording is read a second time.
        events: its events.jsonl.

    Raises:
        RecordingError: the recording cannot be read again, or the events are damaged.
        ConfigError: the robot's model is faulty.
    """
    seen = read_again(data)
    chunks, lines = read_events(events)
    # First of all, so that a viewer that is still loading shows it arranged already.
    sink.arrange(
        Layout(
            cameras=tuple(("cameras", camera) for camera in seen.frames),
            world=() if data.robot.urdf is None else ((RECORDED,), (COMMANDED_ROBOT,), FANS),
            joints=tabs(data),
            rung=RUNG,
            ages=(AGE, LATENCY),
            log=LOG,
            about=(ABOUT,),
        )
    )
    for camera, frames in seen.frames.items():
        good = [i for i, jpeg in enumerate(frames.jpegs) if jpeg]
        sink.images(("cameras", camera), [frames.times_ns[i] for i in good], [frames.jpegs[i] for i in good])
    _show_robot(sink, data, seen, chunks)
    for column, name in enumerate(data.contract.action_joints):
        _show_joint(sink, data, seen, chunks, column, name)
    _show_times(sink, data)
    for (level, time_ns), texts in itertools.groupby(lines[:MAX_LINES], key=lambda one: (one[1], one[0])):
        kept = [text for _, _, text in texts]
        sink.log(LOG, [time_ns] * len(kept), kept, [level] * len(kept))
    sink.document(ABOUT, about(data, seen, chunks=len(chunks), left_out=max(0, len(lines) - MAX_LINES)))


def read_events(events: Path) -> tuple[list[ViewedChunk], list[tuple[int, LogLevel, str]]]:
    """Return the chunks of events.jsonl and its other events as lines of a log: time [ns], level, text."""
    chunks: list[ViewedChunk] = []
    lines: list[tuple[int, LogLevel, str]] = []
    with events.open(encoding="utf-8") as file:
        for text in file:
            event = json.loads(text)
            if event["event"] == "chunk":
                rows = np.array(event["rows"], dtype=np.float64)
                times = event["stamp_ns"] + event["row_period_ns"] * np.arange(len(rows), dtype=np.int64)
                chunks.append(ViewedChunk(event["ready_ns"], times, rows))
                continue
            line = _line(event)
            if line is not None:
                lines.append(line)
    return chunks, sorted(lines, key=lambda line: line[0])


def _line(event: Mapping[str, Any]) -> tuple[int, LogLevel, str] | None:
    kind = event["event"]
    if kind == "ladder":
        after = Ladder[event["after"]]
        level = (
            LogLevel.ERROR
            if after >= Ladder.HOLD
            else LogLevel.WARN
            if after > Ladder.NOMINAL
            else LogLevel.INFO
        )
        moved = "" if event["before"] == event["after"] else f"{event['before']} -> {event['after']}: "
        return event["time_ns"], level, f"{moved}{event['text']}"
    if kind == "verdict" and event["verdict"] != "OK":
        text = f"chunk {event['sequence']}: {event['verdict']}: {event['text']}"
        return event["time_ns"], LogLevel.WARN, text
    if kind == "refusal":
        return event["time_ns"], LogLevel.INFO, f"{event['node']}: no output: {event['reason']}"
    if kind == "notice":
        return event["time_ns"], LogLevel.WARN, event["text"]
    if kind == "fault":
        return event["time_ns"], LogLevel.ERROR, f"{event['node']} is at fault: {event['text']}"
    return None


def tabs(data: ReplayData) -> dict[str, tuple[tuple[str, Entity], ...]]:
    """Return the joints of the policy by group, at most nine to a tab."""
    wanted = set(data.contract.action_joints)
    found: dict[str, tuple[tuple[str, Entity], ...]] = {}
    for group in data.robot.groups:
        names = [name for name in group.joint_names if name in wanted]
        for start in range(0, len(names), JOINTS_OF_A_TAB):
            part = names[start : start + JOINTS_OF_A_TAB]
            label = (
                group.name
                if len(names) <= JOINTS_OF_A_TAB
                else f"{group.name} {start + 1}-{start + len(part)}"
            )
            found[label] = tuple((name, ("joints", name)) for name in part)
    return found


def lanes(chunks: Sequence[ViewedChunk], column: int) -> Iterator[tuple[Times, Values]]:
    """Yield the chunks of one joint as series in which no two overlap; NaN stands between two chunks.

    Args:
        chunks: in order of time.
        column: of the joint.
    """
    if not chunks:
        return
    length = max(int(chunk.times_ns[-1] - chunk.times_ns[0]) for chunk in chunks)
    steps = np.diff([chunk.times_ns[0] for chunk in chunks])
    step = int(np.median(steps[steps > 0])) if (steps > 0).any() else length
    count = min(MAX_LANES, max(1, math.ceil((length + 1) / max(1, step)) + 1))
    for lane in range(min(count, len(chunks))):
        mine = chunks[lane::count]
        times, values = [], []
        for chunk, after in itertools.zip_longest(mine, mine[1:]):
            until = np.iinfo(np.int64).max if after is None else after.times_ns[0] - 1
            kept = chunk.times_ns < until
            times += [chunk.times_ns[kept], chunk.times_ns[kept][-1:] + 1]
            values += [chunk.rows[kept, column], np.full(min(1, int(kept.sum())), np.nan)]
        yield np.concatenate(times), np.concatenate(values)


def _show_joint(
    sink: ViewerSink,
    data: ReplayData,
    seen: RecordedView,
    chunks: Sequence[ViewedChunk],
    column: int,
    name: str,
) -> None:
    times, targets, truth = data.collector.trajectory()
    sent_ns, sent, _ = data.collector.commanded()
    for lane, (lane_ns, values) in enumerate(lanes(chunks, column)):
        entity: Entity = ("joints", name, "chunks", str(lane))
        sink.style(entity, label="chunk", colour=CHUNK, width=1.0)
        sink.series(entity, lane_ns, values)
    measured = seen.positions[:, data.robot.joint_names.index(name)]
    for kind, at, line, colour, width in (
        ("measured", seen.times_ns, measured, MEASURED, 1.5),
        (data.reference, times, truth[:, column], REFERENCE, 2.5),
        ("policy, as executed", times, targets[:, column], POLICY, 1.5),
        ("commanded", sent_ns, sent[:, column], COMMANDED, 1.5),
    ):
        if kind == "measured" and not data.from_action:
            continue  # the reference is the measured state
        entity = ("joints", name, kind)
        sink.style(entity, label=kind, colour=colour, width=width)
        sink.series(entity, at, np.asarray(line, dtype=np.float64))


def _show_times(sink: ViewerSink, data: ReplayData) -> None:
    collector = data.collector
    ready = np.array(collector.ready_ns, dtype=np.int64)
    for entity, spans, colour in (
        (AGE, collector.context_age_ns, POLICY),
        (LATENCY, collector.image_to_chunk_ns, COMMANDED),
    ):
        sink.style(entity, label=entity[-1], colour=colour, width=1.5)
        sink.series(entity, ready, np.array(spans, dtype=np.float64) / NS_PER_S)
    times, rungs = rung_steps(collector.safety.moves, data.last_ns)
    label = ", ".join(f"{rung.value} {rung.name}" for rung in Ladder)
    sink.style(RUNG, label=label, colour=COMMANDED, width=2.0, steps=True)
    sink.series(RUNG, times, rungs)


def rung_steps(moves: Sequence[tuple[int, Ladder]], end_ns: int) -> tuple[Times, Values]:
    """Return the rung over time: each value stands until the next; the last is repeated at the end.

    Args:
        moves: time [ns] and new rung of every move, in order.
        end_ns: end of the recording [ns].
    """
    until = [(max(end_ns, moves[-1][0]), moves[-1][1])] if moves else []
    stands = [*moves, *until]
    return (
        np.array([time_ns for time_ns, _ in stands], dtype=np.int64),
        np.array([float(rung) for _, rung in stands]),
    )


def _show_robot(
    sink: ViewerSink, data: ReplayData, seen: RecordedView, chunks: Sequence[ViewedChunk]
) -> None:
    """Show the robot as it moved, as it would have been told to, and where the chunks would have led its tips."""
    if data.robot.urdf is None:
        return
    viewed = ViewedRobot(data.robot, data.contract.action_joints)
    recorded = viewed.recorded(seen.times_ns, seen.positions)
    sink.robot(recorded)
    sent_ns, sent, _ = data.collector.commanded()
    known = np.isfinite(sent).all(axis=1)
    if known.any():
        sink.robot(viewed.commanded(sent_ns[known], sent[known]))
    for tip, strips in viewed.fans(chunks, seen.times_ns, seen.positions).items():
        sink.strips((*FANS, tip), strips, frame=recorded.name)


def about(data: ReplayData, seen: RecordedView, *, chunks: int, left_out: int) -> str:
    """Return what the file holds and what was left out, as Markdown."""
    lines = [
        f"# Replay of {data.options.bag.resolve().name}",
        f"policy {data.options.policy_name}, robot {data.robot.name}, “{data.instruction}”",
        "",
        f"- joints: black is measured, grey the {data.reference}, blue the policy as executed (light: every chunk), "
        "orange what would have been commanded",
        f"- rung: {', '.join(f'{rung.value} {rung.name}' for rung in Ladder)}",
        "- robot: as recorded, and in orange as it would have been commanded; blue lines are where the newest chunks "
        "would lead its tips",
        f"- chunks: {chunks}, compared with the {data.reference}",
        *(
            f"- camera {camera}: {len(frames.jpegs)} of {frames.total} images, at most {JPEG_WIDTH} pixels wide"
            + (
                f" (every {frames.every}th: images take at most {MAX_BYTES >> 20} MiB)"
                if frames.every > 1
                else ""
            )
            for camera, frames in seen.frames.items()
        ),
    ]
    if data.robot.urdf is None:
        lines.append(f"- no 3D view: the file of robot {data.robot.name} has no model")
    if left_out:
        lines.append(f"- {left_out} further events are in events.jsonl of the report")
    lines += ["", *(f"- warning: {warning}" for warning in data.warnings)]
    return "\n".join(lines)
