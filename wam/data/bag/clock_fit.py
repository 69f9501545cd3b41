# SPDX-License-Identifier: Apache-2.0
"""Corrections of the clocks that stamped the topics of a recording, fitted to their latencies.

Fitted are the shortest latencies (receive time minus stamp) of the topic over the recording, by a line that single late
messages do not move, and the same of a reference topic: the correction makes both lines one. How long the fastest
messages of the two topics were under way cannot be told from their clocks; it is taken to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.clocks import OPTION, ClockCorrection, ClockRequest
from wam.data.bag.reading import Recording
from wam.data.bag.topics import ACTION_TOPIC, JOINT_STATE

LEAST_MESSAGES = 10
"""Stamped messages of a topic without which nothing is fitted."""

DRIFT_SPAN_NS = 10 * NS_PER_S
"""Shortest time over which a drift is fitted [ns]: a millisecond of jitter is 100 ppm of it."""

WINDOWS = 60
"""Parts of the recording whose shortest latencies the line goes through."""

UNEVEN_NS = 50 * NS_PER_MS
"""Shortest latencies that are further from the line are no drift: the clock was set, or messages were queued [ns]."""

Times = npt.NDArray[np.int64]


def corrections(
    path: Path, requests: Mapping[str, ClockRequest], *, lenient: bool = False
) -> dict[str, ClockCorrection]:
    """Return the corrections that were requested, with what has to be read from the recording for them.

    Args:
        path: the recording.
        requests: topic -> how to correct it.
        lenient: as for `Recording`.

    Raises:
        RecordingError: the recording has no such topic, or nothing can be fitted to its stamps.
    """
    found = {
        topic: ClockCorrection(request.offset_ns)
        for topic, request in requests.items()
        if request.offset_ns is not None
    }
    if all(request.offset_ns is not None and not request.ppm for request in requests.values()):
        return found
    as_recorded = dict.fromkeys(requests, ClockCorrection(0))
    with Recording(path, lenient=lenient, clock_offsets=as_recorded) as recording:
        for topic, request in requests.items():
            if request.offset_ns is None:
                found[topic] = _fitted(recording, topic, requests)
            elif request.ppm:
                found[topic] = ClockCorrection(request.offset_ns, request.ppm, _first_stamp(recording, topic))
    return found


@dataclass(frozen=True, slots=True)
class LatencyLine:
    """Shortest latencies of a topic over the recording.

    Attributes:
        at_ns: receive time of the first message [ns].
        latency_ns: latency then [ns].
        slope: by how much it grows, per time.
        scatter_ns: distance from the line that 90 % of the shortest latencies keep [ns].
        span_ns: time over which it was fitted [ns].
    """

    at_ns: int
    latency_ns: float
    slope: float
    scatter_ns: float
    span_ns: int

    def latency_at(self, receive_ns: int) -> float:
        """Return the shortest latency at a receive time [ns]."""
        return self.latency_ns + self.slope * (receive_ns - self.at_ns)


def latency_line(receives_ns: Times, stamps_ns: Times) -> LatencyLine:
    """Return the line of the shortest latencies of a topic, int64 [T] each; level for less than `DRIFT_SPAN_NS`."""
    at_ns = int(receives_ns.min())
    since = (receives_ns - at_ns).astype(np.float64)
    latencies = (receives_ns - stamps_ns).astype(np.float64)
    span_ns = int(since.max())
    if span_ns < DRIFT_SPAN_NS:
        return LatencyLine(at_ns, float(latencies.min()), 0.0, 0.0, span_ns)
    from scipy.stats import theilslopes  # half a second to import

    parts = min(WINDOWS, len(since) // 5)
    window = np.minimum((since / span_ns * parts).astype(np.intp), parts - 1)
    shortest = [int(np.flatnonzero(window == i)[latencies[window == i].argmin()]) for i in np.unique(window)]
    x, y = since[shortest], latencies[shortest]
    base = float(np.median(y))  # a clock that began at 0 is half a century from the other
    slope = float(theilslopes(y - base, x).slope)
    level = float(np.median(y - base - slope * x))
    scatter = float(np.percentile(np.abs(y - base - slope * x - level), 90))
    return LatencyLine(at_ns, base + level, slope, scatter, span_ns)


def _fitted(recording: Recording, topic: str, requests: Mapping[str, ClockRequest]) -> ClockCorrection:
    others = [one for one in recording.topics if one.name not in requests and not one.unreadable]
    others.sort(
        key=lambda one: (one.msgtype == JOINT_STATE, one.name != ACTION_TOPIC, one.count), reverse=True
    )
    own = _require_line(recording, topic)
    reference, other = "", LatencyLine(own.at_ns, 0.0, 0.0, 0.0, own.span_ns)
    for candidate in others:
        line = _line(recording, candidate.name)
        if line is not None:
            reference, other = candidate.name, line
            break
    # Of receive times, latencies are linear; a stamp is its receive time less the latency.
    ppm = (own.slope - other.slope) / (1.0 - own.slope) * 1e6
    offset_ns = round(own.latency_ns - other.latency_at(own.at_ns))
    by = f"those of {reference}" if reference else "none, on the recorder's clock"
    fit = (
        f"fitted over {own.span_ns / NS_PER_S:.0f} s, scatter {own.scatter_ns / NS_PER_MS:.1f} ms; its fastest "
        f"messages are taken to be as late as {by}"
    )
    if not own.slope and own.span_ns < DRIFT_SPAN_NS:
        fit += f"; no drift is fitted to less than {DRIFT_SPAN_NS / NS_PER_S:.0f} s"
    return ClockCorrection(offset_ns, ppm, own.at_ns - round(own.latency_ns), fit)


def _line(recording: Recording, topic: str) -> LatencyLine | None:
    """Return the line of a topic, None where too few of its messages have a stamp."""
    times = [
        (message.receive_ns, message.stamp_ns)
        for message in recording.messages([topic], use_stamps=False)
        if message.stamp_ns is not None
    ]
    if len(times) < LEAST_MESSAGES:
        return None
    table = np.array(times, dtype=np.int64)
    return latency_line(table[:, 0], table[:, 1])


def _require_line(recording: Recording, topic: str) -> LatencyLine:
    line = _line(recording, topic)
    where = f"{OPTION} {topic}=SECONDS, or --time receive"
    if line is None:
        raise RecordingError(
            f"nothing can be fitted to the clock of {topic} in {recording.path}",
            value="fewer stamped messages",
            allowed=f"at least {LEAST_MESSAGES}",
            where=where,
        )
    if line.scatter_ns > UNEVEN_NS:
        raise RecordingError(
            f"the clock of {topic} in {recording.path} is not one that only drifts: it was set, or messages "
            "were queued",
            value=f"shortest latencies {line.scatter_ns / NS_PER_MS:.0f} ms from a line",
            allowed=f"at most {UNEVEN_NS / NS_PER_MS:.0f} ms",
            where=where,
        )
    return line


def _first_stamp(recording: Recording, topic: str) -> int:
    stamps = (message.stamp_ns for message in recording.messages([topic], use_stamps=False))
    first = next((stamp_ns for stamp_ns in stamps if stamp_ns is not None), None)
    if first is None:
        raise RecordingError(
            f"topic {topic} of {recording.path} has no stamps to correct", where=f"{OPTION}, or the recorder"
        )
    return first
