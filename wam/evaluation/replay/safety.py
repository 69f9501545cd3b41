# SPDX-License-Identifier: Apache-2.0
"""The safety node's cycle on the clock of a recording, for engines that run no safety node of their own.

    joint state at its time -> SafetyCycle, which steps at the rate of the robot's command stream
    chunk when it is out    ->   its verdict on every chunk, its ladder moves, the commands it would have sent

The recorded robot does not follow these commands, so the tracking error is not judged, as in a dry run of the node.
What a recording does not contain (e-stop, other publishers, speed scaling) is taken to be fine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wam.core.chunk.splice import Strategy
from wam.core.clock import NS_PER_S
from wam.core.errors import InputError, MissingDependency
from wam.core.verdict import Ladder
from wam.data.bag.binding import Binding, Role
from wam.data.bag.stamps import BagMessage
from wam.evaluation.replay.engine import ChunkEvent, Delivery, Engine, Event
from wam.evaluation.replay.safety_events import (
    CommandEvent,
    LadderEvent,
    SafetyEvent,
    SafetyInfo,
    SafetySource,
    VerdictEvent,
)
from wam.robots.description import CommandKind, RobotDescription, summed_up
from wam.robots.joint_merge import JointMerge
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.safety.build import STREAM_RATE, build_cycle, settings_for
from wam.runtime.safety.filters import ChainOptions, build_chain

CLEAR_NS = NS_PER_S
"""A latched STOP is cleared after this time, as an operator would, so that later chunks are judged too [ns]."""

MAX_SILENCE_NS = 60 * NS_PER_S
"""A longer gap in the recording is not stepped through; the cycle sees a clock that jumped [ns]."""


def unjudged(robot: RobotDescription, *, tick_ns: int) -> SafetyInfo:
    """Return that nobody judges the chunks, because the robot file does not state by what.

    Args:
        robot: with `unstated` values.
        tick_ns: time between two rows [ns].
    """
    reason = f"{robot.source.name} is for replay only and does not state {summed_up(robot.unstated)}"
    return SafetyInfo(SafetySource.NOBODY, tick_ns, reason)


class SafetyReplay:
    """Steps a safety cycle on the recording's clock. One thread.

    Args:
        robot: limits, groups and budgets; a recorded robot that is never commanded is judged at 100 Hz.
        strategy: how chunks take over from one another.
        extra_filters: factories of filters from other packages, as the safety node's parameter.

    Raises:
        ConfigError: an extra filter cannot be made.
    """

    def __init__(
        self,
        robot: RobotDescription,
        *,
        strategy: Strategy = Strategy.BLEND,
        extra_filters: tuple[str, ...] = (),
    ) -> None:
        commanded = any(group.command_kind is not CommandKind.NONE for group in robot.groups)
        rate = {} if commanded else {"tick_ns": round(NS_PER_S / STREAM_RATE)}
        settings = settings_for(robot, strategy=strategy, track=False, **rate)
        self._tick_ns, self._lead_ns = settings.tick_ns, settings.lead_ns
        unchecked = "" if robot.urdf is not None else f"{robot.name} has no model"
        options = ChainOptions(extra_filters=extra_filters)
        try:
            chain = build_chain(robot, options)
        except MissingDependency as error:
            chain, unchecked = build_chain(robot, options, model=False), str(error)
        self.info = SafetyInfo(SafetySource.OFFLINE_FILTERS, settings.tick_ns, unchecked)
        # Every step is one tick of wall time too: a recording has no threads that sleep too long.
        self._wall_ns = 0
        self._cycle = build_cycle(robot, settings, chain, wall=lambda: self._wall_ns)
        self._merges = {group.name: JointMerge(group) for group in robot.groups}
        self._next_ns: int | None = None
        self._generation = 0
        self._stopped_ns: int | None = None
        self._started = False
        self._nothing = np.full(len(robot.joint_names), np.nan)
        self._due: list[int] = []
        self._positions: list[npt.NDArray[np.float64]] = []
        self._rungs: Counter[Ladder] = Counter()
        self._events: list[SafetyEvent] = []

    def offer_state(self, group: str, message: Any, *, time_ns: int) -> None:
        """Take a recorded sensor_msgs/JointState; one that does not fit ages as if it had not arrived.

        Args:
            group: name of the joint group.
            message: of rclpy or of rosbags.
            time_ns: when it is delivered [ns]; earlier than the time before means that the clock went back.
        """
        if self._next_ns is None or time_ns < self._next_ns - 2 * self._tick_ns:
            self._next_ns = time_ns
        self.advance(time_ns)
        stamp = message.header.stamp
        stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
        try:
            state = self._merges[group].take(message, stamp_ns=stamp_ns)
        except InputError as error:
            self._cycle.reject("malformed_joint_state", str(error))
            return
        if state is not None:
            merge = self._merges[group]
            stamp_ns = merge.oldest_ns if merge.merged else stamp_ns
            self._cycle.offer_state(group, stamp_ns=stamp_ns, positions=state[0])

    def offer_chunk(self, event: ChunkEvent) -> None:
        """Take a chunk that came out at `event.ready_ns`."""
        self.advance(event.ready_ns)
        self._generation = event.chunk.generation
        self._cycle.offer_chunk(event.chunk, arrival_ns=event.ready_ns)

    def advance(self, until_ns: int) -> None:
        """Step every tick before `until_ns`."""
        if self._next_ns is None:
            return
        if until_ns - self._next_ns > MAX_SILENCE_NS:
            self._next_ns = until_ns - self._tick_ns
        while self._next_ns < until_ns:
            self._step(self._next_ns)
            self._next_ns += self._tick_ns

    def take_events(self) -> list[SafetyEvent]:
        """Return what happened since the last call, commands first."""
        events, self._events = self._events, []
        if self._due:
            block = CommandEvent(
                self._due[-1] - self._lead_ns,
                np.array(self._due, dtype=np.int64),
                np.stack(self._positions),
                dict(self._rungs),
            )
            self._due, self._positions, self._rungs = [], [], Counter()
            events.insert(0, block)
        return events

    def _step(self, now_ns: int) -> None:
        self._wall_ns += self._tick_ns
        if self._stopped_ns is not None and not 0 <= now_ns - self._stopped_ns < CLEAR_NS:
            self._cycle.clear_fault()
            self._stopped_ns = None
        result = self._cycle.step(now_ns)
        if result.outcome is not None:
            self._started = True
            self._events.append(VerdictEvent(now_ns, self._generation, result.outcome))
        self._events += [LadderEvent(now_ns, event) for event in result.events]
        if result.rung is Ladder.STOP and self._stopped_ns is None:
            self._stopped_ns = now_ns
        if self._started:
            self._rungs[result.rung] += 1
            self._due.append(now_ns + self._lead_ns)
            self._positions.append(self._nothing if result.position is None else result.position.copy())


class OfflineSafety:
    """An engine that adds the offline safety cycle's events to those of an engine without a safety node.

    Args:
        engine: what answers the recording.
        robot: whose recording it is.
        binding: tells joint states from other messages.
        strategy: how chunks take over from one another.
        extra_filters: factories of filters from other packages, as the safety node's parameter.

    Raises:
        ConfigError: an extra filter cannot be made.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        robot: RobotDescription,
        binding: Binding,
        strategy: Strategy,
        extra_filters: tuple[str, ...] = (),
    ) -> None:
        self._engine = engine
        self._binding = binding
        self._replay = SafetyReplay(robot, strategy=strategy, extra_filters=extra_filters)
        self._last_ns: int | None = None

    @property
    def ingest(self) -> StreamIngest:
        """Where messages are put."""
        return self._engine.ingest

    @property
    def instruction(self) -> str:
        """Task text in force."""
        return self._engine.instruction

    @property
    def backends(self) -> Mapping[str, str]:
        """What runs the policy's stages."""
        return self._engine.backends

    @property
    def safety(self) -> SafetyInfo:
        """The offline filters."""
        return self._replay.info

    def run(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        """Give what happens, in order of time; see `Engine.run`."""
        for event in self._engine.run(self._watched(deliveries)):
            if isinstance(event, ChunkEvent):
                self._replay.offer_chunk(event)
            yield from self._replay.take_events()
            yield event
        if self._last_ns is not None:
            self._replay.advance(self._last_ns)
        yield from self._replay.take_events()

    def set_instruction(self, text: str) -> None:
        """Give the planner other words."""
        self._engine.set_instruction(text)

    def warnings(self) -> tuple[str, ...]:
        """Return what a person should know about the run."""
        return self._engine.warnings()

    def close(self) -> None:
        """Close the engine; safe to call twice."""
        self._engine.close()

    def _watched(self, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
        for message, deliver in deliveries:
            self._last_ns = message.time_ns
            yield message, partial(self._deliver, message, deliver)

    def _deliver(
        self, message: BagMessage, deliver: Callable[[StreamIngest], bool], ingest: StreamIngest
    ) -> bool:
        is_image = deliver(ingest)
        feed = self._binding.feeds[message.topic]
        if feed.role is Role.JOINTS:
            for group in feed.streams:
                self._replay.offer_state(group, message.message, time_ns=message.time_ns)
        return is_image
