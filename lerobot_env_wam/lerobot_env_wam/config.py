# SPDX-License-Identifier: Apache-2.0
"""The environment type `wam` of LeRobot: `--env.type=wam --env.task=TASK`. The task tells the robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from lerobot_env_wam.choice import PIXELS, TRUTH, choose_world
from lerobot_env_wam.choice import STATE as SEEN_STATE
from lerobot_env_wam.env import NAMESPACE, RENDER_MODE
from wam.data.lerobot.format import ACTION, ENVIRONMENT, IMAGES, STATE


@dataclass
class WamEnvConfig(EnvConfig):
    """A simulated task; fps, cameras and quality must be those of the data set that the policy was trained on.

    Attributes:
        task: name of a task; `wam sim tasks` lists them.
        fps: actions and observations a second [Hz].
        setting: "seen", or one of the task's others.
        cameras: names; None takes all of the robot's.
        quality: of the images, "full" or "fast".
        truth: observe where the objects are, as recorded with --truth.
        time_limit: end of an episode [s]; None takes the task's.
        render_mode: for the videos that LeRobot writes.
    """

    task: str | None = "franka_box_to_bowl"
    fps: int = 15
    setting: str = "seen"
    cameras: list[str] | None = None
    quality: str = "full"
    truth: bool = False
    time_limit: float | None = None
    render_mode: str = RENDER_MODE

    def __post_init__(self) -> None:
        """State what the task's robot shows and takes.

        Raises:
            ConfigError: there is no such task, setting, camera or quality; the text names those that are.
        """
        choice = choose_world(
            self.task or "",
            setting=self.setting,
            fps=self.fps,
            cameras=self.cameras,
            quality=self.quality,
            truth=self.truth,
            time_limit=self.time_limit,
        )
        width = (len(choice.robot.joints),)
        self.features[ACTION] = PolicyFeature(type=FeatureType.ACTION, shape=width)
        self.features[SEEN_STATE] = PolicyFeature(type=FeatureType.STATE, shape=width)
        self.features_map |= {ACTION: ACTION, SEEN_STATE: STATE}
        for camera in choice.cameras:
            key, shape = f"{PIXELS}/{camera.name}", (camera.height, camera.width, 3)
            self.features[key] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)
            self.features_map[key] = f"{IMAGES}{camera.name}"
        if choice.truth_names:
            self.features[TRUTH] = PolicyFeature(type=FeatureType.ENV, shape=(len(choice.truth_names),))
            self.features_map[TRUTH] = ENVIRONMENT

    @property
    def package_name(self) -> str:
        """Module whose import registers the tasks with gymnasium; LeRobot imports it where it has to."""
        return NAMESPACE

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `WamEnv` beside the task, which is in the id."""
        return {
            "setting": self.setting,
            "fps": self.fps,
            "cameras": self.cameras,
            "quality": self.quality,
            "truth": self.truth,
            "time_limit": self.time_limit,
            "render_mode": self.render_mode,
        }


EnvConfig.register_subclass("wam")(WamEnvConfig)
