# SPDX-License-Identifier: Apache-2.0
"""The state policy through its seams: what it needs, what it remembers, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wam.core.chunk import ActionChunk
from wam.core.errors import BundleError, StaleObservation
from wam.core.observation import EnvironmentState, Instruction, Observation, RobotState
from wam.core.policy import LoadedPolicy
from wam.models.bundle import Manifest, open_bundle
from wam.models.bundle.manifest import MANIFEST_NAME
from wam.models.robot_layout import RobotLayout
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.state.policy import TINY_ENVIRONMENT

ROBOT = RobotLayout(
    cameras=("head",),
    state_joints=("a", "b", "gripper"),
    action_joints=("a", "gripper"),
    centre=(0.1, 0.02),
    spread=(0.2, 0.01),
)
WORDS = Instruction("lift it")


def policy(folder: Path, *, live: bool) -> LoadedPolicy:
    return load_policy(
        make_tiny_bundle(folder / f"{live}", "state", robot=ROBOT, overrides={"live": live}).directory
    )


def see(stamp_ns: int, place: float, *, joint: float = 0.0, truth: bool = True) -> Observation:
    state = RobotState(stamp_ns, ("gripper", "b", "a"), np.array([0.01, 0.0, joint]), np.zeros(3))
    names = ("else", *TINY_ENVIRONMENT)
    environment = EnvironmentState(stamp_ns, names, np.array([7.0, place, 0.1, 0.2])) if truth else None
    return Observation(stamp_ns, {}, state, environment)


def chunk_of(loaded: LoadedPolicy, first: Observation, seen: Observation) -> ActionChunk:
    """The chunk for an observation, after a plan made of another one."""
    assert loaded.planner is not None
    assert loaded.executor is not None
    loaded.planner.reset()
    loaded.planner.plan(first, instruction=WORDS)
    context = loaded.planner.plan(seen, instruction=WORDS)
    return loaded.executor.act(loaded.executor.route(seen, context=context), proprio=seen.state)


def test_rows_start_from_the_measured_state(tmp_path: Path) -> None:
    loaded = policy(tmp_path, live=True)
    contract = loaded.contract
    assert (contract.cameras, contract.environment, contract.relative_actions) == ((), TINY_ENVIRONMENT, True)
    here, there = (chunk_of(loaded, see(1, 0.1), see(10**7, 0.1, joint=joint)) for joint in (0.0, 0.02))
    assert here.joint_names == ("a", "gripper")
    assert here.rows.shape == (16, 2)
    assert np.abs(here.rows - (0.0, 0.01)).max() < 0.6
    assert here.rows[:, 0].mean() != there.rows[:, 0].mean()


@pytest.mark.parametrize("live", [False, True])
def test_only_a_live_policy_follows_what_moves_during_an_episode(tmp_path: Path, live: bool) -> None:
    loaded = policy(tmp_path, live=live)
    stayed, moved = (chunk_of(loaded, see(1, 0.1), see(10**7, place)) for place in (0.1, 0.4))
    assert np.array_equal(stayed.rows, moved.rows) is not live
    began_there = chunk_of(loaded, see(1, 0.4), see(10**7, 0.4))
    assert not np.array_equal(stayed.rows, began_there.rows)


def test_an_observation_without_ground_truth_is_refused(tmp_path: Path) -> None:
    loaded = policy(tmp_path, live=True)
    with pytest.raises(StaleObservation, match="no ground truth"):
        chunk_of(loaded, see(1, 0.1), see(10**7, 0.1, truth=False))
    assert loaded.planner is not None
    loaded.planner.reset()
    with pytest.raises(StaleObservation, match="no ground truth"):
        loaded.planner.plan(see(1, 0.1, truth=False), instruction=WORDS)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": ()},
        {"relative_actions": False},
        {"model": {"width": 8}},
        {"model": {"width": 0, "depth": 1, "live": 0}},
    ],
    ids=["no ground truth", "absolute rows", "a key is missing", "no width"],
)
def test_a_bundle_that_is_no_state_policy_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "state", robot=ROBOT)
    manifest: Manifest = replace(bundle.manifest, **change)  # type: ignore[arg-type]
    (bundle.directory / MANIFEST_NAME).write_text(manifest.to_yaml(), encoding="utf-8")
    with pytest.raises(BundleError, match=r"policy\.yaml"):
        load_policy(bundle.directory)


def test_the_ground_truth_is_part_of_the_contract_hash(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "state", robot=ROBOT)
    other = replace(bundle.manifest, environment=("object.x", "object.z", "object.y"))
    (bundle.directory / MANIFEST_NAME).write_text(other.to_yaml(), encoding="utf-8")
    again = open_bundle(bundle.directory).contract
    assert again.environment == ("object.x", "object.z", "object.y")
    assert again.contract_hash != bundle.contract.contract_hash
