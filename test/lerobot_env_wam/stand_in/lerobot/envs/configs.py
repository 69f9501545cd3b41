# SPDX-License-Identifier: Apache-2.0
"""Stands in for `lerobot.envs.configs`: the fields, the registry by name and `create_envs` of an `EnvConfig`."""

from __future__ import annotations

import abc
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
from lerobot.configs.types import PolicyFeature


@dataclass
class EnvConfig(abc.ABC):
    """What LeRobot's class of this name offers to a plugin."""

    task: str | None = None
    fps: int = 30
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)
    max_parallel_tasks: int = 1
    disable_env_checker: bool = True

    choices: ClassVar[dict[str, type[EnvConfig]]] = {}

    @classmethod
    def register_subclass(cls, name: str) -> Callable[[type[EnvConfig]], type[EnvConfig]]:
        """Make a subclass known as `--env.type=NAME`."""

        def put(subclass: type[EnvConfig]) -> type[EnvConfig]:
            cls.choices[name] = subclass
            return subclass

        return put

    @property
    def type(self) -> str:
        """Name of the choice."""
        return next(name for name, one in self.choices.items() if one is self.__class__)

    @property
    def package_name(self) -> str:
        """Module that registers with gymnasium."""
        return f"gym_{self.type}"

    @property
    def gym_id(self) -> str:
        """What gymnasium makes."""
        return f"{self.package_name}/{self.task}"

    @property
    @abc.abstractmethod
    def gym_kwargs(self) -> dict[str, Any]:
        """Its arguments."""

    def create_envs(self, n_envs: int) -> dict[str, dict[int, gymnasium.vector.VectorEnv]]:
        """Return suite -> number -> environments that are stepped together."""
        if self.gym_id not in gymnasium.registry:
            importlib.import_module(self.package_name)

        def make() -> gymnasium.Env:
            return gymnasium.make(
                self.gym_id, disable_env_checker=self.disable_env_checker, **self.gym_kwargs
            )

        mode = gymnasium.vector.AutoresetMode.SAME_STEP
        return {
            self.type: {0: gymnasium.vector.SyncVectorEnv([make for _ in range(n_envs)], autoreset_mode=mode)}
        }
