# SPDX-License-Identifier: Apache-2.0
"""What an environment shows, checked before anything is built. Imports neither gymnasium nor LeRobot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wam.core.errors import ConfigError
from wam.devices.loader import load_robot
from wam.robots.camera_spec import CameraSpec
from wam.robots.description import RobotDescription
from wam.sim.quality import Quality
from wam.sim.rollout import FRAME_RATE, RolloutOptions, find_camera
from wam.sim.tasks.registry import find_setting, find_task
from wam.sim.tasks.task import Setting, Task
from wam.sim.tasks.truth import truth_names

PIXELS, STATE, TRUTH = "pixels", "agent_pos", "environment_state"
"""Keys of an observation, as LeRobot reads them: it calls them observation.images.CAMERA, observation.state and
observation.environment_state, which are the columns that `wam sim record` writes."""


@dataclass(frozen=True, slots=True)
class WorldChoice:
    """A task and what is seen of it.

    Attributes:
        task: the task.
        setting: what it is set under.
        robot: the task's, or one with other cameras.
        cameras: whose images are observed, in order.
        truth_names: names of the ground truth; empty where it is not observed.
        options: rate, cameras, time limit and quality.
    """

    task: Task
    setting: Setting
    robot: RobotDescription
    cameras: tuple[CameraSpec, ...]
    truth_names: tuple[str, ...]
    options: RolloutOptions


def choose_world(
    task: str,
    *,
    setting: str = Setting.SEEN.value,
    fps: float = FRAME_RATE,
    cameras: Sequence[str] | None = None,
    quality: str = Quality.FULL.value,
    truth: bool = False,
    time_limit: float | None = None,
    robot: RobotDescription | None = None,
) -> WorldChoice:
    """Return what is named.

    Args:
        task: name of a task; `wam sim tasks` lists them.
        setting: "seen", or one of the task's others.
        fps: actions and frames a second, those of the data set [Hz].
        cameras: names, those of the data set; None takes all of the robot's, an empty list none.
        quality: of the images, "full" or "fast": that of the data set.
        truth: observe where the objects are.
        time_limit: end of an episode [s]; None takes the task's.
        robot: replaces the task's own.

    Raises:
        ConfigError: there is no such task, setting, camera or quality; the text names those that are.
        ValueError: `fps` is out of range.
    """
    chosen = find_task(task)
    if quality not in [one.value for one in Quality]:
        raise ConfigError(
            "there is no such quality of images",
            value=quality,
            known=[one.value for one in Quality],
            where="the argument quality (--env.quality)",
        )
    robot = robot or load_robot(chosen.robot)
    names = [camera.name for camera in robot.cameras] if cameras is None else list(dict.fromkeys(cameras))
    views = tuple(find_camera(robot, name) for name in names)
    return WorldChoice(
        task=chosen,
        setting=find_setting(chosen, setting),
        robot=robot,
        cameras=views,
        truth_names=truth_names(chosen) if truth else (),
        options=RolloutOptions(fps, tuple(names), time_limit, Quality(quality)),
    )
