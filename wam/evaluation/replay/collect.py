# SPDX-License-Identifier: Apache-2.0
"""Collects the events of a replay: scores, the executed trajectory, ages, refusals, pictures for the report."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from wam.core.contract import PolicyContract
from wam.core.observation import CameraFrame, Observation, Rgb
from wam.core.policy import Imagination
from wam.data.bag.joint_samples import JointSamples
from wam.evaluation.metrics.chunks import (
    ChunkErrors,
    ChunkScore,
    Execution,
    Stamps,
    Table,
    row_times,
    target_at,
)
from wam.evaluation.metrics.limit_watch import LimitWatch
from wam.evaluation.replay.engine import (
    ChunkEvent,
    ContextEvent,
    Event,
    FaultEvent,
    ImaginationEvent,
    NoticeEvent,
    RefusalEvent,
    ReplaySettings,
)
from wam.evaluation.replay.safety_events import SafetyInfo
from wam.evaluation.replay.safety_tally import Commands, SafetyTally
from wam.report.imagined import ImaginedPairs
from wam.robots.description import RobotDescription
from wam.runtime.imagination import ImaginationError
from wam.runtime.ingest.ingest import NoticeKind

STRIP_PICTURES = 12
WORST_PICTURES = 4
PICTURE_WIDTH = 320


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A camera image kept for the report.

    Attributes:
        camera: name of the camera.
        stamp_ns: acquisition time [ns].
        rgb: uint8 [H, W, 3], at most 320 columns.
        error: mean absolute error of the chunk computed from it, joints divided by their range; NaN where unknown.
    """

    camera: str
    stamp_ns: int
    rgb: npt.NDArray[np.uint8]
    error: float = float("nan")


class Collector:
    """Takes the events of one replay.

    Args:
        robot: robot of the recording.
        contract: of the policy.
        settings: schedule and strategy.
        reference: what chunks are compared with; the replay feeds it.
        safety: who judges the chunks.
        duration: expected length of the recording, for evenly spread pictures [s].
    """

    def __init__(
        self,
        *,
        robot: RobotDescription,
        contract: PolicyContract,
        settings: ReplaySettings,
        reference: JointSamples,
        safety: SafetyInfo,
        duration: float,
    ) -> None:
        limits = robot.limits()
        index = [limits.joint_names.index(name) for name in contract.action_joints]
        self.columns = np.array(index, dtype=np.intp)
        self.safety = SafetyTally(
            safety, joints=len(robot.joint_names), row_period_ns=contract.control_period_ns
        )
        self._cameras = contract.camera_names
        self._executor_period_ns = settings.executor_period_ns
        lower, upper = limits.lower[index], limits.upper[index]
        self.limits = LimitWatch(lower, upper, limits.velocity[index])
        self._reference = reference
        self.errors = ChunkErrors(contract.action_joints, upper - lower, reference)
        self.execution = Execution(contract.action_joints, contract.control_period_ns)
        self._ungraded: deque[Stamps] = deque()
        self._truth: list[Table] = []
        self._uncompared: deque[Commands] = deque()
        self._commanded: list[tuple[Stamps, Table, Table]] = []
        self._picture_step_ns = max(1, int(duration * 1e9 / STRIP_PICTURES))
        self._next_picture_ns: int | None = None
        self._worst: list[tuple[float, int, tuple[KeptPicture, ...]]] = []
        self._last: ChunkEvent | None = None
        self.pictures: list[KeptPicture] = []
        self.imagined = ImaginedPairs(period_ns=self._picture_step_ns)
        self.contexts = 0
        self.chunks = 0
        self.plan_host_ns: list[int] = []
        self.chunk_host_ns: list[int] = []
        self.prefill_ns: list[int] = []
        self.denoise_ns: list[int] = []
        self.image_to_chunk_ns: list[int] = []
        self.context_age_ns: list[int] = []
        self.phase_offset_rows: list[int] = []
        self.ready_ns: list[int] = []
        self.stamp_ns: list[int] = []
        self.overlap: list[float] = []
        self.imaginations: list[ImaginationError] = []
        self.deadline_misses = 0
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.notices: list[NoticeEvent] = []
        self.faults: list[FaultEvent] = []

    def take(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, ChunkEvent):
            self._take_chunk(event)
        elif isinstance(event, ContextEvent):
            self.contexts += 1
            self.plan_host_ns.append(event.host_ns)
            self.prefill_ns.append(event.policy_ns)
            self._expect(event.imagination)
        elif isinstance(event, RefusalEvent):
            self.refusals[event.node, short_reason(event.reason)] += 1
        elif isinstance(event, NoticeEvent):
            self.notices.append(event)
        elif isinstance(event, ImaginationEvent):
            self.imaginations.append(event.error)
        elif isinstance(event, FaultEvent):
            self.faults.append(event)
        else:
            self.safety.take(event)

    def score_ready(self, *, final: bool = False) -> list[ChunkScore]:
        """Score the chunks whose reference is complete, drop reference data no longer needed; return the new scores."""
        scores = []
        for event, score in self.errors.score_ready(final=final):
            scores.append(score)
            self._keep_worst(event, score)
        known_ns = self._reference.complete_ns
        while self._ungraded and (final or (known_ns is not None and self._ungraded[0][-1] <= known_ns)):
            self._truth.append(self._reference.at(self._ungraded.popleft()))
        commands = self.safety.take_commands()
        if len(commands.times_ns):
            self._uncompared.append(commands)
        while self._uncompared and (
            final or (known_ns is not None and self._uncompared[0].times_ns[-1] <= known_ns)
        ):
            sent = self._uncompared.popleft()
            truth = self._reference.at(sent.times_ns)
            self._commanded.append((sent.times_ns, sent.positions[:, self.columns], truth))
        needed = [
            self.errors.oldest_ns,
            int(self._ungraded[0][0]) if self._ungraded else None,
            int(self._uncompared[0].times_ns[0]) if self._uncompared else None,
            known_ns,
        ]
        self._reference.forget(min((t for t in needed if t is not None), default=0))
        return scores

    def finish(self, end_ns: int) -> list[ChunkScore]:
        """Follow the last chunk to the end of the recording and compare the rest; return the new scores."""
        self._grade(self.execution.finish(end_ns))
        return self.score_ready(final=True)

    def trajectory(self) -> tuple[Stamps, Table, Table]:
        """Return int64 [T], executed targets and reference, float64 [T, N] each; NaN where there is none."""
        times, targets = self.execution.trajectory()
        truth = np.concatenate(self._truth) if self._truth else np.empty((0, targets.shape[1]))
        return times, targets, truth

    def commanded(self) -> tuple[Stamps, Table, Table]:
        """Return int64 [T], commands of the safety cycle and reference, float64 [T, N] each; NaN for none."""
        if not self._commanded:
            empty = np.empty((0, len(self.columns)))
            return np.empty(0, dtype=np.int64), empty, empty
        times, sent, truth = zip(*self._commanded, strict=True)
        return np.concatenate(times), np.concatenate(sent), np.concatenate(truth)

    def latencies(self) -> dict[str, tuple[float, ...]]:
        """Return "l_prefill" and "l_chunk" of every call on this host [ms]."""
        return {
            "l_prefill": tuple(ns * 1e-6 for ns in self.prefill_ns),
            "l_chunk": tuple(ns * 1e-6 for ns in self.denoise_ns),
        }

    def worst(self) -> tuple[KeptPicture, ...]:
        """Return the pictures of the chunks with the largest errors, in order of time."""
        chosen = [picture for _, _, pictures in self._worst for picture in pictures]
        return tuple(sorted(chosen, key=lambda picture: (picture.stamp_ns, picture.camera)))

    def clock_resets(self) -> int:
        """Return how often the ingest saw a stream's clock go back."""
        return sum(event.notice.kind is NoticeKind.CLOCK_RESET for event in self.notices)

    def _take_chunk(self, event: ChunkEvent) -> None:
        chunk = event.chunk
        self.chunks += 1
        self.chunk_host_ns.append(event.host_ns)
        self.denoise_ns.append(event.policy_ns)
        self.deadline_misses += event.ready_ns - event.start_ns > self._executor_period_ns
        self.image_to_chunk_ns.append(event.ready_ns - chunk.stamp_ns)
        self.context_age_ns.append(chunk.context_age_ns)
        self.phase_offset_rows.append(chunk.phase_offset_rows)
        self.ready_ns.append(event.ready_ns)
        self.stamp_ns.append(chunk.stamp_ns)
        self.limits.take(chunk)
        if self._last is not None:
            self._note_overlap(self._last, event)
        self._last = event
        self.errors.add(event)
        self._grade(self.execution.add(event))
        self._keep_picture(event.observation)
        self._keep_imagined(event)

    def _note_overlap(self, before: ChunkEvent, event: ChunkEvent) -> None:
        """Measure how far two consecutive chunks disagree about the rows that both have."""
        difference = np.abs(event.chunk.rows - target_at(before.chunk, row_times(event.chunk)))
        if not np.isnan(difference).all():
            self.overlap.append(float(np.nanmean(difference)))

    def _grade(self, block: tuple[Stamps, Table]) -> None:
        if len(block[0]):
            self._ungraded.append(block[0])

    def _keep_picture(self, observation: Observation) -> None:
        now_ns = observation.stamp_ns
        if self._next_picture_ns is None or now_ns < self._next_picture_ns - 2 * self._picture_step_ns:
            self._next_picture_ns = now_ns
        if now_ns >= self._next_picture_ns:
            self._next_picture_ns += self._picture_step_ns * (
                1 + (now_ns - self._next_picture_ns) // self._picture_step_ns
            )
            self.pictures += thumbnails(observation)

    def _keep_imagined(self, event: ChunkEvent) -> None:
        for frame in event.observation.frames.values():
            self.imagined.see(frame.camera, frame.stamp_ns, partial(_small, frame.rgb))
        self._expect(event.imagination)

    def _expect(self, imagination: Imagination | None) -> None:
        """Keep some of the images that are imagined, for the report."""
        if imagination is None:
            return
        for camera in self._cameras:
            if not self.imagined.wants(camera, imagination.target_stamp_ns):
                continue
            expected = imagination.frame(camera)
            if expected is not None:
                self.imagined.expect(CameraFrame(camera, expected.stamp_ns, _small(expected.rgb)))

    def _keep_worst(self, event: ChunkEvent, score: ChunkScore) -> None:
        if not event.observation.frames:
            return
        # Neighbours of the worst chunk are almost as bad and show the same; one per second is enough.
        for i, (error, _, pictures) in enumerate(self._worst):
            if abs(pictures[0].stamp_ns - score.stamp_ns) < 1_000_000_000:
                if score.normalised_l1 > error:
                    self._worst[i] = _worst_entry(event, score)
                    heapq.heapify(self._worst)
                return
        if len(self._worst) < WORST_PICTURES:
            entry = _worst_entry(event, score)
            heapq.heappush(self._worst, entry)
        elif score.normalised_l1 > self._worst[0][0]:
            entry = _worst_entry(event, score)
            heapq.heapreplace(self._worst, entry)


def _worst_entry(event: ChunkEvent, score: ChunkScore) -> tuple[float, int, tuple[KeptPicture, ...]]:
    error = score.normalised_l1
    return error, score.stamp_ns, thumbnails(event.observation, error)


def thumbnails(observation: Observation, error: float = float("nan")) -> tuple[KeptPicture, ...]:
    """Return small copies of the images of an observation."""
    frames = observation.frames.values()
    return tuple(KeptPicture(frame.camera, frame.stamp_ns, _small(frame.rgb), error) for frame in frames)


def _small(rgb: Rgb) -> Rgb:
    height, width = rgb.shape[:2]
    scale = min(1.0, PICTURE_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: Rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return small


def short_reason(reason: str) -> str:
    """Return the part of a refusal's text that does not change from time to time: without value and limits."""
    return reason.split(": got ")[0].split("; allowed")[0].split("; change it")[0]
