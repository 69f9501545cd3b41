# SPDX-License-Identifier: Apache-2.0
"""A simulated task as a gymnasium environment whose observations and actions are the columns of a recorded data set.

    pixels/CAMERA       observation.images.CAMERA       uint8 [H, W, 3], red first
    agent_pos           observation.state               float32 [N], measured positions of all joints [rad or m]
    environment_state   observation.environment_state   float32 [E], only with `truth`
    action              action                          float32 [N], targets of all joints [rad or m]

Simulation only: nothing checks an action for collisions, and no safety node holds the arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from lerobot_env_wam.choice import PIXELS, STATE, TRUTH, choose_world
from wam.core.clock import NS_PER_S
from wam.core.errors import ConfigError
from wam.core.observation import Observation
from wam.robots.description import RobotDescription
from wam.sim.quality import Quality
from wam.sim.rendering import ViewRenderer, view_of
from wam.sim.rollout import FRAME_RATE
from wam.sim.stepped import SteppedEpisode
from wam.sim.tasks.registry import TASKS
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

NAMESPACE = "lerobot_env_wam"
VIEW_HEIGHT, VIEW_WIDTH = 240, 320
"""Size of what `render` returns [px]."""

SEEDS = 2**31
"""A reset without a seed draws one below this."""

RENDER_MODE = "rgb_array"


class WamEnv(gymnasium.Env):
    """One simulated task. One thread at a time.

    `reset(seed=S)` begins the episode that `wam sim record --seed S` records and `wam eval --seed S` scores. The reward
    of a step is the number of stages that it reached, so that an episode's sum is the score, 0 to 3. An episode is
    terminated by success (or by physics that diverged: `info["error"]`), and truncated at the time limit.

    `info` has `is_success`, `score`, `seed`, `variant`, `limited` (the action was beyond the robot's position or
    velocity limits and was followed only so far) and `error`.

    Args:
        task: name of a task; `wam sim tasks` lists them.
        setting: "seen", or one of the task's others.
        fps: actions and observations a second, those of the data set [Hz].
        cameras: names; None takes all of the robot's, an empty list none.
        quality: of the images, "full" or "fast": that of the data set.
        truth: observe where the objects are, as recorded with --truth.
        time_limit: end of an episode [s]; None takes the task's.
        render_mode: "rgb_array" for `render`, or None.
        robot: replaces the task's own, for images of another size.

    Raises:
        ConfigError: there is no such task, setting, camera, quality or render mode; the text names those that are.
        MissingDependency: MuJoCo or xacro is not installed.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [RENDER_MODE], "render_fps": int(FRAME_RATE)}

    def __init__(
        self,
        task: str,
        *,
        setting: str = Setting.SEEN.value,
        fps: float = FRAME_RATE,
        cameras: Sequence[str] | None = None,
        quality: str = Quality.FULL.value,
        truth: bool = False,
        time_limit: float | None = None,
        render_mode: str | None = None,
        robot: RobotDescription | None = None,
    ) -> None:
        if render_mode not in (None, RENDER_MODE):
            raise ConfigError(
                "there is no such render mode",
                value=render_mode,
                allowed=f"{RENDER_MODE} or None",
                where="the argument render_mode (--env.render_mode)",
            )
        choice = choose_world(
            task,
            setting=setting,
            fps=fps,
            cameras=cameras,
            quality=quality,
            truth=truth,
            time_limit=time_limit,
            robot=robot,
        )
        self.task = choice.task.name
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": int(fps) if fps == int(fps) else fps}
        self._choice = choice
        self._world = TaskWorld(choice.task, setting=choice.setting, robot=choice.robot)
        self._episode = SteppedEpisode(self._world, choice.options)
        self._begun = False
        self._view: ViewRenderer | None = None
        limits, joints = choice.robot.limits(), len(choice.robot.joints)
        self.action_space = spaces.Box(limits.lower.astype(np.float32), limits.upper.astype(np.float32))
        parts: dict[str, spaces.Space[Any]] = {
            STATE: spaces.Box(
                -np.inf, np.inf, (joints,), np.float32
            )  # physics may push a joint past its limit
        }
        if choice.cameras:
            parts[PIXELS] = spaces.Dict(
                {one.name: spaces.Box(0, 255, (one.height, one.width, 3), np.uint8) for one in choice.cameras}
            )
        if choice.truth_names:
            parts[TRUTH] = spaces.Box(-np.inf, np.inf, (len(choice.truth_names),), np.float32)
        self.observation_space = spaces.Dict(parts)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joints of an action and of `agent_pos`, in order."""
        return self._choice.robot.joint_names

    @property
    def task_description(self) -> str:
        """Instruction of the running episode, as in the data set's `task`."""
        return self._world.instruction

    @property
    def _max_episode_steps(self) -> int:
        """Steps until an episode is truncated; LeRobot asks for it by this name."""
        return self._episode.rows

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of the suite; None draws one.
            options: none are known; LeRobot's own are for its wrappers.

        Raises:
            CannotRender: images are observed and cannot be rendered here; the text says what helps.
        """
        super().reset(seed=seed)
        self._close_view()
        observation = self._episode.reset(int(self.np_random.integers(SEEDS)) if seed is None else seed)
        self._begun = True
        return self._seen(observation), self._info(score=0, success=False)

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move the joints' targets to `action`, evenly until the next frame.

        Args:
            action: float [N].

        Raises:
            JointError: it has another width than the robot, or is not finite; nothing was moved.
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        self._require_reset()
        done = self._episode.step(np.asarray(action, dtype=np.float64))
        info = self._info(score=done.progress, success=done.success, limited=done.limited, error=done.error)
        terminated = done.success or bool(done.error)
        return self._seen(done.observation), float(done.gained), terminated, done.out_of_time, info

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return what a spectator sees, uint8 [240, 320, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        self._require_reset()
        if self._view is None:
            world = self._world
            self._view = ViewRenderer(world.model, view_of(world), height=VIEW_HEIGHT, width=VIEW_WIDTH)
        return self._view.render(self._world.snapshot(round(self._world.time * NS_PER_S)))

    def close(self) -> None:
        """Free the renderers; safe to call twice."""
        self._close_view()
        self._episode.close()
        self._begun = False

    def _require_reset(self) -> None:
        if not self._begun:
            raise gymnasium.error.ResetNeeded("no episode has begun: call reset first")

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
        self._view = None

    def _seen(self, observation: Observation) -> dict[str, Any]:
        """Return an observation in the data set's order of joints, types and keys."""
        seen: dict[str, Any] = {STATE: observation.state.positions.astype(np.float32)}
        if self._choice.cameras:
            seen[PIXELS] = {one.name: observation.frames[one.name].rgb for one in self._choice.cameras}
        if self._choice.truth_names and observation.environment is not None:
            seen[TRUTH] = observation.environment.values.astype(np.float32)
        return seen

    def _info(self, *, score: int, success: bool, limited: bool = False, error: str = "") -> dict[str, Any]:
        return {
            "is_success": success,
            "score": score,
            "seed": self._world.seed,
            "variant": self._world.variant.name,
            "limited": limited,
            "error": error,
        }


def register_tasks() -> None:
    """Register every task with gymnasium as `lerobot_env_wam/TASK`; safe to call twice."""
    for name in TASKS:
        if f"{NAMESPACE}/{name}" not in gymnasium.registry:
            gymnasium.register(
                f"{NAMESPACE}/{name}", entry_point="lerobot_env_wam.env:WamEnv", kwargs={"task": name}
            )
