# SPDX-License-Identifier: Apache-2.0
"""Feeds a recording to the engine of a replay, and what comes out of it to the collector."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from wam.core.clock import NS_PER_S
from wam.core.errors import DamagedImage, InputError, RecordingError
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Binding, Feed, Role
from wam.data.bag.clocks import correction_lines
from wam.data.bag.commands import CommandSample
from wam.data.bag.content_hash import ContentHash
from wam.data.bag.losses import loss_lines
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.reading import Recording
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.stamps import BagMessage, StampReport
from wam.data.bag.topics import WARNINGS
from wam.evaluation.metrics.chunks import ChunkScore
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS, TimeGap, gap_warnings, seconds_recorded
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.damaged import DamagedImages
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.engine import Delivery, Engine, NoticeEvent, ReplayOptions
from wam.evaluation.replay.events import EventWriter
from wam.evaluation.replay.offline import OfflineReplay
from wam.evaluation.replay.player import PlayerRecord
from wam.evaluation.replay.recorded_reference import RecordedReference
from wam.evaluation.replay.safety import OfflineSafety, unjudged
from wam.robots.description import RobotDescription, summed_up
from wam.runtime.ingest.ingest import NoticeKind, StreamIngest

PROGRESS_MESSAGES = 64
"""Progress is told once for so many messages."""

Progress = Callable[[int, int], None]


MakeEngine = Callable[[Binding, str], Engine]
"""From the recording's topics and the first task text to an engine."""


class Feeding:
    """One recording on its way through an engine.

    Args:
        options: what and how.
        recording: open.
        binding: what its topics are.
        robot: robot of the recording.
        policy: both halves.
        make_engine: makes the engine; None runs both cycles on the recording's clock.
        stopped: asked at every message whether to end.

    Attributes:
        collector: what came out so far.
    """

    def __init__(
        self,
        options: ReplayOptions,
        recording: Recording,
        binding: Binding,
        robot: RobotDescription,
        policy: LoadedPolicy,
        make_engine: MakeEngine | None,
        stopped: Callable[[], bool],
    ) -> None:
        self._stopped, self._was_stopped = stopped, False
        self._options = options
        self._recording = recording
        self._binding = binding
        self._robot = robot
        self._policy = policy
        contract = policy.contract
        self._watch = PublisherWatch(robot)
        self._reference = RecordedReference(options, binding, robot, contract, self._watch)
        self._content = ContentHash()
        instruction = options.instruction or _first_instruction(recording, binding)
        engine: Engine = (
            make_engine(binding, instruction)
            if make_engine is not None
            else OfflineReplay(robot=robot, policy=policy, settings=options.settings, instruction=instruction)
        )
        safety = engine.safety
        if safety is None and robot.unstated:
            safety = unjudged(robot, tick_ns=contract.control_period_ns)
        elif safety is None:
            judging = OfflineSafety(
                engine,
                robot=robot,
                binding=binding,
                strategy=options.settings.strategy,
                extra_filters=options.settings.extra_filters,
            )
            engine, safety = judging, judging.safety
        self._engine = engine
        self.collector = Collector(
            robot=robot,
            contract=contract,
            settings=options.settings,
            reference=self._reference.samples,
            safety=safety,
            duration=recording.duration,
        )
        counts = {topic.name: topic.count for topic in recording.topics}
        self._player = PlayerRecord(
            contract,
            expected={
                feed.camera: counts.get(feed.topic, 0)
                for feed in binding.feeds.values()
                if feed.role is Role.CAMERA and (options.page or options.rerun is not None)
            },
            seconds=self._seconds,
        )
        self._first_ns: int | None = None
        self._last_ns = 0
        self._gaps: list[TimeGap] = []
        self._damaged = DamagedImages(options.bag, binding)
        self._count = 0

    def run(self, file: Any, progress: Progress) -> None:
        """Replay to the end.

        Raises:
            RecordingError: a message cannot be used (unless lenient), or there was no chunk.
        """
        writer = EventWriter(file, with_inference=self._options.settings.executor_latency_ns is not None)
        messages = self._recording.messages(
            list(self._binding.feeds), use_stamps=self._options.use_stamps, content=self._content
        )
        with contextlib.closing(self._engine), contextlib.closing(self._player):
            for event in self._engine.run(self._deliveries(messages, progress)):
                if isinstance(event, NoticeEvent):
                    self._judge_notice(event)
                writer.event(event)
                self.collector.take(event)
                self._player.take(event)
                self._player.take_reference(self._reference.samples)
                self._write_scores(writer, self.collector.score_ready())
            self._player.finish(self._seconds(self._last_ns))
        self._reference.finish(self._last_ns)
        self._write_scores(writer, self.collector.finish(self._last_ns))
        if not self.collector.chunks and not self.collector.faults:
            if self._was_stopped:
                raise KeyboardInterrupt
            self._refuse_silence()

    def _write_scores(self, writer: EventWriter, scores: list[ChunkScore]) -> None:
        for score in scores:
            writer.score(score)

    def data(self) -> ReplayData:
        """Return everything that summary and page are made of."""
        order = self._recording.order
        stamps: tuple[StampReport, ...] = order.reports()
        self._note_damaged()
        damaged = self._damaged.losses({name: topic.times() for name, topic in order.topics.items()})
        return ReplayData(
            options=self._options,
            robot=self._robot,
            contract=self._policy.contract,
            recording=self._recording,
            binding=self._binding,
            collector=self.collector,
            player=self._player,
            stamps=stamps,
            instruction=self._engine.instruction,
            first_ns=self._first_ns or 0,
            last_ns=self._last_ns,
            gaps=tuple(self._gaps),
            from_action=self._reference.from_action,
            unread=self._recording.losses,
            damaged=damaged,
            content=self._content.topics((feed.topic, feed.msgtype) for feed in self._binding.feeds.values()),
            refused_messages=sum(stream.refused for stream in self._engine.ingest.status()),
            stopped=self._was_stopped,
            backends=dict(self._engine.backends),
            warnings=(
                *self._stop_warnings(),
                *self._recording.warnings,
                *loss_lines(damaged),
                *self._binding.warnings,
                *_unstated_warnings(self._robot),
                *(f"when the bag was made: {line}" for line in _lines(self._recording.custom.get(WARNINGS))),
                *correction_lines(self._recording.clocks),
                *self._watch.warnings(),
                *gap_warnings(self._gaps, start_ns=self._first_ns or 0),
                *stamp_warnings(stamps, unstamped=_unstamped(self._binding)),
                *self._engine.warnings(),
            ),
        )

    def _stop_warnings(self) -> tuple[str, ...]:
        if not self._was_stopped:
            return ()
        done = self._seconds(self._last_ns)
        return (f"stopped after {done:.1f} of {self._recording.duration:.1f} s: the rest was not replayed",)

    def _deliveries(self, messages: Iterator[BagMessage], progress: Progress) -> Iterator[Delivery]:
        # Messages and not time: a clock that was set would make the line jump, or stand still.
        total = sum(topic.count for topic in self._recording.topics if topic.name in self._binding.feeds)
        for message in messages:
            if self._stopped():
                self._was_stopped = True
                return
            feed = self._binding.feeds[message.topic]
            if message.msgtype != feed.msgtype:
                continue
            self._count += 1
            if self._first_ns is None:
                self._first_ns = message.time_ns
            elif message.time_ns - self._last_ns > MAX_GAP_NS:
                self._gaps.append(TimeGap(self._last_ns, message.time_ns))
            self._last_ns = message.time_ns
            if self._count % PROGRESS_MESSAGES == 0:
                progress(self._count, total)
            yield message, functools.partial(self._deliver, message, feed)
            self._note_damaged()

    def _note_damaged(self) -> None:
        damaged = self._engine.ingest.take_damaged()
        if damaged:
            self._damaged.take(damaged, any_chunk=self.collector.chunks > 0)

    def _deliver(self, message: BagMessage, feed: Feed, ingest: StreamIngest) -> bool:
        """Put one message where it belongs; return whether to plan on it: an image, or a state where there are none."""
        content = message.message
        plans = False
        if feed.role is Role.CAMERA:
            self._stamp(message)
            ingest.put_image(feed.camera, content, receive_ns=message.receive_ns)
            spec = self._robot.camera(feed.camera)
            self._player.take_image(
                feed.camera, content, time_ns=message.time_ns, size=(spec.height, spec.width)
            )
            return True
        if feed.role is Role.JOINTS:
            self._stamp(message)
            for group in feed.streams:
                ingest.put_joint_state(group, content, receive_ns=message.receive_ns)
            self._watch.take(CommandSample(message.time_ns, tuple(content.name), content.position), feed)
            plans = not self._policy.contract.cameras
        if self._reference.reads(feed):
            self._reference.take(message, feed)
        elif feed.role is Role.INSTRUCTION and not self._options.instruction:
            self._take_instruction(content.data)
        return plans

    def _stamp(self, message: BagMessage) -> None:
        """Give a message without a stamp the time at which it is delivered (receive time, the named fallback)."""
        if message.stamp_ns is not None and self._options.use_stamps:
            return
        stamp = message.message.header.stamp
        stamp.sec, stamp.nanosec = divmod(message.time_ns, NS_PER_S)

    def _seconds(self, time_ns: int) -> float:
        """Return a time since the start without the gaps so far [s]."""
        start_ns = time_ns if self._first_ns is None else self._first_ns
        return float(seconds_recorded(time_ns, start_ns=start_ns, gaps=self._gaps))

    def _take_instruction(self, text: str) -> None:
        if not text.strip() or text == self._engine.instruction:
            return
        try:
            self._engine.set_instruction(text)
        except InputError as error:
            raise RecordingError(f"instruction in the recording: {error}") from error

    def _judge_notice(self, event: NoticeEvent) -> None:
        if isinstance(event.notice.error, DamagedImage):
            return  # it is among the losses
        if event.notice.kind is NoticeKind.REFUSED and not self._options.lenient:
            raise RecordingError(
                f"recording {self._options.bag}: {event.notice.text}; or pass --lenient to leave such messages out"
            ) from event.notice.error

    def _refuse_silence(self) -> None:
        reasons = [
            f"{reason} ({node}, {n} times)" for (node, reason), n in self.collector.refusals.most_common(4)
        ]
        raise RecordingError(
            f"no chunk came out of {self._options.bag}",
            value="; ".join(reasons) or "no message",
            allowed="a recording longer than the latencies, with all streams fresh",
            where="the recording, max_age in the robot file, or --planner-latency",
        )


def _unstamped(binding: Binding) -> set[str]:
    """Return the topics whose messages have no header."""
    return {feed.topic for feed in binding.feeds.values() if feed.role is Role.INSTRUCTION}


def _lines(text: str | None) -> list[str]:
    return (text or "").splitlines()


def _first_instruction(recording: Recording, binding: Binding) -> str:
    """Return the first task text of the recording, or "": it is in force from the start, not from its stamp."""
    feed = binding.first(Role.INSTRUCTION)
    if feed is None:
        return recording.custom.get("wam.instruction", "")
    texts = (str(message.message.data) for message in recording.messages([feed.topic]))
    return next((text for text in texts if text.strip()), "")


def _unstated_warnings(robot: RobotDescription) -> list[str]:
    if not robot.unstated:
        return []
    return [
        f"{robot.source.name} is for replay only and does not state {summed_up(robot.unstated)}: the safety "
        "chain judged nothing, and ranges and speeds are compared with what the file has in their place"
    ]
