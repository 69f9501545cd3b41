# SPDX-License-Identifier: Apache-2.0
"""`wam convert ud-vla|univla|emu3` on a checkpoint of the published vocabulary and layout, and of tiny width."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wam.cli.main import run
from wam.core.observation import CameraFrame, Instruction, Observation, RobotState
from wam.policies.bundles import load_policy
from wam.policies.ud_vla import ur5e
from wam.policies.ud_vla.config import preset, released_geometry
from wam.policies.ud_vla.fast import FILE_NAME, plain
from wam.policies.ud_vla.initialise import random_decoder, random_vision
from wam.policies.ud_vla.tokens import byte_order

JOINTS = ur5e.layout().action_joints
VISION = {"ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temporal_downsample_factor": 1}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, as_published: Callable[[str], str]) -> Path:
    """Folders `model` and `vq`, a FAST vocabulary, statistics and a text vocabulary, as their authors lay them out."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("hub")
    config = released_geometry(replace(preset("tiny"), layers=1))
    for name in ("model", "vq"):
        (root / name).mkdir()
    decoder, vision = random_decoder(config, seed=2), random_vision(config, seed=2)
    save_file(dict(decoder.lm.state_dict()), root / "model" / "model.safetensors")
    raw = {**config.library().to_dict(), "model_type": "Emu3", "architectures": ["Emu3MoE"]}
    (root / "model" / "config.json").write_text(json.dumps(raw, default=str))
    weights = {}
    for name, tensor in vision.vq.state_dict().items():
        linear = "_proj.weight" in name
        weights[as_published(name)] = (tensor[:, :, None, None] if linear else tensor).contiguous()
    save_file(weights, root / "vq" / "model.safetensors")
    (root / "vq" / "config.json").write_text(json.dumps({**VISION, "codebook_size": 32_768, "embed_dim": 4}))
    ranks = [f"{base64.b64encode(bytes([b])).decode()} {i}" for i, b in enumerate(byte_order())]
    (root / "emu3.tiktoken").write_text("\n".join(ranks))
    (root / FILE_NAME).write_text(plain(limit=32, scale=11.0).to_json())
    numbers = {"mean": [0.1] * 12, "std": [0.5] * 12, "q01": [-1.0] * 12, "q99": [1.0] * 12}
    (root / "norm_stats.json").write_text(json.dumps({"norm_stats": {"ur5e": numbers}}))
    return root


def command(root: Path, out: Path, *more: str, **replaced: str) -> list[str]:
    options = {
        "--stats": str(root / "norm_stats.json"),
        "--action-tokenizer": str(root / FILE_NAME),
        "--vision": str(root / "vq"),
        "--text": str(root / "emu3.tiktoken"),
        "--dtype": "float32",
    }
    options.update({f"--{name.replace('_', '-')}": value for name, value in replaced.items()})
    given = [word for pair in options.items() if pair[1] for word in pair]
    return ["convert", "ud-vla", str(root / "model"), str(out), *given, *more]


def test_a_published_checkpoint_becomes_a_bundle_that_info_shows_and_the_registry_loads(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    small = ("--camera", "static=24x16", "--camera", "wrist=16x16", "--steps", "2", "--action-len", "98")
    assert run(command(published, out, *small)) == 0
    told = capsys.readouterr()
    assert "contract" in told.out
    assert "warning: no --instruction: the policy is told “" in told.err
    assert run(["info", "--policy", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["action_joints"]) == ("ud_vla", list(JOINTS))
    assert told["cameras"] == [
        {"name": "static", "height": 24, "width": 16},
        {"name": "wrist", "height": 16, "width": 16},
    ]
    assert told["control_period_s"] == pytest.approx(1 / 15)
    policy = load_policy(out)
    assert policy.planner._decoder.config.mask.value == "released"
    frames = {n: CameraFrame(n, 10**9, np.full((24, 24, 3), 90, np.uint8)) for n in ("static", "wrist")}
    state = RobotState(10**9, JOINTS, np.zeros(12), np.zeros(12))
    seen = Observation(10**9, frames, state)
    context = policy.planner.plan(seen, instruction=Instruction("go"))
    # BOS, "go" as two bytes, BOI "1*3*2" IMG 6 codes EOF EOI, BOI "1*2*2" IMG 4 codes EOF EOI.
    assert len(context.payload.ids) == 1 + 2 + (5 + 6 + 4) + (5 + 4 + 4)


def test_the_folder_that_a_checkpoint_lies_in_does_not_change_the_contract(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two computers that converted the same files had two contracts, which people are told to compare."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(published, elsewhere)
    hashes = []
    for root in (published, elsewhere):
        out = tmp_path / f"bundle of {root.name}"
        assert run(command(root, out, instruction="lift the cube")) == 0
        assert "--instruction" not in capsys.readouterr().err
        assert run(["info", "--policy", str(out), "--json"]) == 0
        hashes.append(json.loads(capsys.readouterr().out)["contract_hash"])
    assert hashes[0] == hashes[1]


def test_units_are_stated_and_columns_beyond_the_robots_limits_are_told(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    units = tmp_path / "units.yaml"
    units.write_text(f"{JOINTS[0]}: {{unit: rad, scale: 20}}\n")
    assert run(command(published, tmp_path / "bundle", "--units", str(units))) == 0
    error = capsys.readouterr().err
    assert f"warning: action column {JOINTS[0]} has data in -20 .. 20 rad" in error
    assert JOINTS[1] not in error


def test_univla_starts_training_and_names_the_papers_mask(published: Path, tmp_path: Path) -> None:
    words = command(published, tmp_path / "bundle")
    words[1] = "univla"
    assert run(words) == 0
    policy = load_policy(tmp_path / "bundle", planner=False)
    assert policy.executor._decoder.config.mask.value == "hybrid"
    assert policy.contract.cameras[0].height == 200


@pytest.mark.parametrize(
    ("replaced", "more", "text"),
    [
        ({"text": ""}, (), "the text vocabulary"),
        ({"vision": ""}, (), "no image tokenizer"),
        ({}, ("--camera", "static=big"), "NAME=HEIGHTxWIDTH"),
        ({}, ("--camera", "static=30x32"), "multiples of 8"),
        ({"action_joints": "x,y,z"}, (), "one number per joint"),
        ({"stats": "{root}/vq/config.json"}, (), "holds no statistics"),
        ({"action_tokenizer": "{root}/vq/config.json"}, (), "is no action tokenizer"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line_and_nothing_is_written(
    published: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    replaced: dict[str, str],
    more: tuple[str, ...],
    text: str,
) -> None:
    given = {name: value.replace("{root}", str(published)) for name, value in replaced.items()}
    assert run(command(published, tmp_path / "bundle", *more, **given)) == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "bundle" / "policy.yaml").exists()


def test_a_code_book_of_another_size_is_refused(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other: dict[str, Any] = {**VISION, "codebook_size": 16_384}
    (tmp_path / "config.json").write_text(json.dumps(other))
    assert run(command(published, tmp_path / "bundle", vision=str(tmp_path))) == 1
    assert "codebook_size" in capsys.readouterr().err
