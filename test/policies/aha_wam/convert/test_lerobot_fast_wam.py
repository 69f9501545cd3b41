# SPDX-License-Identifier: Apache-2.0
"""A Fast-WAM that LeRobot saved becomes a bundle that does the same, or is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from wam.cli.convert import app
from wam.core.errors import BundleError
from wam.models.normalisation import NormMode
from wam.models.text import HashTextEncoder
from wam.policies.aha_wam.config import AhaWamConfig, fast_wam, tiny
from wam.policies.aha_wam.convert.aha_wam import add_text_embeddings
from wam.policies.aha_wam.convert.lerobot import convert_lerobot_fast_wam, rename
from wam.policies.aha_wam.convert.source import ConversionOptions
from wam.policies.aha_wam.initialise import random_model, random_vae
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.policy import config_of, expected_shapes
from wam.policies.bundles import load_policy

FAST = {
    name: getattr(fast_wam(), name)
    for name in ("queries", "memory_window", "chunk_rows", "horizon_rows", "proprio_in_planner")
}
CONFIG = replace(tiny(), **FAST, first_frame_causal=True, state_dim=8, action_dim=7)
JOINTS = tuple(f"joint{i}" for i in range(8))
OPTIONS = ConversionOptions(vae=CONFIG.vae, instruction="fold the towel")


def theirs(name: str) -> str:
    """Return LeRobot's name of one of our tensors."""
    if name.startswith("proprio."):
        return name.replace("proprio.", "model.proprio_encoder.")
    block = re.fullmatch(r"(video|action)\.blocks\.(\d+)\.(.+)", name)
    if block:
        return f"model.mot.layers.{block[2]}.blocks.{block[1]}.{block[3]}"
    return f"model.mot.mixtures.{name}"


def before_layers(name: str) -> str:
    """Return the name that the files had before a layer owned the blocks of both experts."""
    return re.sub(r"layers\.(\d+)\.blocks\.(video|action)", r"mixtures.\2.blocks.\1", name)


def feature(kind: str, *shape: int) -> dict[str, Any]:
    return {"type": kind, "shape": list(shape)}


def policy_config(c: AhaWamConfig) -> dict[str, Any]:
    """Return the part of config.json that LeRobot 0.6.1 writes and that says something about the policy."""
    each = c.image_width // 2
    expert = {"num_heads": c.video.heads, "attn_head_dim": c.video.head_dim, "num_layers": c.video.layers}
    scheduler = {"train_shift": 5.0, "infer_shift": 5.0, "num_train_timesteps": 1000}
    return {
        "type": "fastwam",
        "n_obs_steps": 1,
        "input_features": {
            "observation.images.top": feature("VISUAL", 3, c.image_height, each),
            "observation.images.arm": feature("VISUAL", 3, c.image_height, each),
            "observation.state": feature("STATE", c.state_dim),
        },
        "output_features": {"action": feature("ACTION", c.action_dim)},
        "use_peft": False,
        "action_dim": c.action_dim,
        "proprio_dim": c.state_dim,
        "action_horizon": c.chunk_rows,
        "n_action_steps": 10,
        "image_size": [c.image_height, c.image_width],
        "context_len": c.context_len,
        "torch_dtype": "bfloat16",
        "prompt_template": "Do this: {task}",
        "num_inference_steps": 6,
        "inference_seed": 7,
        "text_cfg_scale": 1.0,
        "sigma_shift": None,
        "toggle_action_dimensions": [],
        "video_scheduler": scheduler,
        "action_scheduler": {**scheduler, "infer_shift": 3.0},
        "video_dit_config": {
            **expert,
            "video_attention_mask_mode": "first_frame_causal",
            "action_conditioned": False,
        },
        "action_dit_config": dict(expert),
    }


def pipeline(step: str, file: str, *more: dict[str, Any]) -> dict[str, Any]:
    norms = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    return {
        "steps": [
            {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
            {"registry_name": step, "config": {"eps": 1e-8, "norm_map": norms}, "state_file": file},
            {"registry_name": "device_processor", "config": {"device": "cpu"}},
            *more,
        ]
    }


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def model() -> AhaWam:
    torch.set_num_threads(1)
    return random_model(CONFIG, seed=3)


@pytest.fixture
def folder(tmp_path: Path, model: AhaWam) -> Path:
    """Return the layout that `save_pretrained` of LeRobot 0.6.1 writes, with a tiny network."""
    made = tmp_path / "pretrained_model"
    made.mkdir()
    weights = {theirs(n): t.contiguous() for n, t in model.state_dict().items() if n != "branch_embedding"}
    save_file(weights, made / "model.safetensors")
    write(made / "config.json", policy_config(CONFIG))
    stats: dict[str, torch.Tensor] = {}
    for name, width in (("observation.state", 8), ("action", 7)):
        ramp = torch.linspace(0.1, 0.5, width)
        for one, value in (("mean", ramp), ("std", 2 * ramp), ("min", -ramp), ("max", ramp)):
            stats[f"{name}.{one}"] = value.clone()
        stats[f"{name}.count"] = torch.tensor([100.0])
    for order, step in (("pre", "normalizer_processor"), ("post", "unnormalizer_processor")):
        file = f"policy_{order}processor_step_1_{step}.safetensors"
        write(made / f"policy_{order}processor.json", pipeline(step, file))
        save_file(stats, made / file)
    return made


def converted(folder: Path, out: Path, **keywords: Any) -> Any:
    given = {
        "state_joints": JOINTS,
        "action_joints": JOINTS[:7],
        "control_rate": 20.0,
        "options": OPTIONS,
        **keywords,
    }
    return convert_lerobot_fast_wam(folder, out, **given)


def test_the_bundle_has_the_tensors_the_sampler_and_the_statistics(
    tmp_path: Path, folder: Path, model: AhaWam
) -> None:
    vae = tmp_path / "vae.safetensors"
    save_file(random_vae(CONFIG.vae, seed=5), vae)
    bundle = converted(folder, tmp_path / "out", vae=vae)
    assert config_of(bundle.manifest) == replace(CONFIG, infer_shift=3.0)
    assert bundle.manifest.control_period_ns == 50_000_000
    assert dict(bundle.manifest.sampler) == {"steps": 6, "seed": 7}
    assert bundle.manifest.instruction_template == "Do this: {task}"
    assert bundle.manifest.source["n_action_steps"] == 10
    assert bundle.manifest.action_norm is NormMode.Z_SCORE
    np.testing.assert_allclose(bundle.stats.action.values["std"], np.linspace(0.2, 1.0, 7), rtol=1e-6)
    np.testing.assert_allclose(bundle.stats.state.values["mean"], np.linspace(0.1, 0.5, 8), rtol=1e-6)
    encoder = HashTextEncoder(text_len=CONFIG.context_len, width=CONFIG.text_dim)
    add_text_embeddings(bundle.directory, ["fold the towel"], encoder, encoder_name="hash")
    policy = load_policy(bundle.directory)
    loaded = {**policy.planner.model.state_dict(), **policy.executor.model.state_dict()}
    for name, tensor in model.state_dict().items():
        want = torch.zeros_like(tensor) if name == "branch_embedding" else tensor
        assert torch.equal(loaded[name], want), name


def test_images_lie_side_by_side_in_the_order_of_their_names(tmp_path: Path, folder: Path) -> None:
    own = converted(folder, tmp_path / "own").manifest.cameras
    assert [(c.name, c.left, c.width) for c in own] == [("arm", 0, 32), ("top", 32, 32)]
    named = converted(folder, tmp_path / "named", cameras=("wrist", "head")).manifest.cameras
    assert [c.name for c in named] == ["wrist", "head"]
    with pytest.raises(BundleError, match="1 names for the images arm, top"):
        converted(folder, tmp_path / "bad", cameras=("head",))


def test_one_image_may_be_a_released_composite(tmp_path: Path, folder: Path) -> None:
    config = policy_config(CONFIG)
    config["input_features"] = {"observation.images.image": feature("VISUAL", 3, 96, 64)}
    write(folder / "config.json", config)
    cameras = converted(folder, tmp_path / "out", cameras=("head", "left", "right")).manifest.cameras
    assert [(c.name, c.top, c.left) for c in cameras] == [("head", 0, 0), ("left", 64, 0), ("right", 64, 32)]


def test_files_from_before_layers_owned_their_blocks_give_the_same_bundle(
    tmp_path: Path, folder: Path
) -> None:
    new = converted(folder, tmp_path / "new")
    weights = load_file(folder / "model.safetensors")
    save_file({before_layers(n): t for n, t in weights.items()}, folder / "model.safetensors")
    old = converted(folder, tmp_path / "old")
    assert old.contract.contract_hash == new.contract.contract_hash


def test_the_names_of_the_full_size_network_are_all_covered() -> None:
    want = {n: s for n, s in expected_shapes(fast_wam()).items() if n != "branch_embedding"}
    assert len(want) == 1651
    named = {theirs(n): torch.empty(s, device="meta") for n, s in want.items()}
    assert {n: tuple(t.shape) for n, t in rename(named).items()} == want


@pytest.mark.parametrize(("mode", "norm"), [("MIN_MAX", NormMode.MIN_MAX), ("MEAN_STD", NormMode.Z_SCORE)])
def test_the_processors_decide_how_an_action_is_normalised(
    tmp_path: Path, folder: Path, mode: str, norm: NormMode
) -> None:
    edit(folder, "policy_postprocessor.json", "steps", 1, "config", "norm_map", "ACTION", to=mode)
    assert converted(folder, tmp_path / "out").manifest.action_norm is norm


def edit(folder: Path, file: str, *keys: str | int, to: object) -> None:
    raw = at = json.loads((folder / file).read_text())
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = to
    write(folder / file, raw)


def config(*keys: str | int, to: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "config.json", *keys, to=to)


def before(*keys: str | int, to: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "policy_preprocessor.json", *keys, to=to)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def drop_mean(folder: Path) -> None:
    file = folder / "policy_preprocessor_step_1_normalizer_processor.safetensors"
    stats = load_file(file)
    del stats["observation.state.mean"]
    save_file(stats, file)


LAYER = "model.mot.layers.1.blocks.action.norm3.bias"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "another policy": (config("type", to="pi05"), r"type.*pi05"),
    "a toggled gripper": (config("toggle_action_dimensions", to=[-1]), "toggle_action_dimensions"),
    "no state": (config("proprio_dim", to=None), "proprio_dim"),
    "an adapter": (config("use_peft", to=True), "merge the adapter"),
    "guidance": (config("text_cfg_scale", to=3.0), "text_cfg_scale"),
    "another video mask": (
        config("video_dit_config", "video_attention_mask_mode", to="bidirectional"),
        "video_attention_mask_mode",
    ),
    "actions shown to the video": (config("video_dit_config", "action_conditioned", to=True), "action_cond"),
    "no horizon": (config("action_horizon", to="32"), "action_horizon"),
    "no images": (config("input_features", to={}), "input_features"),
    "a missing key": (config("video_dit_config", to={}), "lacks video_dit_config"),
    "a tensor is missing": (weights(lambda t: t.pop(LAYER)), r"action\.blocks\.1\.norm3\.bias"),
    "a tensor is unknown": (
        weights(lambda t: t.update({"model.vae.x": torch.zeros(1)})),
        r"does not have.*model\.vae\.x",
    ),
    "a tensor stands twice": (
        weights(lambda t: t.update({before_layers(LAYER): torch.zeros(48)})),
        "or has twice",
    ),
    "another shape": (weights(lambda t: t.update({LAYER: torch.zeros(9)})), r"norm3\.bias is \(9,\), not"),
    "two precisions": (weights(lambda t: t.update({LAYER: t[LAYER].half()})), "float16"),
    "another step": (before("steps", 0, "registry_name", to="tokenizer_processor"), "tokenizer_processor"),
    "no normaliser": (before("steps", to=[]), "0 steps normalizer_processor"),
    "normalised images": (before("steps", 1, "config", "norm_map", "VISUAL", to="MEAN_STD"), "VISUAL"),
    "a state as it is": (before("steps", 1, "config", "norm_map", "STATE", to="IDENTITY"), "norm_map.STATE"),
    "another epsilon": (before("steps", 1, "config", "eps", to=0.1), "config.eps"),
    "statistics without a mean": (drop_mean, "observation.state lacks 'mean'"),
    "no processor": (lambda folder: (folder / "policy_postprocessor.json").unlink(), "postprocessor.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_carried_over_is_refused_by_name(tmp_path: Path, folder: Path, name: str) -> None:
    spoil, text = BAD[name]
    spoil(folder)
    with pytest.raises(BundleError, match=text):
        converted(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_toggle_step_that_toggles_nothing_is_no_obstacle(tmp_path: Path, folder: Path) -> None:
    step = {"registry_name": "fastwam_action_toggle_processor", "config": {"toggle_dimensions": []}}
    file = "policy_postprocessor_step_1_unnormalizer_processor.safetensors"
    write(folder / "policy_postprocessor.json", pipeline("unnormalizer_processor", file, step))
    converted(folder, tmp_path / "out")
    step["config"] = {"toggle_dimensions": [-1]}
    write(folder / "policy_postprocessor.json", pipeline("unnormalizer_processor", file, step))
    with pytest.raises(BundleError, match="no other step can be carried over"):
        converted(folder, tmp_path / "again")


def test_joint_names_are_never_guessed(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BundleError, match="7 action values for 8 joint names"):
        converted(folder, tmp_path / "out", action_joints=JOINTS)


def test_the_command_converts_and_says_what_is_missing(tmp_path: Path, folder: Path) -> None:
    options = tmp_path / "options.yaml"
    vae = {"base_dim": 8, "decoder_base_dim": 8}
    options.write_text(json.dumps({"vae": vae}))
    command = ["lerobot-fastwam", str(folder), str(tmp_path / "out"), "--control-rate", "20"]
    command += ["--state-joints", ",".join(JOINTS), "--action-joints", ",".join(JOINTS[:7])]
    result = CliRunner().invoke(app, [*command, "--options", str(options), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["source"]["images"] == "arm, top"
    assert facts["lacks"] == ["the VAE (wam convert add-vae)", "text embeddings (wam convert add-text)"]
    assert CliRunner().invoke(app, command[:3]).exit_code == 2
