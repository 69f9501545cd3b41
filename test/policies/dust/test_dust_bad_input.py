# SPDX-License-Identifier: Apache-2.0
"""Bundles and settings that cannot work are refused when a policy is activated, each with its name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from wam.core.errors import BundleError, ConfigError, ImageError, InputError
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.dust import franka
from wam.policies.dust.config import tiny
from wam.policies.dust.prompt import HashTokenizer, Prompter, prompt_text
from wam.policies.dust.schedule import SamplerSettings
from wam.policies.dust.views import prepare_views


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("dust") / "bundle"
    return make_tiny_bundle(directory, "dust", robot=franka.layout()).directory


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "bundle"))


def edit(bundle: Path, **sections: Any) -> None:
    """Change keys of policy.yaml; a mapping changes keys inside its section."""
    path = bundle / "policy.yaml"
    raw = yaml.safe_load(path.read_text())
    for name, value in sections.items():
        raw[name] = {**raw[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(raw))


CAMERA = {"name": "side", "height": 56, "width": 56}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "an embodiment that the network does not have": (
        {"model": {"embodiment": 3}},
        r"model.embodiment: got 3; allowed: 0 .. 2",
    ),
    "an embodiment that is no number": ({"model": {"embodiment": "franka"}}, "model.embodiment"),
    "one camera less than in training": ({"cameras": [CAMERA]}, r"1 cameras \['side'\]; allowed: 2"),
    "an image size of another tower": (
        {"cameras": [CAMERA, {**CAMERA, "name": "wrist", "width": 64}]},
        "camera 'wrist': got '56 x 64'; allowed: 56 x 56",
    ),
    "more action joints than the network has values": (
        {"model": {"action_dim": 7}},
        "8 action_joints; allowed: at most 7",
    ),
    "more state joints than the network has values": (
        {"model": {"state_dim": 7}},
        "8 state_joints; allowed: at most 7",
    ),
    "no evaluations per move": ({"sampler": {"q": 0}}, r"sampler.q: got 0; allowed: an integer of 1 or more"),
    "a negative number of moves": ({"sampler": {"action_steps": -4}}, "sampler.action_steps: got -4"),
    "half a move": ({"sampler": {"action_steps": 2.5}}, "sampler.action_steps: got 2.5"),
    "an unknown rule": (
        {"sampler": {"rule": "middle"}},
        r"sampler.rule: got 'middle'; allowed: \['end', 'start'\]",
    ),
    "an unknown sampler key": ({"sampler": {"steps": 4}}, r"unknown keys \['steps'\]"),
    "an instruction of too many tokens": ({"text": {"max_tokens": 20}}, "prompt of .* tokens"),
    "an instruction with a control token": ({"instruction": "pick <img> up"}, "text without"),
    "a limit that is none": ({"text": {"max_tokens": 0}}, "text.max_tokens"),
    "an unknown tokenizer": ({"text": {"kind": "words"}}, "text.kind: got 'words'; allowed: hash or bpe"),
    "a tokenizer that is not there": ({"text": {"kind": "bpe"}}, "tokenizer.json is missing"),
    "a binary joint that does not exist": (
        {"model": {"binary_joints": ["thumb"]}},
        r"binary_joints: got \['thumb'\]",
    ),
    "a crop of nothing": ({"model": {"crop": 0.0}}, "model.crop: got 0.0"),
    "an unknown key of the network": ({"model": {"depth": 3}}, r"unknown keys \['depth'\]"),
    "an unknown reading": ({"model": {"style": "mmdit"}}, "'mmdit' is not a valid BlockStyle"),
    "another depth than the weights have": ({"model": {"mm_layers": 5}}, "the weights do not fit .* missing"),
    "another width than the weights have": ({"model": {"hidden": 97}}, "of another shape"),
    "another precision than the weights have": ({"dtype": "bfloat16"}, "stored as F32"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_is_refused_with_the_place_and_what_is_allowed(broken: Path, case: str) -> None:
    changes, text = CASES[case]
    edit(broken, **changes)
    with pytest.raises(BundleError, match=text):
        load_policy(broken)


def test_a_missing_and_an_extra_tensor_are_named(broken: Path) -> None:
    path = broken / "model.safetensors"
    tensors = load_file(path)
    tensors["head.mm.9.a.to_q.weight"] = tensors.pop("head.mm.1.o.to_v.bias")
    save_file(tensors, path)
    with pytest.raises(
        BundleError, match=r"1 missing .*head\.mm\.1\.o\.to_v\.bias.* 1 unexpected .*mm\.9\.a"
    ):
        load_policy(broken)


def test_statistics_of_another_action_width_are_refused(broken: Path) -> None:
    edit(broken, action_joints=list(franka.ARM_JOINTS), model={"binary_joints": []})
    with pytest.raises(BundleError, match=r"has shape \(8,\); allowed: \(7,\)"):
        load_policy(broken)


@pytest.mark.parametrize(
    "values", [{"q": 0}, {"q": -1}, {"action_steps": 0}, {"q": True}, {"q": 2000, "action_steps": 4}]
)
def test_a_sampler_that_cannot_be_is_refused_at_run_time_too(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sampler"):
        SamplerSettings(**values)


def test_a_longer_instruction_is_refused_when_it_comes_and_the_planner_lives_on(sound: Path) -> None:
    config = tiny()
    prompter = Prompter(
        HashTokenizer(config.eagle),
        template="{task}",
        images=2,
        image_tokens=config.eagle.image_tokens,
        max_tokens=60,
    )
    assert prompter("pick up the cube").shape[1] <= 60
    with pytest.raises(InputError, match="allowed: at most 60 tokens, 8 of them images"):
        prompter("pick " * 40)
    assert prompter("pick up the cube").shape[1] <= 60


def test_a_control_token_in_an_instruction_is_refused() -> None:
    for token in ("<IMG_CONTEXT>", "<|im_end|>", "</img>"):
        with pytest.raises(InputError, match="text without"):
            prompt_text(f"pick {token} up", images=1, image_tokens=4)


def test_an_image_that_is_too_small_to_crop_is_named() -> None:
    with pytest.raises(ImageError, match="'side'"):
        prepare_views({"side": np.zeros((1, 8, 3), np.uint8)}, ["side"], size=(28, 28), crop=0.95)


def test_a_damaged_tokenizer_is_named(broken: Path) -> None:
    (broken / "tokenizer").mkdir()
    (broken / "tokenizer" / "tokenizer.json").write_text("{")
    edit(broken, text={"kind": "bpe"})
    with pytest.raises(BundleError, match=r"tokenizer\.json is damaged"):
        load_policy(broken)
