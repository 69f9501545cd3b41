# SPDX-License-Identifier: Apache-2.0
"""Planner and executor on the clock of a recording: the live nodes' cycles, scheduled by their latencies.

    message at its time -> ingest -> planner starts when idle and there is a newer image
                                     its context reaches the executor one planner latency later
                                  -> executor starts once per period, when idle
                                     its chunk is out one executor latency later

A cycle sees what had arrived when it started, as on a robot; nothing waits for the host. Two runs with configured
latencies and one seed therefore yield the same events, byte for byte.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wam.core.clock import ManualClock
from wam.core.context import ContextHandle
from wam.core.errors import InputError, PolicyFault
from wam.core.latency import Stopwatch, monotonic_ns
from wam.core.observation import Observation
from wam.core.policy import Foreseeing, Imagination, Imagining, LoadedPolicy, Perceiving
from wam.core.transport.in_process import InProcessPublisher, InProcessReader, InProcessRegistry
from wam.evaluation.metrics.time_gaps import MAX_GAP_NS
from wam.evaluation.replay.engine import (
    EXECUTOR,
    PLANNER,
    ChunkEvent,
    ContextEvent,
    Delivery,
    Event,
    FaultEvent,
    ImaginationEvent,
    NoticeEvent,
    RefusalEvent,
    ReplaySettings,
)
from wam.evaluation.replay.safety_events import SafetyInfo
from wam.evaluation.replay.timed import TimedPolicy
from wam.robots.description import RobotDescription
from wam.runtime.executor import ExecutorCycle
from wam.runtime.imagination import ImaginationJudge, ImaginedFuture, tolerance_ns
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.planner import PlannerCycle
from wam.runtime.policy import EAGER


@dataclass(order=True, slots=True)
class _Due:
    time_ns: int
    rank: int
    """Order of what is due at one instant: a context arrives before the executor starts."""
    number: int
    run: Callable[[int], Iterator[Event]]


class OfflineReplay:
    """Drives both cycles over a recording. Single-threaded; used once.

    Args:
        robot: robot of the recording.
        policy: both halves of the policy.
        settings: how they are scheduled.
        instruction: first task text; "" takes the policy's own.
        generation: of the first task text, from 1; the noise of a policy depends on it.
        ingest: where messages are put; None makes one. A live node's may be given, fed over DDS.
        stopwatch: monotonic clock of the host [ns].

    Raises:
        ValueError: a half of the policy is missing.
    """

    def __init__(
        self,
        *,
        robot: RobotDescription,
        policy: LoadedPolicy,
        settings: ReplaySettings,
        instruction: str = "",
        generation: int = 1,
        ingest: StreamIngest | None = None,
        stopwatch: Stopwatch = monotonic_ns,
    ) -> None:
        if policy.planner is None or policy.executor is None:
            raise ValueError("replay needs both halves of a policy")
        self.clock = ManualClock()
        self.ingest = ingest or StreamIngest(
            robot, cameras=policy.contract.camera_names, environment=policy.contract.environment
        )
        self._settings = settings
        self._stopwatch = stopwatch
        self._observation: Observation | None = None
        # A registry of its own: two replays in one process must not retire each other's contexts.
        registry = InProcessRegistry()
        self._publisher = InProcessPublisher(policy.codec, owner="replay", registry=registry)
        reader: InProcessReader[Any] = InProcessReader(registry=registry)
        self._timed = TimedPolicy(policy.planner, policy.executor, reader, stopwatch)
        self._foreseeing = (
            policy.planner if settings.imagination and isinstance(policy.planner, Foreseeing) else None
        )
        self._imagination: ImaginationJudge | None = None
        imagines = isinstance(policy.executor, Imagining) or self._foreseeing is not None
        if imagines and isinstance(policy.planner, Perceiving):
            rates = [robot.camera(name).rate for name in policy.contract.camera_names]
            self._imagination = ImaginationJudge(policy.planner, tolerance_ns=tolerance_ns(rates))
        self.planner = PlannerCycle(
            contract=policy.contract,
            planner=self._timed,
            publisher=self._publisher,
            observe=self._observe,
            instruction=instruction or policy.contract.instruction,
            generation=generation,
            stopwatch=_watch(stopwatch, settings.planner_latency_ns),
        )
        self.executor = ExecutorCycle(
            contract=policy.contract,
            executor=self._timed,
            reader=self._timed,
            observe=self._observe,
            max_context_age_ns=settings.max_context_age_ns,
            stopwatch=_watch(stopwatch, settings.executor_latency_ns),
        )
        self._backends = policy.backends
        self._due: list[_Due] = []
        self._numbers = 0
        self._now_ns: int | None = None
        self._planner_busy = False
        self._planner_woken = False
        self._planner_started_ns: int | None = None
        self._faulted: set[str] = set()

    def run(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        """Give what happens, in order of time.

        Args:
            deliveries: every message with the function that puts it into the ingest (or elsewhere) and returns
                whether it was an image.

        Raises:
            ContractMismatch: planner and executor were built for different policies.
        """
        try:
            for message, deliver in deliveries:
                yield from self.push(message.time_ns, deliver)
            yield from self._finish()
        finally:
            self.close()

    def push(self, time_ns: int, deliver: Callable[[StreamIngest], bool]) -> Iterator[Event]:
        """Take one message and yield the events up to its time; for callers without a recording.

        Args:
            time_ns: when it arrives [ns].
            deliver: puts it into the ingest (or elsewhere) and returns whether it was an image.
        """
        if self._now_ns is None:
            self._schedule(time_ns, 2, self._executor_tick)
        elif time_ns < self._now_ns:
            yield from self._begin_anew(time_ns)
        elif time_ns - self._now_ns > MAX_GAP_NS:
            # Long enough for everything to have become stale; nothing would happen in the rest of the gap.
            yield from self._advance(self._now_ns + MAX_GAP_NS)
            yield from self._begin_anew(time_ns)
        yield from self._advance(time_ns)
        self._now_ns = time_ns
        self.clock.set(time_ns)
        is_image = deliver(self.ingest)
        for notice in self.ingest.take_notices():
            yield NoticeEvent(time_ns, notice)
        if is_image:
            self._wake_planner(time_ns)
            yield from self._judge_imagination(time_ns)

    @property
    def instruction(self) -> str:
        """Task text in force."""
        return self.planner.instruction.text

    @property
    def backends(self) -> Mapping[str, str]:
        """What runs the policy's stages; of one whose backend has failed, why it runs as it is written."""
        failed = {**self.planner.failed_stages, **self.executor.failed_stages}
        return {**self._backends, **{stage: f"{EAGER} ({why})" for stage, why in failed.items()}}

    @property
    def safety(self) -> SafetyInfo | None:
        """None: planner and executor only; `OfflineSafety` adds the safety cycle."""
        return None

    def warnings(self) -> tuple[str, ...]:
        """Return warnings for the user: none, because the run followed the recording's clock."""
        return ()

    def set_instruction(self, text: str) -> None:
        """Start a new generation of the planner with other words.

        Raises:
            InputError: the text is too long or empty.
        """
        self.planner.set_instruction(text)

    def close(self) -> None:
        """Give back what both cycles hold; safe to call twice."""
        self.executor.close()
        self._timed.close()
        self._publisher.close()

    def _observe(self, now_ns: int) -> Observation:
        self._observation = self.ingest.assemble(now_ns=now_ns)
        return self._observation

    def _schedule(self, time_ns: int, rank: int, run: Callable[[int], Iterator[Event]]) -> None:
        self._numbers += 1
        heapq.heappush(self._due, _Due(time_ns, rank, self._numbers, run))

    def _advance(self, until_ns: int) -> Iterator[Event]:
        """Run what is due before `until_ns`; messages of one instant arrive before a cycle starts in it."""
        while self._due and self._due[0].time_ns < until_ns:
            due = heapq.heappop(self._due)
            self.clock.set(due.time_ns)
            yield from due.run(due.time_ns)

    def _finish(self) -> Iterator[Event]:
        """Finish the plan and the chunk in progress; start nothing after the last message."""
        end_ns = self._now_ns
        if end_ns is None:
            return
        yield from self._advance(end_ns + 1)
        while self._due:
            due = heapq.heappop(self._due)
            if due.rank != 2:
                self.clock.set(due.time_ns)
                yield from due.run(due.time_ns)

    def _begin_anew(self, now_ns: int) -> Iterator[Event]:
        """Finish the plan and the chunk in progress at once, and restart the executor's period, as after a gap."""
        for due in sorted(self._due):
            if due.rank != 2:
                yield from due.run(due.time_ns)
        self._due.clear()
        if self._imagination is not None:
            self._imagination.clear()
        self._planner_busy = False
        self._planner_started_ns = None
        self._schedule(now_ns, 2, self._executor_tick)

    def _wake_planner(self, now_ns: int) -> None:
        self._planner_woken = True
        if not self._planner_busy:
            self._schedule_plan(now_ns)

    def _schedule_plan(self, now_ns: int) -> None:
        earliest_ns = now_ns
        if self._planner_started_ns is not None:
            earliest_ns = max(now_ns, self._planner_started_ns + self._settings.planner_period_ns)
        self._planner_busy = True
        self._planner_woken = False
        self._schedule(earliest_ns, 2, self._plan)

    def _plan(self, now_ns: int) -> Iterator[Event]:
        self._planner_busy = False
        if PLANNER in self._faulted:
            return
        began = self._stopwatch()
        try:
            result = self.planner.step(now_ns)
        except PolicyFault as error:
            self._faulted.add(PLANNER)
            yield FaultEvent(now_ns, PLANNER, error)
            return
        host_ns = self._stopwatch() - began
        if result.header is None or result.handle is None:
            yield RefusalEvent(now_ns, PLANNER, result.reason)
            return
        self._planner_busy = True
        self._planner_started_ns = now_ns
        latency_ns = self._settings.planner_latency_ns
        ready_ns = now_ns + (host_ns if latency_ns is None else latency_ns)
        imagination = None if self._foreseeing is None else self._foreseeing.foresee()
        header = result.header
        event = ContextEvent(now_ns, ready_ns, header, host_ns, self._timed.plan_ns, imagination)
        self._expect(header.generation, header.version, imagination)
        handle = result.handle
        self._schedule(ready_ns, 0, lambda time_ns: self._context_arrives(time_ns, event, handle))

    def _context_arrives(self, now_ns: int, event: ContextEvent, handle: ContextHandle) -> Iterator[Event]:
        yield event
        self.executor.offer_context(event.header, handle)
        self._planner_busy = False
        if self._planner_woken:
            self._schedule_plan(now_ns)

    def _chunk_out(self, event: ChunkEvent) -> Iterator[Event]:
        self.executor.sent(event.chunk, at_ns=event.ready_ns)
        yield event

    def _executor_tick(self, now_ns: int) -> Iterator[Event]:
        if EXECUTOR in self._faulted:
            return
        self._timed.chunk_ns = 0
        began = self._stopwatch()
        try:
            result = self.executor.step(now_ns)
        except PolicyFault as error:
            self._faulted.add(EXECUTOR)
            yield FaultEvent(now_ns, EXECUTOR, error)
            return
        host_ns = self._stopwatch() - began
        period_ns = self._settings.executor_period_ns
        if result.chunk is None:
            yield RefusalEvent(now_ns, EXECUTOR, result.reason)
            self._schedule(now_ns + period_ns, 2, self._executor_tick)
            return
        assert self._observation is not None
        latency_ns = self._settings.executor_latency_ns
        ready_ns = now_ns + (host_ns if latency_ns is None else latency_ns)
        policy_ns = self._timed.chunk_ns
        event = ChunkEvent(
            now_ns, ready_ns, result.chunk, self._observation, host_ns, policy_ns, self.executor.imagination
        )
        self._expect(event.chunk.generation, event.chunk.sequence, event.imagination)
        self._schedule(ready_ns, 1, lambda time_ns: self._chunk_out(event))
        # As the live worker: a late cycle does not shift the next one by more than it has to.
        self._schedule(max(now_ns + period_ns, ready_ns), 2, self._executor_tick)

    def _expect(self, generation: int, sequence: int, imagination: Imagination | None) -> None:
        """Let a future wait for its time; it was imagined from the last observation."""
        if self._imagination is not None and imagination is not None and self._observation is not None:
            self._imagination.add(ImaginedFuture(generation, sequence, imagination, self._observation))

    def _judge_imagination(self, now_ns: int) -> Iterator[Event]:
        judge = self._imagination
        if judge is None or self._faulted or not judge.due(now_ns):
            return
        try:
            judge.see(self.ingest.assemble(now_ns=now_ns))
            for error in judge.compare():
                yield ImaginationEvent(now_ns, error)
        except InputError:
            return  # a stream is stale; the futures wait for the next image, or pass
        except PolicyFault as error:
            self._imagination = None
            yield FaultEvent(now_ns, EXECUTOR, error)


def _watch(host: Stopwatch, latency_ns: int | None) -> Stopwatch:
    """Return the host's clock, or one that advances by the configured latency at every reading."""
    if latency_ns is None:
        return host
    reading = 0

    def scripted() -> int:
        nonlocal reading
        reading += latency_ns
        return reading

    return scripted
