# SPDX-License-Identifier: Apache-2.0
"""Planner and executor on a recording's clock: latencies decide what each of them can have seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wam.core.contract import CameraContract
from wam.core.errors import PolicyFault, StageFailed
from wam.core.fakes import FakeExecutor, FakePlanner, ImaginingExecutor, fake_contract
from wam.core.observation import Observation, RobotState
from wam.core.policy import LoadedPolicy, StageBackend
from wam.core.transport.numpy_codec import NumpyCodec
from wam.data.bag.joint_samples import JointSamples
from wam.data.bag.stamps import BagMessage
from wam.data.fakes import CAMERA, fake_image, fake_robot
from wam.evaluation.replay.collect import Collector
from wam.evaluation.replay.engine import (
    ChunkEvent,
    ContextEvent,
    Event,
    FaultEvent,
    RefusalEvent,
    ReplaySettings,
)
from wam.evaluation.replay.offline import OfflineReplay
from wam.evaluation.replay.safety_events import SafetyInfo, SafetySource
from wam.robots.camera_spec import CameraTransport
from wam.runtime.ingest.ingest import StreamIngest

MS = 1_000_000
S = 1000 * MS
ROBOT = fake_robot(height=4, width=4, transport=CameraTransport.RAW)
CONTRACT = fake_contract(
    joint_names=ROBOT.joint_names,
    cameras=(CameraContract(CAMERA, 4, 4),),
    control_period_ns=20 * MS,
    horizon_rows=40,
)
SETTINGS = ReplaySettings(planner_latency_ns=150 * MS, executor_latency_ns=30 * MS, planner_period_ns=0)

Delivery = tuple[BagMessage, Callable[[StreamIngest], bool]]


def policy() -> LoadedPolicy:
    return LoadedPolicy(CONTRACT, FakePlanner(CONTRACT), FakeExecutor(CONTRACT), NumpyCodec())


def stamp(time_ns: int) -> Any:
    return SimpleNamespace(stamp=SimpleNamespace(sec=time_ns // S, nanosec=time_ns % S), frame_id="")


def joints(time_ns: int) -> Delivery:
    message = SimpleNamespace(
        header=stamp(time_ns), name=["d0", "d1", "d2"], position=np.zeros(3), velocity=np.empty(0)
    )

    def deliver(ingest: StreamIngest) -> bool:
        ingest.put_joint_state("body", message)
        return False

    return BagMessage("/joint_states", "", time_ns, time_ns, time_ns, message), deliver


def image(time_ns: int) -> Delivery:
    message = SimpleNamespace(
        header=stamp(time_ns),
        height=4,
        width=4,
        encoding="rgb8",
        step=12,
        is_bigendian=0,
        data=fake_image(time_ns // (10 * MS), height=4, width=4).ravel(),
    )

    def deliver(ingest: StreamIngest) -> bool:
        ingest.put_image(CAMERA, message)
        return True

    return BagMessage("/camera", "", time_ns, time_ns, time_ns, message), deliver


def recording(
    *, start_ns: int = S, end_ns: int = 3 * S, silent: tuple[int, int] = (0, 0)
) -> Iterator[Delivery]:
    """Give joints at 100 Hz and images at 25 Hz; no image from `silent[0]` to `silent[1]`."""
    for time_ns in range(start_ns, end_ns, 10 * MS):
        yield joints(time_ns)
        if (time_ns - start_ns) % (40 * MS) == 0 and not silent[0] <= time_ns < silent[1]:
            yield image(time_ns)


def run(
    deliveries: Iterator[Delivery], *, settings: ReplaySettings = SETTINGS, loaded: LoadedPolicy | None = None
) -> list[Event]:
    return list(OfflineReplay(robot=ROBOT, policy=loaded or policy(), settings=settings).run(deliveries))


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_chunk_uses_only_contexts_and_images_that_were_there_when_it_started() -> None:
    events = run(recording())
    contexts = of(events, ContextEvent)
    chunks = of(events, ChunkEvent)
    assert len(chunks) >= 17
    for event in chunks:
        newest = max((c for c in contexts if c.ready_ns <= event.start_ns), key=lambda c: c.ready_ns)
        assert event.chunk.context_version == newest.header.version
        assert event.chunk.context_age_ns == event.chunk.stamp_ns - newest.header.stamp_ns
        assert event.chunk.phase_offset_rows == newest.header.phase_offset_rows(event.chunk.stamp_ns)
        # The newest image at or before the start: images come every 40 ms from 1 s on.
        assert event.chunk.stamp_ns == S + (event.start_ns - S) // (40 * MS) * 40 * MS
        assert event.ready_ns == event.start_ns + 30 * MS


def test_the_planner_takes_the_newest_image_as_soon_as_it_is_free() -> None:
    contexts = of(run(recording()), ContextEvent)
    for before, after in pairwise(contexts):
        assert before.ready_ns - before.start_ns == 150 * MS
        assert after.start_ns == before.ready_ns
        assert after.header.stamp_ns == S + (after.start_ns - S) // (40 * MS) * 40 * MS
    assert all(event.header.plan_ns == 150 * MS for event in contexts)


def test_a_planner_period_spaces_the_plans() -> None:
    settings = replace(SETTINGS, planner_latency_ns=20 * MS, planner_period_ns=200 * MS)
    starts = [event.start_ns for event in of(run(recording(), settings=settings), ContextEvent)]
    assert np.all(np.diff(starts) == 200 * MS)


def test_a_slow_executor_is_not_started_again_before_it_is_done() -> None:
    settings = replace(SETTINGS, executor_latency_ns=170 * MS, executor_period_ns=100 * MS)
    chunks = of(run(recording(), settings=settings), ChunkEvent)
    assert all(b.start_ns >= a.ready_ns for a, b in pairwise(chunks))
    assert chunks[0].chunk.inference_ns == 170 * MS


def test_two_runs_give_the_same_events() -> None:
    first, second = run(recording()), run(recording())
    assert len(first) == len(second)
    for a, b in zip(of(first, ChunkEvent), of(second, ChunkEvent), strict=True):
        np.testing.assert_array_equal(a.chunk.rows, b.chunk.rows)
        assert (a.start_ns, a.ready_ns, a.chunk.inference_ns) == (
            b.start_ns,
            b.ready_ns,
            b.chunk.inference_ns,
        )


def test_a_camera_that_falls_silent_stops_the_chunks_with_a_reason() -> None:
    events = run(recording(silent=(int(1.5 * S), int(2.5 * S))))
    starts = [event.start_ns for event in of(events, ChunkEvent)]
    assert not [t for t in starts if 1.75 * S <= t < 2.5 * S]
    assert [t for t in starts if t >= 2.6 * S]
    reasons = [event.reason for event in of(events, RefusalEvent) if event.node == "executor"]
    assert any("camera 'cam_high'" in reason and "stale" in reason for reason in reasons)


def test_a_context_older_than_allowed_is_refused() -> None:
    settings = replace(SETTINGS, planner_period_ns=10 * S, max_context_age_ns=400 * MS)
    events = run(recording(), settings=settings)
    assert all(event.chunk.context_age_ns <= 400 * MS for event in of(events, ChunkEvent))
    assert any("too old" in event.reason for event in of(events, RefusalEvent))


def test_a_recording_whose_clock_is_set_back_goes_on() -> None:
    def twice() -> Iterator[Delivery]:
        yield from recording(start_ns=50 * S, end_ns=52 * S)
        yield from recording(start_ns=10 * S, end_ns=12 * S)

    chunks = of(run(twice()), ChunkEvent)
    assert len([c for c in chunks if c.start_ns >= 50 * S]) >= 15
    assert len([c for c in chunks if c.start_ns < 50 * S]) >= 15


def test_what_is_under_way_at_the_end_still_comes_out_and_nothing_new_starts() -> None:
    events = run(recording(end_ns=2 * S))
    starts = [event.start_ns for event in events if isinstance(event, (ChunkEvent, ContextEvent))]
    assert max(starts) < 2 * S
    assert max(event.ready_ns for event in of(events, ContextEvent)) > 2 * S - 10 * MS


class BrokenExecutor(FakeExecutor):
    """Raises at its third chunk."""

    calls = 0

    def act(self, routed: Any, *, proprio: RobotState) -> Any:
        """Return a chunk, or raise."""
        self.calls += 1
        if self.calls == 3:
            raise PolicyFault("chunk is not finite")
        return super().act(routed, proprio=proprio)


def test_a_policy_fault_ends_its_node_and_is_told_once() -> None:
    loaded = replace(policy(), executor=BrokenExecutor(CONTRACT))
    events = run(recording(), loaded=loaded)
    (fault,) = of(events, FaultEvent)
    assert fault.node == "executor"
    assert len(of(events, ChunkEvent)) == 2
    assert of(events, ContextEvent)[-1].start_ns > fault.time_ns


def test_a_report_names_a_stage_whose_backend_failed_on_the_way() -> None:
    """It named the backend that had been loaded."""

    class Failing(BrokenExecutor):
        def act(self, routed: Any, *, proprio: RobotState) -> Any:
            try:
                return super().act(routed, proprio=proprio)
            except PolicyFault:
                raise StageFailed("stage denoise failed (gone)", stage="denoise") from None

    stages = (StageBackend("denoise", "onnxruntime", ""), StageBackend("route", "onnxruntime", ""))
    loaded = replace(policy(), executor=Failing(CONTRACT), stages=stages)
    replay = OfflineReplay(robot=ROBOT, policy=loaded, settings=SETTINGS)
    events = list(replay.run(recording()))
    assert of(events, FaultEvent) == []
    assert len(of(events, ChunkEvent)) > 3
    assert replay.backends == {"denoise": "eager (stage denoise failed (gone))", "route": "onnxruntime"}


def test_measured_latencies_are_those_of_the_host() -> None:
    now = 0

    def stopwatch() -> int:
        nonlocal now
        now += 7 * MS
        return now

    settings = replace(SETTINGS, planner_latency_ns=None, executor_latency_ns=None)
    replay = OfflineReplay(robot=ROBOT, policy=policy(), settings=settings, stopwatch=stopwatch)
    events = list(replay.run(recording()))
    plans = {event.ready_ns - event.start_ns for event in of(events, ContextEvent)}
    assert plans == {5 * 7 * MS}  # the clock is read once before, four times within and once after the step
    # A chunk opens a context and reads it: four more readings.
    assert {event.ready_ns - event.start_ns for event in of(events, ChunkEvent)} == {13 * 7 * MS}
    assert {event.policy_ns for event in of(events, ContextEvent)} == {7 * MS}
    # Opening and reading the context, routing and denoising.
    assert {event.policy_ns for event in of(events, ChunkEvent)} == {4 * 7 * MS}


def test_a_policy_without_one_half_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="both halves"):
        OfflineReplay(robot=ROBOT, policy=replace(policy(), planner=None), settings=SETTINGS)


def test_the_same_observation_serves_planner_and_executor_from_one_ingest() -> None:
    seen: list[Observation] = []

    class Watching(FakePlanner):
        def plan(self, observation: Observation, **words: Any) -> Any:
            seen.append(observation)
            return super().plan(observation, **words)

    loaded = replace(policy(), planner=Watching(CONTRACT))
    chunks = of(run(recording(), loaded=loaded), ChunkEvent)
    by_stamp = {observation.stamp_ns: observation for observation in seen}
    shared = [event for event in chunks if event.chunk.stamp_ns in by_stamp]
    assert shared
    for event in shared:
        assert event.observation.frames[CAMERA] is by_stamp[event.chunk.stamp_ns].frames[CAMERA]


def test_what_a_policy_imagines_is_kept_beside_what_was_seen_then() -> None:
    loaded = replace(policy(), executor=ImaginingExecutor(CONTRACT))
    collector = Collector(
        robot=ROBOT,
        contract=CONTRACT,
        settings=SETTINGS,
        reference=JointSamples(CONTRACT.action_joints, max_gap_ns=S),
        safety=SafetyInfo(SafetySource.OFFLINE_FILTERS, tick_ns=10 * MS),
        duration=2.0,
    )
    events = run(recording(), loaded=loaded)
    for event in of(events, ChunkEvent):
        collector.take(event)
    records = collector.imagined.records()
    assert len(records) >= 5
    for record in records:
        if record.observed is not None:
            late_ns = record.observed.stamp_ns - record.imagined.stamp_ns
            assert 0 <= late_ns <= SETTINGS.executor_period_ns + 40 * MS
    assert records[0].observed is not None
    # A chunk lasts 16 rows of 20 ms, and its picture is that of its beginning.
    first = of(events, ChunkEvent)[0]
    assert records[0].imagined.stamp_ns == first.chunk.stamp_ns + 320 * MS
    np.testing.assert_array_equal(records[0].imagined.rgb, first.observation.frames[CAMERA].rgb)
    # One picture in some chunks, not one in every.
    decoded = sum(len(event.imagination.decoded) for event in of(events, ChunkEvent))
    assert decoded == len(records)
