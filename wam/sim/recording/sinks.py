# SPDX-License-Identifier: Apache-2.0
"""Where the frames of a roll-out are written: a bag with the topics of the robot's drivers, or a LeRobot data set."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_S
from wam.core.errors import RecordingError
from wam.core.observation import EnvironmentState, Rgb
from wam.data.bag.topics import ACTION_TOPIC, EPOCH_NS, INSTRUCTION_TOPIC, JPEG_QUALITY
from wam.data.bag.writing import BagWriter, Storage, new_bag, new_folder
from wam.data.lerobot.writer import EpisodeRows, LeRobotWriter, Notes, OpenEpisode
from wam.devices.twin import JointFeedback
from wam.robots.camera_spec import CameraSpec, CameraTransport
from wam.robots.description import JointKind, RobotDescription
from wam.sim.pixels import compress, encode
from wam.sim.recording.plan import Format, Played, RecordPlan
from wam.sim.rollout import Frame, Observer
from wam.sim.tasks.world import TaskWorld

Vector = npt.NDArray[np.float64]

EXPERT = "expert"
"""Name of the scripted expert where the name of a policy is expected."""


class Sink(Observer, Protocol):
    """An observer that writes an episode; without `finish`, nothing of the episode is kept."""

    def finish(self, played: Played) -> None:
        """Write what is known only at the end of the episode."""
        ...


class _WriteFailed(Exception):
    """Carries a `RecordingError` through a roll-out, which treats any `WamError` as the end of its episode."""

    def __init__(self, error: RecordingError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except RecordingError as error:
        raise _WriteFailed(error) from error


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
    """Raise the errors of `_writing` inside the block as they were."""
    try:
        yield
    except _WriteFailed as failed:
        raise failed.error from failed.error.__cause__


@contextlib.contextmanager
def new_part(plan: RecordPlan, target: Path, world: TaskWorld) -> Iterator[Sink]:
    """Yield the sink of one episode; `target` appears, complete, when the block succeeds, else nothing is left.

    Raises:
        RecordingError: the disk is full or fails.
    """
    make = _new_bag if plan.format is Format.BAG else _new_dataset
    with make(plan, target, world) as sink:
        yield sink


@contextlib.contextmanager
def _new_dataset(plan: RecordPlan, target: Path, world: TaskWorld) -> Iterator[Sink]:
    with new_folder(target, what="episode") as folder:
        writer = LeRobotWriter(
            folder, version=plan.version, fps=plan.fps, robot=world.robot, cameras=plan.cameras
        )
        episode = writer.begin()
        try:
            with _write_errors():
                yield DatasetSink(writer, episode, world, plan.cameras, truth=plan.truth)
        finally:
            episode.close()


@contextlib.contextmanager
def _new_bag(plan: RecordPlan, target: Path, world: TaskWorld) -> Iterator[Sink]:
    metadata = {
        "wam.source": "wam sim record",
        "wam.policy": EXPERT,
        "wam.robot": world.robot.name,
        "wam.fps": f"{plan.fps:g}",
        "wam.action_topic": ACTION_TOPIC,
        "wam.contract": json.dumps(contract(world.robot, plan.cameras)),
    }
    with new_bag(target, storage=Storage.MCAP, metadata=metadata) as bag, _write_errors():
        yield BagSink(bag, world, plan.cameras)


class DatasetSink:
    """One episode of a data set: state, command in force, images, and ground truth where it is asked for.

    The action of a row is the command in force at its moment: a chunk's row 0 is due at the stamp of its observation,
    so a policy that is trained on these rows predicts what was commanded at that moment and after it.

    Args:
        writer: of the data set.
        episode: its videos.
        world: gives joints and instruction.
        cameras: whose images are written.
        truth: write where the objects are.
    """

    def __init__(
        self,
        writer: LeRobotWriter,
        episode: OpenEpisode,
        world: TaskWorld,
        cameras: tuple[str, ...],
        *,
        truth: bool,
    ) -> None:
        self._writer, self._episode, self._world, self._cameras = writer, episode, world, cameras
        self._times: list[int] = []
        self._states: list[Vector] = []
        self._actions: list[Vector] = []
        self._truth: list[EnvironmentState] | None = [] if truth else None

    def on_frame(self, frame: Frame) -> None:
        """Write the images of a frame and keep its numbers."""
        self._times.append(frame.observation.stamp_ns)
        self._states.append(frame.observation.state.positions)
        self._actions.append(frame.command)
        if self._truth is not None and frame.observation.environment is not None:
            self._truth.append(frame.observation.environment)
        with _writing():
            for camera in self._cameras:
                self._episode.add_image(camera, frame.observation.frames[camera].rgb)

    def finish(self, played: Played) -> None:
        """Write the table and the metadata."""
        rows = EpisodeRows(
            times_ns=np.array(self._times, dtype=np.int64),
            state=np.stack(self._states),
            action_names=self._world.robot.joint_names,
            action=np.stack(self._actions),
            texts=(self._world.instruction,) * len(self._times),
            environment_names=self._truth[0].names if self._truth else (),
            environment=np.stack([one.values for one in self._truth]) if self._truth else None,
        )
        self._writer.end(self._episode, rows, notes=_notes(self._world, played))
        self._writer.finish()


@dataclass(frozen=True, slots=True)
class _Tick:
    time_ns: int
    feedback: Mapping[str, JointFeedback]
    command: Vector


class BagSink:
    """One episode as a bag: joint states as the drivers publish them, the command in force, images.

    Args:
        bag: open writer.
        world: gives topics, joints and instruction.
        cameras: whose images are written.
    """

    def __init__(self, bag: BagWriter, world: TaskWorld, cameras: tuple[str, ...]) -> None:
        self._bag, self._world = bag, world
        self._cameras = [world.robot.camera(name) for name in cameras]
        self._due = {group.name: 0 for group in world.robot.groups}
        self._ticks: deque[_Tick] = deque()

    def on_tick(self, time_ns: int, feedback: Mapping[str, JointFeedback], command: Vector) -> None:
        """Queue joint states and the command in force until the images before them have been written."""
        self._ticks.append(_Tick(time_ns, feedback, command))

    def on_frame(self, frame: Frame) -> None:
        """Write what came before the frame, then its images."""
        with _writing():
            if frame.index == 0:
                self._bag.text(INSTRUCTION_TOPIC, EPOCH_NS, self._world.instruction)
            while self._ticks and self._ticks[0].time_ns <= frame.observation.stamp_ns:
                self._write_tick(self._ticks.popleft())
            for camera in self._cameras:
                seen = frame.observation.frames[camera.name]
                _write_image(self._bag, camera, EPOCH_NS + seen.stamp_ns, seen.rgb)

    def finish(self, played: Played) -> None:
        """Write the remaining joint states and the metadata."""
        while self._ticks:
            self._write_tick(self._ticks.popleft())
        for key, value in _notes(self._world, played).items():
            self._bag.note(f"wam.{key}", str(value).lower() if isinstance(value, bool) else str(value))
        self._bag.note("wam.instruction", self._world.instruction)

    def _write_tick(self, tick: _Tick) -> None:
        """Write the joint states that are due, at the driver's rate or that of the commands, and the command."""
        stamp_ns, robot = EPOCH_NS + tick.time_ns, self._world.robot
        for group in robot.groups:
            due_ns = self._due[group.name]
            if tick.time_ns < due_ns:
                continue
            self._due[group.name] = max(due_ns + round(NS_PER_S / group.state_rate), tick.time_ns)
            seen = tick.feedback[group.name]
            self._bag.joint_state(
                f"/{group.state_topic}",
                stamp_ns,
                names=seen.names,
                positions=seen.positions,
                velocities=seen.velocities,
                efforts=seen.efforts,
            )
        self._bag.joint_state(ACTION_TOPIC, stamp_ns, names=robot.joint_names, positions=tick.command)


def contract(robot: RobotDescription, cameras: tuple[str, ...]) -> dict[str, object]:
    """Return what the numbers of a recording mean: joints with units, in order, and the sizes of the images."""
    return {
        "joints": [
            {"name": joint.name, "unit": "m" if joint.kind is JointKind.PRISMATIC else "rad"}
            for joint in robot.joints
        ],
        "cameras": [
            {"name": name, "height": robot.camera(name).height, "width": robot.camera(name).width}
            for name in cameras
        ],
    }


def _notes(world: TaskWorld, played: Played) -> Notes:
    return {
        "task": world.task.name,
        "setting": world.setting.value,
        "seed": played.seed,
        "variant": played.variant,
        "success": played.success,
        "score": played.score,
    }


def _write_image(bag: BagWriter, camera: CameraSpec, stamp_ns: int, rgb: Rgb) -> None:
    topic, frame_id = f"/{camera.topic}", camera.frame_id
    if camera.transport is CameraTransport.RAW:
        data, step = encode(rgb, camera.encoding)
        pixels = np.frombuffer(data, dtype=np.uint8).reshape(
            camera.height, camera.width, step // camera.width
        )
        bag.image(topic, stamp_ns, frame_id=frame_id, rgb=pixels, encoding=camera.encoding)
        return
    data, form = compress(rgb, camera.encoding, quality=JPEG_QUALITY)
    bag.jpeg(topic, stamp_ns, frame_id=frame_id, data=np.frombuffer(data, dtype=np.uint8), form=form)
