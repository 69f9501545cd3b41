# SPDX-License-Identifier: Apache-2.0
"""Checks of the messages of a bag, one after the other in order of time."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import numpy as np

from wam.core.errors import ImageError, InputError, RecordingError
from wam.data.bag.binding import Binding, Feed, Role
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.stamps import BagMessage
from wam.data.bag.topics import COMPRESSED_IMAGE, IMAGE, JOINT_STATE
from wam.evaluation.check.problem import ProblemKind, Problems, Severity
from wam.robots.description import RobotDescription
from wam.robots.encodings import CODED_ENCODINGS
from wam.robots.images import decode_image
from wam.runtime.ingest.ingest import NoticeKind, StreamIngest

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

DECODED_EVERY = 30
"""Of a camera, one image in so many is decoded; of the others, the header and the amount of data are checked."""

LIMIT_TOLERANCE = 1e-3
"""Share of its range by which a position may exceed a limit: drivers round, and calibrations differ."""

NO_TIME_APART_NS = 10**18


class MessageCheck(Protocol):
    """Takes messages in order of time."""

    def take(self, message: BagMessage) -> None:
        """Take one message."""
        ...

    def finish(self) -> None:
        """Add what is known at the end."""
        ...


class LayoutCheck:
    """Whether joint states and commands are what they should be, whatever the robot.

    Args:
        problems: where problems are added.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._layouts: dict[str, Counter[tuple[str, ...]]] = {}
        self._formats: set[tuple[str, str]] = set()

    def take(self, message: BagMessage) -> None:
        """See `MessageCheck`."""
        content = message.message
        if message.msgtype == COMPRESSED_IMAGE and not content.format:
            self._formats.add((message.topic, "messages do not say their format; the bytes of the images do"))
        if message.msgtype == IMAGE and content.encoding in CODED_ENCODINGS:
            self._formats.add((message.topic, f"images are {content.encoding}, which is converted to RGB"))
        if message.msgtype != JOINT_STATE:
            return
        names = tuple(content.name)
        layouts = self._layouts.setdefault(message.topic, Counter())
        layouts[names] += 1
        if names and len(content.position) != len(names):
            text = f"{len(content.position)} positions for {len(names)} names"
            self._problems.add(ERROR, ProblemKind.MESSAGES, message.topic, text, remedy="the driver")
        broken = int((~np.isfinite(content.position)).sum())
        if broken:
            self._problems.add(
                ERROR,
                ProblemKind.MESSAGES,
                message.topic,
                "positions that are not finite",
                remedy="the driver",
            )

    def finish(self) -> None:
        """See `MessageCheck`."""
        for topic, layouts in self._layouts.items():
            if len(layouts) > 1:
                text = "; ".join(
                    f"{count} with {', '.join(names)}" for names, count in layouts.most_common(3)
                )
                self._problems.add(
                    NOTE,
                    ProblemKind.LAYOUT,
                    topic,
                    f"messages of {len(layouts)} publishers or layouts: {text}",
                )
        for topic, text in sorted(self._formats):
            self._problems.add(NOTE, ProblemKind.LAYOUT, topic, text)


def plain_check(problems: Problems) -> MessageCheck:
    """Return the check of a recording whose robot is not known."""
    return LayoutCheck(problems)


class RobotCheck:
    """What replay would make of the messages of a robot.

    Args:
        robot: whose recording it is.
        binding: topics of its streams.
        problems: where problems are added.
    """

    def __init__(self, robot: RobotDescription, binding: Binding, problems: Problems) -> None:
        self._robot, self._binding, self._problems = robot, binding, problems
        cameras = tuple(feed.camera for feed in binding.feeds.values() if feed.role is Role.CAMERA)
        self._ingest = StreamIngest(robot, cameras=cameras)
        self._layout = LayoutCheck(problems)
        self._watch = PublisherWatch(robot)
        self._joints = RecordedJoints(robot, wanted=robot.joint_names)
        # Points of a trajectory are judged as they are sent, without samples in between.
        self._commands = {
            feed.topic: CommandReader(feed.msgtype, step_ns=NO_TIME_APART_NS)
            for feed in binding.feeds.values()
            if feed.role is Role.ACTION
        }
        limits = robot.limits()
        slack = LIMIT_TOLERANCE * (limits.upper - limits.lower)
        self._lower, self._upper = limits.lower - slack, limits.upper + slack
        self._ranges: dict[str, _Range] = {}
        self._images: Counter[str] = Counter()
        self._refused: dict[str, list[InputError]] = {}

    def take(self, message: BagMessage) -> None:
        """See `MessageCheck`."""
        feed = self._binding.feeds[message.topic]
        if message.msgtype != feed.msgtype:
            return
        self._layout.take(message)
        content = message.message
        if feed.role is not Role.INSTRUCTION and message.stamp_ns is None and hasattr(content, "header"):
            # Replay takes the receive time of such a message; that it has none is told with the clocks.
            content.header.stamp.sec, content.header.stamp.nanosec = divmod(message.time_ns, 10**9)
        if feed.role is Role.CAMERA:
            self._image(message, feed)
        elif feed.role is Role.JOINTS:
            for group in feed.streams:
                self._ingest.put_joint_state(group, content, receive_ns=message.receive_ns)
            names = tuple(content.name)
            if len(names) == len(content.position):
                self._sample(CommandSample(message.time_ns, names, content.position), feed)
        elif feed.role is Role.ACTION:
            for sample in self._commands[message.topic].take(message):
                self._command(sample, feed)
        self._take_notices()

    def finish(self) -> None:
        """See `MessageCheck`."""
        for topic, reader in self._commands.items():
            for sample in reader.rest(0):
                self._command(sample, self._binding.feeds[topic])
        counts = {stream.topic: stream.refused for stream in self._ingest.status()}
        for topic, errors in self._refused.items():
            for error in errors:
                kind = ProblemKind.CAMERAS if isinstance(error, ImageError) else ProblemKind.MESSAGES
                times = counts[topic] if len(errors) == 1 else 1
                self._problems.refused(kind, f"/{topic}", error, times=times)
        for line in self._watch.warnings():
            self._problems.add(
                WARNING, ProblemKind.PUBLISHERS, "joints", line, remedy="record without the second publisher"
            )
        for topic, seen in self._ranges.items():
            self._judge_limits(topic, seen)
        self._layout.finish()

    def _judge_limits(self, topic: str, seen: _Range) -> None:
        excess = np.fmax(self._lower - seen.low, seen.high - self._upper)
        beyond = np.flatnonzero(excess > 0)
        if not len(beyond):
            return
        worst = int(np.argmax(excess))
        joint = self._robot.joints[worst]
        kind = "commanded" if self._binding.feeds[topic].role is Role.ACTION else "measured"
        self._problems.add(
            WARNING,
            ProblemKind.JOINTS,
            topic,
            f"{len(beyond)} joints are {kind} beyond their limits, the furthest is {joint.name}: "
            f"{seen.low[worst]:.4g} .. {seen.high[worst]:.4g} {joint.kind.unit}, allowed: {joint.lower:g} .. "
            f"{joint.upper:g} {joint.kind.unit}",
            remedy=f"limits or conversion of the joint in {self._robot.source}, or the recording",
        )

    def _image(self, message: BagMessage, feed: Feed) -> None:
        spec = self._robot.camera(feed.camera)
        self._ingest.put_image(feed.camera, message.message, receive_ns=message.receive_ns)
        self._images[feed.camera] += 1
        self._take_notices()
        if self._images[feed.camera] % DECODED_EVERY != 1 or spec.topic in self._refused:
            return
        try:
            decode_image(message.message, camera=feed.camera, size=(spec.height, spec.width))
        except ImageError as error:
            self._problems.refused(ProblemKind.CAMERAS, message.topic, error)

    def _command(self, sample: CommandSample, feed: Feed) -> None:
        if sample.names and len(sample.names) != len(sample.positions):
            text = f"{len(sample.positions)} positions for {len(sample.names)} names"
            self._problems.add(ERROR, ProblemKind.ACTION, feed.topic, text, remedy="--action-topic")
            return
        self._sample(sample, feed)

    def _sample(self, sample: CommandSample, feed: Feed) -> None:
        try:
            self._watch.take(sample, feed)
            index, values = self._joints.read(sample, feed)
        except RecordingError as error:
            self._problems.refused(ProblemKind.ACTION, feed.topic, error)
            return
        seen = self._ranges.get(feed.topic)
        if seen is None:
            seen = self._ranges[feed.topic] = _Range(len(self._lower))
        seen.low[index] = np.fmin(seen.low[index], values)
        seen.high[index] = np.fmax(seen.high[index], values)
        broken = int((~np.isfinite(values)).sum())
        if broken and feed.role is Role.ACTION and feed.msgtype != JOINT_STATE:
            self._problems.add(
                ERROR, ProblemKind.ACTION, feed.topic, "commands that are not finite", remedy="the recording"
            )

    def _take_notices(self) -> None:
        """Keep what the ingest tells."""
        for notice in self._ingest.take_notices():
            if notice.kind is NoticeKind.REFUSED and notice.error is not None:
                known = self._refused.setdefault(notice.topic, [])
                if all(error.what != notice.error.what for error in known):
                    known.append(notice.error)
            elif notice.kind is NoticeKind.CLOCK_RESET:
                self._problems.add(WARNING, ProblemKind.CLOCKS, f"/{notice.topic}", notice.text)


class _Range:
    """Smallest and largest position of every joint on one topic."""

    def __init__(self, joints: int) -> None:
        self.low, self.high = np.full(joints, np.inf), np.full(joints, -np.inf)
