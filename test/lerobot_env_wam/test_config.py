# SPDX-License-Identifier: Apache-2.0
"""The environment type `wam` of LeRobot, against a stand-in of LeRobot's public interface (`stand_in/`)."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wam.core.errors import ConfigError
from wam.data.lerobot.format import Version
from wam.data.lerobot.metadata_writer import WrittenDataset, WrittenEpisode, write_metadata
from wam.devices.loader import load_robot
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.truth import truth_names

gymnasium = pytest.importorskip(
    "gymnasium", reason="gymnasium is not installed (pip install -r requirements/gym.txt)"
)

pytestmark = pytest.mark.sim

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "lerobot_env_wam"
OURS = ("lerobot", "lerobot_env_wam")
TASK = "piper_move_large_object"


@pytest.fixture
def env_config(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """LeRobot's `EnvConfig` after it has imported its plugins by the names of their distributions."""
    monkeypatch.syspath_prepend(HERE / "stand_in")
    monkeypatch.syspath_prepend(PACKAGE)
    module = importlib.import_module("lerobot.envs.configs")
    importlib.import_module("lerobot_env_wam")
    yield module.EnvConfig
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]


def test_the_features_are_the_columns_that_a_recording_of_the_task_has(
    env_config: Any, tmp_path: Path
) -> None:
    """LeRobot refuses, or worse, feeds the wrong picture, where a policy's inputs and the environment's differ."""
    task = find_task(TASK)
    robot = load_robot(task.robot)
    written = WrittenDataset(
        version=Version.V30,
        fps=15.0,
        robot=robot,
        cameras=tuple(camera.name for camera in robot.cameras),
        action_names=robot.joint_names,
        environment_names=truth_names(task),
        episodes=(WrittenEpisode(0, 1, ("t",), statistics={}, notes={}),),
        tasks={"t": 0},
    )
    write_metadata(tmp_path, written)
    info = json.loads((tmp_path / "meta" / "info.json").read_text(encoding="utf-8"))
    columns = {
        name: tuple(feature["shape"])
        for name, feature in info["features"].items()
        if name == "action" or name.startswith("observation.")
    }
    config = env_config.choices["wam"](task=TASK, truth=True)
    assert config.type == "wam"
    assert config.fps == info["fps"]
    assert {config.features_map[key]: one.shape for key, one in config.features.items()} == columns
    kinds = {key: one.type.value for key, one in config.features.items()}
    assert kinds.pop("action") == "ACTION"
    assert kinds.pop("agent_pos") == "STATE"
    assert kinds.pop("environment_state") == "ENV"
    assert set(kinds.values()) == {"VISUAL"}


def test_environments_that_are_stepped_together_answer_as_the_evaluation_of_lerobot_asks(
    env_config: Any,
) -> None:
    config = env_config.choices["wam"](task=TASK, cameras=[], time_limit=0.1)
    env = config.create_envs(n_envs=2)["wam"][0]
    observation, _ = env.reset(seed=[7, 8], options={"lerobot_new_rollout": True})
    assert env.call("_max_episode_steps") == (2, 2)
    assert env.call("task") == (TASK, TASK)
    assert all(env.call("task_description"))
    assert env.metadata["render_fps"] == config.fps
    assert observation["agent_pos"].shape == (2, 14)
    _, _, terminated, truncated, info = env.step(observation["agent_pos"])
    assert not np.any(terminated | truncated)
    assert "final_info" not in info
    _, reward, terminated, truncated, info = env.step(observation["agent_pos"])
    assert truncated.all()
    assert not np.any(terminated)
    assert not np.any(reward)
    assert info["final_info"]["is_success"].tolist() == [False, False]
    assert info["final_info"]["seed"].tolist() == [7, 8]
    env.close()


def test_a_task_or_camera_that_does_not_exist_is_named_when_the_command_line_is_read(env_config: Any) -> None:
    with pytest.raises(ConfigError, match="no task of this name"):
        env_config.choices["wam"](task="pusht")
    with pytest.raises(ConfigError, match="no camera of this name"):
        env_config.choices["wam"](task=TASK, cameras=["top"])
