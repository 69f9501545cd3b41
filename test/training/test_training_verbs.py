# SPDX-License-Identifier: Apache-2.0
"""`wam train`, `wam distill` and `wam init action-dit` on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from wam.cli.main import run
from wam.models.bundle import open_bundle
from wam.policies.aha_wam.config import tiny
from wam.policies.aha_wam.convert.wan_names import dit_to_diffusers
from wam.policies.aha_wam.training.config import AhaWamTrainConfig
from wam.policies.aha_wam.training.start import start
from wam.policies.aha_wam.video_dit import VideoDit
from wam.training.config_reading import parse_config
from wam.training.reports import read_losses


@pytest.fixture
def config_file(run_values: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_values))
    return path


def test_a_run_is_started_stopped_continued_and_distilled_by_commands(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "aha-wam", "--config", str(config_file), "--set", "optim.steps=3"]
    assert run([*train, "--until", "2"]) == 0
    assert "stopped, continue with --resume at step 2" in " ".join(capsys.readouterr().out.split())
    assert run([*train, "--resume"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "continues after step 2" in shown
    assert "finished at step 3" in shown
    out = tmp_path / "run"
    assert [row["step"] for row in read_losses(out / "losses.csv")] == [1, 2, 3]
    text = yaml.safe_load(config_file.read_text())
    text["model"] = {}
    config_file.write_text(yaml.safe_dump(text))
    flash = ["distill", "aha-wam", "--config", str(config_file), "--teacher", str(out / "bundle")]
    assert run([*flash, "--set", f"run.out={tmp_path / 'flash'}", "--set", "optim.steps=1"]) == 0
    assert open_bundle(tmp_path / "flash" / "bundle").manifest.sampler["steps"] == 2


def test_a_second_run_into_the_same_folder_is_refused_in_one_line(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "aha-wam", "--config", str(config_file), "--set", "optim.steps=1"]
    assert run(command) == 0
    capsys.readouterr()
    assert run(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "holds checkpoints up to step_00000001" in error
    assert error.count("\n") == 1


def test_an_unknown_key_is_refused_by_its_path(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "aha-wam", "--config", str(config_file), "--set", "optim.stepps=1"]) == 1
    assert "unknown key optim.stepps" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["train", "distill", "init"])
def test_a_verb_alone_shows_what_it_can_do(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([verb])
    captured = capsys.readouterr()
    assert ("action-dit" if verb == "init" else "aha-wam") in captured.out + captured.err


@pytest.fixture
def wan(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A tiny video DiT in the diffusers layout, and its tensors under their original names."""
    torch.manual_seed(1)
    tensors = VideoDit(tiny()).state_dict()
    folder = tmp_path / "transformer"
    folder.mkdir()
    save_file(
        {dit_to_diffusers(name): tensor.contiguous() for name, tensor in tensors.items()},
        folder / "diffusion_pytorch_model.safetensors",
    )
    return folder, dict(tensors)


def test_the_action_dit_is_shrunk_from_the_video_dit_and_training_starts_from_both(
    wan: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, run_values: dict[str, Any]
) -> None:
    folder, video = wan
    backbone = tmp_path / "action_dit.pt"
    assert run(["init", "action-dit", str(folder), str(backbone), "--preset", "tiny"]) == 0
    run_values["model"] |= {"video_weights": str(folder), "action_backbone": str(backbone)}
    config = parse_config(AhaWamTrainConfig, run_values)
    model = start(config.model, config.data, (("joint0", "joint1", "joint2"),) * 2).model
    for name, tensor in model.video.state_dict().items():
        assert torch.equal(tensor, video[name]), name
    sizes = tiny()
    # First and last entries of an axis stay where they are; a matrix whose last axis shrank is scaled.
    name = "blocks.1.ffn.0.weight"
    scale = math.sqrt(sizes.video.width / sizes.action.width)
    ours, theirs = model.action.state_dict()[name], video[name]
    assert ours.shape == (sizes.action.ffn, sizes.action.width)
    assert float(ours[0, 0]) == pytest.approx(float(theirs[0, 0]) * scale, rel=1e-5)
    assert float(ours[-1, -1]) == pytest.approx(float(theirs[-1, -1]) * scale, rel=1e-5)
    bias = "blocks.2.self_attn.q.bias"
    assert torch.equal(model.action.state_dict()[bias], video[bias])


def test_an_existing_file_is_not_overwritten(
    wan: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "action_dit.pt"
    out.write_bytes(b"mine")
    assert run(["init", "action-dit", str(wan[0]), str(out), "--preset", "tiny"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert out.read_bytes() == b"mine"


def test_a_video_dit_of_another_size_is_named(
    wan: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "action-dit", str(wan[0]), str(tmp_path / "x.pt"), "--preset", "paper"]) == 1
    assert "video DiT" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()
