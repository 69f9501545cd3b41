# SPDX-License-Identifier: Apache-2.0
"""Streaming recordings: rosbag2 in MCAP or sqlite3 (compressed, split, without metadata) and ROS 1 bags."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.data.bag.clocks import ClockCorrection
from wam.data.bag.content_hash import ContentHash
from wam.data.bag.files import find_files
from wam.data.bag.gripper_actions import action_types
from wam.data.bag.losses import LossTally, RecordingLoss, interval_of, loss_lines, seconds_lost
from wam.data.bag.stamps import WINDOW_NS, BagMessage, StampOrder
from wam.data.bag.storage import CDR, ROS1, Channel, StorageFile, open_storage
from wam.data.bag.storage_file import cause_of
from wam.data.bag.video_packets import VIDEO_PACKETS, VideoDecoder

IDL_SEPARATOR = "=" * 80 + "\n"

PROBED = 20
"""First messages of a topic that tell how late it is."""

UNDECODABLE = "messages of {} cannot be decoded"
NO_IMAGE = "video packets of {} give no image: the key image before them is missing, or they are damaged"

APART_NS = 5 * NS_PER_S
"""Topics whose latencies differ by more were stamped by different clocks [ns]."""


@dataclass(frozen=True, slots=True)
class RecordedTopic:
    """A topic of a recording.

    Attributes:
        name: name, with its leading slash.
        msgtype: type as package/msg/Name.
        count: messages in all files.
        unreadable: why its messages cannot be read; "" where they can.
        encoding: how its messages are serialised: "cdr", "ros1", "protobuf", "json" ...
        publishers: see `Channel.publishers`.
    """

    name: str
    msgtype: str
    count: int
    unreadable: str
    encoding: str = CDR
    publishers: tuple[str, ...] = ()

    @property
    def is_ros(self) -> bool:
        """Whether its messages are those of ROS."""
        return self.encoding in (CDR, ROS1)


class Recording:
    """An open recording. Use it in a `with` block; not thread-safe.

    Args:
        path: folder or file.
        lenient: read the files that are there where the metadata name others, or one cannot be read at all.
        clock_offsets: topic -> the correction that puts its stamps on the clock of the others.

    Raises:
        RecordingError: it is missing, empty or in an unsupported format, no message of it can be read, or it has no
            topic of `clock_offsets`.

    Attributes:
        clocks: topic -> the correction of its stamps.

    What cannot be read of a recording that was cut off or damaged is in `losses`.
    """

    def __init__(
        self, path: Path, *, lenient: bool = False, clock_offsets: Mapping[str, ClockCorrection] | None = None
    ) -> None:
        self.path = path
        self.lenient = lenient
        self.clocks = dict(clock_offsets or {})
        self._latencies: dict[str, int | None] = {}
        self._files = find_files(path, lenient=lenient)
        self._sources: list[StorageFile] = []
        self._readers: dict[tuple[str, str], MessageReader] = {}
        self._order = StampOrder()
        self._warnings = list(self._files.warnings)
        self._unread: list[str] = []
        self._undecoded = LossTally()
        self._first_errors: dict[str, RecordingError] = {}
        try:
            for file in self._files.files:
                self._open(file)
        except BaseException:
            self.close()
            raise
        self._sources.sort(key=lambda source: source.start_ns)
        self.topics = self._list_topics()
        self._check_offsets()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and remove what was decompressed; safe to call twice."""
        while self._sources:
            self._sources.pop().close()
        if self._files.scratch is not None:
            shutil.rmtree(self._files.scratch, ignore_errors=True)

    @property
    def custom(self) -> Mapping[str, str]:
        """Custom data of metadata.yaml."""
        return self._files.custom

    @property
    def sources(self) -> tuple[StorageFile, ...]:
        """The open storage files, in order of time."""
        return tuple(self._sources)

    @property
    def message_count(self) -> int:
        """Messages in all files and topics."""
        return sum(topic.count for topic in self.topics)

    @property
    def duration(self) -> float:
        """Time between first and last message, by receive time [s]; 0 for an empty recording."""
        spans = [
            (source.start_ns, source.end_ns) for source in self._sources if source.end_ns > source.start_ns
        ]
        return (max(end for _, end in spans) - min(start for start, _ in spans)) / NS_PER_S if spans else 0.0

    @property
    def skipped(self) -> tuple[RecordedTopic, ...]:
        """Topics whose messages cannot be read."""
        return tuple(topic for topic in self.topics if topic.unreadable)

    @property
    def order(self) -> StampOrder:
        """Times of the messages given by the last call of `messages`."""
        return self._order

    @property
    def warnings(self) -> tuple[str, ...]:
        """Faults that were accepted so far."""
        return (*self._warnings, *loss_lines(self.losses))

    @property
    def losses(self) -> tuple[RecordingLoss, ...]:
        """What cannot be read, as far as it is known; all of it once `messages` has given its last."""
        kept = {name: stamps.receives() for name, stamps in self._order.topics.items()}
        parts = [part for source in self._sources for part in source.lost]
        found = list(self._undecoded.losses(kept))
        for part in parts:
            # What nothing names is among what the metadata promise, and is told by topic below.
            if part.topic or not self._files.promised:
                seconds = part.seconds
                if seconds is None and part.times_ns:
                    seconds = seconds_lost(kept.get(part.topic), part.times_ns)
                found.append(RecordingLoss(part.topic, part.messages, seconds, part.reason))
        known: dict[str, int] = {}
        for part in parts:
            known[part.topic] = known.get(part.topic, 0) + (part.messages or 0)
        reasons = [f"{name} is missing" for name in self._files.missing]
        reasons += dict.fromkeys(part.reason for part in parts if not part.topic)
        reasons += self._unread
        reason = "; ".join(reasons) or "the files hold fewer messages than metadata.yaml promises"
        have = {topic.name: 0 for topic in self.topics}
        for source in self._sources:
            for channel in source.channels:
                have[channel.topic] = have.get(channel.topic, 0) + channel.count
        for topic, promised in sorted(self._files.promised.items()):
            missing = promised - have.get(topic, 0) - known.get(topic, 0)
            if missing > 0:
                interval = interval_of(kept.get(topic)) or self._files.duration / max(promised - 1, 1)
                found.append(RecordingLoss(topic, missing, missing * interval if interval else None, reason))
        return tuple(found)

    def messages(
        self, names: Collection[str], *, use_stamps: bool = True, content: ContentHash | None = None
    ) -> Iterator[BagMessage]:
        """Yield the messages of the topics `names` in order of time, in bounded memory.

        Args:
            names: topics; those that cannot be read are left out.
            use_stamps: order by header stamp; False orders by receive time.
            content: takes every message as it is in the file.

        Raises:
            RecordingError: topics were stamped by different clocks, or no message of a topic can be decoded.
        """
        window_ns = WINDOW_NS
        if use_stamps:
            window_ns = self._window(names)
        self._order = StampOrder(use_stamps=use_stamps, window_ns=window_ns)
        return self._order.order(self._decoded(set(names), content))

    def latency(self, name: str) -> int | None:
        """Return by how much the first messages of a topic were received after their stamps [ns]; None: no stamps.

        Args:
            name: of the topic.
        """
        if name not in self._latencies:
            self._latencies[name] = self._first_latency(name)
        return self._latencies[name]

    def _window(self, names: Collection[str]) -> int:
        """Return how much later than its stamp a message may come in the file and still be put in its place [ns].

        Raises:
            RecordingError: topics were stamped by different clocks.
        """
        known = {name: latency for name in sorted(names) if (latency := self.latency(name)) is not None}
        if not known:
            return WINDOW_NS
        middle = sorted(known.values())[(len(known) - 1) // 2]
        usual = min(known, key=lambda name: abs(known[name] - middle))
        for name, latency in known.items():
            if abs(latency - known[usual]) > APART_NS:
                behind_s = (latency - known[usual]) / NS_PER_S
                raise RecordingError(
                    f"topics of {self.path} were stamped by different clocks: that of {name} is "
                    f"{'behind' if behind_s > 0 else 'ahead of'} that of {usual}",
                    value=f"{abs(behind_s):.3f} s",
                    allowed=f"at most {APART_NS / NS_PER_S:.0f} s",
                    where=f"--clock-offset {name}={behind_s:.3f}, or --time receive",
                )
        return WINDOW_NS + max(known.values()) - min(known.values())

    def _first_latency(self, name: str) -> int | None:
        if not any(topic.name == name and not topic.unreadable for topic in self.topics):
            return None
        found = [
            receive_ns - stamp_ns
            for _, _, receive_ns, stamp_ns, _ in itertools.islice(self._decoded({name}), PROBED)
            if stamp_ns is not None
        ]
        self._undecoded.forget({name})  # what was only looked at is not lost
        return min(found, default=None)

    def _decoded(
        self, names: set[str], content: ContentHash | None = None
    ) -> Iterator[tuple[str, str, int, int | None, Any]]:
        readable = {topic.name for topic in self.topics if topic.name in names and not topic.unreadable}
        self._undecoded.forget(names)
        videos: dict[str, VideoDecoder] = {}
        good: set[str] = set()
        for source in self._sources:
            channels = [channel for channel in source.channels if channel.topic in readable]
            for channel, receive_ns, raw in source.messages(channels):
                if content is not None:
                    content.take(channel.topic, channel.msgtype, receive_ns, raw)
                message = self.decode(channel, receive_ns, raw)
                if message is None:
                    continue
                good.add(channel.topic)
                if channel.msgtype not in VIDEO_PACKETS:
                    yield self._stamped(channel.topic, channel.msgtype, receive_ns, message)
                    continue
                video = videos.setdefault(channel.topic, VideoDecoder(channel.topic))
                for image in video.take(message, time_ns=receive_ns):
                    yield self._stamped(channel.topic, channel.msgtype, receive_ns, image)
                self._note_lost(channel.topic, video)
        for topic, video in videos.items():
            # The recording's end is as good a receive time as any for what a decoder held back.
            for image in video.finish():
                yield self._stamped(topic, self._type_of(topic), self._sources[-1].end_ns, image)
            self._note_lost(topic, video)
        for topic in sorted(names - good):
            if topic in self._first_errors and self._undecoded.count(topic) and not self.lenient:
                raise self._first_errors[topic]

    def _stamped(
        self, topic: str, msgtype: str, receive_ns: int, message: Any
    ) -> tuple[str, str, int, int | None, Any]:
        stamp_ns = stamp_of(message)
        if stamp_ns is not None and topic in self.clocks:
            stamp_ns = self.clocks[topic].correct(stamp_ns)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        return topic, msgtype, receive_ns, stamp_ns, message

    def _type_of(self, topic: str) -> str:
        return next(one.msgtype for one in self.topics if one.name == topic and one.msgtype in VIDEO_PACKETS)

    def _note_lost(self, topic: str, video: VideoDecoder) -> None:
        for time_ns in video.take_lost():
            self._undecoded.add(topic, NO_IMAGE.format(topic), time_ns)

    def decode(self, channel: Channel, receive_ns: int, raw: bytes) -> Any:
        """Return a message of a topic that can be read; None, and a loss, where it cannot be decoded."""
        try:
            return self._readers[channel.topic, channel.msgtype](raw)
        except Exception as error:  # decoders raise errors of any type on damaged bytes
            self._undecoded.add(channel.topic, UNDECODABLE.format(channel.topic), receive_ns)
            if channel.topic not in self._first_errors:
                self._first_errors[channel.topic] = RecordingError(
                    f"no message of {channel.topic} ({channel.msgtype}) can be decoded ({cause_of(error)})",
                    where=f"the recording {self.path}, or pass --lenient to go on without the topic",
                )
            return None

    def _open(self, file: Path) -> None:
        try:
            source = open_storage(file, message_zstd=self._files.message_zstd)
        except RecordingError as error:
            if not self.lenient or len(self._files.files) == 1:
                raise
            self._warnings.append(str(error))
            self._unread.append(f"{file.name} cannot be read")
            return
        self._sources.append(source)

    def _list_topics(self) -> tuple[RecordedTopic, ...]:
        counts: dict[tuple[str, str], int] = {}
        reasons: dict[tuple[str, str], str] = {}
        encodings: dict[tuple[str, str], str] = {}
        publishers: dict[tuple[str, str], tuple[str, ...]] = {}
        for source in self._sources:
            told: dict[tuple[str, str], tuple[str, ...]] = {}
            for channel in source.channels:
                key = (channel.topic, channel.msgtype)
                told[key] = told.get(key, ()) + channel.publishers
                encodings[key] = channel.encoding
                counts[key] = counts.get(key, 0) + channel.count
                if key in self._readers:
                    continue
                reader, reason = message_reader(channel)
                if reader is not None:
                    self._readers[key] = reader
                reasons[key] = reason
            # Every file of a split recording tells of the same publishers.
            publishers |= {key: max(publishers.get(key, ()), found, key=len) for key, found in told.items()}
        return tuple(
            RecordedTopic(*key, counts[key], reasons[key], encodings[key], publishers[key])
            for key in sorted(counts)
        )

    def _check_offsets(self) -> None:
        for name in self.clocks:
            if name not in {topic.name for topic in self.topics}:
                self.close()
                raise RecordingError(
                    f"recording {self.path} has no topic {name}",
                    allowed=", ".join(topic.name for topic in self.topics) or "(it has none)",
                    where="--clock-offset",
                )


def stamp_of(message: Any) -> int | None:
    """Return the header stamp of a message [ns], or None where it has none or it is zero."""
    header = getattr(message, "header", None)
    stamp = getattr(header, "stamp", None)
    if stamp is None:
        return None
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec) or None


def message_reader(channel: Channel) -> tuple[MessageReader | None, str]:
    """Return a decoder of the messages of `channel`, or None and the reason.

    The definition in the recording comes first; the common packages are used where it is missing or does not match the
    messages (bags that were converted from old ones hold such definitions).
    """
    if channel.encoding not in (CDR, ROS1):
        return None, f"serialised as {channel.encoding or '(nothing)'}"
    common = get_typestore(Stores.ROS1_NOETIC if channel.encoding == ROS1 else Stores.ROS2_JAZZY)
    known = action_types() if channel.encoding == CDR else common
    stores = [one for one in (common, known) if channel.msgtype in one.types][:1]
    reason = "of unknown type, without a definition"
    if channel.definition:
        own, reason = _own_store(channel.msgtype, channel.definition, channel.is_idl)
        stores = [own, *stores] if own is not None else stores
    return (MessageReader(channel, stores), "") if stores else (None, reason)


class MessageReader:
    """Decodes the messages of one topic.

    Args:
        channel: the topic.
        stores: type stores that know the type, in the order in which they are tried.
    """

    def __init__(self, channel: Channel, stores: list[Typestore]) -> None:
        self._ros1 = channel.encoding == ROS1
        self._msgtype = channel.msgtype
        self._stores = stores

    def __call__(self, raw: bytes) -> Any:
        """Return the message.

        Raises:
            Exception: no store can decode it; the error of the first store.
        """
        first: Exception | None = None
        for i, store in enumerate(self._stores):
            try:
                if self._ros1:
                    message = store.deserialize_ros1(raw, self._msgtype)
                else:
                    message = store.deserialize_cdr(raw, self._msgtype)
            except Exception as error:  # decoders raise errors of any type on damaged bytes
                first = first or error
                continue
            if i:
                self._stores.insert(0, self._stores.pop(i))
            return message
        raise first or ValueError("no type store")


@functools.lru_cache(maxsize=64)
def _own_store(msgtype: str, definition: str, is_idl: bool) -> tuple[Typestore | None, str]:
    """Return a store with the type as a recording defines it; cached, since its code is generated at first use."""
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(_parse_definition(msgtype, definition, is_idl))
    except Exception as error:  # the parser raises errors of any type
        return None, f"its type definition cannot be read ({type(error).__name__})"
    if msgtype not in store.types:
        return None, "its type definition defines another type"
    return store, ""


def _parse_definition(msgtype: str, definition: str, is_idl: bool) -> Any:
    if not is_idl:
        return get_types_from_msg(definition, msgtype)
    if not definition.startswith(f"{IDL_SEPARATOR}IDL: "):
        return get_types_from_idl(definition)
    types: dict[str, Any] = {}
    for part in definition.split(IDL_SEPARATOR)[1:]:
        types |= get_types_from_idl(part.split("\n", 1)[1])
    return types
