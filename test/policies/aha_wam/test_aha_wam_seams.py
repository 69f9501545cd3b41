# SPDX-License-Identifier: Apache-2.0
"""AHA-WAM behind the seams: planner, executor and their payload, from a tiny bundle with random weights."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.context import PlannerContext
from wam.core.contract import PolicyContract
from wam.core.errors import (
    ContractMismatch,
    ImageError,
    InputError,
    JointError,
    PolicyFault,
    StaleContext,
    StaleObservation,
)
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import Committed, LoadedPolicy
from wam.core.transport.layout import payload_bytes
from wam.policies.bundles import load_policy, make_tiny_bundle

START_NS = 1_700_000_000_000_000_000
TASK = Instruction("fold the towel")


def observe(
    contract: PolicyContract, stamp_ns: int, *, seed: int = 0, position: float = 0.0, offset_ns: int = 0
) -> Observation:
    rng = np.random.default_rng(seed)
    frames = {}
    for name in contract.camera_names:
        low, high = sorted(rng.integers(0, 256, 2))
        rgb = rng.integers(low, high + 1, (60, 80, 3), dtype=np.uint8)
        frames[name] = CameraFrame(name, stamp_ns, rgb)
    joints = contract.state_joints
    state = RobotState(stamp_ns, joints, np.full(len(joints), position), np.zeros(len(joints)))
    return Observation(stamp_ns, frames, state)


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_tiny_bundle(tmp_path_factory.mktemp("aha") / "bundle", "aha_wam").directory


@pytest.fixture
def policy(bundle_dir: Path) -> LoadedPolicy:
    return load_policy(bundle_dir)


def rows_of(policy: LoadedPolicy, context: PlannerContext[object], observation: Observation) -> np.ndarray:
    assert policy.executor is not None
    routed = policy.executor.route(observation, context=context)
    return policy.executor.act(routed, proprio=observation.state).rows


def test_a_chunk_is_a_row_per_control_period_in_the_policys_joints(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    later = observe(c, START_NS + 20 * c.control_period_ns, seed=1)
    chunk = policy.executor.act(policy.executor.route(later, context=context), proprio=later.state)
    assert chunk.rows.shape == (c.chunk_rows, len(c.action_joints))
    assert chunk.rows.dtype == np.float64
    assert chunk.joint_names == c.action_joints
    assert chunk.stamp_ns == later.stamp_ns
    assert chunk.phase_offset_rows == 20
    assert chunk.context_age_ns == later.stamp_ns - START_NS
    assert (chunk.generation, chunk.context_version, chunk.contract_hash) == (1, 1, c.contract_hash)
    assert np.isfinite(chunk.rows).all()


def test_the_same_request_gives_the_same_chunk_twice(policy: LoadedPolicy) -> None:
    """The release wrote the clean chunk over the start noise, so a second request began from it."""
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    observation = observe(c, START_NS + c.control_period_ns)
    first = rows_of(policy, context, observation)
    for _ in range(3):
        assert np.array_equal(rows_of(policy, context, observation), first)


def test_another_process_with_the_same_bundle_gives_the_same_chunk(
    policy: LoadedPolicy, bundle_dir: Path
) -> None:
    c = policy.contract
    twin = load_policy(bundle_dir)
    observation = observe(c, START_NS)
    mine = rows_of(policy, policy.planner.plan(observation, instruction=TASK), observation)
    theirs = rows_of(twin, twin.planner.plan(observation, instruction=TASK), observation)
    assert np.array_equal(mine, theirs)


def test_reusing_a_context_equals_planning_again_when_nothing_changed(policy: LoadedPolicy) -> None:
    c = policy.contract
    observation = observe(c, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    policy.planner.reset()
    again = policy.planner.plan(observation, instruction=TASK)
    assert torch.equal(context.payload.k, again.payload.k)
    assert torch.equal(context.payload.v, again.payload.v)
    assert np.array_equal(rows_of(policy, context, observation), rows_of(policy, again, observation))


@pytest.mark.parametrize(
    "change", ["image", "state", "chunk index", "context image", "instruction", "seed", "version"]
)
def test_every_input_has_an_effect_on_the_chunk(policy: LoadedPolicy, bundle_dir: Path, change: str) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    observation = observe(c, START_NS + c.control_period_ns, seed=1)
    before = rows_of(policy, context, observation)
    if change == "image":
        observation = observe(c, observation.stamp_ns, seed=2)
    elif change == "state":
        observation = observe(c, observation.stamp_ns, seed=1, position=0.3)
    elif change == "chunk index":
        observation = observe(c, START_NS + c.chunk_rows * c.control_period_ns, seed=1)
    elif change == "context image":
        policy.planner.reset()
        context = policy.planner.plan(observe(c, START_NS, seed=7), instruction=TASK)
    elif change == "instruction":
        policy.planner.reset()
        context = policy.planner.plan(observe(c, START_NS), instruction=Instruction("open the drawer"))
    elif change == "seed":
        policy = load_policy(bundle_dir, seed=99)
    else:
        context = replace(context, header=replace(context.header, version=2))
    assert np.abs(rows_of(policy, context, observation) - before).max() > 1e-5


def test_routing_does_not_write_to_the_context(policy: LoadedPolicy) -> None:
    c = policy.contract
    observation = observe(c, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    k, v = context.payload.k.clone(), context.payload.v.clone()
    rows_of(policy, context, observation)
    assert torch.equal(context.payload.k, k)
    assert torch.equal(context.payload.v, v)


def test_versions_count_from_one_in_every_generation(policy: LoadedPolicy) -> None:
    c = policy.contract
    headers = [
        policy.planner.plan(observe(c, START_NS + i), instruction=Instruction("x", generation)).header
        for i, generation in enumerate((1, 1, 2, 2, 2))
    ]
    assert [(h.generation, h.version) for h in headers] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert headers[0].horizon_rows == c.horizon_rows
    assert headers[0].control_period_ns == c.control_period_ns


def test_a_context_older_than_the_horizon_is_refused_by_name(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    last = observe(c, START_NS + (c.horizon_rows - 1) * c.control_period_ns)
    assert policy.executor.route(last, context=context).payload.offset_rows == c.horizon_rows - 1
    with pytest.raises(StaleContext, match=f"{c.horizon_rows} rows old"):
        policy.executor.route(observe(c, START_NS + c.horizon_ns), context=context)


def test_an_observation_older_than_the_context_is_refused(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    with pytest.raises(StaleObservation, match="2 rows older"):
        policy.executor.route(observe(c, START_NS - 2 * c.control_period_ns), context=context)


def test_a_context_of_another_policy_is_refused(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    foreign = replace(context, header=replace(context.header, contract_hash="0" * 64))
    with pytest.raises(ContractMismatch, match="000000000000"):
        policy.executor.route(observe(c, START_NS), context=foreign)


def test_an_image_older_than_the_last_one_is_refused_until_a_reset(policy: LoadedPolicy) -> None:
    c = policy.contract
    policy.planner.plan(observe(c, START_NS), instruction=TASK)
    with pytest.raises(StaleObservation, match="older than the planner's last one"):
        policy.planner.plan(observe(c, START_NS - 1_000_000), instruction=TASK)
    policy.planner.reset()
    assert policy.planner.plan(observe(c, START_NS - 1_000_000), instruction=TASK).header.version == 1


def test_a_missing_camera_is_named(policy: LoadedPolicy) -> None:
    c = policy.contract
    whole = observe(c, START_NS)
    partial = Observation(START_NS, {"head": whole.frames["head"]}, whole.state)
    with pytest.raises(ImageError, match="left_wrist"):
        policy.planner.plan(partial, instruction=TASK)


def test_a_missing_joint_is_named(policy: LoadedPolicy) -> None:
    c = policy.contract
    observation = observe(c, START_NS)
    routed = policy.executor.route(observation, context=policy.planner.plan(observation, instruction=TASK))
    with pytest.raises(JointError, match="right_gripper"):
        policy.executor.act(routed, proprio=observation.state.select(c.state_joints[:-1]))


def test_an_instruction_longer_than_the_text_context_is_refused(policy: LoadedPolicy) -> None:
    long = Instruction("go " * 33)
    with pytest.raises(InputError, match="33 tokens"):
        policy.planner.plan(observe(policy.contract, START_NS), instruction=long)


def test_a_payload_survives_the_codec_byte_for_byte(policy: LoadedPolicy) -> None:
    c = policy.contract
    payload = policy.planner.plan(observe(c, START_NS), instruction=TASK).payload
    specs = policy.codec.specs(payload)
    buffer = bytearray(payload_bytes(specs))
    policy.codec.write(payload, memoryview(buffer))
    back = policy.codec.read(specs, memoryview(buffer))
    for name in ("k", "v", "text"):
        assert torch.equal(getattr(back, name), getattr(payload, name))


def test_a_chunk_from_a_recycled_buffer_is_not_affected_by_what_comes_into_it(policy: LoadedPolicy) -> None:
    """The text K/V are kept between chunks; keeping a view of the transport's memory would follow its changes."""
    c = policy.contract
    observation = observe(c, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    specs = policy.codec.specs(context.payload)
    buffer = bytearray(payload_bytes(specs))
    policy.codec.write(context.payload, memoryview(buffer))
    remote = PlannerContext(context.header, policy.codec.read(specs, memoryview(buffer)))
    before = rows_of(policy, remote, observation)
    other = policy.planner.plan(observe(c, START_NS + 1), instruction=Instruction("open the drawer"))
    policy.codec.write(other.payload, memoryview(buffer))
    changed = rows_of(policy, remote, observation)
    assert np.abs(changed - before).max() > 1e-5
    policy.codec.write(context.payload, memoryview(buffer))
    assert np.array_equal(rows_of(policy, remote, observation), before)


def test_planner_and_executor_run_in_two_threads_at_once(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c, START_NS), instruction=TASK)
    observation = observe(c, START_NS + c.control_period_ns, seed=3)
    alone = rows_of(policy, context, observation)
    failures: list[BaseException] = []

    def plan() -> None:
        try:
            for i in range(1, 30):
                policy.planner.plan(observe(c, START_NS + i * 1_000_000, seed=i), instruction=TASK)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=plan)
    thread.start()
    results = [rows_of(policy, context, observation) for _ in range(15)]
    thread.join()
    assert not failures
    assert all(np.array_equal(rows, alone) for rows in results)


def poison(module: torch.nn.Module, name: str) -> None:
    with torch.no_grad():
        module.get_parameter(name).view(-1)[0] = float("nan")


def test_a_planner_value_that_is_not_finite_stops_the_plan_and_names_the_layer(bundle_dir: Path) -> None:
    policy = load_policy(bundle_dir, executor=False)
    poison(policy.planner.model, "video.blocks.1.self_attn.k.weight")
    with pytest.raises(PolicyFault, match="planner key of layer 1"):
        policy.planner.plan(observe(policy.contract, START_NS), instruction=TASK)


def test_a_routed_value_that_is_not_finite_stops_the_chunk_and_names_the_layer(policy: LoadedPolicy) -> None:
    observation = observe(policy.contract, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    poison(policy.executor.model, "editor.layer_delta_proj.2.3.weight")
    with pytest.raises(PolicyFault, match="routed key of layer 2"):
        policy.executor.route(observation, context=context)


def test_an_action_that_is_not_finite_stops_the_chunk_and_names_the_layer(policy: LoadedPolicy) -> None:
    observation = observe(policy.contract, START_NS)
    routed = policy.executor.route(observation, context=policy.planner.plan(observation, instruction=TASK))
    poison(policy.executor.model, "action.blocks.1.ffn.0.weight")
    with pytest.raises(PolicyFault, match="action DiT layer 1 in integration step 0"):
        policy.executor.act(routed, proprio=observation.state)


def test_each_half_loads_alone_with_its_own_weights_only(bundle_dir: Path) -> None:
    slow = load_policy(bundle_dir, executor=False)
    fast = load_policy(bundle_dir, planner=False)
    assert slow.executor is None
    assert fast.planner is None
    assert {n.split(".")[0] for n, _ in slow.planner.model.named_parameters()} == {"video"}
    assert "video" not in {n.split(".")[0] for n, _ in fast.executor.model.named_parameters()}
    observation = observe(slow.contract, START_NS)
    context = slow.planner.plan(observation, instruction=TASK)
    both = load_policy(bundle_dir)
    assert np.array_equal(rows_of(fast, context, observation), rows_of(both, context, observation))


FAST = {
    "queries": 0,
    "memory_window": 0,
    "chunk_rows": 32,
    "horizon_rows": 32,
    "proprio_in_planner": True,
    "first_frame_causal": True,
}


def test_fast_wam_runs_behind_the_same_seams(tmp_path: Path) -> None:
    policy = load_policy(make_tiny_bundle(tmp_path / "fast", "aha_wam", overrides=FAST).directory)
    c = policy.contract
    observation = observe(c, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    assert rows_of(policy, context, observation).shape == (32, 14)
    moved = policy.planner.plan(observe(c, START_NS, position=0.3), instruction=TASK)
    assert (moved.payload.v - context.payload.v).abs().max() > 1e-4
    routed = policy.executor.route(observation, context=context)
    assert torch.equal(routed.payload.context.k, context.payload.k)


def test_a_half_precision_policy_runs_and_stays_near_the_exact_one(
    policy: LoadedPolicy, bundle_dir: Path
) -> None:
    half = load_policy(bundle_dir, dtype=torch.bfloat16)
    observation = observe(policy.contract, START_NS)
    context = half.planner.plan(observation, instruction=TASK)
    assert context.payload.k.dtype is torch.bfloat16
    exact = rows_of(policy, policy.planner.plan(observation, instruction=TASK), observation)
    assert np.abs(rows_of(half, context, observation) - exact).max() < 0.02


def test_fewer_integration_steps_can_be_asked_for(policy: LoadedPolicy, bundle_dir: Path) -> None:
    fast = load_policy(bundle_dir, steps=2)
    observation = observe(policy.contract, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    assert np.abs(rows_of(fast, context, observation) - rows_of(policy, context, observation)).max() > 1e-4


def test_the_image_of_a_plan_is_not_encoded_again_for_its_chunk(policy: LoadedPolicy) -> None:
    c = policy.contract
    vision = policy.planner.vision
    assert policy.executor.vision is vision
    before = vision.encoded
    observation = observe(c, START_NS)
    context = policy.planner.plan(observation, instruction=TASK)
    rows_of(policy, context, observation)
    assert vision.encoded == before + 1
    rows_of(policy, context, observe(c, START_NS))
    assert vision.encoded == before + 2


def test_a_guided_chunk_continues_what_is_executed_and_a_plain_one_does_not(bundle_dir: Path) -> None:
    """Real-time chunking: rows that are executed before the chunk can take over must be in it.

    The head answers zero, so that the flow and its gradient are known; random weights have a gradient of any size.
    """
    plain, guided = (load_policy(bundle_dir, sampler={"guidance": value}) for value in (0.0, 5.0))
    for policy in (plain, guided):
        for parameter in policy.executor.model.action.head.parameters():
            parameter.zero_()
    c = plain.contract
    seen = observe(c, START_NS, position=0.3)
    context = plain.planner.plan(seen, instruction=TASK)
    free = rows_of(plain, context, seen)
    np.testing.assert_array_equal(rows_of(guided, context, seen), free)  # nothing to continue yet
    wanted = free + 0.2 * np.std(free, axis=0, keepdims=True) + 0.05
    committed = Committed(rows=wanted, fixed=4, covered=10)
    for policy in (plain, guided):
        policy.executor.continue_from(committed)
    np.testing.assert_array_equal(rows_of(plain, context, seen), free)
    held = rows_of(guided, context, seen)
    before, after = np.abs(free - wanted)[:4].mean(), np.abs(held - wanted)[:4].mean()
    assert after < 0.25 * before
    assert np.abs(held - free)[10:].mean() < np.abs(held - free)[:4].mean()
    np.testing.assert_array_equal(rows_of(guided, context, seen), held)  # repeatable
    guided.executor.continue_from(None)
    np.testing.assert_array_equal(rows_of(guided, context, seen), free)
