# SPDX-License-Identifier: Apache-2.0
"""A sample of a recording's messages: all of a small one, and of a large one those around a few moments.

What is read depends on the recording alone, never on how fast the disk is: two surveys of one file agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from wam.data.bag.reading import Recording
from wam.data.bag.storage import Channel, StorageFile

WHOLE_BYTES = 48_000_000
WHOLE_MESSAGES = 20_000
"""A recording that is smaller in both is read as a whole."""

MOMENTS = 12
"""Moments of a recording that are looked at, evenly spread; the first is its start."""

EACH = 24
"""Messages of every topic that are read at a moment, where there are as many."""

MOST_MESSAGES = 1_000
MOST_BYTES = 16_000_000
"""A moment ends after so much, whatever was found."""

FEWER, ENOUGH_BYTES = 6, 4_000_000
"""Messages of every topic that suffice once so much has been read: more large ones would tell no more."""


@dataclass(frozen=True, slots=True)
class RawMessage:
    """One message as it lies in the file.

    Attributes:
        channel: its topic.
        receive_ns: when the recorder received it [ns].
        raw: its bytes.
        moment: number of the moment; messages of one moment follow each other.
    """

    channel: Channel
    receive_ns: int
    raw: bytes
    moment: int


def is_read_whole(recording: Recording) -> bool:
    """Return whether `sample` gives all messages of a recording."""
    size = sum(source.path.stat().st_size for source in recording.sources)
    return size <= WHOLE_BYTES and recording.message_count <= WHOLE_MESSAGES


def sample(recording: Recording) -> Iterator[RawMessage]:
    """Yield messages of the topics that can be read, in order of the files.

    Raises:
        RecordingError: a file is damaged.
    """
    readable = {topic.name for topic in recording.topics if not topic.unreadable}
    whole = is_read_whole(recording)
    sources = recording.sources
    if not whole and len(sources) > MOMENTS:
        sources = tuple(sources[i * (len(sources) - 1) // (MOMENTS - 1)] for i in range(MOMENTS))
    moment = 0
    for source in sources:
        channels = [channel for channel in source.channels if channel.topic in readable]
        if whole:
            for channel, receive_ns, raw in source.messages(channels):
                yield RawMessage(channel, receive_ns, raw, moment)
            continue
        for span_ns in _spans(source, max(1, MOMENTS // len(sources))):
            for message in _around(source, channels, span_ns):
                yield RawMessage(*message, moment)
            moment += 1


def _spans(source: StorageFile, number: int) -> list[tuple[int, int] | None]:
    """Return the spans of time whose beginnings are read; None is the whole of a file that has no index."""
    if not source.seekable:
        return [None]
    step_ns = max(1, (source.end_ns - source.start_ns) // number)
    return [(source.start_ns + i * step_ns, source.start_ns + (i + 1) * step_ns + 1) for i in range(number)]


def _around(
    source: StorageFile, channels: list[Channel], span_ns: tuple[int, int] | None
) -> Iterator[tuple[Channel, int, bytes]]:
    most = 1 if span_ns else MOMENTS
    seen: Counter[str] = Counter()
    # A moment does not go on for the sake of a topic that is too seldom.
    frequent = {channel.topic for channel in channels if channel.count >= EACH * MOMENTS}
    messages, size = 0, 0
    for channel, receive_ns, raw in source.messages(channels, span_ns=span_ns):
        messages, size = messages + 1, size + len(raw)
        seen[channel.topic] += 1
        yield channel, receive_ns, raw
        least = most * (FEWER if size >= ENOUGH_BYTES * most else EACH)
        if frequent and all(seen[topic] >= least for topic in frequent):
            return
        if messages >= MOST_MESSAGES * most or size >= MOST_BYTES * most:
            return
