# SPDX-License-Identifier: Apache-2.0
"""Bookkeeping of one stream of an ingest: its history, its fault, and what is reported about both."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import InputError, StaleObservation
from wam.runtime.ingest.stream_buffer import Stamped, StreamBuffer

FUTURE_TOLERANCE_NS = 100 * NS_PER_MS
"""How far a stamp may be ahead of the clock: skew of two synchronised machines, or the step of a simulated clock."""


class NoticeKind(enum.Enum):
    """What a notice reports."""

    REFUSED = "refused"
    RECOVERED = "recovered"
    CLOCK_RESET = "clock_reset"


@dataclass(frozen=True, slots=True)
class Notice:
    """An event for the log.

    Attributes:
        kind: what happened.
        stream: name of the camera, the joint group or the ground truth.
        topic: its topic, relative.
        text: one line for the log.
        error: why a message was refused; None for other kinds.
    """

    kind: NoticeKind
    stream: str
    topic: str
    text: str
    error: InputError | None = None

    @property
    def recovered(self) -> bool:
        """Whether the stream became usable again."""
        return self.kind is NoticeKind.RECOVERED


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """Counters of one stream.

    Attributes:
        stream: name of the camera, the joint group or the ground truth.
        topic: its topic, relative.
        received: messages stored.
        refused: messages refused.
        newest_ns: newest acquisition stamp [ns], or None before the first message.
        latency_ns: from stamp to receipt of the last message [ns], or None where it is unknown.
        fault: text of the refusal in force, or "".
    """

    stream: str
    topic: str
    received: int
    refused: int
    newest_ns: int | None
    latency_ns: int | None
    fault: str


class IngestStream:
    """State of one camera, joint group or ground truth. Not thread-safe: the lock of the ingest guards it.

    Args:
        kind: "camera", "joint group" or "ground truth", for texts.
        name: of the stream.
        topic: topic, relative.
        rate: nominal rate [Hz].
        max_age_ns: older samples are not used [ns].
        history_ns: length of the history that must be kept [ns].
        heavy: samples are large: not more are kept than the nominal rate gives, however fast they come.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        topic: str,
        rate: float,
        max_age_ns: int,
        history_ns: int,
        heavy: bool = False,
    ) -> None:
        self.label = f"{kind} {name!r} (topic {topic})"
        self.name, self.topic, self.max_age_ns = name, topic, max_age_ns
        # Half as much again, since drivers jitter; at least four, so that a slow stream has a history at all.
        count = max(4, int(1.5 * rate * history_ns / NS_PER_S) + 2)
        self.buffer: StreamBuffer[Any] = StreamBuffer(count, span_ns=0 if heavy else history_ns)
        self.received, self.refused, self.good_in_a_row = 0, 0, 0
        self.latency_ns: int | None = None
        self.fault: InputError | None = None
        self.fault_in_pixels = False
        self.fault_refused = 0
        self.waits_for = ""

    def newest(self, now_ns: int) -> Stamped[Any]:
        """Return the newest sample.

        Raises:
            StaleObservation: there is none, or it is too old for `now_ns` [ns] or ahead of it.
        """
        sample = self.buffer.newest
        budget = f"at most {self.max_age_ns / 1e6:.0f} ms"
        if sample is None:
            why = self.waits_for or "nothing has arrived yet"
            raise self._stale("the last message was refused" if self.fault else why, None, budget)
        age_ns = now_ns - sample.stamp_ns
        if age_ns > self.max_age_ns:
            raise self._stale("the newest sample is stale", f"{age_ns / 1e6:.0f} ms", budget)
        if age_ns < -FUTURE_TOLERANCE_NS:
            raise self._stale(
                "the newest stamp lies in the future: the clocks differ",
                f"{-age_ns / 1e6:.0f} ms ahead",
                f"at most {FUTURE_TOLERANCE_NS / 1e6:.0f} ms ahead",
            )
        return sample

    def at(self, reference_ns: int, now_ns: int) -> Stamped[Any]:
        """Return the newest sample at or before `reference_ns` [ns].

        Raises:
            StaleObservation: the stream is not alive at `now_ns` [ns], or has no sample close enough.
        """
        self.newest(now_ns)
        sample = self.buffer.newest_at(reference_ns)
        if sample is None:
            raise self._stale(
                "there is no sample at or before the reference image yet", None, "one sample before the image"
            )
        gap_ns = reference_ns - sample.stamp_ns
        if gap_ns > self.max_age_ns:
            raise self._stale(
                "the newest sample before the reference image is too far from it",
                f"{gap_ns / 1e6:.0f} ms",
                f"at most {self.max_age_ns / 1e6:.0f} ms",
            )
        return sample

    def _stale(self, problem: str, value: str | None, allowed: str) -> StaleObservation:
        where = "its driver, the network or max_age in the robot file; check topic, namespace and clock"
        if self.fault is not None:
            where += f"; last refused message: {self.fault}"
        error = StaleObservation(f"{self.label}: {problem}", value=value, allowed=allowed, where=where)
        error.__cause__ = self.fault
        return error
