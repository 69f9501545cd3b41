# SPDX-License-Identifier: Apache-2.0
"""The interface of a replay engine: its schedule, the events that it yields, and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from wam.core.chunk import ActionChunk
from wam.core.chunk.splice import Strategy
from wam.core.clock import seconds_to_ns
from wam.core.context import ContextHeader
from wam.core.errors import ConfigError, PolicyFault
from wam.core.observation import Observation
from wam.core.policy import Imagination
from wam.data.bag.binding import TopicNames
from wam.data.bag.clocks import ClockRequest
from wam.data.bag.stamps import BagMessage
from wam.evaluation.metrics.gate import Gate
from wam.evaluation.replay.safety_events import SafetyEvent, SafetyInfo
from wam.runtime.imagination import ImaginationError
from wam.runtime.ingest.ingest import Notice, StreamIngest
from wam.runtime.schedule import SCHEDULE

MEASURED = "measured"
"""In place of a latency: the one measured on this host."""

MAX_LATENCY = 60.0
"""Longest latency that an option takes [s]."""

PLANNER = "planner"
EXECUTOR = "executor"


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How planner and executor are scheduled.

    Attributes:
        planner_latency_ns: from the start of a plan to its context being usable [ns]; None uses the latency measured
            on this host.
        executor_latency_ns: from the start of a cycle to its chunk being out [ns]; None likewise.
        planner_period_ns: least time between the starts of two plans [ns]; 0 plans every new image.
        executor_period_ns: time between the starts of two chunks [ns].
        max_context_age_ns: a context with an older image is refused [ns].
        strategy: how the safety node changes over from one chunk to the next.
        extra_filters: safety filters from other packages, each as "module:factory".
        imagination: compare also futures that cost extra computing, or in live mode an extra half of the policy.
    """

    planner_latency_ns: int | None
    executor_latency_ns: int | None
    planner_period_ns: int = seconds_to_ns(SCHEDULE.planner_period)
    executor_period_ns: int = seconds_to_ns(SCHEDULE.executor_period)
    max_context_age_ns: int = seconds_to_ns(SCHEDULE.max_context_age)
    strategy: Strategy = SCHEDULE.strategy
    extra_filters: tuple[str, ...] = ()
    imagination: bool = False


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay and how.

    Attributes:
        bag: recording.
        policy_name: as the user gave it.
        settings: schedule of planner and executor.
        names: topics that differ from the robot file.
        instruction: task text; "" takes the recording's, or else the policy's.
        seed: of the policy's noise, for the report.
        lenient: report faults that leave usable data as warnings.
        use_stamps: False uses receive times instead of header stamps.
        clock_offsets: topic -> how its stamps are corrected.
        gate: what decides the verdict.
        mode: "offline" (cycles on the recording's clock) or "live" (real nodes), for the report.
        rerun: .rrd file to write beside the report, or None.
        page: write index.html and film the cameras for it.
    """

    bag: Path
    policy_name: str
    settings: ReplaySettings
    names: TopicNames = field(default_factory=TopicNames)
    instruction: str = ""
    seed: int = 0
    lenient: bool = False
    use_stamps: bool = True
    clock_offsets: Mapping[str, ClockRequest] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    mode: str = "offline"
    rerun: Path | None = None
    page: bool = True


def parse_latency(text: str, *, option: str) -> int | None:
    """Return a latency [ns], or None for "measured".

    Raises:
        ConfigError: it is neither that nor a time from 0 to 60 s.
    """
    if text == MEASURED:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= MAX_LATENCY:
        raise ConfigError(
            f"option {option}", value=text, allowed=f"0 to {MAX_LATENCY:g} [s], or {MEASURED}", where=option
        )
    return seconds_to_ns(seconds)


def parse_strategy(text: str, *, what: str, where: str) -> Strategy:
    """Return the strategy of that name.

    Raises:
        ConfigError: there is none; the message names `what` and `where`.
    """
    try:
        return Strategy(text)
    except ValueError as error:
        allowed = ", ".join(strategy.value for strategy in Strategy)
        raise ConfigError(what, value=text, allowed=f"one of {allowed}", where=where) from error


@dataclass(frozen=True, slots=True)
class ContextEvent:
    """A planner context is ready.

    Attributes:
        start_ns: when its plan started [ns].
        ready_ns: when the executor could use it [ns].
        header: header of the context.
        host_ns: time its cycle took on this host [ns].
        policy_ns: of that, time in the policy (prefill) [ns].
        imagination: what the planner expects to perceive later, where it was asked for.
    """

    start_ns: int
    ready_ns: int
    header: ContextHeader
    host_ns: int
    policy_ns: int = 0
    imagination: Imagination | None = None


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    """An action chunk is ready.

    Attributes:
        start_ns: when its cycle started [ns].
        ready_ns: when it was ready [ns].
        chunk: the chunk.
        observation: what it was computed from.
        host_ns: time its cycle took on this host [ns].
        policy_ns: of that, L_chunk: access to the context, image encoding, routing and denoising [ns].
        imagination: what the policy expects to perceive later; None for a policy without a world model.
    """

    start_ns: int
    ready_ns: int
    chunk: ActionChunk
    observation: Observation
    host_ns: int
    policy_ns: int = 0
    imagination: Imagination | None = None


@dataclass(frozen=True, slots=True)
class RefusalEvent:
    """A cycle gave no output.

    Attributes:
        time_ns: when [ns].
        node: "planner" or "executor".
        reason: the reason, as the node would report it.
    """

    time_ns: int
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeEvent:
    """The ingest refused a message, recovered, or saw a clock go backwards.

    Attributes:
        time_ns: when [ns].
        notice: the notice.
    """

    time_ns: int
    notice: Notice


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A policy produced what must not reach a robot; its node does nothing more, as a live one.

    Attributes:
        time_ns: when [ns].
        node: "planner" or "executor".
        error: what it raised.
    """

    time_ns: int
    node: str
    error: PolicyFault


@dataclass(frozen=True, slots=True)
class ImaginationEvent:
    """An imagined future was compared with the observation of its time.

    Attributes:
        time_ns: when it came [ns].
        error: what came out.
    """

    time_ns: int
    error: ImaginationError


Event = ContextEvent | ChunkEvent | RefusalEvent | NoticeEvent | FaultEvent | ImaginationEvent | SafetyEvent
"""Events that an engine yields."""

Delivery = tuple[BagMessage, Callable[[StreamIngest], bool]]
"""A message with the function that puts it into an ingest (or elsewhere) and returns whether it was an image."""


class Engine(Protocol):
    """What answers a recording: cycles on its clock (`OfflineReplay`), or real nodes."""

    @property
    def ingest(self) -> StreamIngest:
        """Buffers of the recording's streams."""

    @property
    def instruction(self) -> str:
        """Task text in force."""

    @property
    def safety(self) -> SafetyInfo | None:
        """Who judges the chunks in the safety events of `run`; None for an engine without such events."""

    @property
    def backends(self) -> Mapping[str, str]:
        """Stage of the policy -> what runs it, as far as it is known by now."""

    def run(self, deliveries: Iterable[Delivery]) -> Iterator[Event]:
        """Yield the events in order of time."""

    def set_instruction(self, text: str) -> None:
        """Change the planner's instruction."""

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each thing that the user should know about the run."""

    def close(self) -> None:
        """Release all resources; safe to call twice."""
