# SPDX-License-Identifier: Apache-2.0
"""A run of the state policy: it learns where to go from ground truth, and names what a data set lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.errors import ConfigError, RecordingError
from wam.core.observation import EnvironmentState, Instruction, Observation, RobotState
from wam.data.lerobot.format import Version
from wam.data.lerobot.writer import EpisodeRows, LeRobotWriter
from wam.devices.loader import load_robot
from wam.policies.bundles import load_policy
from wam.policies.state.training.config import StateTrainConfig
from wam.policies.state.training.recipe import RECIPE
from wam.training.config_reading import parse_config
from wam.training.runner import run_recipe

ROBOT = load_robot("franka")
FPS, ROWS, SPEED = 15.0, 40, 0.02
HOME = np.array([joint.home for joint in ROBOT.joints])
NAMES = ("object.x", "object.y")


def write_dataset(root: Path, *, names: tuple[str, ...] = NAMES, episodes: int = 12) -> Path:
    """Episodes in which joint 1 goes straight to where object.x says, at a constant speed, and stays there."""
    writer = LeRobotWriter(root, version=Version.V30, fps=FPS, robot=ROBOT, cameras=())
    rng = np.random.default_rng(0)
    for _ in range(episodes):
        goal = rng.uniform(-0.5, 0.5)
        path = np.sign(goal) * np.minimum(SPEED * np.arange(ROWS + 1), abs(goal))
        joints = np.tile(HOME, (ROWS + 1, 1))
        joints[:, 0] += path
        writer.add(
            EpisodeRows(
                times_ns=np.arange(ROWS, dtype=np.int64),
                state=joints[:-1],
                action_names=ROBOT.joint_names,
                action=joints[1:],
                texts=("go there",) * ROWS,
                environment_names=names,
                environment=np.tile((goal, 0.3), (ROWS, 1)) if names else None,
            ),
            {},
        )
    writer.finish()
    return root


def config(root: Path, out: Path, **data: object) -> StateTrainConfig:
    raw = {
        "data": {"root": str(root), **data},
        "model": {"rows": 4, "width": 64, "depth": 2},
        "optim": {"steps": 400, "batch_size": 64},
        "run": {"out": str(out), "device": "cpu", "tensorboard": False},
    }
    return parse_config(StateTrainConfig, raw)


def test_a_trained_policy_goes_where_the_ground_truth_says(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    result = run_recipe(RECIPE, config(write_dataset(tmp_path / "set"), tmp_path / "run"))
    assert result.bundle is not None
    policy = load_policy(result.bundle)
    contract = policy.contract
    assert (contract.environment, contract.action_joints, contract.cameras) == (NAMES, ROBOT.joint_names, ())
    assert contract.instruction == "go there"
    assert policy.planner is not None
    assert policy.executor is not None
    for goal in (-0.4, 0.35):
        policy.planner.reset()
        joints = HOME.copy()
        for step in range(40):
            stamp_ns = 1 + step * contract.control_period_ns
            state = RobotState(stamp_ns, ROBOT.joint_names, joints.copy(), np.zeros_like(joints))
            truth = EnvironmentState(stamp_ns, ("object.y", "object.x"), np.array([0.3, goal]))
            seen = Observation(stamp_ns, {}, state, truth)
            context = policy.planner.plan(seen, instruction=Instruction("go there"))
            joints = policy.executor.act(policy.executor.route(seen, context=context), proprio=state).rows[0]
        # Episodes differ by 1.0 rad; a policy that does not see the ground truth ends somewhere in the middle.
        assert joints[0] - HOME[0] == pytest.approx(goal, abs=0.08)


def test_a_data_set_without_ground_truth_is_refused_with_the_way_to_record_some(tmp_path: Path) -> None:
    bare = write_dataset(tmp_path / "bare", names=(), episodes=1)
    with pytest.raises(RecordingError, match=r"no ground truth observation.environment_state.*--truth"):
        run_recipe(RECIPE, config(bare, tmp_path / "run"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cameras": ["observation.images.side"]}, "data.cameras"),
        ({"augment": {"shift": 4}}, "data.augment"),
        ({"min_std": 0.0}, "data.min_std"),
        ({"environment_noise": -1.0}, "data.environment_noise"),
        ({"action": None}, "data.state, data.action"),
    ],
)
def test_an_option_that_this_policy_cannot_have_is_refused(
    tmp_path: Path, data: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config(tmp_path, tmp_path / "run", **data)


def test_episodes_with_another_ground_truth_are_not_written_into_one_data_set(tmp_path: Path) -> None:
    writer = LeRobotWriter(tmp_path / "set", version=Version.V30, fps=FPS, robot=ROBOT, cameras=())
    rows = EpisodeRows(
        times_ns=np.arange(2, dtype=np.int64),
        state=np.tile(HOME, (2, 1)),
        action_names=ROBOT.joint_names,
        action=np.tile(HOME, (2, 1)),
        texts=("go",) * 2,
        environment_names=NAMES,
        environment=np.zeros((2, 2)),
    )
    writer.add(rows, {})
    with pytest.raises(RecordingError, match="another ground truth than the first"):
        writer.add(replace(rows, environment_names=("object.x", "object.z")), {})
