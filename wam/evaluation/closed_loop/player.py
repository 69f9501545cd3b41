# SPDX-License-Identifier: Apache-2.0
"""Plays closed-loop episodes one after another in this process: the expert, or a policy through the nodes' cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType

from wam.core.clock import NS_PER_S, seconds_to_ns
from wam.core.observation import Rgb
from wam.core.policy import LoadedPolicy
from wam.devices.loader import load_robot
from wam.evaluation.closed_loop.controls import CONTROLS, control_policy
from wam.evaluation.closed_loop.filming import Films
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.policy_actor import PolicyActor
from wam.evaluation.closed_loop.scores import EpisodeRecord, EpisodeTimes
from wam.evaluation.happened import motion_of
from wam.evaluation.held import held_times
from wam.evaluation.replay.engine import ReplaySettings
from wam.robots.description import JointSpec, RobotDescription
from wam.runtime.policy import PolicyRequest, require_fit, require_task
from wam.runtime.schedule import SCHEDULE
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.quality import Quality
from wam.sim.recording.pictures import Filmer
from wam.sim.rollout import EpisodeResult, Frame, Observer, RolloutOptions, rollout
from wam.sim.tasks.task import Setting, Task
from wam.sim.tasks.truth import require_truth
from wam.sim.tasks.world import TaskWorld

EXPERT_FPS = 15.0
FILM_HEIGHT, FILM_WIDTH = 240, 320

Stopped = Callable[[], bool]


def never() -> bool:
    """Return False: nobody stops the evaluation."""
    return False


@dataclass(frozen=True, slots=True)
class Play:
    """An episode that was played.

    Attributes:
        episode: what it left.
        video: MP4; empty where none was filmed.
        backends: stage of the policy -> what ran it, in the process that played.
    """

    episode: EpisodeRecord
    video: bytes = b""
    backends: Mapping[str, str] = field(default_factory=dict)


class EpisodePlayer:
    """Plays episodes of one task with one policy; an episode does not depend on those before. One thread.

    Args:
        options: what to evaluate.
        policy: both halves; None lets the task's expert play.
        robot: the task's, or one with other cameras.
        stopped: asked at every frame whether to end.

    Raises:
        ContractMismatch: policy and robot do not fit.
        ConfigError: the task cannot be set so, or has no expert.
    """

    def __init__(
        self,
        options: EvalOptions,
        policy: LoadedPolicy | None,
        *,
        robot: RobotDescription,
        stopped: Stopped = never,
    ) -> None:
        self.cameras: tuple[str, ...] = ()
        self._backends = {} if policy is None else policy.backends
        if policy is not None:
            require_fit(policy.contract, robot)
            require_truth(options.task, policy.contract)
            self.cameras = policy.contract.camera_names
        fps = max((robot.camera(name).rate for name in self.cameras), default=EXPERT_FPS)
        self._world = TaskWorld(options.task, setting=options.setting, seed=options.seeds[0], robot=robot)
        self._options = RolloutOptions(fps, self.cameras, options.time_limit, options.quality)
        self._observers: list[Observer] = [_StopWatch(stopped)]
        with ExitStack() as stack:
            self._films = stack.enter_context(Films(fps=fps))
            if options.videos:
                self._observers.append(_film(self._films, self._world, self.cameras, stack))
            self._actor: PolicyActor | ExpertActor
            if policy is None:
                self._actor = ExpertActor(lambda episode: make_expert(episode.world))
            else:
                self._actor = PolicyActor(robot, policy, options.schedule)
                stack.callback(self._actor.close)
            self._stack = stack.pop_all()

    def film(self, take: Callable[[Rgb], None], *, height: int, width: int, rate: float) -> None:
        """Have a spectator film what is played from now on.

        Args:
            take: called with every image, uint8 [H, W, 3].
            height: of the images [px].
            width: of the images [px].
            rate: at most so many images per second of simulated time [Hz].
        """
        filmer = Filmer(self._world, height=height, width=width, take=take)
        self._stack.callback(filmer.close)
        self._observers.append(_NowAndThen(filmer, self._world, rate=rate))

    def __enter__(self) -> EpisodePlayer:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Give back what the policy and the film hold; safe to call twice."""
        self._stack.close()

    def play(self, seed: int) -> Play | None:
        """Play the episode of a seed; None when `stopped` returned True before its end.

        Raises:
            MissingDependency: images are needed and cannot be rendered here.
        """
        actor = self._actor
        try:
            result = rollout(self._world, actor, seed=seed, options=self._options, observers=self._observers)
        except _Stopped:
            return None
        policy = actor if isinstance(actor, PolicyActor) else None
        record = _record(result, policy, self._world.robot.joints)
        return Play(record, self._films.finish(), {} if policy is None else self._backends)


def film_policy(
    task: Task, policy: str, *, setting: Setting, seed: int, height: int, width: int, rate: float
) -> tuple[EpisodeRecord, list[Rgb]]:
    """Return an episode of a policy with about `rate` images per second [Hz] of simulated time.

    It is played on the schedule that the nodes have by default.

    Args:
        task: it must be the one that the policy was trained for, where the policy states one.
        policy: a name of `wam info`, or the directory of a bundle.
        setting: of the task.
        seed: of the episode.
        height: of the images [px].
        width: of the images [px].
        rate: images per second of simulated time [Hz].

    Raises:
        WamError: the policy cannot be loaded, or does not fit the task.
        MissingDependency: images cannot be rendered here.
    """
    from wam.policies.loading import load_policy

    robot = load_robot(task.robot)
    loaded = load_policy(PolicyRequest(policy, planner=True, executor=True), robot=robot)
    require_task(loaded.contract, task.name, policy=policy, any_task=False)
    options = EvalOptions(
        task=task,
        setting=setting,
        policy=policy,
        seeds=(seed,),
        schedule=ReplaySettings(
            planner_latency_ns=seconds_to_ns(SCHEDULE.planner_latency),
            executor_latency_ns=seconds_to_ns(SCHEDULE.executor_latency),
        ),
        time_limit=None,
        videos=False,
        quality=Quality(loaded.contract.trained_on.images or Quality.FULL),
    )
    pictures: list[Rgb] = []
    with EpisodePlayer(options, loaded, robot=robot) as player:
        player.film(pictures.append, height=height, width=width, rate=rate)
        play = player.play(seed)
    assert play is not None  # nobody stops it
    return play.episode, pictures


@dataclass(frozen=True, slots=True)
class PlayerJob:
    """What another process needs to make a player.

    Attributes:
        options: what to evaluate.
        request: the policy; None lets the task's expert play.
        robot: the task's, or one with other cameras.
    """

    options: EvalOptions
    request: PolicyRequest | None
    robot: RobotDescription

    def load(self, *, whole: bool = True) -> LoadedPolicy | None:
        """Return the policy, or None for the expert.

        Args:
            whole: load both halves; else the contract alone, where that is quicker.

        Raises:
            WamError: the policy cannot be loaded, or does not fit the robot.
        """
        from wam.policies.loading import load_policy

        if self.request is None:
            return None
        options = self.options
        if self.request.policy in CONTROLS:
            return control_policy(
                self.request.policy, task=options.task, setting=options.setting, robot=self.robot
            )
        policy = load_policy(replace(self.request, planner=whole, executor=whole), robot=self.robot)
        require_fit(policy.contract, self.robot)
        return policy

    def open(self) -> EpisodePlayer:
        """Load the policy and return a player.

        Raises:
            WamError: the policy cannot be loaded, or see `EpisodePlayer`.
        """
        return EpisodePlayer(self.options, self.load(), robot=self.robot)


def _film(films: Films, world: TaskWorld, cameras: Sequence[str], stack: ExitStack) -> Observer:
    if cameras:
        return _CameraFilm(films, tuple(cameras))
    filmer = Filmer(world, height=FILM_HEIGHT, width=FILM_WIDTH, take=films.add)
    stack.callback(filmer.close)
    return filmer


class _CameraFilm:
    """Films what the policy sees."""

    def __init__(self, films: Films, cameras: tuple[str, ...]) -> None:
        self._films, self._cameras = films, cameras

    def on_frame(self, frame: Frame) -> None:
        self._films.add(*(frame.observation.frames[name].rgb for name in self._cameras))


class _NowAndThen:
    """Hands a frame on when the time for the next image has come."""

    def __init__(self, observer: Observer, world: TaskWorld, *, rate: float) -> None:
        self._observer, self._world, self._period = observer, world, 1.0 / rate
        self._due = 0.0

    def on_frame(self, frame: Frame) -> None:
        if frame.index == 0:  # of another episode: its time begins anew
            self._due = 0.0
        if self._world.time < self._due - 1e-6:
            return
        self._due += self._period
        self._observer.on_frame(frame)


class _Stopped(Exception):
    """Leaves a roll-out."""


class _StopWatch:
    """Ends a roll-out."""

    def __init__(self, stopped: Stopped) -> None:
        self._stopped = stopped

    def on_frame(self, frame: Frame) -> None:
        if self._stopped():
            raise _Stopped


def _record(result: EpisodeResult, actor: PolicyActor | None, joints: Sequence[JointSpec]) -> EpisodeRecord:
    """Return the record of an episode; `actor` is the policy's, `joints` those of the traces."""
    end_ns = round(result.time * NS_PER_S)
    return EpisodeRecord(
        seed=result.seed,
        variant=result.variant,
        instruction=result.instruction,
        success=result.success,
        score=result.progress,
        stages=tuple((one.name, one.time) for one in result.reached),
        time=result.time,
        max_contact_force=result.max_contact_force,
        error=result.error,
        times=EpisodeTimes() if actor is None else actor.times(),
        safety=() if actor is None else tuple(actor.records),
        held={} if actor is None else held_times(actor.records, begin_ns=0, end_ns=end_ns),
        accepted=0 if actor is None else actor.accepted,
        refused=0 if actor is None else actor.refused,
        motion=motion_of(joints, result.traces.positions),
    )
