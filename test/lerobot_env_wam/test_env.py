# SPDX-License-Identifier: Apache-2.0
"""The tasks as gymnasium environments: the interface, the seeds, and what cannot be played."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_episodes import TASK, small_franka

from wam.core.errors import ConfigError, JointError
from wam.robots.description import RobotDescription
from wam.sim.tasks.registry import TASKS

gymnasium = pytest.importorskip(
    "gymnasium", reason="gymnasium is not installed (pip install -r requirements/gym.txt)"
)

__all__ = ["small_franka"]

pytestmark = pytest.mark.sim

PACKAGE = Path(__file__).resolve().parents[2] / "lerobot_env_wam"
SEED = 1000


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package as from an installation."""
    monkeypatch.syspath_prepend(PACKAGE)
    import lerobot_env_wam

    yield lerobot_env_wam
    for name in [name for name in sys.modules if name.partition(".")[0] == "lerobot_env_wam"]:
        del sys.modules[name]


@pytest.mark.camera
@pytest.mark.slow
@pytest.mark.timeout(600)
# Joints have limits of their own and may be pushed past them; a data set's actions are not normalised.
@pytest.mark.filterwarnings("ignore:.*A Box observation space (min|max)imum value is:UserWarning")
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space:UserWarning")
def test_gymnasium_finds_nothing_wrong(plugin: Any, small_franka: RobotDescription) -> None:
    from gymnasium.utils.env_checker import check_env

    env = plugin.WamEnv(TASK, robot=small_franka, quality="fast", truth=True, render_mode="rgb_array")
    # Its check of rendering makes the environment anew; `render` has its own test below.
    check_env(env, skip_render_check=True)


@pytest.mark.camera
def test_a_seed_shows_its_episode_in_the_columns_of_a_data_set(
    plugin: Any, small_franka: RobotDescription
) -> None:
    env = plugin.WamEnv(TASK, robot=small_franka, quality="fast", render_mode="rgb_array", time_limit=0.1)
    assert (env.task, env.metadata["render_fps"], env._max_episode_steps) == (TASK, 15, 2)
    first, told = env.reset(seed=SEED)
    assert env.joint_names == small_franka.joint_names
    assert first["agent_pos"].dtype == np.float32
    assert {name: image.shape for name, image in first["pixels"].items()} == {
        "side": (48, 64, 3),
        "wrist": (48, 64, 3),
    }
    assert (told["seed"], told["is_success"], told["score"]) == (SEED, False, 0)
    assert env.task_description.startswith(TASKS[TASK].instruction.partition("{")[0])
    assert env.render().shape == (240, 320, 3)
    rewards = [env.step(first["agent_pos"])[1:4] for _ in range(2)]
    assert rewards == [(0.0, False, False), (0.0, False, True)]
    drawn, other = env.reset()
    assert other["seed"] != SEED
    again, _ = env.reset(seed=SEED, options={"of LeRobot's wrappers": True})
    env.close()
    np.testing.assert_array_equal(first["agent_pos"], again["agent_pos"])
    for name, image in first["pixels"].items():
        np.testing.assert_array_equal(image, again["pixels"][name])
    assert np.any(first["pixels"]["side"] != drawn["pixels"]["side"])


def test_what_does_not_exist_is_named(plugin: Any) -> None:
    for wrong, text in (
        ({"task": "franka_box_to_bowll"}, "no task of this name.*franka_box_to_bowll.*franka_box_to_bowl"),
        ({"task": TASK, "cameras": ["sid"]}, "no camera of this name.*sid.*side"),
        ({"task": TASK, "setting": "dark"}, "no such setting.*dark"),
        ({"task": TASK, "quality": "fats"}, "no such quality of images.*fats.*fast"),
        ({"task": TASK, "render_mode": "human"}, "no such render mode.*human.*rgb_array"),
    ):
        with pytest.raises(ConfigError, match=f"(?s){text}"):
            plugin.WamEnv(**wrong)


def test_an_action_of_another_robot_is_named_and_nothing_happens_before_a_reset(plugin: Any) -> None:
    env = plugin.WamEnv(TASK, cameras=[])
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset first"):
        env.step(np.zeros(8))
    observation, _ = env.reset(seed=SEED)
    assert set(observation) == {"agent_pos"}
    with pytest.raises(JointError, match=r"another width than the robot.*14.*8 positions"):
        env.step(np.zeros(14))
    _, _, _, _, info = env.step(observation["agent_pos"] + 1.0)
    assert info["limited"]


def test_every_task_is_registered_with_gymnasium(plugin: Any) -> None:
    plugin.register_tasks()
    assert {f"lerobot_env_wam/{name}" for name in TASKS} <= set(gymnasium.registry)
    env = gymnasium.make(f"lerobot_env_wam/{TASK}", cameras=[], disable_env_checker=True)
    assert env.unwrapped.task == TASK
