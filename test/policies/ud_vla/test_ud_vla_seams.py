# SPDX-License-Identifier: Apache-2.0
"""A tiny UD-VLA bundle of a UR5e with an Inspire hand behind planner and executor, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from wam.bench.policy import synthetic_observation
from wam.core.errors import (
    BundleError,
    ConfigError,
    ImageError,
    InputError,
    PolicyFault,
    StaleContext,
    UndecodableChunk,
)
from wam.core.observation import Instruction
from wam.core.policy import Imagining
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.ud_vla import ur5e
from wam.policies.ud_vla.config import MaskMode, preset
from wam.policies.ud_vla.contents import require_mask
from wam.policies.ud_vla.decoder import UdVlaDecoder
from wam.policies.ud_vla.fast import FILE_NAME, plain
from wam.policies.ud_vla.jd3p import Jd3pSettings, UnmaskRule

GO = Instruction("put the block into the bowl")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("ud_vla") / "bundle"
    make_tiny_bundle(path, "ud_vla", robot=ur5e.layout())
    return path


@pytest.fixture(scope="module")
def policy(directory):
    return load_policy(directory)


@pytest.fixture
def copy(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "copy")
    return tmp_path / "copy"


def seen(policy, *, rows=0, seed=1):
    return synthetic_observation(
        policy.contract, stamp_ns=10**9 + rows * policy.contract.control_period_ns, seed=seed
    )


def edit(directory, **changes):
    path = directory / "policy.yaml"
    raw = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            raw[section][name] = value
        else:
            raw[section] = value
    path.write_text(yaml.safe_dump(raw))


def test_paper_preset_has_the_published_number_of_parameters():
    with torch.device("meta"):
        decoder = UdVlaDecoder(preset("paper"))
    assert sum(p.numel() for p in decoder.parameters()) == 8_492_011_520


def test_the_robot_has_six_arm_and_six_hand_joints_and_chunks_of_eight_rows_at_15_hz(policy):
    contract = policy.contract
    assert len(contract.action_joints) == 12
    assert contract.camera_names == ("static", "wrist")
    assert (contract.chunk_rows, contract.control_period_ns) == (8, 66_666_666)


def test_a_chunk_comes_through_context_bytes_and_stays_inside_the_statistics(policy):
    for seed in range(5):
        now = seen(policy, seed=seed)
        context = policy.planner.plan(now, instruction=GO)
        specs = policy.codec.specs(context.payload)
        buffer = bytearray(max(s.byte_offset for s in specs) + 2**20)
        policy.codec.write(context.payload, memoryview(buffer))
        read = replace(context, payload=policy.codec.read(specs, memoryview(buffer)))
        chunk = policy.executor.act(policy.executor.route(now, context=read), proprio=now.state)
        again = policy.executor.act(policy.executor.route(now, context=context), proprio=now.state)
        assert np.array_equal(chunk.rows, again.rows)
        assert chunk.rows.shape == (8, 12)
        centre, spread = np.array(ur5e.layout().centre), np.array(ur5e.layout().spread)
        assert (np.abs(chunk.rows - centre) <= 3 * spread + 1e-9).all()


def test_rows_that_the_observation_has_overtaken_are_left_out(policy):
    start, later = seen(policy), seen(policy, rows=3)
    context = policy.planner.plan(start, instruction=GO)
    chunk = policy.executor.act(policy.executor.route(later, context=context), proprio=later.state)
    assert chunk.rows.shape == (5, 12)
    assert chunk.stamp_ns == later.stamp_ns
    assert chunk.phase_offset_rows == 3
    with pytest.raises(StaleContext, match="8 rows old"):
        policy.executor.route(seen(policy, rows=8), context=context)


def test_the_imagined_images_have_the_size_of_the_cameras(policy):
    now = seen(policy)
    context = policy.planner.plan(now, instruction=GO)
    policy.executor.act(policy.executor.route(now, context=context), proprio=now.state)
    assert isinstance(policy.executor, Imagining)
    imagination = policy.executor.imagination
    frames = [imagination.frame(name) for name in policy.contract.camera_names]
    assert {frame.camera: frame.rgb.shape for frame in frames} == {
        "static": (32, 32, 3),
        "wrist": (16, 16, 3),
    }
    assert imagination.frame("elbow") is None
    expected_ns = now.stamp_ns + 8 * policy.contract.control_period_ns
    assert {frame.stamp_ns for frame in frames} == {expected_ns} == {imagination.target_stamp_ns}


def test_a_chunk_that_decodes_badly_is_refused_and_not_clamped(policy, monkeypatch):
    now = seen(policy)
    context = policy.planner.plan(now, instruction=GO)
    routed = policy.executor.route(now, context=context)
    # Every token near the middle of the policy's vocabulary is a large coefficient in this one.
    monkeypatch.setattr(policy.executor, "_fast", plain(limit=16, scale=16 / 8**0.5))
    with pytest.raises(UndecodableChunk, match="the sampled tokens do not decode to an action"):
        policy.executor.act(routed, proprio=now.state)
    assert policy.executor.imagination is None


def test_weights_that_are_not_finite_are_refused(directory):
    broken = load_policy(directory)
    with torch.no_grad():
        broken.planner._decoder.lm.model.layers[1].self_attn.k_proj.weight[0, 0] = float("nan")
    with pytest.raises(PolicyFault, match="key of the prefix of layer 1 is not finite"):
        broken.planner.plan(seen(broken), instruction=GO)


def test_the_number_of_steps_and_the_rule_change_between_two_chunks(policy):
    now = seen(policy)
    context = policy.planner.plan(now, instruction=GO)
    routed, before = policy.executor.route(now, context=context), policy.executor.settings
    for settings in (Jd3pSettings(steps=1), Jd3pSettings(steps=20, rule=UnmaskRule.PAPER)):
        policy.executor.configure(settings)
        assert policy.executor.act(routed, proprio=now.state).rows.shape == (8, 12)
    policy.executor.configure(before)


def test_a_policy_of_the_released_mask_hands_over_no_keys_and_still_acts(copy):
    edit(copy, model__mask="released")
    policy = load_policy(copy)
    now = seen(policy)
    context = policy.planner.plan(now, instruction=GO)
    assert context.payload.k.shape[0] == 0
    chunk = policy.executor.act(policy.executor.route(now, context=context), proprio=now.state)
    assert chunk.rows.shape == (8, 12)


def test_a_checkpoint_trained_with_the_other_mask_is_refused():
    with pytest.raises(ConfigError, match="another attention mask: got 'released'; allowed: hybrid"):
        require_mask(preset("tiny"), MaskMode.RELEASED)


def test_another_action_tokenizer_is_refused(copy):
    (copy / FILE_NAME).write_text(plain(limit=32, scale=3.0).to_json())
    with pytest.raises(BundleError, match="another action tokenizer"):
        load_policy(copy)


def test_images_whose_sides_are_no_multiples_of_eight_are_refused(copy, policy):
    raw = yaml.safe_load((copy / "policy.yaml").read_text())
    raw["cameras"][0]["height"] = 30
    edit(copy, cameras=raw["cameras"])
    with pytest.raises(BundleError, match="'static': the sides are not multiples of 8: got '30 x 32'"):
        load_policy(copy)
    with pytest.raises(ImageError, match="multiples of 8"):
        policy.planner._vision.encode(np.zeros((9, 9, 3), dtype=np.uint8), height=12, width=16)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sampler__steps": 0}, r"sampler\.steps: got 0; allowed: an integer of 1 or more"),
        ({"sampler__rule": "best"}, r"sampler\.rule: got 'best'"),
        ({"model__mask": "causal"}, "hybrid or released"),
        ({"model__heads": 3}, "does not divide into 3 heads"),
        ({"model__layers": 4}, "weights do not fit"),
        ({"model__max_positions": 60}, "max_positions"),
        ({"instruction": "x" * 200}, "instruction has 201 tokens"),
        ({"text__kind": "ranks"}, "policy.yaml: text"),
    ],
)
def test_an_illegal_bundle_is_refused_by_name(copy, changes, text):
    edit(copy, **changes)
    with pytest.raises(BundleError, match=text):
        load_policy(copy)


def test_a_missing_camera_and_a_long_instruction_are_refused(policy):
    now = seen(policy)
    with pytest.raises(InputError, match="the instruction has 251 tokens"):
        policy.planner.plan(now, instruction=Instruction("y" * 250))
    blind = replace(now, frames={"static": now.frames["static"]})
    with pytest.raises(ImageError, match="no image of camera 'wrist'"):
        policy.planner.plan(blind, instruction=GO)


def test_the_bundle_says_its_sizes_in_plain_yaml(directory):
    raw = yaml.safe_load((directory / "policy.yaml").read_text())
    assert raw["model"]["tokens"]["vocab_size"] == 394
    assert json.loads((directory / FILE_NAME).read_text())["vocab_size"] == 65
