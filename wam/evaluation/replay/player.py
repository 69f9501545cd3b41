# SPDX-License-Identifier: Apache-2.0
"""What the interactive view of a replay needs, gathered while it runs and bounded whatever its length."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.contract import PolicyContract
from wam.core.errors import ImageError
from wam.core.verdict import Ladder, Verdict
from wam.data.bag.joint_samples import JointSamples
from wam.evaluation.metrics.chunks import Stamps, Table
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS
from wam.evaluation.replay.collect import short_reason
from wam.evaluation.replay.engine import (
    ChunkEvent,
    ContextEvent,
    Event,
    FaultEvent,
    NoticeEvent,
    RefusalEvent,
)
from wam.evaluation.replay.film import FilmedCamera, films
from wam.evaluation.replay.safety_events import LadderEvent, VerdictEvent
from wam.report.page import evenly
from wam.robots.images import Size, decode_image
from wam.runtime.executor import STILL_EXECUTING

FAN_ROWS = 24
"""Rows of a chunk that are kept, first and last included."""

FAN_NUMBERS = 400_000
"""Numbers kept of all chunks; beyond twice as many, every second chunk is dropped."""

REFERENCE_ROWS = 20_000
"""Rows of the reference that are kept, about; beyond twice as many, every second one is dropped."""

MARKS = 300
"""Marks of one kind that are kept, about; beyond twice as many, every second one is dropped."""

TEXT_CHARS = 240

UNSEEN_S = 0.25
"""An image that nobody decodes is decoded for the film where there was none for so long [s]."""

Kept = TypeVar("Kept")


class MarkKind(enum.Enum):
    """What a mark on the timeline tells, the most serious first."""

    FAULT = "fault"
    LADDER = "hold, stop"
    REFUSED = "chunk refused"
    SILENT = "no output"
    RECORDING = "recording"
    INSTRUCTION = "instruction"
    CONTEXT = "context"


class Thinned(Generic[Kept]):
    """A list of bounded length: when it is full, every second entry goes, and later only every n-th comes in.

    Args:
        limit: at least so many are kept, and fewer than twice as many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._count = 0
        self.every = 1
        self.entries: list[Kept] = []

    def add(self, entry: Kept) -> None:
        """Add an entry, unless it is one of those that are left out."""
        if self._count % self.every == 0:
            self.entries.append(entry)
            if len(self.entries) >= 2 * self._limit:
                self.entries = self.entries[::2]
                self.every *= 2
        self._count += 1


@dataclass(frozen=True, slots=True)
class FanChunk:
    """A chunk of the fan.

    Attributes:
        sequence: its number.
        ready_ns: when it took over [ns].
        stamp_ns: time of row 0, that of its image [ns].
        context_age_ns: age of its context [ns].
        offsets_ns: int64 [K], time of each row kept after `stamp_ns` [ns].
        rows: float32 [K, N].
    """

    sequence: int
    ready_ns: int
    stamp_ns: int
    context_age_ns: int
    offsets_ns: Stamps
    rows: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TimelineMark:
    """Something that happened.

    Attributes:
        time_ns: when [ns].
        kind: of what kind.
        text: what, in at most 240 characters.
    """

    time_ns: int
    kind: MarkKind
    text: str


class PlayerRecord:
    """Gathers videos, the fan of chunks, the reference and the marks of one replay.

    Args:
        contract: of the policy.
        expected: camera -> images of it in the recording.
        seconds: turns a time into one of the report, without gaps [s].

    Attributes:
        fan: the chunks that were kept.
        filmed: the videos, once they are finished.
    """

    def __init__(
        self,
        contract: PolicyContract,
        *,
        expected: Mapping[str, int],
        seconds: Callable[[int], float],
    ) -> None:
        self._seconds = seconds
        self._films = films(expected)
        joints = max(1, len(contract.action_joints))
        rows = min(FAN_ROWS, max(contract.chunk_rows, 1))
        self.fan: Thinned[FanChunk] = Thinned(FAN_NUMBERS // (joints * rows))
        self._reference: Thinned[tuple[int, Table]] = Thinned(REFERENCE_ROWS)
        self._reference_step_ns = contract.control_period_ns
        self._reference_ns: int | None = None
        self._marks = {kind: Thinned[TimelineMark](MARKS) for kind in MarkKind}
        self._silence: dict[str, str] = {}
        self._instruction: str | None = None
        self.filmed: tuple[FilmedCamera, ...] = ()

    def take(self, event: Event) -> None:
        """Take one event; events come in order of time."""
        if isinstance(event, ChunkEvent):
            self._take_chunk(event)
        elif isinstance(event, ContextEvent):
            self._take_context(event)
        elif isinstance(event, RefusalEvent):
            self._take_silence(event)
        elif isinstance(event, FaultEvent):
            self._mark(event.time_ns, MarkKind.FAULT, f"{event.node} fault: {event.error}")
        elif isinstance(event, NoticeEvent):
            self._mark(event.time_ns, MarkKind.RECORDING, event.notice.text)
        elif isinstance(event, VerdictEvent):
            if event.verdict >= Verdict.HOLD and event.finding is not None:
                text = f"chunk {event.outcome.sequence} refused: {event.finding.text}"
                self._mark(event.time_ns, MarkKind.REFUSED, text)
        elif isinstance(event, LadderEvent):
            move = event.event
            if move.after is not move.before and move.after >= Ladder.HOLD:
                self._mark(event.time_ns, MarkKind.LADDER, f"{move.after.name}: {move.finding.text}")

    def take_image(self, camera: str, message: Any, *, time_ns: int, size: Size) -> None:
        """Take a camera message as it is delivered; it is decoded only where no chunk was computed for a while.

        Args:
            camera: its camera.
            message: sensor_msgs/Image or CompressedImage.
            time_ns: its time [ns].
            size: height and width expected [px].
        """
        film = self._films.get(camera)
        if film is None:
            return
        film.count()
        seconds = self._seconds(time_ns)
        if not film.wants(seconds, after=UNSEEN_S):
            return
        try:
            film.add(decode_image(message, camera=camera, size=size), seconds)
        except ImageError:
            return  # the ingest tells it

    def take_reference(self, reference: JointSamples) -> None:
        """Take what has become known of the reference; call it before samples are forgotten."""
        known_ns = reference.complete_ns
        if known_ns is None:
            return
        due_ns, step_ns = self._reference_ns, self._reference_step_ns
        if due_ns is None or not -step_ns <= known_ns - due_ns <= MAX_GAP_NS:
            due_ns = known_ns
        if due_ns > known_ns:
            return
        times = np.arange(due_ns, known_ns + 1, step_ns, dtype=np.int64)
        for time_ns, row in zip(times.tolist(), reference.at(times), strict=True):
            self._reference.add((time_ns, row))
        self._reference_ns = int(times[-1]) + step_ns

    def reference(self) -> tuple[Stamps, Table]:
        """Return int64 [T] and the reference, float64 [T, N]; NaN where there is none."""
        rows = self._reference.entries
        if not rows:
            return np.empty(0, dtype=np.int64), np.empty((0, 0))
        return np.array([time_ns for time_ns, _ in rows], dtype=np.int64), np.stack([row for _, row in rows])

    def marks(self) -> tuple[TimelineMark, ...]:
        """Return the marks that were kept, in order of time."""
        kept = [mark for thinned in self._marks.values() for mark in thinned.entries]
        return tuple(sorted(kept, key=lambda mark: mark.time_ns))

    def left_out(self) -> dict[MarkKind, int]:
        """Return kind -> n where only every n-th mark was kept."""
        return {kind: thinned.every for kind, thinned in self._marks.items() if thinned.every > 1}

    def finish(self, end: float) -> None:
        """Finish the videos, which last up to `end` [s]."""
        self.filmed = tuple(film.finish(end) for film in self._films.values())

    def close(self) -> None:
        """Release the encoders; safe to call twice."""
        for film in self._films.values():
            film.close()

    def _take_chunk(self, event: ChunkEvent) -> None:
        chunk = event.chunk
        self._silence.clear()
        index = np.array(evenly(len(chunk.rows), FAN_ROWS), dtype=np.int64)
        self.fan.add(
            FanChunk(
                sequence=chunk.sequence,
                ready_ns=event.ready_ns,
                stamp_ns=chunk.stamp_ns,
                context_age_ns=chunk.context_age_ns,
                offsets_ns=index * chunk.row_period_ns,
                rows=chunk.rows[index].astype(np.float32),
            )
        )
        for frame in event.observation.frames.values():
            if frame.camera in self._films:
                self._films[frame.camera].add(frame.rgb, self._seconds(frame.stamp_ns))

    def _take_silence(self, event: RefusalEvent) -> None:
        """Mark where a node falls silent, or goes on for another reason; ages in the text change all the time."""
        reason = short_reason(event.reason)
        if reason == STILL_EXECUTING or self._silence.get(event.node) == reason:
            return
        self._silence[event.node] = reason
        self._mark(event.time_ns, MarkKind.SILENT, f"{event.node} silent: {event.reason}")

    def _take_context(self, event: ContextEvent) -> None:
        header = event.header
        age = (event.ready_ns - header.stamp_ns) / NS_PER_S
        text = f"planner context {header.version}, of the image {age:.2f} s before"
        self._mark(event.ready_ns, MarkKind.CONTEXT, text)
        if header.instruction != self._instruction:
            self._mark(event.ready_ns, MarkKind.INSTRUCTION, f"instruction: {header.instruction}")
        self._instruction = header.instruction

    def _mark(self, time_ns: int, kind: MarkKind, text: str) -> None:
        short = text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1] + "…"
        self._marks[kind].add(TimelineMark(time_ns, kind, short))
