# SPDX-License-Identifier: Apache-2.0
"""Order of the messages of a recording: by header stamp, else by receive time; irregularities are counted."""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_MS, NS_PER_S

WINDOW_NS = NS_PER_S
"""How much later than its stamp a message may come in the file and still be put in its place [ns]."""

RESET_NS = 2 * NS_PER_S
"""A larger step back of the stamps of a topic means that its clock was set back [ns]."""

GAP_PERIODS = 5.0
BURST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One message of a recording.

    Attributes:
        topic: name in the recording.
        msgtype: type as package/msg/Name.
        receive_ns: when the recorder received it [ns].
        stamp_ns: its header stamp [ns], or None for a type without header and for a stamp of zero.
        time_ns: when replay delivers it, on the recording's clock [ns]; never decreases but at a clock reset.
        message: the deserialised message.
    """

    topic: str
    msgtype: str
    receive_ns: int
    stamp_ns: int | None
    time_ns: int
    message: Any


@dataclass(frozen=True, slots=True)
class StampReport:
    """Figures of the stamps of one topic.

    Attributes:
        topic: name.
        messages: messages read.
        rate: messages per second, from the median interval [Hz]; NaN for fewer than two messages.
        without_stamp: messages ordered by receive time.
        latency_p50_ms: receive time minus stamp, median [ms]; NaN without stamps.
        latency_p99_ms: the same, 99th percentile [ms].
        drift_ms: by how much the latency grew from the first to the last tenth of the messages, medians [ms]; 0 for
            fewer than a hundred.
        negative_latency: messages received before they were stamped.
        gaps: intervals longer than five median intervals.
        longest_gap_s: longest interval [s].
        out_of_order: stamps older than the one before.
        clock_resets: stamps that fell back by more than two seconds.
        late: messages found after their place had passed; delivered at once.
        bursts: messages received within a tenth of the median interval after the one before.
    """

    topic: str
    messages: int
    rate: float
    without_stamp: int
    latency_p50_ms: float
    latency_p99_ms: float
    drift_ms: float
    negative_latency: int
    gaps: int
    longest_gap_s: float
    out_of_order: int
    clock_resets: int
    late: int
    bursts: int


class TopicStamps:
    """Collects the times of one topic; eight bytes for each time of a message.

    Args:
        topic: name.
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.last_ns: int | None = None
        self.epoch = 0
        self.late = 0
        self.resets = 0
        self._without = 0
        self._times = array("q")
        self._receives = array("q")
        self._latencies = array("q")

    def add(self, receive_ns: int, stamp_ns: int | None) -> None:
        """Count one message; to be called in the order of the file."""
        self._receives.append(receive_ns)
        self._times.append(receive_ns if stamp_ns is None else stamp_ns)
        if stamp_ns is None:
            self._without += 1
        else:
            self._latencies.append(receive_ns - stamp_ns)

    def times(self) -> npt.NDArray[np.int64]:
        """Return the stamps (receive times where there is none), int64 [T] [ns]."""
        return np.array(self._times, dtype=np.int64)

    def receives(self) -> npt.NDArray[np.int64]:
        """Return the receive times, int64 [T] [ns]."""
        return np.array(self._receives, dtype=np.int64)

    def report(self) -> StampReport:
        """Return the figures."""
        times, receives = np.array(self._times), np.array(self._receives)
        latencies = np.array(self._latencies) / NS_PER_MS
        steps = np.diff(times)
        forward = steps[steps > 0]
        period = float(np.median(forward)) if forward.size else math.nan
        gaps = forward[forward > GAP_PERIODS * period] if forward.size else forward
        bursts = np.diff(receives) < BURST_SHARE * period if forward.size else np.empty(0, dtype=bool)
        return StampReport(
            topic=self.topic,
            messages=len(times),
            rate=NS_PER_S / period if forward.size else math.nan,
            without_stamp=self._without,
            latency_p50_ms=float(np.percentile(latencies, 50)) if latencies.size else math.nan,
            latency_p99_ms=float(np.percentile(latencies, 99)) if latencies.size else math.nan,
            drift_ms=_drift(latencies),
            negative_latency=int((latencies < 0).sum()),
            gaps=int(gaps.size),
            longest_gap_s=float(forward.max()) / NS_PER_S if forward.size else 0.0,
            out_of_order=int((steps < 0).sum()),
            clock_resets=self.resets,
            late=self.late,
            bursts=int(bursts.sum()),
        )


def _drift(latencies: npt.NDArray[np.float64]) -> float:
    """Return the growth of latencies, float64 [T] [ms]; medians do not see single late messages."""
    tenth = len(latencies) // 10
    return float(np.median(latencies[-tenth:]) - np.median(latencies[:tenth])) if tenth >= 10 else 0.0


class StampOrder:
    """Puts messages in the order of their stamps, within a window, in bounded memory.

    Args:
        use_stamps: False orders by receive time.
        window_ns: how much later than its stamp a message may come in the file [ns].
    """

    def __init__(self, *, use_stamps: bool = True, window_ns: int = WINDOW_NS) -> None:
        self._use_stamps = use_stamps
        self._window_ns = window_ns
        self._heap: list[tuple[int, int, BagMessage]] = []
        self._count = 0
        self._newest_ns: int | None = None
        self._delivered_ns: int | None = None
        self._latency_ns: int | None = None
        self._epoch = 0
        self.dropped = 0
        self.topics: dict[str, TopicStamps] = {}

    @property
    def clock_resets(self) -> int:
        """How often the clock of the recording has been set back so far."""
        return self._epoch

    def order(self, messages: Iterable[tuple[str, str, int, int | None, Any]]) -> Iterator[BagMessage]:
        """Yield messages in order of time.

        Args:
            messages: topic, type, receive time, stamp and message, in the order of the file.
        """
        for topic, msgtype, receive_ns, stamp_ns, message in messages:
            stamps = self.topics.setdefault(topic, TopicStamps(topic))
            stamps.add(receive_ns, stamp_ns)
            used_ns = stamp_ns if self._use_stamps else None
            time_ns = receive_ns - (self._latency_ns or 0) if used_ns is None else used_ns
            if used_ns is not None:
                self._note_latency(receive_ns - used_ns)
                if stamps.last_ns is not None and used_ns < stamps.last_ns - RESET_NS:
                    stamps.resets += 1
                    stamps.last_ns = used_ns
                    # Another topic may have noticed the same reset first.
                    if stamps.epoch == self._epoch:
                        yield from self._restart()
                    stamps.epoch = self._epoch
                elif stamps.epoch < self._epoch and self._newest_ns and time_ns > self._newest_ns + RESET_NS:
                    self.dropped += 1  # a straggler of the clock as it was before it was set back
                    continue
                stamps.last_ns = used_ns
                stamps.epoch = self._epoch
            yield from self._push(stamps, BagMessage(topic, msgtype, receive_ns, stamp_ns, time_ns, message))
        yield from self._drain(None)

    def reports(self) -> tuple[StampReport, ...]:
        """Return the figures of every topic, in order of name."""
        return tuple(self.topics[name].report() for name in sorted(self.topics))

    def _note_latency(self, latency_ns: int) -> None:
        """Keep the smallest latency: the offset between the clocks, applied to messages without a stamp."""
        if self._latency_ns is None or abs(latency_ns) < abs(self._latency_ns):
            self._latency_ns = latency_ns

    def _push(self, stamps: TopicStamps, entry: BagMessage) -> Iterator[BagMessage]:
        time_ns = entry.time_ns
        if self._delivered_ns is not None and time_ns < self._delivered_ns:
            stamps.late += 1
            time_ns = self._delivered_ns
        heapq.heappush(self._heap, (time_ns, self._count, entry))
        self._count += 1
        self._newest_ns = time_ns if self._newest_ns is None else max(self._newest_ns, time_ns)
        yield from self._drain(self._newest_ns - self._window_ns)

    def _restart(self) -> Iterator[BagMessage]:
        yield from self._drain(None)
        self._epoch += 1
        self._newest_ns = None
        self._delivered_ns = None
        self._latency_ns = None

    def _drain(self, until_ns: int | None) -> Iterator[BagMessage]:
        while self._heap and (until_ns is None or self._heap[0][0] <= until_ns):
            time_ns, _, entry = heapq.heappop(self._heap)
            self._delivered_ns = time_ns
            yield entry if entry.time_ns == time_ns else _delivered_at(entry, time_ns)


def _delivered_at(entry: BagMessage, time_ns: int) -> BagMessage:
    return BagMessage(entry.topic, entry.msgtype, entry.receive_ns, entry.stamp_ns, time_ns, entry.message)
