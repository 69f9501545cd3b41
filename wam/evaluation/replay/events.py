# SPDX-License-Identifier: Apache-2.0
"""`events.jsonl`: everything a replay gave, one JSON object per line, in order; the same bytes at every repetition."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from wam.core.errors import RecordingError
from wam.evaluation.metrics.chunks import ChunkScore
from wam.evaluation.replay.engine import (
    ChunkEvent,
    ContextEvent,
    Event,
    FaultEvent,
    ImaginationEvent,
    NoticeEvent,
    RefusalEvent,
)
from wam.evaluation.replay.safety_events import CommandEvent, LadderEvent, VerdictCountEvent, VerdictEvent

_Written = (
    ChunkEvent
    | ContextEvent
    | RefusalEvent
    | NoticeEvent
    | ImaginationEvent
    | FaultEvent
    | VerdictEvent
    | LadderEvent
)

DIGITS = 6
"""Digits after the point of action values: a micrometre, a microradian."""


class EventWriter:
    """Writes events; host times are left out, since they differ from run to run.

    Args:
        file: text file to write to.
        with_inference: write how long chunks took; False where that was measured on this host.
    """

    def __init__(self, file: IO[str], *, with_inference: bool) -> None:
        self._file = file
        self._with_inference = with_inference
        self._last_refusal: tuple[str, str] | None = None

    def event(self, event: Event) -> None:
        """Write one event; a refusal that repeats the one before is written once, commands and counts not at all."""
        if isinstance(event, CommandEvent | VerdictCountEvent):
            return
        if isinstance(event, RefusalEvent):
            key = (event.node, event.reason)
            if key == self._last_refusal:
                return
            self._last_refusal = key
        elif isinstance(event, ChunkEvent):
            self._last_refusal = None
        self._write(_fields(event, self._with_inference))

    def score(self, score: ChunkScore) -> None:
        """Write how far a chunk was from the reference."""
        self._write(
            {
                "event": "score",
                "generation": score.generation,
                "sequence": score.sequence,
                "stamp_ns": score.stamp_ns,
                "rows": score.rows,
                "mse": _number(score.mse),
                "l1": _number(score.l1),
                "normalised_mse": _number(score.normalised_mse),
                "normalised_l1": _number(score.normalised_l1),
                "first_l1": _number(score.first_l1),
                "hold_l1": _number(score.hold_l1),
                "repeat_l1": _number(score.repeat_l1),
                "normalised_hold_l1": _number(score.normalised_hold_l1),
                "normalised_repeat_l1": _number(score.normalised_repeat_l1),
                "warped_l1": _number(score.warped_l1),
            }
        )

    def _write(self, fields: dict[str, Any]) -> None:
        self._file.write(
            json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        )


def read_events(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Give the events of one kind ("context", "chunk", "score", "verdict", "ladder", "imagination", ...).

    Raises:
        RecordingError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                fields = json.loads(line)
                if fields["event"] == kind:
                    yield fields
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordingError(
            f"{path} cannot be read ({error})", allowed="events.jsonl of a replay report", where=str(path)
        ) from error


def _fields(event: _Written, with_inference: bool) -> dict[str, Any]:
    if isinstance(event, ChunkEvent):
        chunk = event.chunk
        fields: dict[str, Any] = {
            "event": "chunk",
            "start_ns": event.start_ns,
            "ready_ns": event.ready_ns,
            "stamp_ns": chunk.stamp_ns,
            "generation": chunk.generation,
            "sequence": chunk.sequence,
            "context_version": chunk.context_version,
            "context_age_ns": chunk.context_age_ns,
            "phase_offset_rows": chunk.phase_offset_rows,
            "row_period_ns": chunk.row_period_ns,
        }
        if with_inference:
            fields["inference_ns"] = chunk.inference_ns
        # Adding zero makes -0.0 a plain 0.0.
        fields["rows"] = [[round(x, DIGITS) + 0.0 for x in row] for row in chunk.rows.tolist()]
        return fields
    if isinstance(event, ContextEvent):
        header = event.header
        return {
            "event": "context",
            "start_ns": event.start_ns,
            "ready_ns": event.ready_ns,
            "stamp_ns": header.stamp_ns,
            "generation": header.generation,
            "version": header.version,
            "instruction": header.instruction,
        }
    if isinstance(event, RefusalEvent):
        return {"event": "refusal", "time_ns": event.time_ns, "node": event.node, "reason": event.reason}
    if isinstance(event, NoticeEvent):
        notice = event.notice
        return {
            "event": "notice",
            "time_ns": event.time_ns,
            "kind": notice.kind.value,
            "stream": notice.stream,
            "text": notice.text,
        }
    if isinstance(event, ImaginationEvent):
        return {
            "event": "imagination",
            "time_ns": event.time_ns,
            "generation": event.error.generation,
            "sequence": event.error.sequence,
            "stamp_ns": event.error.stamp_ns,
            "target_stamp_ns": event.error.target_stamp_ns,
            "mse": _rounded(event.error.mse),
            "still_mse": _rounded(event.error.still_mse),
            "cosine": _rounded(event.error.cosine),
        }
    if isinstance(event, FaultEvent):
        return {"event": "fault", "time_ns": event.time_ns, "node": event.node, "text": str(event.error)}
    return _safety_fields(event)


def _safety_fields(event: VerdictEvent | LadderEvent) -> dict[str, Any]:
    if isinstance(event, VerdictEvent):
        return {
            "event": "verdict",
            "time_ns": event.time_ns,
            "generation": event.generation,
            "sequence": event.outcome.sequence,
            "verdict": event.verdict.name,
            "findings": list(dict.fromkeys(finding.code for finding in event.outcome.findings)),
            "text": "" if event.finding is None else event.finding.text,
        }
    moved = event.event
    return {
        "event": "ladder",
        "time_ns": event.time_ns,
        "before": moved.before.name,
        "after": moved.after.name,
        "sequence": moved.chunk_sequence,
        "code": moved.finding.code,
        "text": moved.finding.text,
    }


def _number(value: float) -> float | None:
    # Twelve significant digits: more would show how the machine rounds sums, not what was measured.
    return float(f"{value:.12g}") if value == value else None


def _rounded(value: float) -> float:
    # A tensor library's last digits depend on how many threads it had.
    return float(f"{value:.6g}")
