# SPDX-License-Identifier: Apache-2.0
"""Survey of a recording: topics, clocks, joints and cameras, from its index and a sample of its messages."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from wam.data.bag.commands import COMMAND_TYPES, CommandReader
from wam.data.bag.files import METADATA, storage_files
from wam.data.bag.mcap_file import McapFile
from wam.data.bag.reading import RecordedTopic, Recording, stamp_of
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.stamps import BagMessage, StampReport, TopicStamps
from wam.data.bag.topics import JOINT_STATE
from wam.data.survey.columns import ColumnBlock, survey_columns
from wam.data.survey.images import IMAGE_TYPES, CameraWatch
from wam.data.survey.sampling import RawMessage, is_read_whole, sample
from wam.data.survey.values import BagSurvey, ColumnSurvey, FileSize, TopicSurvey

COMMAND_WORDS = ("action", "command", "cmd", "ctrl", "target", "goal")
"""A topic of joint states with such a word in its name is taken for commands."""


def survey_bag(path: Path) -> BagSurvey:
    """Return what a recording holds; of a large one, without reading most of it.

    Args:
        path: folder or file.

    Raises:
        RecordingError: nothing of it can be read.
    """
    with Recording(path, lenient=True) as recording:
        watches = {
            (topic.name, topic.msgtype): _TopicWatch(topic.name, topic.msgtype) for topic in recording.topics
        }
        sampled = 0
        for message in sample(recording):
            sampled += 1
            watches[message.channel.topic, message.channel.msgtype].take(recording, message)
        complete = is_read_whole(recording)
        topics = tuple(
            watches[topic.name, topic.msgtype].survey(topic, complete=complete) for topic in recording.topics
        )
        return BagSurvey(
            path=path,
            form=_form(recording),
            files=_files(path),
            start_ns=min((s.start_ns for s in recording.sources if s.end_ns > s.start_ns), default=0),
            duration=recording.duration,
            messages=recording.message_count,
            sampled=sampled,
            complete=complete,
            topics=topics,
            custom=dict(recording.custom),
            problems=(*recording.warnings, *_problems(topics, watches)),
        )


class _TopicWatch:
    """Collects the messages of one topic."""

    def __init__(self, name: str, msgtype: str) -> None:
        self._name, self._msgtype = name, msgtype
        self._stamps = TopicStamps(name)
        self._camera = CameraWatch(name, msgtype) if msgtype in IMAGE_TYPES else None
        # A trajectory's points are enough: no samples in between.
        reads = msgtype in COMMAND_TYPES
        self._commands = CommandReader(msgtype, step_ns=10**18) if reads else None
        self._samples: dict[tuple[int, tuple[str, ...]], list[tuple[int, list[float]]]] = defaultdict(list)
        self._size = 0
        self._undecoded = 0
        self.count = 0
        self.has_header = False

    def take(self, recording: Recording, message: RawMessage) -> None:
        """Take one message."""
        self.count += 1
        self._size += len(message.raw)
        content = recording.decode(message.channel, message.receive_ns, message.raw)
        if content is None:
            self._undecoded += 1
            return
        self.has_header = self.has_header or hasattr(content, "header")
        stamp_ns = stamp_of(content)
        self._stamps.add(message.receive_ns, stamp_ns)
        if self._camera is not None:
            self._camera.take(content)
        if self._commands is not None:
            time_ns = message.receive_ns if stamp_ns is None else stamp_ns
            told = BagMessage(self._name, self._msgtype, message.receive_ns, stamp_ns, time_ns, content)
            # The points of a trajectory are given when the next one comes; those of the last are the rest.
            for sample_ in self._commands.take(told):
                values = [float(value) for value in sample_.positions]
                names = sample_.names or tuple(str(i) for i in range(len(values)))
                if len(names) == len(values):
                    self._samples[message.moment, names].append((sample_.time_ns, values))

    def survey(self, topic: RecordedTopic, *, complete: bool) -> TopicSurvey:
        """Return what was found."""
        clock = self._stamps.report() if self.count > self._undecoded else None
        if clock is not None and not complete:
            # What lies between two moments was not read: it is no gap.
            clock = replace(clock, gaps=0, longest_gap_s=math.nan, out_of_order=0, bursts=0)
        return TopicSurvey(
            name=topic.name,
            msgtype=topic.msgtype,
            count=topic.count,
            rate=clock.rate if clock is not None else math.nan,
            size=round(self._size / self.count * topic.count) if self.count else 0,
            encoding=topic.encoding,
            unreadable=topic.unreadable,
            undecoded=self._undecoded,
            publishers=topic.publishers,
            clock=clock,
            joints=self._joints(),
            is_command=topic.msgtype in COMMAND_TYPES
            and (topic.msgtype != JOINT_STATE or any(word in topic.name.lower() for word in COMMAND_WORDS)),
            camera=None if self._camera is None else self._camera.found,
        )

    def _joints(self) -> tuple[ColumnSurvey, ...]:
        if self._commands is not None:
            for sample_ in self._commands.rest(0):
                values = [float(value) for value in sample_.positions]
                if len(sample_.names) == len(values):
                    self._samples[-1, sample_.names].append((sample_.time_ns, values))
        return survey_columns(
            [
                ColumnBlock(
                    names,
                    np.array([time_ns for time_ns, _ in rows], dtype=np.int64),
                    np.array([values for _, values in rows], dtype=np.float64).reshape(len(rows), len(names)),
                )
                for (_, names), rows in self._samples.items()
            ]
        )


def _problems(topics: tuple[TopicSurvey, ...], watches: dict[tuple[str, str], _TopicWatch]) -> list[str]:
    """Return a sentence for everything that a person should know of the topics."""
    lines = []
    for topic in topics:
        if topic.unreadable:
            lines.append(f"{topic.name} cannot be read: {topic.msgtype} is {topic.unreadable}")
        elif not topic.count:
            lines.append(f"{topic.name} ({topic.msgtype}) is empty")
        broken = [joint for joint in topic.joints if joint.not_finite]
        if broken:
            worst = max(broken, key=lambda joint: joint.not_finite)
            lines.append(
                f"{topic.name}: {len(broken)} joints hold values that are not finite, for example {worst.name} in "
                f"{worst.not_finite} of {worst.samples} messages"
            )
    reports: list[StampReport] = [
        topic.clock
        for topic in topics
        if topic.clock is not None
        and (topic.joints or topic.camera is not None)
        and watches[topic.name, topic.msgtype].has_header
    ]
    return [*lines, *stamp_warnings(reports)]


def _form(recording: Recording) -> str:
    kinds = {
        "ROS 1 bag"
        if source.path.suffix == ".bag"
        else "MCAP"
        if isinstance(source, McapFile)
        else "rosbag2 (sqlite3)"
        if source.path.suffix == ".db3"
        else "rosbag2 (mcap)"
        for source in recording.sources
    }
    return " and ".join(sorted(kinds))


def _files(path: Path) -> tuple[FileSize, ...]:
    folder = path if path.is_dir() else path.parent
    found = storage_files(path) if path.is_dir() else [path]
    beside = [file.with_name(file.name + "-wal") for file in found] + [folder / METADATA]
    if not path.is_dir():
        beside.pop()
    return tuple(FileSize(file.name, file.stat().st_size) for file in (*found, *beside) if file.is_file())
