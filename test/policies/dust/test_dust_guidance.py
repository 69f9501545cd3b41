# SPDX-License-Identifier: Apache-2.0
"""Real-time chunking of DUST: a chunk that is drawn towards the rows that are executed meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wam.core.context import PlannerContext
from wam.core.errors import ConfigError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Committed, LoadedPolicy
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.dust import franka
from wam.policies.dust.context import DustContext
from wam.policies.dust.records import StreamVelocities
from wam.policies.dust.sampling import Guidance, guided_velocity, integrate_joint
from wam.policies.dust.schedule import ActionRule, HeadEvaluation, SamplerSettings, schedule

START_NS = 1_700_000_000_000_000_000
TASK = Instruction(franka.instructions()[0])
ROWS, VALUES = 6, 2


@pytest.mark.parametrize("q", [1, 4])
@pytest.mark.parametrize("rule", list(ActionRule))
def test_a_guided_flow_ends_at_the_target_where_it_is_asked_for_and_at_its_own_end_elsewhere(
    q: int, rule: ActionRule
) -> None:
    settings = SamplerSettings(action_steps=8, q=q, rule=rule)
    own = torch.linspace(-1, 1, ROWS * VALUES).reshape(ROWS, VALUES)

    def constant(action: Tensor, _future: Tensor | None, _evaluation: HeadEvaluation) -> StreamVelocities:
        return StreamVelocities(own + 0.0 * action, None)

    start = torch.randn(1, ROWS, VALUES, generator=torch.Generator().manual_seed(0))
    plan = schedule(settings)
    free = integrate_joint(constant, start, None, plan=plan).action
    weights = torch.zeros(ROWS, VALUES)
    weights[:2] = 1.0
    field = guided_velocity(constant, Guidance(free[0] + 2.0, weights, 5.0), settings=settings)
    held = integrate_joint(field, start, None, plan=plan).action
    moved = (held - free)[0]
    assert torch.all(torch.abs(moved[:2] - 2.0) < 0.2)
    torch.testing.assert_close(held[0, 2:], free[0, 2:])


def observe(policy: LoadedPolicy) -> Observation:
    rng = np.random.default_rng(0)
    frames = {
        name: CameraFrame(name, START_NS, rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
        for name in policy.contract.camera_names
    }
    pose = np.array([*franka.READY_POSE, 0.02])
    state = RobotState(START_NS, policy.contract.state_joints, pose, np.zeros(8))
    return Observation(START_NS, frames, state)


def rows_of(
    policy: LoadedPolicy, context: PlannerContext[DustContext], observation: Observation
) -> np.ndarray:
    routed = policy.executor.route(observation, context=context)
    return policy.executor.act(routed, proprio=observation.state).rows


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny_bundle(
        tmp_path_factory.mktemp("dust") / "bundle", "dust", robot=franka.layout()
    ).directory


@pytest.mark.parametrize("q", [1, 2])
def test_a_guided_chunk_continues_what_is_executed_and_a_plain_one_does_not(bundle_dir: Path, q: int) -> None:
    """A policy that waited for its gripper began the same wait anew with every chunk, and never lifted the object.

    The head answers zero, so that the flow and its gradient are known; random weights have a gradient of any size.
    """
    plain, guided = (
        load_policy(bundle_dir, sampler={"guidance": value, "q": q, "action_steps": 8})
        for value in (0.0, 5.0)
    )
    for policy in (plain, guided):
        for parameter in policy.executor._head.action_decoder.parameters():
            parameter.data.zero_()
    seen = observe(plain)
    context = plain.planner.plan(seen, instruction=TASK)
    free = rows_of(plain, context, seen)
    np.testing.assert_array_equal(rows_of(guided, context, seen), free)  # nothing to continue yet
    arm = slice(0, 7)  # the gripper is open or closed, and takes no small step
    wanted = free.copy()
    wanted[:, arm] += 0.1
    committed = Committed(rows=wanted, fixed=4, covered=10)
    for policy in (plain, guided):
        policy.executor.continue_from(committed)
    np.testing.assert_array_equal(rows_of(plain, context, seen), free)
    held = rows_of(guided, context, seen)
    before = np.abs(free - wanted)[:4, arm].mean()
    assert np.abs(held - wanted)[:4, arm].mean() < 0.25 * before
    np.testing.assert_array_equal(held[10:], free[10:])
    np.testing.assert_array_equal(rows_of(guided, context, seen), held)  # repeatable
    guided.executor.continue_from(None)
    np.testing.assert_array_equal(rows_of(guided, context, seen), free)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan"), True, "5"])
def test_a_weight_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="guidance"):
        SamplerSettings.from_dict({"guidance": value})
