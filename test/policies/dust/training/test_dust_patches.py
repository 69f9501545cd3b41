# SPDX-License-Identifier: Apache-2.0
"""The vision that learns with the head: what it sees, what it trains, and the bundle it leaves."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wam.core.errors import BundleError, ConfigError, InputError
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.models.bundle import open_bundle, read_tensors
from wam.models.normalisation import NormMode
from wam.policies.bundles import load_policy
from wam.policies.dust.config import DustConfig, PatchConfig, tiny
from wam.policies.dust.patches import PatchBackbone, mean_colours
from wam.policies.dust.policy import check, make_tiny
from wam.policies.dust.training.config import DustTrainConfig
from wam.policies.dust.training.recipe import RECIPE
from wam.training.config_reading import parse_config
from wam.training.reports import read_losses
from wam.training.runner import RunResult, run_recipe

CAMERA = "observation.images.head"
SMALL = {"height": 32, "width": 48, "cell": 8, "channels": 16, "layers": 1, "heads": 2}


@pytest.fixture
def values(short_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a configuration that trains in a second."""
    return {
        "model": {
            "preset": "tiny",
            "overrides": {
                "mm_layers": 2,
                "tail_layers": 2,
                "embodiments": 1,
                "normalise_target": True,
                "patches": dict(SMALL),
            },
        },
        "data": {
            "root": str(short_root),
            "cameras": [CAMERA],
            "crop": 1.0,
            "relative_actions": True,
            "augment": {"shift": 2, "colour": 0.1, "state_noise": 0.05},
            "validation_fraction": 0.5,
        },
        "optim": {
            "steps": 4,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "precision": "float32",
            "average": 0.9,
        },
        "run": {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "threads": 1,
            "validate_every": 4,
            "tensorboard": False,
        },
    }


def trained(values: dict[str, Any], *, until: int | None = None, **changes: Any) -> RunResult:
    """Run with `section__key` replaced."""
    raw = copy.deepcopy(values)
    for name, value in changes.items():
        if name != "resume":
            section, key = name.split("__")
            raw[section][key] = value
    config = parse_config(DustTrainConfig, raw)
    return run_recipe(RECIPE, config, until=until, resume=bool(changes.get("resume")))


def weights_of(bundle: Path | None) -> dict[str, torch.Tensor]:
    assert bundle is not None
    return read_tensors(open_bundle(bundle).weights, prefix="")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def network(views: int = 1) -> DustConfig:
    return replace(tiny(), views=views, patches=PatchConfig(**SMALL))


def test_the_whole_vision_learns_and_the_bundle_acts_from_where_the_arm_is(values: dict[str, Any]) -> None:
    start = trained(values, optim__steps=1, optim__learning_rate=1e-12, run__out=values["run"]["out"] + "0")
    result = trained(values)
    before, after = weights_of(start.bundle), weights_of(result.bundle)
    kept = {n for n in after if n.startswith("backbone.") and torch.allclose(after[n], before[n], atol=1e-9)}
    assert not kept
    bundle = open_bundle(result.bundle)
    assert bundle.manifest.relative_actions
    assert bundle.manifest.action_norm is NormMode.Z_SCORE
    assert [(c.height, c.width) for c in bundle.manifest.cameras] == [(32, 48)]
    policy = load_policy(result.bundle)
    assert policy.planner is not None
    assert policy.executor is not None
    image = CameraFrame("head", 10, np.full((48, 64, 3), 90, np.uint8))
    scale = bundle.stats.action.values
    for place in (0.0, 0.5):
        state = RobotState(10, policy.contract.state_joints, np.full(3, place), np.zeros(3))
        seen = Observation(10, {"head": image}, state)
        context = policy.planner.plan(seen, instruction=Instruction("lift the cup", 1))
        rows = policy.executor.act(policy.executor.route(seen, context=context), proprio=state).rows
        assert (np.abs(rows - place - scale["mean"]) < 8 * scale["std"]).all(), "rows lead from the state"


def test_a_run_is_resumed_bit_for_bit_and_a_cache_of_pictures_changes_nothing(
    values: dict[str, Any], tmp_path: Path
) -> None:
    whole = trained(values, data__feature_cache=str(tmp_path / "pictures"))
    parts = str(tmp_path / "parts")
    trained(values, until=2, run__out=parts)
    resumed = trained(values, run__out=parts, resume=True)
    assert same(weights_of(whole.bundle), weights_of(resumed.bundle))
    files = [p.stat().st_size for p in (tmp_path / "pictures").iterdir()]
    assert len(files) == 2, "training and validation episodes"


def test_held_out_errors_are_in_si_units_per_joint_and_row(values: dict[str, Any]) -> None:
    result = trained(values)
    rows = read_losses(result.losses)
    assert "validation_error_si" not in rows[-2]
    table = json.loads((result.losses.parent / "action_error.json").read_text())
    assert list(table["policy"]) == ["joint0", "joint1", "joint2"]
    assert [len(column) for column in table["policy"].values()] == [16] * 3
    mean = np.mean(list(table["policy"].values()))
    assert rows[-1]["validation_error_si"] == pytest.approx(mean, abs=1e-5)
    still = np.array(list(table["still"].values()))
    assert (np.diff(still, axis=1) > 0).all(), "the arm moves away from where the chunk began"


def test_absolute_rows_have_the_same_error_of_standing_still(values: dict[str, Any]) -> None:
    found = [
        read_losses(
            trained(values, data__relative_actions=relative, run__out=f"{values['run']['out']}{i}").losses
        )
        for i, relative in enumerate((True, False))
    ]
    relative, absolute = (rows[-1]["validation_still_si"] for rows in found)
    assert relative == pytest.approx(absolute, rel=1e-4)


def test_a_token_carries_its_cell_and_the_target_its_part_of_the_picture() -> None:
    torch.manual_seed(0)
    backbone = PatchBackbone(network(views=2)).eval()
    dark = torch.full((2, 3, 32, 48), -1.0)
    lit = dark.clone()
    lit[1, :, 8:16, 16:24] = 1.0  # cell (1, 2) of the second view
    with torch.no_grad():
        moved = (backbone.see(lit) - backbone.see(dark)).abs().amax(-1)
    assert moved[0].max() == 0
    row, column = divmod(int(moved[1].argmax()), 6)
    assert (row, column) == (1, 2)
    target = mean_colours(lit, cell=8)
    assert target.shape == (2, 6, 48)
    assert target[0].max() == -1
    changed = (target[1] > -1).any(-1).nonzero().flatten().tolist()
    assert changed == [1], "the second of two rows of three tokens"
    assert torch.equal(backbone.target(lit), target)


def test_two_views_with_the_same_picture_are_told_apart_and_padding_changes_nothing() -> None:
    torch.manual_seed(1)
    config = network(views=2)
    backbone = PatchBackbone(config).eval()
    image = torch.rand(1, 3, 32, 48) * 2 - 1
    grey = torch.zeros_like(image)
    places = [config.eagle.image_token] * config.image_tokens
    ids = torch.tensor([[5, *places, 6, *places, 9]])
    with torch.no_grad():
        left = backbone(torch.cat((image, grey)), ids)
        right = backbone(torch.cat((grey, image)), ids)
        padded_ids = torch.cat((torch.full((1, 3), config.eagle.pad_token), ids), dim=1)
        mask = torch.arange(padded_ids.shape[1])[None] >= 3
        padded = backbone(torch.cat((image, grey)), padded_ids, mask)[:, 3:]
    assert (left[:, -1] - right[:, -1]).abs().max() > 1e-4
    torch.testing.assert_close(padded, left, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="do not fit"):
        backbone(torch.cat((image, grey)), ids[:, :-3])
    with pytest.raises(InputError, match="image of the policy"):
        backbone.see(torch.zeros(2, 3, 48, 32))


def test_a_network_without_patches_writes_the_same_section_as_before() -> None:
    plain = tiny().to_dict()
    assert "patches" not in plain
    assert DustConfig.from_dict(plain) == tiny()
    learning = network()
    assert DustConfig.from_dict(learning.to_dict()) == learning


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"height": 40}, "height=40"),
        ({"cell": 6, "height": 48, "width": 48}, "cell=6"),
        ({"channels": 18}, "channels=18"),
    ],
)
def test_impossible_sizes_of_the_vision_are_named(changes: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PatchConfig(**{**SMALL, **changes})


def test_a_bundle_with_cameras_of_another_size_is_refused(tmp_path: Path) -> None:
    from wam.policies.dust import franka

    bundle = make_tiny(
        tmp_path / "b", robot=franka.layout(), seed=0, overrides={"patches": PatchConfig(**SMALL)}
    )
    assert check(bundle).network.image_size == (32, 48)
    text = (bundle.directory / "policy.yaml").read_text()
    (bundle.directory / "policy.yaml").write_text(text.replace("height: 32", "height: 48", 1))
    with pytest.raises(BundleError, match="32 x 48"):
        check(open_bundle(bundle.directory))


def test_joints_with_two_positions_are_refused_with_relative_rows(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"data\.binary_joints.*no distance"):
        trained(values, data__binary_joints=["joint2"])


def test_a_bundle_whose_rows_are_positions_is_not_trained_on_relative_ones(values: dict[str, Any]) -> None:
    first = trained(values, data__relative_actions=False)
    values["model"] = {"bundle": str(first.bundle)}
    with pytest.raises(ConfigError, match=r"data\.relative_actions is true"):
        trained(values, run__out=values["run"]["out"] + "-2")
