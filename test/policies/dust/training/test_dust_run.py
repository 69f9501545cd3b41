# SPDX-License-Identifier: Apache-2.0
"""`wam train dust` from a data set to a policy bundle: stages, ablations, baselines, cache, resume, bad input."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from wam.cli.main import run
from wam.core.errors import BundleError, ConfigError, InputError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.models.bundle import open_bundle, read_tensors
from wam.policies.bundles import load_policy
from wam.policies.dust.eagle import EagleBackbone
from wam.policies.dust.policy import check
from wam.policies.dust.readings import HeadLayout
from wam.policies.dust.training.config import DustTrainConfig
from wam.policies.dust.training.recipe import RECIPE
from wam.training.config_reading import parse_config, read_config
from wam.training.reports import read_losses
from wam.training.runner import RunResult, run_recipe

CAMERA = "observation.images.head"
SMALL_EAGLE = {"image_size": 28, "patch": 7, "vision_layers": 1, "language_layers": 1}


@pytest.fixture
def values(short_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a configuration that trains in a second."""
    return {
        "model": {
            "preset": "tiny",
            "overrides": {"mm_layers": 2, "tail_layers": 2, "eagle": dict(SMALL_EAGLE)},
        },
        "data": {"root": str(short_root), "cameras": [CAMERA], "feature_cache": str(tmp_path / "features")},
        "optim": {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32"},
        "run": {"out": str(tmp_path / "run"), "device": "cpu", "threads": 1, "tensorboard": False},
    }


def merged(values: dict[str, Any], **sections: dict[str, Any]) -> DustTrainConfig:
    raw = copy.deepcopy(values)
    for name, section in sections.items():
        raw[name] = {**raw.get(name, {}), **section}
    return parse_config(DustTrainConfig, raw)


def train_dust(config: DustTrainConfig, **options: Any) -> RunResult:
    return run_recipe(RECIPE, config, **options)


def weights_of(bundle: Path) -> dict[str, torch.Tensor]:
    return read_tensors(open_bundle(bundle).weights, prefix="")


def moves(bundle: Path) -> np.ndarray:
    """Run a bundle once through the seams."""
    policy = load_policy(bundle)
    c = policy.contract
    frames = {n: CameraFrame(n, 10**9, np.full((32, 32, 3), 90, np.uint8)) for n in c.camera_names}
    width = len(c.state_joints)
    state = RobotState(10**9, c.state_joints, np.zeros(width), np.zeros(width))
    seen = Observation(10**9, frames, state)
    context = policy.planner.plan(seen, instruction=Instruction(c.instruction))
    return policy.executor.act(policy.executor.route(seen, context=context), proprio=state).rows


def test_a_run_leaves_losses_a_checkpoint_and_a_bundle_that_acts(values: dict[str, Any]) -> None:
    config = merged(
        values, data={"binary_joints": ["joint2"], "validation_fraction": 0.5}, run={"validate_every": 2}
    )
    result = train_dust(config)
    rows = read_losses(result.losses)
    assert [r["step"] for r in rows] == [1, 2, 3, 4]
    assert all(r["loss_total"] == pytest.approx(r["loss_action"] + r["loss_world"], rel=1e-5) for r in rows)
    assert "validation_world" in rows[1]
    assert "validation_world" not in rows[0]
    assert result.finished
    assert result.plot.is_file()
    manifest = open_bundle(result.bundle).manifest
    assert manifest.action_joints == ("joint0", "joint1", "joint2")
    assert [c.name for c in manifest.cameras] == ["head"]
    assert manifest.model["binary_joints"] == ["joint2"]
    assert manifest.source["kind"] == "train dust joint"
    actions = moves(result.bundle)
    assert actions.shape == (16, 3)
    assert np.isfinite(actions).all()


def test_only_the_projection_and_the_head_learn(values: dict[str, Any]) -> None:
    first = train_dust(
        merged(values, run={"out": values["run"]["out"] + "0"}, optim={"steps": 1, "learning_rate": 1e-9})
    )
    result = train_dust(merged(values))
    before, after = weights_of(first.bundle), weights_of(result.bundle)
    changed = {n for n, t in after.items() if not torch.equal(t, before[n])}
    assert not any(n.startswith(("backbone.vision", "backbone.language", "backbone.mlp1")) for n in changed)
    assert {"backbone.linear.weight", "head.tail.a.0.to_q.weight", "head.vision_decoder.1.bias"} <= changed


def test_the_projection_stays_when_it_is_frozen(values: dict[str, Any]) -> None:
    result = train_dust(merged(values, model={"freeze_linear": True}))
    torch.manual_seed(0)
    backbone = EagleBackbone(check(open_bundle(result.bundle)).network.eagle, feature_width=48)
    assert torch.equal(weights_of(result.bundle)["backbone.linear.weight"], backbone.linear.weight)


def test_videos_alone_then_actions(values: dict[str, Any]) -> None:
    """The first stage reads no joints, leaves the actions' end of the network alone, and the second goes on from it."""
    out = Path(values["run"]["out"])
    videos = merged(
        values,
        objective={"kind": "action-free"},
        data={"state": None, "action": None, "joint_names": ["joint0", "joint1", "joint2"]},
        model={"embodiment": 1},
        run={"out": str(out) + "-videos"},
    )
    first = train_dust(videos)
    assert all(r["loss_action"] == 0 for r in read_losses(first.losses))
    fresh = train_dust(
        merged(
            values,
            model={"embodiment": 1},
            optim={"steps": 1, "learning_rate": 1e-12},
            run={"out": str(out) + "-0"},
        )
    )
    start, trained = weights_of(fresh.bundle), weights_of(first.bundle)
    changed = {n for n, t in trained.items() if (t - start[n]).abs().max() > 1e-9}
    assert not any(n.startswith(("head.action_decoder", "head.tail.a.", "head.out.a.")) for n in changed)
    assert {
        "head.vision_decoder.1.weight",
        "head.tail.o.0.to_q.weight",
        "head.action_encoder.W3.W",
    } <= changed

    second = {**values, "model": {"bundle": str(first.bundle)}}
    result = train_dust(merged(second, run={"out": str(out) + "-actions"}))
    bundle = open_bundle(result.bundle)
    assert check(bundle).embodiment == 1
    assert bundle.manifest.source["bundle"] == "bundle"
    assert np.isfinite(moves(result.bundle)).all()
    joint_start = read_losses(result.losses)[0]["loss_world"]
    scratch_start = read_losses(fresh.losses)[0]["loss_world"]
    assert joint_start < scratch_start


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("single stream", {"model": {"ablation": "single-stream"}}),
        ("joint noise", {"objective": {"joint_noise": True}}),
        ("depth", {"model": {"mm_layers": 3}}),
        ("lambda", {"objective": {"world_weight": 0.2}}),
        ("uniform times", {"objective": {"action_law": "uniform", "vision_law": "uniform"}}),
        ("alignment", {"objective": {"kind": "alignment", "alignment_layer": 2, "world_weight": 0.2}}),
        ("action only", {"objective": {"kind": "action-only"}}),
        (
            "every",
            {"model": {"overrides": {"conditioning": "every", "mm_layers": 2, "eagle": dict(SMALL_EAGLE)}}},
        ),
        ("scaled target", {"model": {"overrides": {"normalise_target": True, "eagle": dict(SMALL_EAGLE)}}}),
        ("pixels", {"data": {"feature_cache": None, "crop_and_jitter": True}}),
    ],
)
def test_every_ablation_and_baseline_trains_into_a_bundle_that_acts(values, name: str, sections) -> None:
    result = train_dust(merged(values, **sections, optim={"steps": 2, **sections.get("optim", {})}))
    rows = read_losses(result.losses)
    assert len(rows) == 2
    assert all(np.isfinite(list(r.values())).all() for r in rows)
    assert np.isfinite(moves(result.bundle)).all()
    network = check(open_bundle(result.bundle)).network
    expected = {
        "single stream": HeadLayout.SINGLE,
        "alignment": HeadLayout.ACTION_ONLY,
        "action only": HeadLayout.ACTION_ONLY,
    }
    assert network.layout is expected.get(name, HeadLayout.DUAL)
    assert (rows[0]["loss_world"] == 0) == (name == "action only")
    if name == "lambda":
        total = rows[0]["loss_action"] + 0.2 * rows[0]["loss_world"]
        assert rows[0]["loss_total"] == pytest.approx(total, rel=1e-5)
    if name == "depth":
        assert (network.mm_layers, network.tail_layers) == (3, 1)


def test_the_scale_of_the_target_comes_from_the_data(values: dict[str, Any]) -> None:
    overrides = {"normalise_target": True, "eagle": dict(SMALL_EAGLE)}
    tensors = weights_of(train_dust(merged(values, model={"overrides": overrides})).bundle)
    assert tensors["target.std"].min() > 0
    assert not torch.equal(tensors["target.std"], torch.ones_like(tensors["target.std"]))
    assert tensors["target.mean"].any()


def test_the_backbone_of_one_bundle_carries_the_head_of_another(values: dict[str, Any]) -> None:
    out = Path(values["run"]["out"])
    first = train_dust(merged(values, run={"out": str(out) + "-1"}))
    model = {"backbone": str(first.bundle), "overrides": {"style": "n1"}, "seed": 5}
    raw = {**values, "model": model}
    second = train_dust(merged(raw, optim={"steps": 1, "learning_rate": 1e-12}, run={"out": str(out) + "-2"}))
    one, two = weights_of(first.bundle), weights_of(second.bundle)
    for name in one:
        if name.startswith("backbone."):
            torch.testing.assert_close(two[name], one[name], atol=1e-9, rtol=0)
    assert not torch.equal(one["head.vision_encoder.0.weight"], two["head.vision_encoder.0.weight"])
    assert two["head.mm.0.a.ada.weight"].shape[0] == 2 * 48


def test_a_run_that_stopped_goes_on_as_if_it_had_not(values: dict[str, Any]) -> None:
    out = Path(values["run"]["out"])
    whole = train_dust(merged(values, run={"out": str(out) + "-whole"}))
    config = merged(values)
    halted = train_dust(config, until=2)
    assert not halted.finished
    with pytest.raises(ConfigError, match="holds checkpoints up to step_00000002"):
        train_dust(config)
    continued = train_dust(config, resume=True)
    assert continued.finished
    for name, tensor in weights_of(whole.bundle).items():
        assert torch.equal(tensor, weights_of(continued.bundle)[name]), name
    pairs = zip(read_losses(whole.losses), read_losses(continued.losses), strict=True)
    assert all(a["loss_total"] == b["loss_total"] for a, b in pairs)


def test_a_run_on_videos_resumes_though_the_actions_end_of_the_network_has_no_optimiser_state(
    values: dict[str, Any],
) -> None:
    """AdamW keeps nothing of a parameter without gradient, and loading its state refused a checkpoint without it."""
    out = Path(values["run"]["out"])
    videos = {"objective": {"kind": "action-free"}, "data": {"state": None, "action": None}}
    videos["data"]["joint_names"] = ["joint0", "joint1", "joint2"]
    whole = train_dust(merged(values, **videos, run={"out": str(out) + "-whole"}))
    train_dust(merged(values, **videos), until=2)
    resumed = train_dust(merged(values, **videos), resume=True)
    ends = [weights_of(result.bundle) for result in (whole, resumed)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_continued_run_must_keep_its_configuration(values: dict[str, Any]) -> None:
    train_dust(merged(values), until=1)
    with pytest.raises(ConfigError, match=r"objective\.world_weight: 1\.0 then, 0\.5 now"):
        train_dust(merged(values, objective={"world_weight": 0.5}), resume=True)
    checkpoint = Path(values["run"]["out"]) / "checkpoints" / "step_00000001"
    (checkpoint / "state.pt").write_bytes(b"no")
    with pytest.raises(BundleError, match=r"state\.pt is damaged"):
        train_dust(merged(values), resume=True)


# Bad input.


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"model": {"embodiment": 3}}, r"model\.embodiment: got 3; allowed: 0 \.\. 2"),
        ({"model": {"overrides": {"depth": 3}}}, r"unknown keys \['depth'\]"),
        ({"model": {"mm_layers": 40}}, "mm_layers=40"),
        ({"model": {"preset": "huge"}}, "no preset 'huge'"),
        ({"data": {"joint_names": ["a", "b"]}}, "2 names; allowed: 3"),
        ({"data": {"binary_joints": ["thumb"]}}, r"binary_joints: got \['thumb'\]"),
        ({"objective": {"kind": "alignment", "alignment_layer": 9}}, "alignment_layer=9"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(values, sections, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        train_dust(merged(values, **sections))
    assert not (Path(values["run"]["out"]) / "checkpoints").exists()


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"data": {"crop_and_jitter": True}}, r"data\.crop_and_jitter"),
        ({"data": {"action": None}}, r"data\.action, data\.state"),
        ({"objective": {"kind": "action-free", "world_weight": 0.0}}, r"objective\.world_weight"),
        ({"objective": {"kind": "video"}}, r"objective\.kind: got 'video'"),
        ({"model": {"bundle": "x", "overrides": {"hidden": 3}}}, r"model\.overrides"),
        ({"model": {"bundle": "x", "backbone": "y", "overrides": {}}}, r"model\.backbone"),
        ({"model": {"instruction_template": "go"}}, r"model\.instruction_template"),
        ({"optim": {"video_weight": 1.0}}, r"unknown key optim\.video_weight"),
        ({"optim": {"batch_size": 0}}, r"optim\.batch_size"),
        ({"data": {"crop": 1.5}}, r"data\.crop"),
        ({"data": {"cameras": []}}, r"data\.cameras"),
    ],
)
def test_an_illegal_configuration_names_its_key(values, sections, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        merged(values, **sections)


def test_a_bundle_of_another_kind_or_camera_count_is_refused(values, tmp_path: Path) -> None:
    first = train_dust(merged(values))
    raw = {**values, "model": {"bundle": str(first.bundle)}}
    two = {"cameras": [CAMERA, CAMERA], "camera_names": ["a", "b"]}
    with pytest.raises(ConfigError, match=r"2 data\.cameras; allowed: 1"):
        train_dust(merged(raw, data=two, run={"out": str(tmp_path / "other")}))
    with pytest.raises(ConfigError, match="allowed: joint or action-free"):
        train_dust(merged(raw, objective={"kind": "action-only"}, run={"out": str(tmp_path / "other")}))
    manifest = first.bundle / "policy.yaml"
    manifest.write_text(manifest.read_text().replace("kind: dust", "kind: aha_wam", 1))
    with pytest.raises(BundleError, match="kind: got 'aha_wam'"):
        train_dust(merged(raw, run={"out": str(tmp_path / "other")}))


def test_an_instruction_that_is_too_long_is_refused_before_training(values) -> None:
    with pytest.raises(InputError, match=r"prompt of \d+ tokens"):
        train_dust(merged(values, model={"text": {"kind": "hash", "max_tokens": 12}}))


def test_the_shipped_configuration_is_legal() -> None:
    path = Path(__file__).parents[4] / "config" / "training" / "dust_tiny_g1.yaml"
    config = read_config(
        DustTrainConfig, path, ["data.root=d", "optim.steps=7", "objective.kind=action-free"]
    )
    assert config.optim.steps == 7
    assert yaml.safe_load(path.read_text())["optim"]["steps"] == 2000


def test_the_command_runs_a_configuration_and_importing_it_does_not_need_torch(
    values, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    command = ["train", "dust", "--config", str(path), "--set", "optim.steps=2"]
    assert run([*command, "--until", "1"]) == 0
    assert "stopped, continue with --resume at step 1" in " ".join(capsys.readouterr().out.split())
    assert run([*command, "--resume"]) == 0
    assert "finished at step 2" in " ".join(capsys.readouterr().out.split())
    code = "import sys, wam.cli.train, wam.cli.distill; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
