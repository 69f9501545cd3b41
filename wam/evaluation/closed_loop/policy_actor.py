# SPDX-License-Identifier: Apache-2.0
"""A policy that moves a simulated robot in this process: the live nodes' own cycles on simulated time.

    frames, joint states -> ingest -> planner and executor cycle (`OfflineReplay`) -> chunks
    chunks, joint states -> safety cycle -> commands, due one lead later -> driver twins

Pictures arrive after the camera's latency, contexts and chunks after those given; nothing waits for the host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_typestore

from wam.core.clock import NS_PER_S
from wam.core.observation import EnvironmentState, Observation, Rgb
from wam.core.policy import LoadedPolicy
from wam.core.verdict import Event, Ladder
from wam.evaluation.closed_loop.controls import Rehearsing
from wam.evaluation.closed_loop.scores import EpisodeTimes
from wam.evaluation.records import SafetyRecord
from wam.evaluation.replay.engine import ChunkEvent, ContextEvent, FaultEvent, ReplaySettings
from wam.evaluation.replay.offline import OfflineReplay
from wam.robots.description import CommandKind, RobotDescription
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.safety.build import build_cycle, settings_for
from wam.runtime.safety.filters import ChainOptions, build_chain
from wam.sim.port import JointTargets
from wam.sim.rollout import COMMAND_PERIOD_NS, Episode

Vector = npt.NDArray[np.float64]

BEGIN_NS = 10 * NS_PER_S
"""Time at the start of an episode on the policy's clock; a stamp of zero means that there is no stamp [ns]."""


class PolicyActor:
    """Lets a policy act through planner, executor and safety cycle.

    Args:
        robot: the robot that it moves.
        policy: both halves.
        settings: latencies and periods.

    Raises:
        ConfigError: the robot is not commanded, or an extra filter cannot be made.
        MissingDependency: Pinocchio is not installed.
    """

    def __init__(self, robot: RobotDescription, policy: LoadedPolicy, settings: ReplaySettings) -> None:
        self._robot, self._policy, self._settings = robot, policy, settings
        self._safety_settings = settings_for(robot, strategy=settings.strategy)
        self._chain = build_chain(robot, ChainOptions(extra_filters=settings.extra_filters))
        self._types = get_typestore(Stores.ROS2_JAZZY).types
        # A trajectory is due one lead later; what a stream brings counts at once.
        self._led = np.array(
            [
                group.command_kind is CommandKind.JOINT_TRAJECTORY
                for group in robot.groups
                for _ in group.joints
            ]
        )
        self._engine: OfflineReplay | None = None
        self.records: list[SafetyRecord] = []

    @property
    def done(self) -> bool:
        """Whether the safety cycle has stopped for good, which only an operator may clear."""
        return self._safety.ladder.stopped

    @property
    def accepted(self) -> int:
        """Chunks that the safety cycle took since `begin`."""
        return self._safety.accepted

    @property
    def refused(self) -> int:
        """Chunks that it refused."""
        return self._safety.refused

    def begin(self, episode: Episode) -> None:
        """Start both cycles and the safety cycle anew."""
        self.close()
        planner: object = self._policy.planner
        if isinstance(planner, Rehearsing):
            planner.rehearse(episode.world.seed)
        self._engine = OfflineReplay(
            robot=self._robot,
            policy=self._policy,
            settings=self._settings,
            instruction=episode.instruction,
            # The noise differs from seed to seed, and depends on nothing that was played before.
            generation=episode.world.seed + 1,
        )
        self._engine.set_instruction(episode.instruction)  # empties the policy's own memory
        self._now_ns = BEGIN_NS
        self._safety = build_cycle(
            self._robot,
            self._safety_settings,
            self._chain,
            wall=lambda: self._now_ns,
        )
        self._safety_due_ns = BEGIN_NS
        self._seen_ns = -1
        self._pictures: deque[_ArrivingImage] = deque()
        home = episode.world.positions()
        self._commands: deque[tuple[int, Vector, Vector]] = deque()
        self._led_now = (home, np.zeros_like(home))
        self._newest = self._led_now
        self.records = []
        self._chunk_ms: list[float] = []
        self._prefill_ms: list[float] = []
        self._age_ms: list[float] = []

    def act(self, episode: Episode, *, due: float) -> JointTargets:
        """Return the targets for `due` [s].

        Raises:
            PolicyFault: the policy answered something that must not reach a robot.
        """
        now_ns = BEGIN_NS + round(due * NS_PER_S) - COMMAND_PERIOD_NS
        self._now_ns = now_ns
        self._look(episode.seen)
        self._take_pictures(now_ns)
        for group in self._robot.groups:
            measured = episode.world.measured(group.name)
            self._push_joints(group.name, now_ns, measured.positions, measured.velocities)
        while self._safety_due_ns <= now_ns:
            self._step_safety(self._safety_due_ns)
            self._safety_due_ns += self._safety_settings.tick_ns
        return self._targets(now_ns + COMMAND_PERIOD_NS)

    def times(self) -> EpisodeTimes:
        """Return how long the policy took since `begin`."""
        return EpisodeTimes(np.array(self._chunk_ms), np.array(self._prefill_ms), np.array(self._age_ms))

    def close(self) -> None:
        """Give back what the cycles hold; safe to call twice."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _look(self, seen: Observation | None) -> None:
        """Queue pictures that have been taken since the last look."""
        if seen is None or seen.stamp_ns <= self._seen_ns:
            return
        self._seen_ns = seen.stamp_ns
        for name, frame in seen.frames.items():
            stamp_ns = BEGIN_NS + frame.stamp_ns
            arrival_ns = stamp_ns + self._robot.camera(name).latency_ns
            self._pictures.append(_ArrivingImage(arrival_ns, stamp_ns, name, frame.rgb))
        if self._policy.contract.environment and seen.environment is not None:
            self._push_truth(seen.environment)

    def _take_pictures(self, now_ns: int) -> None:
        due = [one for one in self._pictures if one.arrival_ns <= now_ns]
        self._pictures = deque(one for one in self._pictures if one.arrival_ns > now_ns)
        for one in due:
            message = self._image(one)

            def put(ingest: StreamIngest, camera: str = one.camera, message: Any = message) -> bool:
                ingest.put_image(camera, message)
                return True

            self._push(now_ns, put)

    def _push_truth(self, truth: EnvironmentState) -> None:
        """Hand over the ground truth of this moment; a policy without cameras plans with it."""
        message = self._joint_state(BEGIN_NS + truth.stamp_ns, truth.names, truth.values)

        def put(ingest: StreamIngest) -> bool:
            ingest.put_truth(message)
            return not self._policy.contract.cameras

        self._push(self._now_ns, put)

    def _push_joints(self, group: str, now_ns: int, positions: Vector, velocities: Vector) -> None:
        message = self._joint_state(now_ns, self._robot.group(group).driver_names, positions, velocities)

        def put(ingest: StreamIngest) -> bool:
            ingest.put_joint_state(group, message)
            contract = self._policy.contract
            return not contract.cameras and not contract.environment  # nothing else can be planned on

        self._safety.offer_state(group, stamp_ns=now_ns, positions=positions)
        self._push(now_ns, put)

    def _push(self, now_ns: int, put: Any) -> None:
        assert self._engine is not None
        for event in self._engine.push(now_ns, put):
            if isinstance(event, FaultEvent):
                raise event.error
            if isinstance(event, ContextEvent):
                self._prefill_ms.append(event.policy_ns * 1e-6)
            elif isinstance(event, ChunkEvent):
                self._chunk_ms.append(event.policy_ns * 1e-6)
                self._age_ms.append(event.chunk.context_age_ns * 1e-6)
                self._safety.offer_chunk(event.chunk, arrival_ns=event.ready_ns)

    def _step_safety(self, now_ns: int) -> None:
        result = self._safety.step(now_ns)
        self.records += [_record(event, now_ns - BEGIN_NS) for event in result.events]
        if result.position is None or result.velocity is None:
            return
        command = (result.position.copy(), result.velocity.copy())
        self._newest = command
        self._commands.append((now_ns + self._safety_settings.lead_ns, *command))

    def _targets(self, due_ns: int) -> JointTargets:
        while self._commands and self._commands[0][0] <= due_ns:
            _, *command = self._commands.popleft()
            self._led_now = (command[0], command[1])
        pairs = zip(self._led_now, self._newest, strict=True)
        positions, velocities = (np.where(self._led, led, newest) for led, newest in pairs)
        return JointTargets(positions, velocities)

    def _joint_state(
        self, stamp_ns: int, names: tuple[str, ...], positions: Vector, velocities: Vector | None = None
    ) -> Any:
        return self._types["sensor_msgs/msg/JointState"](
            header=self._header(stamp_ns),
            name=list(names),
            position=positions,
            velocity=np.empty(0) if velocities is None else velocities,
            effort=np.empty(0),
        )

    def _image(self, picture: _ArrivingImage) -> Any:
        height, width, _ = picture.rgb.shape
        return self._types["sensor_msgs/msg/Image"](
            header=self._header(picture.stamp_ns),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width,
            data=picture.rgb.ravel(),
        )

    def _header(self, stamp_ns: int) -> Any:
        stamp = self._types["builtin_interfaces/msg/Time"](
            sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S
        )
        return self._types["std_msgs/msg/Header"](stamp=stamp, frame_id="")


@dataclass(frozen=True, slots=True)
class _ArrivingImage:
    arrival_ns: int
    stamp_ns: int
    camera: str
    rgb: Rgb


def _record(event: Event, stamp_ns: int) -> SafetyRecord:
    finding = event.finding
    return SafetyRecord(
        stamp_ns=stamp_ns,
        ladder_from=Ladder(event.before),
        ladder_to=Ladder(event.after),
        verdict=finding.verdict,
        code=finding.code,
        text=finding.text,
        joint=finding.joint,
        value=finding.value,
        limit=finding.limit,
    )
