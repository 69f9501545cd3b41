# SPDX-License-Identifier: Apache-2.0
"""A simulated robot with a task: instruction, progress and success of the running episode."""

from __future__ import annotations

from dataclasses import dataclass

from wam.core.errors import ContractMismatch
from wam.core.observation import EnvironmentState
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.sim.model import TIMESTEP_S
from wam.sim.tasks.arrangement import TaskScene
from wam.sim.tasks.registry import find_setting, find_task
from wam.sim.tasks.task import STAGES, Setting, Task, Variant
from wam.sim.tasks.truth import read_truth, truth_names
from wam.sim.world import SimWorld

JUDGED_EVERY = 10
"""Physics steps between two evaluations of the criteria."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A stage that has been reached.

    Attributes:
        name: of the stage.
        time: simulated time of the first moment at which it counted [s].
    """

    name: str
    time: float


class TaskWorld(SimWorld):
    """A world that evaluates the task's criteria while it is stepped. One thread at a time.

    The same seed places the same objects in the same variant, whatever the look of the setting.

    Args:
        task: the task.
        seed: of the first episode.
        setting: look, distractors and objects.
        robot: the robot; None loads the task's.
        timestep: length of one physics step [s].

    Raises:
        ContractMismatch: `robot` is not the task's.
        ConfigError: the task does not have the setting, or the robot cannot be simulated.
        MissingDependency: xacro is not installed.
    """

    def __init__(
        self,
        task: Task,
        *,
        seed: int = 0,
        setting: Setting = Setting.SEEN,
        robot: RobotDescription | None = None,
        timestep: float = TIMESTEP_S,
    ) -> None:
        if robot is not None:
            require_robot(task, robot.name)
        self.task = task
        self.setting = setting
        self._truth_names = truth_names(task)
        self._task_scene = TaskScene(task, setting)
        super().__init__(
            robot or load_robot(task.robot), seed=seed, scene=self._task_scene, timestep=timestep
        )

    @property
    def variant(self) -> Variant:
        """Kind of the running episode."""
        return self._variant

    @property
    def instruction(self) -> str:
        """Task text of the running episode."""
        return self.task.text(self._variant)

    @property
    def reached(self) -> tuple[Reached, ...]:
        """Stages that have been reached, in order."""
        return tuple(self._reached)

    @property
    def max_contact_force(self) -> float:
        """Largest normal force between the robot and anything else so far [N]."""
        return self._max_force

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`: everything is placed again and nothing has been reached."""
        super().reset(seed)
        self.seed = seed
        self._variant = self._task_scene.variant(seed)
        self._stages = self.task.stages(self._variant)
        self._reached: list[Reached] = []
        self._since: float | None = None
        self._steps = 0
        self._max_force = 0.0
        self._slide = self._task_scene.slide(seed)
        self._slid = 0.0

    def step(self) -> None:
        """Advance the physics by `timestep`; every tenth step evaluates the criteria.

        Raises:
            WorldDiverged: a value is not finite; the text says which and when.
        """
        if self._slide is not None and self._reached and self._slid < 1.0:
            share = self._slide.share(self.time - self._reached[0].time)
            self.shift_object(self._slide.item, (share - self._slid) * self._slide.shift)
            self._slid = share
        super().step()
        self._steps += 1
        if self._steps % JUDGED_EVERY == 0:
            self._judge()

    def truth(self, stamp_ns: int) -> EnvironmentState:
        """Return where the objects are; see `wam.sim.tasks.truth`.

        Args:
            stamp_ns: this moment, on the clock of the caller [ns].
        """
        return EnvironmentState(stamp_ns, self._truth_names, read_truth(self.task, self._variant, self))

    def progress(self) -> int:
        """Return how many stages have been reached, 0 to 3."""
        return len(self._reached)

    def success(self) -> bool:
        """Return whether the last stage has been reached."""
        return len(self._reached) == STAGES

    def _judge(self) -> None:
        for pair, force in self.contact_forces().items():
            if force > self._max_force and len(pair & self.moving_links) == 1:
                self._max_force = force
        while not self.success():
            stage = self._stages[len(self._reached)]
            if not stage.criterion.holds(self):
                self._since = None
                return
            if self._since is None:
                self._since = self.time
            if self.time - self._since < stage.hold:
                return
            self._reached.append(Reached(stage.name, self.time))
            self._since = None


def make_world(
    robot: RobotDescription, *, task: str, setting: str, seed: int, timestep: float = TIMESTEP_S
) -> SimWorld:
    """Return the world of a robot with a task, or its table top without one.

    Args:
        robot: the robot.
        task: name of the task, "free", or "" for the table top.
        setting: of the task, by name.
        seed: of the first episode.
        timestep: length of one physics step [s].

    Raises:
        ConfigError: there is no such task or setting, or the robot cannot be simulated.
        ContractMismatch: the task is for another robot.
        MissingDependency: xacro is not installed.
    """
    if not task:
        return SimWorld(robot, seed=seed, timestep=timestep)
    found = find_task(task, robot=robot.name)
    return TaskWorld(found, seed=seed, setting=find_setting(found, setting), robot=robot, timestep=timestep)


def require_robot(task: Task, robot: str) -> None:
    """Raise an error if the task is for another robot.

    Args:
        task: the task.
        robot: name of a robot file, or of the robot that a policy was made for.

    Raises:
        ContractMismatch: it is another one; the text names both.
    """
    if robot != task.robot:
        raise ContractMismatch(
            f"task {task.name} is for another robot",
            value=robot,
            allowed=task.robot,
            where="the task, or the robot or policy that was given with it",
        )
