# SPDX-License-Identifier: Apache-2.0
"""DUST behind the seams: planner, executor and their payload, from a tiny bundle for a Franka with two cameras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wam.core.context import MAX_TENSORS
from wam.core.errors import (
    ConfigError,
    ContractMismatch,
    ImageError,
    JointError,
    PolicyFault,
    StaleContext,
    StaleObservation,
)
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.core.policy import LoadedPolicy
from wam.core.transport.layout import payload_bytes
from wam.policies.bundles import load_policy, make_tiny_bundle, open_policy
from wam.policies.dust import franka
from wam.policies.dust.context import DustContext
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.head import DustHead
from wam.policies.dust.model import DustModel
from wam.policies.dust.planner import DustPlanner
from wam.policies.dust.policy import check, load_backbone, load_head, load_projection
from wam.policies.dust.readings import HeadLayout
from wam.policies.dust.records import FeatureKv
from wam.policies.dust.schedule import ActionRule, SamplerSettings

START_NS = 1_700_000_000_000_000_000
TASKS = [Instruction(text) for text in franka.instructions()[::5]]
POSE = np.array([*franka.READY_POSE, 0.02])


def observe(contract, stamp_ns: int = START_NS, *, seed: int = 0, offset: float = 0.0) -> Observation:
    rng = np.random.default_rng(seed)
    frames = {}
    for name in contract.camera_names:
        low, high = sorted(rng.integers(0, 256, 2))
        frames[name] = CameraFrame(name, stamp_ns, rng.integers(low, high + 1, (60, 80, 3), dtype=np.uint8))
    state = RobotState(stamp_ns, contract.state_joints, POSE + offset, np.zeros(8))
    return Observation(stamp_ns, frames, state)


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("dust") / "bundle"
    return make_tiny_bundle(directory, "dust", robot=franka.layout()).directory


@pytest.fixture
def policy(bundle_dir: Path) -> LoadedPolicy:
    return load_policy(bundle_dir)


def rows_of(policy: LoadedPolicy, context, observation: Observation) -> np.ndarray:
    routed = policy.executor.route(observation, context=context)
    return policy.executor.act(routed, proprio=observation.state).rows


def test_the_franka_bundle_has_seven_joints_a_gripper_two_cameras_and_four_tasks(
    policy: LoadedPolicy,
) -> None:
    assert policy.contract.action_joints == (*franka.ARM_JOINTS, franka.GRIPPER)
    assert policy.contract.camera_names == ("side", "wrist")
    assert len(franka.TASKS) == 4
    assert len(set(franka.instructions())) == 16
    assert policy.contract.chunk_rows == policy.contract.horizon_rows == 16


def test_a_chunk_is_a_row_per_control_period_in_the_policys_joints(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c), instruction=TASKS[0])
    later = observe(c, START_NS + 3 * c.control_period_ns, seed=1)
    chunk = policy.executor.act(policy.executor.route(later, context=context), proprio=later.state)
    assert chunk.rows.shape == (16, 8)
    assert chunk.rows.dtype == np.float64
    assert chunk.joint_names == c.action_joints
    assert (chunk.stamp_ns, chunk.phase_offset_rows) == (later.stamp_ns, 3)
    assert chunk.context_age_ns == later.stamp_ns - START_NS
    assert (chunk.generation, chunk.context_version, chunk.contract_hash) == (1, 1, c.contract_hash)
    assert np.isfinite(chunk.rows).all()


def test_the_gripper_is_open_or_closed_and_nothing_between(policy: LoadedPolicy) -> None:
    c = policy.contract
    widths = set()
    for seed in range(4):
        observation = observe(c, seed=seed)
        context = policy.planner.plan(observation, instruction=TASKS[seed % 4])
        widths |= set(rows_of(policy, context, observation)[:, 7].tolist())
    assert widths <= {0.0, franka.GRIPPER_HALF_WIDTH}


def test_random_weights_move_the_arm_gently(policy: LoadedPolicy) -> None:
    c = policy.contract
    observation = observe(c)
    rows = rows_of(policy, policy.planner.plan(observation, instruction=TASKS[0]), observation)
    assert np.abs(rows[:, :7] - POSE[:7]).max() < 0.3
    assert np.abs(np.diff(rows[:, :7], axis=0)).max() < 0.3


@pytest.mark.parametrize("change", ["context image", "instruction", "state", "seed", "version", "age", "q"])
def test_every_input_has_an_effect_on_the_chunk(policy: LoadedPolicy, bundle_dir: Path, change: str) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c), instruction=TASKS[0])
    observation = observe(c, START_NS + c.control_period_ns, seed=1)
    before = rows_of(policy, context, observation)
    if change == "context image":
        policy.planner.reset()
        context = policy.planner.plan(observe(c, seed=7), instruction=TASKS[0])
    elif change == "instruction":
        policy.planner.reset()
        context = policy.planner.plan(observe(c), instruction=TASKS[1])
    elif change == "state":
        observation = observe(c, observation.stamp_ns, seed=1, offset=0.2)
    elif change == "seed":
        policy = load_policy(bundle_dir, seed=99)
    elif change == "version":
        context = replace(context, header=replace(context.header, version=2))
    elif change == "age":
        observation = observe(c, START_NS + 2 * c.control_period_ns, seed=1)
    else:
        policy.executor.configure(replace(policy.executor.settings, q=4))
    assert np.abs(rows_of(policy, context, observation) - before)[:, :7].max() > 1e-6


def test_the_executors_image_is_not_used_because_dust_has_no_routing(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c), instruction=TASKS[0])
    later = START_NS + c.control_period_ns
    one, other = (rows_of(policy, context, observe(c, later, seed=seed)) for seed in (1, 2))
    assert np.array_equal(one, other)


def test_the_same_request_gives_the_same_chunk_in_another_process_too(
    policy: LoadedPolicy, bundle_dir: Path
) -> None:
    c = policy.contract
    observation = observe(c)
    context = policy.planner.plan(observation, instruction=TASKS[0])
    first = rows_of(policy, context, observation)
    twin = load_policy(bundle_dir)
    theirs = rows_of(twin, twin.planner.plan(observation, instruction=TASKS[0]), observation)
    assert np.array_equal(rows_of(policy, context, observation), first)
    assert np.array_equal(theirs, first)


def test_the_context_is_the_features_projected_once_for_every_cross_attention_layer(bundle_dir: Path) -> None:
    bundle = open_policy(bundle_dir)
    config = check(bundle).network
    backbone = load_backbone(bundle, config, device="cpu", dtype=None)
    features = torch.randn(1, 9, config.width)
    planned = load_projection(bundle, config, device="cpu", dtype=None)(features)
    whole = load_head(bundle, config, device="cpu", dtype=None).project_features(features)
    assert isinstance(backbone, EagleBackbone)
    assert planned.k.shape == (len(config.cross_layers()), 1, 9, config.width)
    assert torch.equal(planned.k, torch.stack(list(whole.k)))
    assert torch.equal(planned.v, torch.stack(list(whole.v)))


def test_the_executor_never_projects_features(policy: LoadedPolicy, monkeypatch) -> None:
    c = policy.contract
    observation = observe(c)
    context = policy.planner.plan(observation, instruction=TASKS[0])

    def refuse(*_args, **_kwargs):
        raise AssertionError("features are projected by the planner alone")

    monkeypatch.setattr(DustHead, "project_features", refuse)
    for q in (1, 4):
        policy.executor.configure(SamplerSettings(q=q))
        assert np.isfinite(rows_of(policy, context, observation)).all()


def test_a_loaded_backbone_equals_one_that_was_never_on_the_meta_device(bundle_dir: Path) -> None:
    """Position ids and rotary frequencies are in no checkpoint; built on meta they would stay there."""
    bundle = open_policy(bundle_dir)
    config = check(bundle).network
    loaded = load_backbone(bundle, config, device="cpu", dtype=None)
    built = DustModel(config, head=False).backbone.eval()
    built.load_state_dict(loaded.state_dict())
    size = config.eagle.image_size
    pixels = torch.rand(1, 3, size, size)
    ids = torch.tensor([[5, *[config.eagle.image_token] * config.eagle.image_tokens, 9]])
    with torch.no_grad():
        assert torch.equal(loaded(pixels, ids), built(pixels, ids))


def test_a_context_crosses_the_codec_without_a_change_and_in_two_tensors(policy: LoadedPolicy) -> None:
    payload = policy.planner.plan(observe(policy.contract), instruction=TASKS[0]).payload
    specs = policy.codec.specs(payload)
    assert [s.name for s in specs] == ["k", "v"]
    assert len(specs) <= MAX_TENSORS
    buffer = bytearray(payload_bytes(specs))
    policy.codec.write(payload, memoryview(buffer))
    back = policy.codec.read(specs, memoryview(buffer))
    assert torch.equal(back.k, payload.k)
    assert torch.equal(back.v, payload.v)


def test_planning_has_no_memory_and_counts_versions_in_a_generation(policy: LoadedPolicy) -> None:
    c = policy.contract
    first = policy.planner.plan(observe(c), instruction=TASKS[0])
    second = policy.planner.plan(observe(c), instruction=TASKS[0])
    assert (first.header.version, second.header.version) == (1, 2)
    assert torch.equal(first.payload.k, second.payload.k)
    policy.planner.reset()
    assert policy.planner.plan(observe(c), instruction=replace(TASKS[0], generation=2)).header.version == 1


def test_the_expected_image_lies_beside_the_chunk(policy: LoadedPolicy) -> None:
    c = policy.contract
    assert policy.executor.prediction is None
    observation = observe(c)
    context = policy.planner.plan(observation, instruction=TASKS[0])
    rows = rows_of(policy, context, observation)
    prediction = policy.executor.prediction
    assert prediction.embedding.shape == (4, 24)
    assert prediction.tau == 1
    assert prediction.stamp_ns == observation.stamp_ns
    assert prediction.target_stamp_ns == observation.stamp_ns + 16 * c.control_period_ns
    with pytest.raises(ValueError, match="read-only"):
        prediction.embedding[:] = 0
    policy.executor.configure(replace(policy.executor.settings, future=False))
    assert np.array_equal(rows_of(policy, context, observation), rows)
    assert policy.executor.prediction is None


def test_a_normalised_target_is_given_back_in_the_towers_units(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(
        tmp_path / "b", "dust", robot=franka.layout(), overrides={"normalise_target": True}
    )
    policy = load_policy(bundle.directory)
    scale = policy.executor._target_scale
    observation = observe(policy.contract)
    context = policy.planner.plan(observation, instruction=TASKS[0])
    rows_of(policy, context, observation)
    plain = policy.executor.prediction.embedding
    scale.mean.fill_(3.0)
    scale.std.fill_(2.0)
    rows_of(policy, context, observation)
    np.testing.assert_allclose(policy.executor.prediction.embedding, 2 * plain + 3, rtol=1e-5)


def test_q_and_the_number_of_moves_change_between_two_chunks(policy: LoadedPolicy) -> None:
    c = policy.contract
    observation = observe(c)
    context = policy.planner.plan(observation, instruction=TASKS[0])
    seen = []
    for settings in (SamplerSettings(), SamplerSettings(q=16), SamplerSettings(2, 8, ActionRule.START)):
        policy.executor.configure(settings)
        seen.append((policy.executor.plan.counts()["total"], rows_of(policy, context, observation)))
    assert [n for n, _ in seen] == [4, 64, 16]
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert policy.executor.settings.rule is ActionRule.START


def test_each_half_loads_alone_and_together_they_give_the_same_chunk(
    policy: LoadedPolicy, bundle_dir: Path
) -> None:
    slow = load_policy(bundle_dir, executor=False)
    fast = load_policy(bundle_dir, planner=False)
    assert slow.executor is None
    assert fast.planner is None
    observation = observe(policy.contract)
    context = slow.planner.plan(observation, instruction=TASKS[0])
    want = rows_of(policy, policy.planner.plan(observation, instruction=TASKS[0]), observation)
    assert np.array_equal(rows_of(fast, context, observation), want)


def test_the_executor_holds_the_encoders_of_its_own_robot_alone(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "b", "dust", robot=franka.layout())
    text = (bundle.directory / "policy.yaml").read_text()
    other = tmp_path / "other"
    other.mkdir()
    for path in bundle.directory.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "policy.yaml").write_text(text.replace("embodiment: 0", "embodiment: 2"))
    first, third = load_policy(bundle.directory), load_policy(other)
    assert third.executor._head.state_encoder.layer1.W.shape[0] == 1
    observation = observe(first.contract)
    rows = [
        rows_of(p, p.planner.plan(observation, instruction=TASKS[0]), observation)[:, :7]
        for p in (first, third)
    ]
    assert not np.allclose(rows[0], rows[1], atol=1e-4)


def test_a_stale_or_foreign_context_is_refused(policy: LoadedPolicy) -> None:
    c = policy.contract
    context = policy.planner.plan(observe(c), instruction=TASKS[0])
    with pytest.raises(StaleContext, match="16 rows old"):
        policy.executor.route(observe(c, START_NS + 16 * c.control_period_ns), context=context)
    with pytest.raises(StaleObservation, match="2 rows older"):
        policy.executor.route(observe(c, START_NS - 2 * c.control_period_ns), context=context)
    foreign = replace(context, header=replace(context.header, contract_hash="0" * 64))
    with pytest.raises(ContractMismatch):
        policy.executor.route(observe(c), context=foreign)


def test_a_missing_camera_or_joint_is_named(policy: LoadedPolicy) -> None:
    seen = observe(policy.contract)
    blind = replace(seen, frames={"side": seen.frames["side"]})
    with pytest.raises(ImageError, match="wrist"):
        policy.planner.plan(blind, instruction=TASKS[0])
    context = policy.planner.plan(seen, instruction=TASKS[0])
    routed = policy.executor.route(seen, context=context)
    with pytest.raises(JointError, match=franka.GRIPPER):
        policy.executor.act(routed, proprio=seen.state.select(policy.contract.state_joints[:7]))


def test_values_that_are_not_finite_are_faults_that_name_their_place(policy: LoadedPolicy) -> None:
    c = policy.contract
    seen = observe(c)
    context = policy.planner.plan(seen, instruction=TASKS[0])
    broken = context.payload.k.clone()
    broken[2, 0, 0, 0] = torch.nan
    routed = policy.executor.route(
        seen, context=replace(context, payload=DustContext(broken, context.payload.v))
    )
    with pytest.raises(PolicyFault, match="key of the planner context of layer 2"):
        policy.executor.act(routed, proprio=seen.state)
    lost = RobotState(START_NS, c.state_joints, np.full(8, np.nan), np.zeros(8))
    with pytest.raises(PolicyFault, match="joint state"):
        policy.executor.act(policy.executor.route(seen, context=context), proprio=lost)


def test_a_backbone_that_computes_nan_is_caught_in_the_planner(policy: LoadedPolicy) -> None:
    assert isinstance(policy.planner, DustPlanner)
    policy.planner._backbone.linear.bias.data.fill_(torch.inf)
    with pytest.raises(PolicyFault, match="feature of the vision-language model"):
        policy.planner.plan(observe(policy.contract), instruction=TASKS[0])


def test_a_policy_without_a_world_model_runs_and_has_nothing_to_scale(tmp_path: Path) -> None:
    overrides = {"mm_layers": 0, "tail_layers": 6, "layout": HeadLayout.ACTION_ONLY, "mask_features": False}
    bundle = make_tiny_bundle(tmp_path / "b", "dust", robot=franka.layout(), overrides=overrides)
    policy = load_policy(bundle.directory)
    observation = observe(policy.contract)
    rows_of(policy, policy.planner.plan(observation, instruction=TASKS[0]), observation)
    assert policy.executor.prediction is None
    with pytest.raises(ConfigError, match="no world model"):
        policy.executor.configure(SamplerSettings(q=4))


def test_bfloat16_weights_keep_a_float32_state(bundle_dir: Path) -> None:
    rounded = load_policy(bundle_dir, dtype=torch.bfloat16)
    exact = load_policy(bundle_dir)
    observation = observe(exact.contract)
    rows = [
        rows_of(p, p.planner.plan(observation, instruction=TASKS[0]), observation) for p in (rounded, exact)
    ]
    assert rounded.executor._head.dtype is torch.bfloat16
    assert 0 < np.abs(rows[0] - rows[1])[:, :7].max() < 0.05


def test_the_planner_sees_what_the_executor_needs_and_the_payload_holds_no_mask(policy: LoadedPolicy) -> None:
    payload = policy.planner.plan(observe(policy.contract), instruction=TASKS[0]).payload
    assert FeatureKv(payload.k, payload.v).mask is None
