# SPDX-License-Identifier: Apache-2.0
"""One replay from recording to report folder."""

from __future__ import annotations

import contextlib
import functools
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wam.core.clock import NS_PER_S
from wam.core.errors import ContractMismatch, DamagedImage, InputError, RecordingError
from wam.core.policy import LoadedPolicy
from wam.data.bag.binding import Binding, Feed, Role, bind
from wam.data.bag.clock_fit import corrections
from wam.data.bag.clocks import correction_lines
from wam.data.bag.commands import CommandReader, CommandSample
from wam.data.bag.content_hash import ContentHash
from wam.data.bag.joint_names import RecordedJoints
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.losses import loss_lines
from wam.data.bag.publisher_watch import PublisherWatch
from wam.data.bag.reading import Recording
from wam.data.bag.stamp_warnings import stamp_warnings
from wam.data.bag.stamps import BagMessage, StampReport
from wam.data.bag.topics import WARNINGS
from wam.evaluation.metrics.chunks import ChunkScore
from wam.evaluation.metrics.figures import Figures, compute_figures
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS, TimeGap, gap_warnings, seconds_recorded
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.damaged import DamagedImages
from wam.evaluation.replay.data import ReplayData
from wam.evaluation.replay.engine import Delivery, Engine, NoticeEvent, ReplayOptions
from wam.evaluation.replay.events import EventWriter
from wam.evaluation.replay.offline import OfflineReplay
from wam.evaluation.replay.page import build_page
from wam.evaluation.replay.player import PlayerRecord
from wam.evaluation.replay.rerun import require_rerun, require_rrd, write_rerun
from wam.evaluation.replay.safety import OfflineSafety, unjudged
from wam.evaluation.replay.summary import build_summary, build_timing
from wam.evaluation.replay.timeline import write_timeline
from wam.report.folder import (
    EVENTS,
    INDEX,
    SUMMARY,
    TIMELINE,
    TIMING,
    report_folder,
    require_free,
    write_json,
)
from wam.robots.description import RobotDescription, summed_up
from wam.runtime.ingest.ingest import NoticeKind, StreamIngest
from wam.runtime.policy import require_fit

REFERENCE_GAP_ROWS = 3
"""The reference is not interpolated between samples more than this many rows apart."""

PROGRESS_MESSAGES = 64
"""Progress is told once for so many messages."""

Progress = Callable[[int, int], None]


MakeEngine = Callable[[Binding, str], Engine]
"""From the recording's topics and the first task text to an engine."""


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """What a replay came to.

    Attributes:
        summary: content of summary.json.
        timing: content of timing.json.
        figures: every figure, with the checked gate and the verdict.
        page: path of index.html, or of summary.json where no page was asked for.
        latencies: "l_prefill" and "l_chunk" of every call on this host [ms].
        stopped: whether it was stopped before the end of the recording.
    """

    summary: dict[str, Any]
    timing: dict[str, Any]
    figures: Figures
    page: Path
    latencies: Mapping[str, tuple[float, ...]]
    stopped: bool = False

    @property
    def passed(self) -> bool:
        """Whether no threshold failed and the policy was not at fault."""
        return self.figures.passed


def replay(
    options: ReplayOptions,
    *,
    robot: RobotDescription,
    policy: LoadedPolicy,
    report: Path,
    progress: Progress = lambda done, total: None,
    make_engine: MakeEngine | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> ReplayOutcome:
    """Replay a recording and write its report.

    Args:
        options: what and how.
        robot: robot of the recording.
        policy: both halves.
        report: folder of the report: absent, empty, or an earlier report.
        progress: called with messages done and messages in all.
        make_engine: makes the engine; None runs both cycles on the recording's clock.
        stopped: asked at every message whether to end; the report then is of what was replayed until then.

    Raises:
        KeyboardInterrupt: it was stopped before the first chunk; nothing is written.
        RecordingError: the recording cannot be used; nothing is written.
        ConfigError: the report folder is taken, the gate names an unknown metric, or the file for rerun does not end in
            .rrd; nothing is written.
        ContractMismatch: policy and robot do not fit.
    """
    require_free(report)
    if options.rerun is not None:
        require_rrd(options.rerun)
        require_rerun()
    require_fit(policy.contract, robot)
    if policy.contract.environment:
        raise ContractMismatch(
            f"policy {options.policy_name} needs ground truth, and a recording has none",
            allowed="a policy that sees cameras",
            where="the option --policy; wam eval runs it in simulation",
        )
    started, started_cpu = time.perf_counter(), time.process_time()
    clocks = corrections(options.bag, options.clock_offsets, lenient=options.lenient)
    made = Recording(options.bag, lenient=options.lenient, clock_offsets=clocks)
    with made as recording, report_folder(report) as folder:
        binding = bind(recording, robot=robot, contract=policy.contract, names=options.names)
        session = _Session(options, recording, binding, robot, policy, make_engine, stopped)
        with (folder / EVENTS).open("w", encoding="utf-8") as file:
            session.run(file, progress)
        wall, processor = time.perf_counter() - started, time.process_time() - started_cpu
        data = session.data()
        figures = compute_figures(data, options.gate)
        summary = build_summary(data, figures)
        timing = build_timing(data, wall=wall, processor=processor, peak_rss_mb=_peak_rss_mb())
        write_json(folder / SUMMARY, summary)
        write_json(folder / TIMING, timing)
        write_timeline(folder / TIMELINE, data)
        if options.page:
            (folder / INDEX).write_text(build_page(data, figures, summary, timing), encoding="utf-8")
        if options.rerun is not None:
            write_rerun(options.rerun, data, folder / EVENTS)
    first = report / (INDEX if options.page else SUMMARY)
    latencies = session.collector.latencies()
    return ReplayOutcome(summary, timing, figures, first, latencies, stopped=data.stopped)


class _Session:
    """Feeds the recording to the engine, and the engine's events to the collector."""

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
        self._reference = JointSamples(
            contract.action_joints, max_gap_ns=REFERENCE_GAP_ROWS * contract.control_period_ns
        )
        self._from_action = binding.first(Role.ACTION) is not None
        self._commands = {
            feed.topic: CommandReader(
                feed.msgtype, step_ns=contract.control_period_ns, use_stamps=options.use_stamps
            )
            for feed in binding.feeds.values()
            if feed.role is (Role.ACTION if self._from_action else Role.JOINTS)
        }
        self._joints = RecordedJoints(robot, wanted=contract.action_joints)
        self._watch = PublisherWatch(robot)
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
            reference=self._reference,
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
                self._player.take_reference(self._reference)
                self._write_scores(writer, self.collector.score_ready())
            self._player.finish(self._seconds(self._last_ns))
        for topic, reader in self._commands.items():
            for sample in reader.rest(self._last_ns):
                self._add_reference(sample, self._binding.feeds[topic])
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
            from_action=self._from_action,
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
        if feed.topic in self._commands:
            for sample in self._commands[feed.topic].take(message):
                self._add_reference(sample, feed)
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

    def _add_reference(self, sample: CommandSample, feed: Feed) -> None:
        try:
            index, positions = self._joints.read(sample, feed)
        except RecordingError:
            if self._options.lenient:
                return
            raise
        damaged = bool(sample.names) and len(sample.names) != len(sample.positions)
        if damaged and not self._options.lenient:
            raise RecordingError(
                f"action in {feed.topic} of {self._options.bag} is damaged",
                value=f"names {list(sample.names)}, {len(sample.positions)} positions",
                allowed="one position per name",
                where="--action-topic, or pass --lenient",
            )
        if feed.role is Role.ACTION:
            self._watch.take(sample, feed)
        # A message without any of the policy's joints is for others: the wheels, or the other arm.
        if len(index):
            self._reference.add(feed.topic, sample.time_ns, index, positions)

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


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
