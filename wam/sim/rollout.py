# SPDX-License-Identifier: Apache-2.0
"""One episode without ROS, on simulated time: an actor moves the robot, observers record, a result is returned.

The same task, seed, setting and actor give the same episode to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import ConfigError, WamError, is_machine_fault
from wam.core.observation import CameraFrame, Observation, RobotState
from wam.devices.twin import JointFeedback
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import RobotDescription
from wam.sim.kicks import Kicks
from wam.sim.port import JointTargets, RobotPort
from wam.sim.quality import Quality
from wam.sim.rendering import CameraRenderer
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import Reached, TaskWorld
from wam.sim.world import WorldDiverged

Vector = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float64]

COMMAND_PERIOD_NS = 10 * NS_PER_MS
"""Time between two commands: those of the suite's own streams are as far apart."""

FRAME_RATE = 15.0
"""Frames a second that observers see, as in the papers of DUST and UD-VLA."""

GRACE = 1.0
"""Time that an episode goes on after its actor has finished [s]."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What one row of a data set holds.

    Attributes:
        index: of the frame in its episode, from 0.
        time: simulated time [s], a whole physics step next to index / rate.
        observation: joint state and images of that moment; stamps are simulated time.
        command: targets in force at that moment, float64 [N].
        action: targets that are in force one frame later, float64 [N]: what a policy should have answered.
        progress: stages reached.
    """

    index: int
    time: float
    observation: Observation
    command: Vector
    action: Vector
    progress: int


class Observer(Protocol):
    """Observer of frames. Called in the thread of the roll-out."""

    def on_frame(self, frame: Frame) -> None:
        """Take a frame; called when the next one is due, since only then its action is known."""
        ...


@runtime_checkable
class TickObserver(Observer, Protocol):
    """Observer of every command as well."""

    def on_tick(self, time_ns: int, feedback: Mapping[str, JointFeedback], command: Vector) -> None:
        """Take the moment of a command, before the frame of that moment.

        Args:
            time_ns: simulated time [ns].
            feedback: joint group -> what its driver publishes.
            command: targets in force, as the drivers got them, float64 [N].
        """
        ...


class Actor(Protocol):
    """Moves the robot: an expert or a policy."""

    def begin(self, episode: Episode) -> None:
        """Start on the episode."""
        ...

    def act(self, episode: Episode, *, due: float) -> JointTargets:
        """Return the targets for `due`, simulated time [s]; called every `COMMAND_PERIOD_NS`."""
        ...

    @property
    def done(self) -> bool:
        """Whether it has nothing more to do; a policy never has."""
        ...


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """How an episode is run.

    Attributes:
        frame_rate: frames a second for observers and traces [Hz].
        cameras: cameras whose images are in the observations; they take most of the time.
        time_limit: end of the episode [s]; None takes the task's.
        quality: of the images.
        kicks: push the arms off the actor's path now and then; frames keep the actor's own targets.
    """

    frame_rate: float = FRAME_RATE
    cameras: tuple[str, ...] = ()
    time_limit: float | None = None
    quality: Quality = Quality.FULL
    kicks: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.frame_rate <= 100.0:
            raise ValueError(f"frame_rate is {self.frame_rate} Hz, must be in 0..100")


@dataclass(frozen=True, slots=True)
class Traces:
    """Joints over an episode, one row per frame.

    Attributes:
        times: float64 [K] [s].
        positions: measured, float64 [K, N] [rad or m].
        commands: targets in force, float64 [K, N] [rad or m].
    """

    times: Vector
    positions: Rows
    commands: Rows


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """How an episode went.

    Attributes:
        task: name of the task.
        setting: of the task.
        seed: of the world.
        variant: kind of the episode.
        instruction: task text.
        success: whether the last stage was reached.
        progress: stages reached, 0 to 3.
        reached: those stages, with times.
        time: simulated time at the end [s].
        max_contact_force: largest normal force between the robot and anything else [N].
        error: why the episode was aborted, or "".
        traces: joints over time.
    """

    task: str
    setting: Setting
    seed: int
    variant: str
    instruction: str
    success: bool
    progress: int
    reached: tuple[Reached, ...]
    time: float
    max_contact_force: float
    error: str
    traces: Traces


class Episode:
    """The running episode, as actors see it.

    Attributes:
        world: the world with its truth; a policy keeps to `observe`.
    """

    def __init__(self, world: TaskWorld, renderers: Sequence[CameraRenderer]) -> None:
        self.world = world
        self._renderers = tuple(renderers)
        self._seen: Observation | None = None

    @property
    def instruction(self) -> str:
        """Task text."""
        return self.world.instruction

    @property
    def seen(self) -> Observation | None:
        """The newest observation that was requested; None before the first frame."""
        return self._seen

    def observe(self) -> Observation:
        """Return joint state, images and ground truth of this moment; images are rendered once per moment."""
        stamp_ns = round(self.world.time * NS_PER_S)
        if self._seen is None or self._seen.stamp_ns != stamp_ns:
            world, snapshot = self.world, self.world.snapshot(stamp_ns)
            frames = {
                one.camera.name: CameraFrame(one.camera.name, stamp_ns, one.render(snapshot))
                for one in self._renderers
            }
            state = RobotState(stamp_ns, world.robot.joint_names, world.positions(), world.velocities())
            self._seen = Observation(stamp_ns, frames, state, world.truth(stamp_ns))
        return self._seen


def rollout(
    world: TaskWorld,
    actor: Actor,
    *,
    seed: int,
    options: RolloutOptions | None = None,
    observers: Sequence[Observer] = (),
) -> EpisodeResult:
    """Run one episode to its success, its time limit or an error.

    An error of the world or of the actor (a `WamError`) ends the episode and is stated in the result; one of an
    observer is raised.

    Args:
        world: the task's world; it is reset.
        actor: who moves the robot.
        seed: of the episode.
        options: rates, cameras and time limit.
        observers: called for every frame.

    Raises:
        ConfigError: a camera is not the robot's.
        MissingDependency: images are asked for and cannot be rendered here.
    """
    options = options or RolloutOptions()
    with ExitStack() as stack:
        renderers = []
        for name in options.cameras:
            renderer = CameraRenderer(world.model, find_camera(world.robot, name), quality=options.quality)
            stack.callback(renderer.close)
            renderers.append(renderer)
        world.reset(seed)
        return _Run(Episode(world, renderers), actor, options, observers).run()


class _Run:
    """Loop of one episode over command ticks and frames, whichever is due next."""

    def __init__(
        self, episode: Episode, actor: Actor, options: RolloutOptions, observers: Sequence[Observer]
    ) -> None:
        self._episode, self._actor, self._options = episode, actor, options
        self._observers = observers
        self._tick_observers = [one for one in observers if isinstance(one, TickObserver)]
        self._port = RobotPort(episode.world)
        self._step_ns = round(episode.world.timestep * NS_PER_S)
        home = episode.world.positions()
        self._before, self._targets = home, home  # due at the last tick, and one period after it
        self._sent = home  # due at the last tick, as the drivers got it
        self._kicks = (
            Kicks(episode.world.robot, seed=episode.world.seed, until=episode.world.task.time_limit)
            if options.kicks
            else None
        )
        self._ticks = 0
        self._rows: list[tuple[float, Vector, Vector]] = []
        self._pending: tuple[float, Observation, Vector, int] | None = None

    def run(self) -> EpisodeResult:
        world = self._episode.world
        limit = world.task.time_limit if self._options.time_limit is None else self._options.time_limit
        error, idle = "", math.inf
        try:
            self._actor.begin(self._episode)
            while not world.success() and world.time < min(limit, idle):
                self._advance()
                if self._actor.done and idle == math.inf:
                    idle = world.time + GRACE
        except WorldDiverged as fault:
            error = str(fault)
        except WamError as fault:
            if is_machine_fault(fault):
                raise  # a full disk is no failure of who acts
            error = f"at {world.time:.2f} s: {fault}"
        self._hand_over(self._targets)
        return EpisodeResult(
            task=world.task.name,
            setting=world.setting,
            seed=world.seed,
            variant=world.variant.name,
            instruction=world.instruction,
            success=world.success() and not error,
            progress=world.progress(),
            reached=world.reached,
            time=world.time,
            max_contact_force=world.max_contact_force,
            error=error,
            traces=self._traces(),
        )

    def _advance(self) -> None:
        """Do what is due now and let the world go on to what is due next."""
        now_ns = self._port.now_ns
        if now_ns >= self._tick_ns():
            self._command()
        if now_ns >= self._frame_ns():
            self._look(now_ns)
        self._port.advance(min(self._tick_ns(), self._frame_ns()) - now_ns)

    def _tick_ns(self) -> int:
        return self._ticks * COMMAND_PERIOD_NS

    def _frame_ns(self) -> int:
        """Return when the next frame is due [ns]."""
        return frame_time_ns(len(self._rows), rate=self._options.frame_rate, step_ns=self._step_ns)

    def _command(self) -> None:
        self._ticks += 1
        due = self._tick_ns() / NS_PER_S
        targets = self._actor.act(self._episode, due=due)
        sent = targets
        if self._kicks is not None:
            sent = JointTargets(*self._kicks.pushed(targets.positions, targets.velocities, due))
        self._port.command(sent, period_ns=COMMAND_PERIOD_NS)
        self._before, self._targets = self._targets, targets.positions.copy()
        before, self._sent = self._sent, sent.positions.copy()
        if self._tick_observers:
            feedback = self._port.feedback()
            for observer in self._tick_observers:
                observer.on_tick(self._port.now_ns, feedback, before)

    def _look(self, now_ns: int) -> None:
        world = self._episode.world
        share = 1.0 - (self._tick_ns() - now_ns) / COMMAND_PERIOD_NS
        command = self._before + share * (self._targets - self._before)
        self._hand_over(command)
        observation = self._episode.observe()
        self._rows.append((world.time, observation.state.positions, command))
        self._pending = (world.time, observation, command, world.progress())

    def _hand_over(self, action: Vector) -> None:
        """Give the frame that waits for its action to the observers."""
        if self._pending is None:
            return
        time, observation, command, progress = self._pending
        self._pending = None
        frame = Frame(len(self._rows) - 1, time, observation, command, action.copy(), progress)
        for observer in self._observers:
            observer.on_frame(frame)

    def _traces(self) -> Traces:
        width = len(self._episode.world.robot.joints)
        times = np.array([row[0] for row in self._rows])
        positions = np.array([row[1] for row in self._rows]).reshape(-1, width)
        commands = np.array([row[2] for row in self._rows]).reshape(-1, width)
        return Traces(times, positions, commands)


def frame_time_ns(index: int, *, rate: float, step_ns: int) -> int:
    """Return when a frame is due [ns]: at the physics step nearest to `index / rate`.

    Args:
        index: of the frame, from 0.
        rate: frames a second [Hz].
        step_ns: length of a physics step [ns].
    """
    return round(index / rate * NS_PER_S / step_ns) * step_ns


def find_camera(robot: RobotDescription, name: str) -> CameraSpec:
    """Return a camera of the robot.

    Raises:
        ConfigError: there is none of this name; the text names those that are.
    """
    cameras = {camera.name: camera for camera in robot.cameras}
    if name not in cameras:
        raise ConfigError(
            f"robot {robot.name} has no camera of this name",
            value=name,
            known=cameras,
            where="the requested cameras",
        )
    return cameras[name]
