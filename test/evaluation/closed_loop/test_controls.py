# SPDX-License-Identifier: Apache-2.0
"""Controls of an evaluation: they see nothing, and go through the same cycles as a policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wam.core.clock import NS_PER_MS, NS_PER_S
from wam.core.errors import BundleError
from wam.core.observation import Instruction, Observation, RobotState
from wam.core.verdict import Ladder
from wam.evaluation.closed_loop.controls import (
    BLIND,
    BLIND_FIRST,
    CHUNK_ROWS,
    CONTROLS,
    ROW_PERIOD_NS,
    STILL,
    ExpertRows,
    RowsPolicy,
    control_policy,
)
from wam.evaluation.closed_loop.options import EvalOptions
from wam.evaluation.closed_loop.run import evaluate_fast
from wam.evaluation.replay.engine import ReplaySettings
from wam.policies.loading import load_policy
from wam.robots.description import RobotDescription
from wam.runtime.policy import PolicyRequest
from wam.sim.rollout import COMMAND_PERIOD_NS
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

pytestmark = pytest.mark.sim

TASK = find_task("franka_box_to_bowl")
SCHEDULE = ReplaySettings(
    planner_latency_ns=100 * NS_PER_MS, executor_latency_ns=50 * NS_PER_MS, planner_period_ns=250 * NS_PER_MS
)
SEED = 3


def options(policy: str, time_limit: float) -> EvalOptions:
    return EvalOptions(TASK, Setting.SEEN, policy, (SEED,), SCHEDULE, time_limit, videos=False)


def test_rows_are_played_from_the_first_chunk_on_and_the_last_one_stays(
    small_franka: RobotDescription,
) -> None:
    names = small_franka.joint_names
    rows = np.arange(50)[:, None] * np.ones(len(names)) * 0.01
    contract = control_policy(STILL, task=TASK, setting=Setting.SEEN, robot=small_franka).contract
    policy = RowsPolicy(contract, lambda seed: rows * seed)

    def chunk(stamp_ns: int) -> np.ndarray:
        state = RobotState(stamp_ns, names, np.ones(len(names)), np.zeros(len(names)))
        observation = Observation(stamp_ns, {}, state)
        context = policy.plan(observation, instruction=Instruction("go", 4))
        return policy.act(policy.route(observation, context=context), proprio=state).rows

    policy.rehearse(1)
    policy.reset()
    first = chunk(7 * NS_PER_S)
    due = np.minimum(np.arange(CHUNK_ROWS) * ROW_PERIOD_NS / COMMAND_PERIOD_NS, 49) * 0.01
    np.testing.assert_allclose(first[:, 0], due)
    np.testing.assert_allclose(chunk(7 * NS_PER_S + 20 * COMMAND_PERIOD_NS)[0], 0.2)
    np.testing.assert_allclose(chunk(9 * NS_PER_S), 0.49)
    policy.rehearse(2)
    policy.reset()
    np.testing.assert_allclose(chunk(20 * NS_PER_S), 2 * first)


def test_a_robot_that_stands_still_is_not_held_and_does_not_move(small_franka: RobotDescription) -> None:
    policy = control_policy(STILL, task=TASK, setting=Setting.SEEN, robot=small_franka)
    (episode,) = evaluate_fast(options(STILL, 2.0), policy, robot=small_franka).episodes
    assert (episode.score, episode.error, episode.max_contact_force) == (0, "", 0.0)
    assert episode.worst_rung <= Ladder.LATE
    assert set(episode.held) <= {"no_chunk_yet", "no_joint_state_yet"}
    assert episode.times.chunk_ms.size > 10


@pytest.mark.slow
def test_a_blind_robot_does_what_the_expert_did_in_another_episode_with_the_same_words(
    small_franka: RobotDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[int] = []
    reset = TaskWorld.reset

    def note(world: TaskWorld, seed: int) -> None:
        reset(world, seed)
        if seed >= BLIND_FIRST:
            played.append(seed)

    monkeypatch.setattr(TaskWorld, "reset", note)
    rows = ExpertRows(TASK, Setting.SEEN, small_franka, same_text=True)(SEED)
    monkeypatch.undo()
    world = TaskWorld(TASK, seed=SEED, robot=small_franka)
    words = world.instruction
    world.reset(played[-1])
    assert world.instruction == words
    policy = control_policy(BLIND, task=TASK, setting=Setting.SEEN, robot=small_franka)
    planner = policy.planner
    assert isinstance(planner, RowsPolicy)
    monkeypatch.setattr(planner, "_rows_of", lambda seed: rows)  # the expert takes the most of the time
    (episode,) = evaluate_fast(options(BLIND, 3.0), policy, robot=small_franka).episodes
    assert episode.error == ""
    assert episode.held_share < 0.2
    assert np.abs(rows[300] - rows[0]).max() > 0.1


@pytest.mark.parametrize("name", CONTROLS)
def test_no_node_knows_a_control(name: str, small_franka: RobotDescription) -> None:
    with pytest.raises(BundleError, match=name):
        load_policy(PolicyRequest(name, planner=True, executor=True), robot=small_franka)


def test_a_control_needs_no_pictures(small_franka: RobotDescription) -> None:
    for name in CONTROLS:
        blind = control_policy(name, task=TASK, setting=Setting.SEEN, robot=replace(small_franka))
        assert blind.contract.cameras == ()
